"""The distinct queries of the train graph, numbered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.data.triples import SIDES, Side

__all__ = ["QueryRows"]


class QueryRows:
    """Numbers the distinct queries (entity, relation) of each side, 8 bytes each.

    Args:
        graph: the train graph, with or without inverse edges, which ask nothing new.
        num_relations: relations, without inverses.
    """

    def __init__(self, graph: Any, num_relations: int) -> None:
        """Sort them."""
        self._entities = int(graph.num_nodes())
        head, tail = (column.long() for column in graph.edges())
        relation = graph.edata["relation"].long()
        own = relation < num_relations
        head, relation, tail = head[own], relation[own], tail[own]
        self._keys: dict[Side, Tensor] = {
            "tail": torch.unique(relation * self._entities + head),
            "head": torch.unique(relation * self._entities + tail),
        }

    def __len__(self) -> int:
        """Return how many there are on both sides together."""
        return sum(len(self._keys[side]) for side in SIDES)

    def queries(self, side: Side) -> tuple[Tensor, Tensor]:
        """Return entity and relation ids (n,) of all queries of a side in the order of numbers."""
        return self._keys[side] % self._entities, self._keys[side] // self._entities

    def rows(self, side: Side, entity: Tensor, relation: Tensor) -> Tensor:
        """Return the numbers (b,) of queries that the train graph asks, given by ids (b,)."""
        keys = self._keys[side].to(entity.device)
        return torch.searchsorted(keys, relation * self._entities + entity)
