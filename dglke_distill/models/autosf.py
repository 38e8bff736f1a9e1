"""AutoSF: a bilinear form of diagonal blocks, arranged as a search has found best."""

from __future__ import annotations

from typing import Any, Union

from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.models.autosf_structures import BLOCKS, joined, read_structure
from dglke_distill.models.score_function import ScoreFunction


class AutoSFOptions(NoOptions):
    """Options of AutoSF."""

    structure: Union[str, list[int]] = Field("ogbl-wikikg2", description="a name, or numbers")


class AutoSF(ScoreFunction):
    """score(h, r, t) = sum over terms of sign * <h_i, r_k, t_j>, each of four blocks of dim/4.

    Zhang, Yao, Dai, Chen 2020, "AutoSF: searching scoring functions for knowledge graph embedding";
    <a, b, c> = sum_k a_k b_k c_k. Structures are in ``autosf_structures``.
    """

    kernel = "dot"
    Options = AutoSFOptions
    parts = BLOCKS

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the floats make four blocks, and read the structure."""
        if dim % BLOCKS:
            raise UserError(
                f"model.dim: AutoSF keeps {BLOCKS} blocks of equal size; got {dim}, take "
                f"{dim + BLOCKS - dim % BLOCKS}"
            )
        super().__init__(dim, options)
        self.terms = read_structure(options.structure)

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return what meets each block of a tail, or of a head: (b, dim)."""
        known, rows = entity.chunk(BLOCKS, -1), relation.chunk(BLOCKS, -1)
        if side == "tail":
            return joined((j, s * known[i] * rows[k]) for k, i, j, s in self.terms)
        return joined((i, s * known[j] * rows[k]) for k, i, j, s in self.terms)

    def relation_query(self, head: Tensor, tail: Tensor) -> Tensor:
        """Return what meets each block of a relation: (b, dim)."""
        heads, tails = head.chunk(BLOCKS, -1), tail.chunk(BLOCKS, -1)
        return joined((k, s * heads[i] * tails[j]) for k, i, j, s in self.terms)
