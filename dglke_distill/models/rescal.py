"""RESCAL: a relation is a whole bilinear form, which a hidden layer may be added to."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.schema import BaseModel, Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.kernels import take_rows
from dglke_distill.models.score_function import HiddenLayer, ScoreFunction


class RESCALOptions(NoOptions):
    """Options of RESCAL."""

    hidden: int = Field(
        0,
        ge=0,
        le=65536,
        description="units of a hidden layer between the known entity and the query, shared by all "
        "relations but for a bias; needs model.reciprocal; 0: RESCAL as published",
    )


class RESCAL(ScoreFunction):
    """score(h, r, t) = h^T M_r t, with h, t of shape (dim,) and M_r of shape (dim, dim).

    Nickel, Tresp, Kriegel 2011, "A three-way model for collective learning on multi-relational
    data". A relation has dim * dim floats, row by row. Tables start uniform in +-sqrt(6/dim).

    With ``hidden`` = k units, which is not published, score(h, r, t) = (h^T M_r + relu(W h + b_r)^T
    V) t with W of shape (k, dim) and V of shape (k, dim) shared by all relations, and b_r the
    relation's last k floats. A query is then no linear map of its entity, so that the table of
    entities, which stays as small, can follow a teacher more closely. A triple's score depends on
    the side that is asked: it needs ``model.reciprocal``. W starts normal with deviation
    sqrt(2/dim), V with a tenth of sqrt(1/k).
    """

    Options: ClassVar[type[BaseModel]] = RESCALOptions
    kernel = "dot"
    by_relation = True

    def __init__(self, dim: int, options: Any) -> None:
        """Allocate the hidden layer, if there is one."""
        super().__init__(dim, options)
        self.hidden: int = options.hidden
        if self.hidden:
            self.inner = nn.Parameter(torch.zeros(self.hidden, dim))
            self.outer = nn.Parameter(torch.zeros(self.hidden, dim))
        self.one_sided = bool(self.hidden)

    @property
    def relation_floats(self) -> int:
        """A matrix per relation, and the hidden layer's biases."""
        return self.dim * self.dim + self.hidden

    def init_shared(self, scale: Optional[float], generator: torch.Generator) -> None:
        """Fill the hidden layer in place."""
        if self.hidden:
            self.inner.normal_(0.0, (2.0 / self.dim) ** 0.5, generator=generator)
            self.outer.normal_(0.0, 0.1 / self.hidden**0.5, generator=generator)

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return M^T h to meet tails, M t to meet heads: (b, dim), one matrix for all of them."""
        form, bias = relation.view(-1), None
        if form.numel() > self.dim * self.dim:
            form, bias = form.split((self.dim * self.dim, self.hidden))
        matrix = form.view(self.dim, self.dim)
        query = entity @ (matrix if side == "tail" else matrix.T)
        return query if bias is None else query + self._through(entity, bias)

    def query_rows(self, entity: Tensor, rows: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Pass all queries through the hidden layer at once; as ``ScoreFunction.query_rows``."""
        if not self.hidden:
            return super().query_rows(entity, rows, relation, side)
        forms, biases = rows.split((self.dim * self.dim, self.hidden), 1)
        met = super().query_rows(entity, forms.contiguous(), relation, side)
        return met + self._through(entity, take_rows(biases.contiguous(), relation))

    def _through(self, entity: Tensor, bias: Tensor) -> Tensor:
        return torch.relu(entity @ self.inner.T + bias) @ self.outer

    def hidden_layer(self, rows: Tensor) -> Optional[HiddenLayer]:
        """Return the hidden layer, if there is one, with the biases (v, hidden) of relations."""
        if not self.hidden:
            return None
        return HiddenLayer(self.inner, rows[:, self.dim * self.dim :], self.outer)

    def relation_of(self, form: Tensor) -> Tensor:
        """Return the form itself, row by row, and biases of zero."""
        return torch.cat([form.flatten(), form.new_zeros(self.hidden)])
