"""Queries that the train graph does not ask, for a teacher to answer and a student to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import torch
from torch import Tensor

from dglke_distill.base.groups import group_tensor
from dglke_distill.data.triples import SIDES, Side
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.sampling.batch import Answers, Batch, Queries
from dglke_distill.training.objective import Moment


class ExtraQueries:
    """A pool of plausible queries (entity, relation) of both sides, none of them train's.

    A student learns its teacher's answers to the queries of the train graph, and is then asked
    others. Here an entity e is paired with a relation that it lacks: s is drawn among the queries
    asked of e, e' among the entities of which s is asked, too, and the relation (with its side)
    among the queries asked of e'. So entities get the relations of their like, and no triple of
    any split is looked at but those of train. The pool depends on the seed alone, what a step
    draws from it on the seed and the step.

    Args:
        graph: the train graph.
        num_relations: relations, without inverses.
        size: pairs drawn for each distinct query of train; those of train and repeated ones are
            left out.
        seed: of all draws.
    """

    def __init__(self, graph: Any, num_relations: int, *, size: float, seed: int) -> None:
        """Draw the pool; 8 bytes for each query of it, and 24 for each of train's meanwhile."""
        rows = QueryRows(graph, num_relations)
        self._seed, self._nodes = seed, int(graph.num_nodes())
        entities, kinds = [], []
        for number, side in enumerate(SIDES):
            entity, relation = rows.queries(side)
            entities.append(entity)
            kinds.append(relation + number * num_relations)
        entity, kind = torch.cat(entities), torch.cat(kinds)
        of_entity = _Grouped(entity, kind, self._nodes)
        of_kind = _Grouped(kind, entity, 2 * num_relations)
        generator = torch.Generator().manual_seed(seed)
        asked = torch.unique(entity)
        drawn = torch.randint(len(asked), (round(size * len(rows)),), generator=generator)
        chosen = asked[drawn]
        alike = of_kind.draw(of_entity.draw(chosen, generator), generator)
        pool = torch.unique(of_entity.draw(alike, generator) * self._nodes + chosen)
        pool = pool[~torch.isin(pool, kind * self._nodes + entity)]
        self._queries: dict[Side, tuple[Tensor, Tensor]] = {}
        for number, side in enumerate(SIDES):
            keys = pool[pool // (num_relations * self._nodes) == number]
            relation = keys // self._nodes - number * num_relations
            self._queries[side] = keys % self._nodes, relation

    def __len__(self) -> int:
        """Return how many there are on both sides together."""
        return sum(len(entity) for entity, _ in self._queries.values())

    @property
    def queries(self) -> Mapping[Side, tuple[Tensor, Tensor]]:
        """Entity and relation ids (n,) of the pool, by side."""
        return self._queries

    def draw(
        self, count: int, moment: Moment, device: torch.device, candidates: Optional[int] = None
    ) -> Batch:
        """Return a batch of ``count`` queries of the pool without answers.

        Args:
            count: drawn with replacement.
            moment: where training stands.
            device: of the tensors.
            candidates: entities drawn uniformly that all queries meet, whose first stands for the
                answer of each; None: all entities.
        """
        generator = torch.Generator().manual_seed(
            (self._seed * 1_000_003 + moment.step + 1) % (1 << 64)
        )
        drawn = torch.randint(len(self), (count,), generator=generator)
        shared = None
        if candidates is not None:
            shared = torch.randint(self._nodes, (candidates,), generator=generator)
        asked, first = [], 0
        for side in SIDES:
            entity, relation = self._queries[side]
            chosen = drawn[(drawn >= first) & (drawn < first + len(entity))] - first
            first += len(entity)
            if len(chosen):
                asked.append((side, entity[chosen], relation[chosen]))
        nodes = None
        if shared is not None:
            parts = [shared, *(entity for _, entity, _ in asked)]
            nodes, rows = torch.unique(torch.cat(parts), return_inverse=True)
            shared, *known = rows.split([len(part) for part in parts])
            asked = [(each[0], entity, each[2]) for each, entity in zip(asked, known)]
            nodes, shared = nodes.to(device), shared.to(device)
        groups = tuple(unanswered(side, e.to(device), r.to(device), shared) for side, e, r in asked)
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return Batch(nodes, groups, none, none, none, none, None)


def unanswered(
    side: Side, entity: Tensor, relation: Tensor, shared: Optional[Tensor] = None
) -> Queries:
    """Return queries (b,) of a side without answers, against shared rows (n,) or all entities."""
    if shared is not None:
        first, others = shared[:1].expand(len(entity)), shared[None, 1:]
        return Queries(side, entity, relation, first, None, others, None, None)
    offsets = torch.zeros(len(entity) + 1, dtype=torch.int64, device=entity.device)
    return Queries(side, entity, relation, None, Answers(offsets, offsets[:0]), None, None, None)


class _Grouped:
    """Values by key, end to end."""

    def __init__(self, keys: Tensor, values: Tensor, size: int) -> None:
        """Sort them."""
        order, self._offsets = group_tensor(keys, size)
        self._values = values[order]

    def draw(self, keys: Tensor, generator: torch.Generator) -> Tensor:
        """Return a value of each key (b,), which must have one, drawn uniformly."""
        starts = self._offsets[keys]
        counts = self._offsets[keys + 1] - starts
        place = (torch.rand(len(keys), generator=generator, dtype=torch.float64) * counts).long()
        return self._values[starts + place.minimum(counts - 1)]
