"""TransR: entities are projected into a space of the relation's own, then translated."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.config.sections import MOST_FLOATS
from dglke_distill.data.triples import Side
from dglke_distill.models.transe import TransE, TransEOptions


class TransROptions(TransEOptions):
    """Options of TransR: those of TransE and the size of the relation's space."""

    relation_dim: Optional[int] = Field(
        None, ge=1, le=MOST_FLOATS, description="None: as many as an entity has"
    )


class TransR(TransE):
    """score(h, r, t) = -||h M_r + r - t M_r||; h, t (dim,), r (k,), M_r (dim, k).

    Lin, Liu, Sun, Liu, Zhu 2015, "Learning entity and relation embeddings for knowledge graph
    completion". A relation's row is r followed by M_r, k + dim * k floats, k = ``relation_dim``.
    Matrices start as identities, as in the paper; vectors, norm and ``normalize`` are TransE's.
    """

    Options = TransROptions
    by_relation = True
    transforms_candidates = True

    def __init__(self, dim: int, options: Any) -> None:
        """Take the kernel and the size of the relation's space from the options."""
        super().__init__(dim, options)
        self.relation_dim: int = options.relation_dim or dim

    @property
    def relation_floats(self) -> int:
        """A vector and a matrix per relation."""
        return self.relation_dim * (1 + self.dim)

    def init_relation(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the vectors as TransE does and the matrices with identities."""
        super().init_relation(weight[:, : self.relation_dim], scale, generator)
        weight[:, self.relation_dim :] = torch.eye(self.dim, self.relation_dim).flatten()

    def candidate(self, vectors: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return candidates (p, n, dim) of one relation, (1, relation_floats), in its space."""
        return vectors @ relation[0, self.relation_dim :].view(self.dim, self.relation_dim)

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return h M_r + r to meet tails, t M_r - r to meet heads: (b, k), one relation for all."""
        projected = self.candidate(entity, relation, side)
        return super().query(projected, relation[:, : self.relation_dim], side)
