"""Distillation by halves: each student has half the floats of its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dglke_distill.distill.methods import Method


class Halving(Method):
    """Every half between the first size and the last, each student the next one's teacher."""

    name = "halving"

    def dims(self, dims: Sequence[int]) -> list[int]:
        """Return the first size, its even halves above the last, and the last."""
        sizes, last = [dims[0]], dims[-1]
        while (half := 2 * round(sizes[-1] / 4)) > last:
            sizes.append(half)
        return [*sizes, last] if last < sizes[-1] else sizes

    def settings(self) -> dict[str, Any]:
        """Keep the weight of soft labels constant."""
        return {"distillation": {"weight": {"name": "constant"}}}
