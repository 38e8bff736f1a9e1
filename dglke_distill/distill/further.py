"""Queries that the train graph does not ask, for a teacher to answer and a student to learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.data.triples import SIDES
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.objective import Moment
from dglke_distill.sampling.batch import Answers, Batch, Queries

__all__ = ["FurtherQueries", "unanswered"]


class FurtherQueries:
    """Draws plausible queries (entity, relation) of both sides.

    A student learns its teacher's answers to the queries of the train graph, and is then asked
    others. Here an entity e is paired with a relation that it may lack: s is drawn among the
    queries asked of e, e' among the entities of which s is asked, too, and the relation (with its
    side) among the queries asked of e'. So entities get the relations of their like, and no
    triple of any split is looked at but those of train. Queries of the train graph may be drawn
    as well. Draws depend on the seed and the step alone.

    Args:
        graph: the train graph. num_relations: relations, without inverses. seed: of the draws.
    """

    def __init__(self, graph: Any, num_relations: int, *, seed: int) -> None:
        """Sort the queries by entity and by relation; 24 bytes for each."""
        rows = QueryRows(graph, num_relations)
        self._relations, self._seed = num_relations, seed
        entities, kinds = [], []
        for number, side in enumerate(SIDES):
            entity, relation = rows.queries(side)
            entities.append(entity)
            kinds.append(relation + number * num_relations)
        entity, kind = torch.cat(entities), torch.cat(kinds)
        self._of_entity = _Grouped(entity, kind, int(graph.num_nodes()))
        self._of_kind = _Grouped(kind, entity, 2 * num_relations)
        self._asked = torch.unique(entity)

    def draw(self, count: int, moment: Moment, device: torch.device) -> Batch:
        """Return a batch of ``count`` queries without answers, against all entities."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + moment.step + 1)
        drawn = torch.randint(len(self._asked), (count,), generator=generator)
        entity = self._asked[drawn]
        alike = self._of_kind.draw(self._of_entity.draw(entity, generator), generator)
        kind = self._of_entity.draw(alike, generator)
        groups = []
        for number, side in enumerate(SIDES):
            chosen = kind // self._relations == number
            if bool(chosen.any()):
                asked = entity[chosen].to(device), (kind[chosen] % self._relations).to(device)
                groups.append(unanswered(side, *asked))
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return Batch(None, tuple(groups), none, none, none, none, None)


def unanswered(side: Any, entity: Tensor, relation: Tensor) -> Queries:
    """Return queries (b,) of a side without answers, against all entities."""
    offsets = torch.zeros(len(entity) + 1, dtype=torch.int64, device=entity.device)
    return Queries(side, entity, relation, None, Answers(offsets, offsets[:0]), None, None, None)


class _Grouped:
    """Values by key, end to end."""

    def __init__(self, keys: Tensor, values: Tensor, size: int) -> None:
        """Sort them."""
        self._values = values[torch.argsort(keys, stable=True)]
        self._counts = torch.bincount(keys, minlength=size)
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, keys: Tensor, generator: torch.Generator) -> Tensor:
        """Return a value of each key (b,), which must have one, drawn uniformly."""
        counts = self._counts[keys]
        place = (torch.rand(len(keys), generator=generator, dtype=torch.float64) * counts).long()
        return self._values[self._starts[keys] + place.minimum(counts - 1)]
