"""MEIM, MEI and TuckER: a relation mixes core tensors that all relations share."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel, Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.kernels import take_rows
from dglke_distill.models.score_function import ScoreFunction

_BLOCK = 8
"""Queries of one relation that meet its matrix together."""


class TuckEROptions(NoOptions):
    """Options of TuckER, and of every score function with core tensors."""

    relation_dim: Optional[int] = Field(
        None, ge=1, description="floats of a relation, in each partition; None: as an entity has"
    )
    batch_norm: bool = Field(
        False, description="normalise the known entity and the query over a batch"
    )
    input_dropout: float = Field(0.0, ge=0, lt=1, description="of the known entity's floats")
    query_dropout: float = Field(0.0, ge=0, lt=1, description="of the query's floats")


class MEIMOptions(TuckEROptions):
    """Options of MEIM."""

    partitions: int = Field(2, ge=1, description="parts of a vector, each with interactions apart")
    shared_core: bool = Field(False, description="one core for all partitions: MEI, not MEIM")


class MEIM(ScoreFunction):
    """score(h, r, t) = sum over partitions k of h_k W_k(r_k) t_k, mixing all of their floats.

    The matrix W_k(r_k) is the sum of r_k[c] W_k[c] over the relation's floats c. The entity (dim,)
    has K = ``partitions`` parts of Ce = dim / K floats, the relation K parts of Cr =
    ``relation_dim``, and the core of a partition, (Cr, Ce, Ce), is learned. Tran and Takasu 2022,
    "MEIM: Multi-partition embedding interaction beyond block term format for efficient and
    expressive link prediction", section 4.1; with ``shared_core`` all partitions have the same core
    (MEI, Tran and Takasu 2020, "Multi-partition embedding interaction with block term format for
    knowledge graph completion"). One partition is TuckER.

    ``batch_norm`` and dropout act on the known entity and on the query, as in TuckER's released
    code, so that with ``batch_norm`` a triple's score depends on the side that is asked: it needs
    ``model.reciprocal``. Entities and relations start uniform in +-sqrt(6/dim), cores normal such
    that a query is as long as its entity.
    """

    Options: ClassVar[type[BaseModel]] = MEIMOptions
    kernel = "dot"
    by_relation = True

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the partitions are of equal size, and allocate the cores."""
        super().__init__(dim, options)
        self.partitions = getattr(options, "partitions", 1)
        if dim % self.partitions:
            raise UserError(
                f"model.dim={dim} has no {self.partitions} partitions of equal size; take "
                f"{dim + self.partitions - dim % self.partitions}, or set model.options.partitions"
            )
        self.part = dim // self.partitions
        self.relation_part = options.relation_dim or self.part
        cores = 1 if getattr(options, "shared_core", False) else self.partitions
        self.core = nn.Parameter(torch.zeros(cores, self.relation_part, self.part, self.part))
        self.known_norm = nn.BatchNorm1d(dim) if options.batch_norm else None
        self.query_norm = nn.BatchNorm1d(dim) if options.batch_norm else None
        self.one_sided = options.batch_norm

    @property
    def relation_floats(self) -> int:
        """Floats per relation."""
        return self.partitions * self.relation_part

    def init_shared(self, scale: Optional[float], generator: torch.Generator) -> None:
        """Fill the cores in place, and forget what normalisation has seen."""
        # A relation's floats have variance 2/dim, so that a matrix's entries have 1/part.
        spread = (self.dim / (2.0 * self.relation_part * self.part)) ** 0.5
        self.core.normal_(0.0, spread, generator=generator)
        for norm in (self.known_norm, self.query_norm):
            if norm is not None:
                norm.reset_parameters()

    def relation_view(self, rows: Tensor) -> Tensor:
        """Return the matrices (v, partitions * part * part) of relations (v, relation_floats)."""
        parts = rows.view(len(rows), self.partitions, self.relation_part)
        core = self.core.flatten(2).expand(self.partitions, -1, -1)
        return torch.bmm(parts.transpose(0, 1), core).transpose(0, 1).flatten(1)

    def known_view(self, entity: Tensor) -> Tensor:
        """Normalise and drop floats of the known entities (b, dim)."""
        return self._passed(entity, self.known_norm, self.options.input_dropout)

    def query_view(self, query: Tensor) -> Tensor:
        """Normalise and drop floats of queries (b, dim)."""
        return self._passed(query, self.query_norm, self.options.query_dropout)

    def _passed(self, vectors: Tensor, norm: Optional[nn.Module], rate: float) -> Tensor:
        if norm is not None:
            # A single vector has no variance: it is normalised by what was seen before.
            norm.train(self.training and len(vectors) > 1)
            vectors = norm(vectors)
        return nn.functional.dropout(vectors, rate, self.training) if rate else vectors

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return W(r) h to meet tails, W(r) t with its matrices transposed to meet heads."""
        matrix = relation.view(self.partitions, self.part, self.part)
        parts = entity.view(len(entity), self.partitions, self.part).transpose(0, 1)
        met = torch.bmm(parts, matrix if side == "tail" else matrix.transpose(1, 2))
        return met.transpose(0, 1).reshape(len(entity), self.dim)

    def query_rows(self, entity: Tensor, rows: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Meet the matrices in one product of small blocks; as ``ScoreFunction.query_rows``."""
        order = torch.argsort(relation, stable=True)
        counts = torch.bincount(relation, minlength=len(rows))
        blocks = (counts + _BLOCK - 1) // _BLOCK
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), blocks)
        # Where each query stands: in its relation's blocks, one after the other.
        first = (blocks.cumsum(0) - blocks) * _BLOCK - (counts.cumsum(0) - counts)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) + first[relation[order]]
        padded = entity.new_zeros(len(owner) * _BLOCK, self.dim).index_copy(0, place, entity)
        parts = padded.view(len(owner), _BLOCK, self.partitions, self.part).transpose(1, 2)
        matrix = take_rows(rows, owner).view(len(owner), self.partitions, self.part, self.part)
        met = parts @ (matrix if side == "tail" else matrix.transpose(2, 3))
        return take_rows(met.transpose(1, 2).reshape(len(padded), self.dim), place)


class TuckER(MEIM):
    """score(h, r, t) = sum over a, b, c of W[c, a, b] h[a] r[c] t[b].

    Balazevic, Allen, Hospedales 2019, "TuckER: Tensor factorization for knowledge graph
    completion", equation 3: MEIM with one partition.
    """

    Options = TuckEROptions
