"""A hidden layer that all relations share, between the known entity and the query."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.schema import BaseModel, Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.models.score_function import HiddenLayer, ScoreFunction


class HiddenLayerOptions(NoOptions):
    """Options of score functions that take a hidden layer."""

    hidden: int = Field(
        0,
        ge=0,
        le=65536,
        description="units of a hidden layer between the known entity and the query, shared by all "
        "relations but for a bias; needs model.reciprocal; 0: the model as published",
    )


class WithHiddenLayer(ScoreFunction):
    """A score function whose query may gain relu(W e + b_r)^T V of its known entity e, (dim,).

    W and V of shape (k, dim), for ``hidden`` = k units, are shared by all relations, and b_r are
    the relation's last k floats. A query is then no map of its entity that the relation alone
    makes, so that the table of entities, which stays as small, can follow facts or a teacher more
    closely. A triple's score depends on the side that is asked: it needs ``model.reciprocal``. W
    starts normal with deviation sqrt(2/dim), V with a tenth of sqrt(1/k). It is not published.
    """

    Options: ClassVar[type[BaseModel]] = HiddenLayerOptions

    def __init__(self, dim: int, options: Any) -> None:
        """Allocate the hidden layer, if the options ask for one."""
        super().__init__(dim, options)
        self.hidden: int = options.hidden if isinstance(options, HiddenLayerOptions) else 0
        if self.hidden:
            self.inner = nn.Parameter(torch.zeros(self.hidden, dim))
            self.outer = nn.Parameter(torch.zeros(self.hidden, dim))
        self.one_sided = bool(self.hidden)

    @property
    def published_floats(self) -> int:
        """Floats per relation without the hidden layer's biases, which follow them."""
        return self.dim

    @property
    def relation_floats(self) -> int:
        """The published floats, and the hidden layer's biases."""
        return self.published_floats + self.hidden

    def init_shared(self, scale: Optional[float], generator: torch.Generator) -> None:
        """Fill the hidden layer in place."""
        if self.hidden:
            self.inner.normal_(0.0, (2.0 / self.dim) ** 0.5, generator=generator)
            self.outer.normal_(0.0, 0.1 / self.hidden**0.5, generator=generator)

    def through(self, entity: Tensor, bias: Tensor) -> Tensor:
        """Return what the layer adds to the queries of entities (b, dim), biases (b or 1, k)."""
        return HiddenLayer(self.inner, bias, self.outer).apply(entity)

    def hidden_layer(self, rows: Tensor) -> Optional[HiddenLayer]:
        """Return the hidden layer, if there is one, with the biases (v, hidden) of relations."""
        if not self.hidden:
            return None
        return HiddenLayer(self.inner, rows[:, self.published_floats :], self.outer)
