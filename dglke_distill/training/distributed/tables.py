"""A model whose entity table lies in parts on DGL's servers.

Entities have DGL's ids here, of which each machine's follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import torch
import torch.distributed as together
from torch import Tensor, nn

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.kernels.random import stream_key
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import Encoder
from dglke_distill.models.rows import EntityRows
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.training.distributed.engine import Member
from dglke_distill.training.distributed.rows import Book, policy_of_rows, relations_are_dealt

BLOCK = 1 << 16
"""Most rows that are drawn, read or written at once."""
_BLOCK_BYTES = 64 << 20
"""The same in bytes, for wide rows."""
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


def new_relations(member: Member, name: str, function: ScoreFunction, rows: int) -> Optional[Any]:
    """Return a new table of relations that lies in parts, or None where each trainer has its own.

    All trainers call it.

    Args:
        member: the trainer.
        name: of the table.
        function: says how wide a row is.
        rows: how many there are, reciprocal ones counted.
    """
    floats, machines = function.relation_floats, member.job.machines
    if not relations_are_dealt(4 * floats * rows, rows, machines):
        return None
    policy = policy_of_rows(member.machine, machines, rows)
    made = load_dgl().distributed.DistEmbedding
    return made(rows, floats, name=name, init_func=Zeros(), part_policy=policy)


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
    """A model over a ``DistributedLookup``; all but large tables is held by each trainer.

    Args:
        score_function: compares queries with candidates.
        num_relations: relations of the dataset, reciprocal ones not counted.
        table: of the entities' vectors.
        bias: table of one float per entity, or None.
        reciprocal: see ``KGEModel``.
        relations: table of the relations' rows, where it lies in parts; see ``new_relations``.
    """

    def __init__(
        self,
        score_function: ScoreFunction,
        num_relations: int,
        table: Any,
        bias: Any = None,
        *,
        reciprocal: bool = False,
        relations: Any = None,
    ) -> None:
        """Keep the tables."""
        encoder = DistributedLookup(table)
        super().__init__(encoder, score_function, num_relations, reciprocal=reciprocal)
        self.table, self.bias, self.relations = table, bias, relations
        if relations is not None:
            nothing = torch.zeros(0, score_function.relation_floats)
            self.relation_weight = nn.Parameter(nothing, requires_grad=False)

    @property
    def tables(self) -> dict[str, Any]:
        """The tables on the servers, by the names that an ordinary model has for them."""
        found = {"encoder.weight": self.table, "bias_weight": self.bias}
        found["relation_weight"] = self.relations
        return {name: table for name, table in found.items() if table is not None}

    def relation_rows(self, ids: Tensor) -> Tensor:
        """Return rows (v, relation_floats) of distinct relations, pulled if they lie in parts."""
        if self.relations is None:
            return super().relation_rows(ids)
        rows: Tensor = self.relations(ids)
        return rows

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

    def reset_rows(
        self,
        share: tuple[int, int],
        relation_share: tuple[int, int],
        seed: int,
        scale: Optional[float],
    ) -> None:
        """Initialise a trainer's share of the table, and all that it holds itself.

        What a row becomes depends on the seed and its number alone.

        Args:
            share: first row and one past the last.
            relation_share: the same of relations, where they lie in parts.
            seed: of the draw.
            scale: of the vectors; None: the score function's own.
        """
        function = self.score_function
        _fill(self.table, share, BLOCK, lambda rows, block: function.init_entity(
            rows, scale, _generator(seed, block)
        ))  # fmt: skip
        generator = _generator(seed, -1)
        with torch.no_grad():
            if self.relations is None:
                function.init_relation(self.relation_weight, scale, generator)
            else:
                _fill(self.relations, relation_share, _block_of(self.relations.weight),
                      lambda rows, block: function.init_relation(
                          rows, scale, _generator(seed, -1 - block)
                      ))  # fmt: skip
            function.init_shared(scale, generator)
        together.barrier()


def _block_of(table: Any) -> int:
    """Return how many rows of a table are drawn, read or written at once."""
    wide = 4
    for size in tuple(table.shape)[1:]:
        wide *= size
    return max(1, min(BLOCK, _BLOCK_BYTES // wide))


def _fill(
    table: Any, share: tuple[int, int], size: int, draw: Callable[[Tensor, int], None]
) -> None:
    """Draw a trainer's share of a table's rows; what a row becomes depends on its number alone."""
    first, last = share
    for block in range(first // size, -(-last // size)):
        start = block * size
        rows = min(size, table.num_embeddings - start)
        drawn = torch.zeros(rows, table.embedding_dim)
        draw(drawn, block)
        low, high = max(first, start), min(last, start + rows)
        table.weight[torch.arange(low, high)] = drawn[low - start : high - start]


def _generator(seed: int, block: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(stream_key(seed, _START, block)) >> 1)


def rows_of(table: Any, own: Tensor) -> Tensor:
    """Return the dataset's number of each row of a table: relations keep theirs.

    Args:
        table: a ``DistTensor``, of entities or of relations.
        own: the dataset's id of each entity.
    """
    dealt = isinstance(table.part_policy.partition_book, Book)
    return torch.arange(int(table.shape[0])) if dealt else own


def gather_table(table: Any, own: Tensor, into: Optional[Tensor]) -> None:
    """Copy a table from the servers; all trainers call it.

    Args:
        table: a ``DistTensor`` (E, ...).
        own: the dataset's id of each row.
        into: receives the rows in the dataset's order; None: only wait for who does.
    """
    together.barrier()
    if into is not None:
        for ids in torch.arange(len(own)).split(_block_of(table)):
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
        for ids in torch.arange(len(own)).split(_block_of(table)):
            table[ids] = rows[own[ids]]
        # Pitfall: a push returns before it has arrived. A server answers one client in order, so
        # that what was pulled after it says that it has.
        book = table.part_policy.partition_book
        parts = [book.partid2nids(part) for part in range(book.num_partitions())]
        _ = table[torch.cat([ids[:1] for ids in parts])]
    together.barrier()
