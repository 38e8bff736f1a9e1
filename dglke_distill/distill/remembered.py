"""A teacher's distributions over all entities, worked out once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Protocol

import torch
from torch import Tensor

from dglke_distill.data.triples import SIDES
from dglke_distill.distill.extra_queries import unanswered
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.models.base import KGEModel
from dglke_distill.sampling.batch import Batch, Queries

_BLOCK = 256


class _Asked(Protocol):
    model: KGEModel

    def ask(self, batch: Batch) -> Any:
        """Answer a batch."""


class Remembered:
    """A teacher that looks its answers to the train graph's queries up.

    In an epoch of ``k_vs_all`` every query is asked once, so from the second epoch on a teacher
    that scores all entities anew only repeats itself, and it is by far the dearest part of a small
    student's step. Scores are kept in half precision as differences from the best one of their
    query, which leaves the distribution what it was to three decimals; what is compared must not
    depend on more.

    Args:
        teacher: one or several with one voice; on the CPU its scores stay.
        rows: numbers the queries.
        entities: number of entities.
    """

    def __init__(self, teacher: _Asked, rows: QueryRows, entities: int) -> None:
        """Ask everything, in a fixed order, so that what is kept depends on no batch."""
        self.model, self._rows = teacher.model, rows
        self._dtype = teacher.model.relation_weight.dtype
        device = teacher.model.relation_weight.device
        self._kept = {}
        for side in SIDES:
            entity, relation = rows.queries(side)
            table = torch.empty(len(entity), entities, dtype=torch.float16, device=device)
            for block in torch.arange(len(entity)).split(_BLOCK):
                asked = entity[block].to(device), relation[block].to(device)
                scores = teacher.ask(_batch(unanswered(side, *asked)))((0,))
                scores -= scores.amax(dim=1, keepdim=True)
                table[block[0] : block[-1] + 1] = scores
            self._kept[side] = table

    @staticmethod
    def size(rows: QueryRows, entities: int) -> int:
        """Return the bytes that are kept for so many entities."""
        return 2 * entities * len(rows)

    def ask(self, batch: Batch) -> Callable[[Sequence[int]], Tensor]:
        """Answer a batch of the train graph's queries, of all entities alone."""

        def reply(numbers: Sequence[int]) -> Tensor:
            parts = [self.recall(batch.queries[number]) for number in numbers]
            return torch.cat(parts).to(self._dtype)

        return reply

    def recall(self, queries: Queries) -> Tensor:
        """Return the kept scores (b, E) of a group of queries, whose rows are ids."""
        rows = self._rows.rows(queries.side, queries.entity, queries.relation)
        return self._kept[queries.side][rows]


def _batch(queries: Queries) -> Batch:
    empty = queries.entity.new_zeros(0)
    return Batch(None, (queries,), empty, empty, empty, empty, None)
