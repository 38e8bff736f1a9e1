"""Models whose whole table is decoded a block at a time, because decoded it may not fit memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.models.base import KGEModel
from dglke_distill.models.rows import EntityRows

BLOCK_ROWS = 1 << 14
"""Most entities decoded at once."""


class BlockwiseModel(KGEModel):
    """A model that ranks and predicts without ever decoding more than ``BLOCK_ROWS`` entities.

    Only ``encode(None)`` and ``entity_embeddings`` decode them all. A subclass writes
    ``encode_range``.
    """

    @property
    def block_rows(self) -> int:
        """Most entities that may be encoded at once where all are gone through."""
        return BLOCK_ROWS

    @contextmanager
    def frozen(self) -> Iterator[EntityRows]:
        """Keep no decoded table: the weights must not change inside the context."""
        yield self.encode_range(0, 0)

    def score_all(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Score every entity, a block at a time; as ``KGEModel.score_all``."""
        with torch.no_grad():
            nodes, rows = torch.unique(entity, return_inverse=True)
            query = self.query(self.encode(nodes), rows, relation, side)
            scores = query.vectors.new_empty(len(entity), self.num_entities)
            for start in range(0, self.num_entities, BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, self.num_entities)
                block = self.encode_range(start, stop)
                scores[:, start:stop] = self.score(query, block, exact=True)
            return scores
