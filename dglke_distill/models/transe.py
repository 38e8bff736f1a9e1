"""TransE: a relation is a translation."""

from __future__ import annotations

from typing import Any, Literal, Optional

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.models.score_function import ScoreFunction


class TransEOptions(NoOptions):
    """Options of TransE."""

    norm: Literal["l1", "l2"] = Field("l1", description="of the difference")
    normalize: bool = Field(
        False, description="scale entity and relation vectors to length 1 inside the score"
    )


class TransE(ScoreFunction):
    """score(h, r, t) = -||h + r - t||, with h, r, t of shape (dim,); the norm is L1 or L2.

    Bordes, Usunier, Garcia-Duran, Weston, Yakhnenko 2013, "Translating embeddings for modeling
    multi-relational data". Tables start uniform in +-11/dim with L1, so that the first distances
    are near the customary margin of 9 (the rule (gamma + 2)/dim of Sun et al. 2019's code), and
    in +-sqrt(6/dim) with L2 or with ``normalize`` (as OpenKE and IterDE score).
    """

    Options = TransEOptions

    def __init__(self, dim: int, options: Any) -> None:
        """Take the kernel from the option ``norm``."""
        super().__init__(dim, options)
        self.kernel = options.norm

    def _init(self, weight: Tensor, scale: Optional[float], generator: torch.Generator) -> None:
        if scale is None and self.kernel == "l1" and not self.options.normalize:
            scale = 11.0 / self.dim
        super().init_entity(weight, scale, generator)

    init_entity = init_relation = _init

    def entity_view(self, vectors: Tensor) -> Tensor:
        """Return the vectors (u, dim), scaled to length 1 if asked."""
        return normalize(vectors, dim=-1, eps=1e-6) if self.options.normalize else vectors

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return h + r to meet tails, t - r to meet heads: (b, dim)."""
        relation = self.entity_view(relation)
        return entity + relation if side == "tail" else entity - relation
