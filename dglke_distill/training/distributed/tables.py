"""A model whose entity table lies in parts on DGL's servers.

Entities have DGL's ids here, of which each machine's follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
import torch.distributed as together
from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.kernels.random import stream_key
from dglke_distill.models.base import EntityRows, KGEModel
from dglke_distill.models.encoders import Encoder
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.training.distributed.engine import Member

__all__ = [
    "BLOCK",
    "DistributedLookup",
    "DistributedModel",
    "Zeros",
    "fill_table",
    "gather_table",
    "new_table",
]

BLOCK = 1 << 16
"""Rows that are drawn, read or written at once."""
_START = 9001


class Zeros:
    """Fills a new table on a server; DGL sends it there.

    Args:
        value: instead of 0.
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor."""
        return torch.full(tuple(shape), self.value, dtype=dtype)


def new_table(member: Member, name: str, rows: int, floats: int) -> Any:
    """Return a new table of zeros on the servers, a ``DistEmbedding``; all trainers call it."""
    made = load_dgl().distributed.DistEmbedding
    # Pitfall: without the policy DGL guesses by the number of rows, and fails where there are as
    # many facts as entities.
    return made(rows, floats, name=name, init_func=Zeros(), part_policy=member.policy)


class DistributedLookup(Encoder):
    """One learned vector per entity, pulled from the server that has it.

    Args:
        table: a ``DistEmbedding``.
    """

    is_table = True

    def __init__(self, table: Any) -> None:
        """Keep the table."""
        super().__init__()
        self.table, self.num_entities = table, int(table.num_embeddings)

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) of distinct ids (u,) int64; gradients go to the table."""
        if nodes is None:
            raise ValueError("no trainer holds all entities of a distributed table")
        rows: Tensor = self.table(nodes)
        return rows


class DistributedModel(KGEModel):
    """A model over a ``DistributedLookup``; all but the entities' rows is held by each trainer.

    Args:
        score_function: compares queries with candidates.
        num_relations: relations of the dataset, reciprocal ones not counted.
        table: of the entities' vectors.
        bias: table of one float per entity, or None.
        reciprocal: see ``KGEModel``.
    """

    def __init__(
        self,
        score_function: ScoreFunction,
        num_relations: int,
        table: Any,
        bias: Any = None,
        *,
        reciprocal: bool = False,
    ) -> None:
        """Keep the tables."""
        encoder = DistributedLookup(table)
        super().__init__(encoder, score_function, num_relations, reciprocal=reciprocal)
        self.table, self.bias = table, bias

    @property
    def tables(self) -> list[Any]:
        """The tables on the servers."""
        return [self.table] if self.bias is None else [self.table, self.bias]

    def encode(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> EntityRows:
        """Pull the rows of distinct entities (u,) int64."""
        vectors = super().encode(nodes, blocks).vectors
        return EntityRows(vectors, None if self.bias is None else self.bias(nodes))

    def encode_range(self, start: int, stop: int) -> EntityRows:
        """Pull the entities ``start`` to ``stop`` (exclusive), without gradients."""
        with torch.no_grad():
            return self.encode(torch.arange(start, stop))

    def reset_rows(self, share: tuple[int, int], seed: int, scale: Optional[float]) -> None:
        """Initialise a trainer's share of the table, and all that it holds itself.

        What a row becomes depends on the seed and its number alone.

        Args:
            share: first row and one past the last.
            seed: of the draw.
            scale: of the vectors; None: the score function's own.
        """
        function, (first, last) = self.score_function, share
        for block in range(first // BLOCK, -(-last // BLOCK)):
            start = block * BLOCK
            rows = min(BLOCK, self.num_entities - start)
            drawn = torch.zeros(rows, function.dim)
            function.init_entity(drawn, scale, _generator(seed, block))
            low, high = max(first, start), min(last, start + rows)
            self.table.weight[torch.arange(low, high)] = drawn[low - start : high - start]
        generator = _generator(seed, -1)
        with torch.no_grad():
            function.init_relation(self.relation_weight, scale, generator)
            function.init_shared(scale, generator)
        together.barrier()


def _generator(seed: int, block: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(stream_key(seed, _START, block)) >> 1)


def gather_table(table: Any, own: Tensor, into: Optional[Tensor]) -> None:
    """Copy a table from the servers; all trainers call it.

    Args:
        table: a ``DistTensor`` (E, ...).
        own: the dataset's id of each row.
        into: receives the rows in the dataset's order; None: only wait for who does.
    """
    together.barrier()
    if into is not None:
        for ids in torch.arange(len(own)).split(BLOCK):
            into[own[ids]] = table[ids]
    together.barrier()


def fill_table(table: Any, own: Tensor, rows: Optional[Tensor]) -> None:
    """Put a table onto the servers; all trainers call it.

    Args:
        table: a ``DistTensor`` (E, ...).
        own: the dataset's id of each row.
        rows: in the dataset's order; None: only wait for who has them.
    """
    together.barrier()
    if rows is not None:
        for ids in torch.arange(len(own)).split(BLOCK):
            table[ids] = rows[own[ids]]
        # Pitfall: a push returns before it has arrived. A server answers one client in order, so
        # that what was pulled after it says that it has.
        book = table.part_policy.partition_book
        parts = [book.partid2nids(part) for part in range(book.num_partitions())]
        _ = table[torch.cat([ids[:1] for ids in parts])]
    together.barrier()
