"""The distinct queries that students are asked, numbered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import torch
from torch import Tensor

from dglke_distill.data.triples import SIDES, Side


class QueryRows:
    """Numbers the distinct queries (entity, relation) of each side, 8 bytes each.

    Args:
        graph: the train graph, with or without inverse edges, which ask nothing new.
        num_relations: relations, without inverses.
        extra: entity and relation ids (n,) of queries beyond train's, by side, if there are any.
    """

    def __init__(
        self,
        graph: Any,
        num_relations: int,
        extra: Optional[Mapping[Side, tuple[Tensor, Tensor]]] = None,
    ) -> None:
        """Sort them."""
        self._entities = int(graph.num_nodes())
        head, tail = (column.long() for column in graph.edges())
        relation = graph.edata["relation"].long()
        own = relation < num_relations
        head, relation, tail = head[own], relation[own], tail[own]
        self._keys: dict[Side, Tensor] = {}
        for side in SIDES:
            entity = head if side == "tail" else tail
            keys = relation * self._entities + entity
            if extra is not None:
                others, kinds = extra[side]
                keys = torch.cat([keys, kinds * self._entities + others])
            self._keys[side] = torch.unique(keys)

    def __len__(self) -> int:
        """Return how many there are on both sides together."""
        return sum(len(self._keys[side]) for side in SIDES)

    def queries(self, side: Side) -> tuple[Tensor, Tensor]:
        """Return entity and relation ids (n,) of all queries of a side in the order of numbers."""
        return self._keys[side] % self._entities, self._keys[side] // self._entities

    def rows(self, side: Side, entity: Tensor, relation: Tensor) -> Tensor:
        """Return the numbers (b,) of queries, given by ids (b,), which must be among these."""
        keys = self._keys[side].to(entity.device)
        return torch.searchsorted(keys, relation * self._entities + entity)
