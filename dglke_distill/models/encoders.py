"""Encoders turn entity ids into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from dglke_distill.models.kernels import table_rows
from dglke_distill.models.score_function import NoOptions, ScoreFunction
from dglke_distill.models.tables import new_table

__all__ = ["LookupEncoder"]


class LookupEncoder(nn.Module):
    """One learned vector per entity.

    Args:
        num_entities: rows of the table.
        dim: floats per entity.
        dtype: dtype of the table.

    Attributes:
        weight: the table, (num_entities, dim).
        needs_blocks: whether ``forward`` wants message-flow graphs for the ids it is given.
    """

    Options: type[BaseModel] = NoOptions
    needs_blocks = False

    def __init__(self, num_entities: int, dim: int, dtype: torch.dtype = torch.float32) -> None:
        """Allocate the table; ``reset`` fills it."""
        super().__init__()
        self.num_entities = num_entities
        self.weight = new_table(num_entities, dim, dtype)

    @classmethod
    def build(
        cls, num_entities: int, num_relations: int, dim: int, options: Any, dtype: torch.dtype
    ) -> LookupEncoder:
        """Build from the sizes of a dataset and validated options."""
        return cls(num_entities, dim, dtype)

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the table as the score function likes it; ``scale`` None means its default."""
        with torch.no_grad():
            score_function.init_entity(self.weight, scale, generator)

    def set_row_sparse(self, flag: bool) -> None:
        """Choose whether the table's gradient is kept for touched rows only (see ``optim``)."""
        self.weight.row_sparse = flag  # type: ignore[attr-defined]

    def attach(self, graph: Optional[Any]) -> None:
        """Take the train graph, which a table has no use for."""

    def blocks_for(self, nodes: Tensor) -> Optional[Sequence[Any]]:
        """Return the message-flow graphs needed to encode ``nodes`` (u,): none."""
        return None

    def store_encoded(self) -> None:
        """Keep what ``forward(None)`` returns in the module's own state: the table already is."""

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) of entity ids (u,) int64, or of all entities in id order."""
        return self.weight if nodes is None else table_rows(self.weight, nodes)
