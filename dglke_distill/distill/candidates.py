"""Which extra candidates a student is shown beside those of its batch."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from dglke_distill.base.groups import group_tensor
from dglke_distill.data.triples import SIDES, Side
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.distill.teacher import Teacher
from dglke_distill.models.base import KGEModel
from dglke_distill.training.objective import Moment


class ExtraCandidates:
    """Base of the sources of extra candidates."""

    def of(self, side: Side, entity: Tensor, relation: Tensor, moment: Moment) -> Tensor:
        """Return entity ids (b, k) int64 for queries given by entity and relation ids (b,)."""
        raise NotImplementedError


class TopCandidates(ExtraCandidates):
    """The entities that a teacher thinks the best answers.

    Args:
        teacher: the teacher.
        cached: all queries that will be asked, whose candidates are found once; None: find them at
            each step.
        count: candidates per query.
        block: queries scored at once.
    """

    def __init__(
        self,
        teacher: Teacher,
        cached: Optional[QueryRows],
        *,
        count: int,
        block: int = 256,
    ) -> None:
        """Find them, if they are to be cached."""
        self._model: KGEModel = teacher.model
        self._count = min(count, self._model.num_entities)
        self._block = block
        self._found: dict[Side, Tensor] = {}
        self._rows = cached
        if cached is not None:
            for side in SIDES:
                entity, relation = cached.queries(side)
                self._found[side] = self._best(side, entity, relation, torch.int32)

    @staticmethod
    def size(rows: QueryRows, count: int) -> int:
        """Return the bytes that so many candidates of every query take, cached."""
        return len(rows) * (8 + 4 * count)

    def _best(
        self, side: Side, entity: Tensor, relation: Tensor, dtype: torch.dtype = torch.int64
    ) -> Tensor:
        device = self._model.relation_weight.device
        # In one piece from the start: pieces between tables of scores would tear up the heap.
        best = torch.empty(len(entity), self._count, dtype=dtype, device=device)
        blocks = zip(*(each.split(self._block) for each in (entity, relation, best)))
        with self._model.frozen():
            for e, r, into in blocks:
                scores = self._model.score_all(e.to(device), r.to(device), side)
                into.copy_(scores.topk(self._count, dim=1).indices)
        return best

    def of(self, side: Side, entity: Tensor, relation: Tensor, moment: Moment) -> Tensor:
        """See ``ExtraCandidates.of``."""
        if self._rows is None:
            return self._best(side, entity, relation)
        rows = self._rows.rows(side, entity, relation)
        return self._found[side][rows.to(self._found[side].device)].long().to(entity.device)


class GraphNeighbors(ExtraCandidates):
    """Entities next to the known one in the train graph, drawn with replacement.

    An entity without neighbours is its own.

    Args:
        graph: the train graph.
        count: neighbours per query.
        seed: of the draws, which depend on it, the step and the side alone.
    """

    def __init__(self, graph: Any, *, count: int, seed: int) -> None:
        """Lay out the neighbours of every entity end to end."""
        head, tail = (column.long() for column in graph.edges())
        order, self._starts = group_tensor(torch.cat([head, tail]), graph.num_nodes())
        self._neighbors = torch.cat([tail, head])[order]
        self._count, self._seed = count, seed

    def of(self, side: Side, entity: Tensor, relation: Tensor, moment: Moment) -> Tensor:
        """See ``ExtraCandidates.of``."""
        key = (self._seed * 1_000_003 + moment.step) * 2 + (side == "head")
        generator = torch.Generator().manual_seed(key % (1 << 64))
        known = entity.cpu()
        draws = torch.rand(len(known), self._count, generator=generator)
        start, end = self._starts[known, None], self._starts[known + 1, None]
        rows = start + (draws * (end - start)).long().clamp(max=(end - start - 1).clamp(min=0))
        alone = (start == end).expand_as(rows)
        found = self._neighbors[rows.clamp(max=len(self._neighbors) - 1)]
        return torch.where(alone, known[:, None], found).to(entity.device)
