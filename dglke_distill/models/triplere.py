"""TripleRE: a relation scales heads and tails differently, and translates."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.data.triples import Side
from dglke_distill.models.pairre import PairRE, PairREOptions


class TripleREOptions(PairREOptions):
    """Options of TripleRE: ``normalize`` of PairRE, and those of its residual version."""

    version: Literal["v1", "v2"] = Field("v2", description="v2 adds u to what scales entities")
    u: float = Field(1.0, allow_inf_nan=False, description="the residual's constant; v2 only")


class TripleRE(PairRE):
    """score(h, r, t) = -||h * (r_head + u) - t * (r_tail + u) + r_middle||_1; all of shape (dim,).

    Yu, Luo, Liu, Lin, Li, Deng 2022, "TripleRE: knowledge graph embeddings via tripled relation
    vectors", which normalises entities; u is 0 in version 1. A relation's row is r_head, r_middle,
    r_tail, 3 * dim floats. (Later code scales by 1 + u r, which is u times a version 2 of 1/u.)
    """

    Options = TripleREOptions

    @property
    def relation_floats(self) -> int:
        """One vector for heads, one to translate, one for tails."""
        return 3 * self.dim

    def _scales(self, relation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for_head, middle, for_tail = relation.chunk(3, dim=-1)
        residual = self.options.u if self.options.version == "v2" else 0.0
        return for_head + residual, middle, for_tail + residual

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return the scaled head plus r_middle, or the scaled tail minus it: (b, dim)."""
        for_head, middle, for_tail = self._scales(relation)
        return entity * for_head + middle if side == "tail" else entity * for_tail - middle

    def candidate(self, vectors: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return candidate tails scaled by r_tail + u, heads by r_head + u: (p, n, dim)."""
        for_head, _, for_tail = self._scales(relation[:, None, :])
        return vectors * (for_tail if side == "tail" else for_head)
