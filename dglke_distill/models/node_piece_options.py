"""The options of NodePiece."""

from __future__ import annotations

from typing import Optional

from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.config.sections import MOST_FLOATS, MOST_SEED

MOST_ANCHORS = 20_000
"""Anchors of a large graph unless ``anchors`` says otherwise."""


class NodePieceOptions(NoOptions):
    """Options of NodePiece."""

    anchors: Optional[int] = Field(
        None,
        ge=1,
        le=1 << 31,
        description="entities that are anchors; None: a tenth, at most 20,000",
    )
    per_entity: int = Field(
        20, ge=1, le=256, description="nearest anchors that stand for an entity"
    )
    context: int = Field(12, ge=0, le=256, description="relations of its own that do so too")
    max_distance: int = Field(20, ge=1, le=254, description="edges to the farthest anchor")
    degree_share: float = Field(0.4, ge=0, le=1, description="anchors that have the most edges")
    pagerank_share: float = Field(0.4, ge=0, le=1, description="by PageRank; the rest: random")
    seed: int = Field(
        0, ge=0, le=MOST_SEED, description="of the tokens; a run's own seed does not change them"
    )
    token_dim: Optional[int] = Field(
        None, ge=1, le=MOST_FLOATS, description="floats of a token; None: as an entity"
    )
    hidden: Optional[int] = Field(
        None, ge=1, le=MOST_FLOATS, description="hidden units; None: two per entity float"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden units dropped")

    def count_anchors(self, num_entities: int) -> int:
        """Return how many of so many entities are anchors."""
        return min(self.anchors or max(1, min(num_entities // 10, MOST_ANCHORS)), num_entities)
