"""A control for given candidates: how often does an entity stand there with the relation?

Where negatives are drawn without regard to how frequent entities are, a score that ignores the
known entity does well: what often is the tail of a relation beats what seldom or never is. A model
is worth what it adds to that.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.groups import group
from dglke_distill.data.triples import SIDES, Side, Triples


class RelationPopularity:
    """Scores a candidate by the train triples that have it on that side of the relation.

    Args:
        train: the train split; repeated triples count as often as they occur.
        num_entities: number of entities.
        num_relations: number of relations.
    """

    relation_order = True
    """Asks for queries in the order of their relations, whose counts are worked out in turn."""

    def __init__(self, train: Triples, num_entities: int, num_relations: int) -> None:
        """Group both columns of the train split by relation."""
        self.num_entities = num_entities
        order, self._offsets = group(train.relation, num_relations)
        self._columns = {side: getattr(train, side)[order] for side in SIDES}
        self._latest: tuple[Optional[Side], int, NDArray[np.float32]] = (
            None,
            -1,
            np.empty(0, np.float32),
        )

    def counts(self, relation: int, side: Side) -> NDArray[np.float32]:
        """Return how often each entity is on a side of a relation: (entities,)."""
        if self._latest[:2] != (side, relation):
            first, last = self._offsets[relation : relation + 2]
            found = np.bincount(self._columns[side][first:last], minlength=self.num_entities)
            self._latest = (side, relation, found.astype(np.float32))  # exact below 2^24
        return self._latest[2]

    def score_candidates(
        self, entity: Tensor, relation: Tensor, candidates: Tensor, side: Side
    ) -> Tensor:
        """Score candidates; the known entities are not looked at.

        Args:
            entity: (b,) int64, ignored.
            relation: (b,) int64.
            candidates: (b, n) int64.
            side: the side to be predicted.

        Returns:
            (b, n) float32 counts.
        """
        relations, numbers = relation.numpy(), candidates.numpy()
        scores = np.empty(numbers.shape, np.float32)
        for one in np.unique(relations).tolist():
            rows = np.flatnonzero(relations == one)
            scores[rows] = self.counts(one, side)[numbers[rows]]
        return torch.from_numpy(scores)

    def score_all(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Score every entity; the known entities are not looked at.

        Args:
            entity: (b,) int64, ignored.
            relation: (b,) int64.
            side: the side to be predicted.

        Returns:
            (b, entities) float32 counts.
        """
        return torch.from_numpy(np.stack([self.counts(one, side) for one in relation.tolist()]))
