"""PairRE: a relation scales heads and tails differently."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.models.score_function import ScoreFunction


class PairREOptions(NoOptions):
    """Options of PairRE."""

    normalize: bool = Field(True, description="scale entity vectors to length 1 inside the score")


class PairRE(ScoreFunction):
    """score(h, r, t) = -||h * r_head - t * r_tail||_1; h, t, r_head, r_tail of shape (dim,).

    Chao, He, Wang, Chu 2021, "PairRE: knowledge graph embeddings via paired relation vectors",
    which normalises entities. A relation's row is r_head followed by r_tail, 2 * dim floats.
    """

    kernel = "l1"
    Options = PairREOptions
    transforms_candidates = True

    @property
    def relation_floats(self) -> int:
        """One vector for heads, one for tails."""
        return 2 * self.dim

    def init_relation(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the relation table uniformly in +-11/dim, or +-scale."""
        super().init_relation(weight, 11.0 / self.dim if scale is None else scale, generator)

    def entity_view(self, vectors: Tensor) -> Tensor:
        """Return the vectors (u, dim), scaled to length 1 unless that is switched off."""
        return normalize(vectors, dim=-1, eps=1e-6) if self.options.normalize else vectors

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return h * r_head to meet tails, t * r_tail to meet heads: (b, dim)."""
        for_head, for_tail = relation.chunk(2, dim=-1)
        return entity * (for_head if side == "tail" else for_tail)

    def candidate(self, vectors: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return t * r_tail of candidate tails, h * r_head of candidate heads: (p, n, dim)."""
        for_head, for_tail = relation[:, None, :].chunk(2, dim=-1)
        return vectors * (for_tail if side == "tail" else for_head)
