"""CP: an entity has one vector as a head and another as a tail (Hitchcock 1927)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.models import ScoreFunction


class CP(ScoreFunction):
    """Sum over k of head[k] relation[k] tail[k], heads and tails being halves of entities."""

    name = "CP"
    kernel = "dot"
    parts = 2

    def __init__(self, dim: int, options: Any) -> None:
        """Check that there are two halves."""
        if dim % 2:
            raise UserError(f"model.dim is {dim}: CP needs an even number; take {dim + 1}")
        super().__init__(dim, options)

    @property
    def relation_floats(self) -> int:
        """Half as many as an entity has."""
        return self.dim // 2

    def query(self, entity: Tensor, relation: Tensor, side: str) -> Tensor:
        """Return what candidates meet: nothing on the half that does not answer."""
        first, second = entity.chunk(2, dim=-1)
        if side == "tail":
            made = first * relation
            return torch.cat([torch.zeros_like(made), made], dim=-1)
        made = second * relation
        return torch.cat([made, torch.zeros_like(made)], dim=-1)
