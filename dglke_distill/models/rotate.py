"""RotatE: a relation is a rotation of each complex coordinate."""

from __future__ import annotations

import math
from typing import Any, Literal, Optional

import torch
from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.models.complex_numbers import multiply, require_even, squared_moduli
from dglke_distill.models.score_function import ScoreFunction


class RotatEOptions(NoOptions):
    """Options of RotatE."""

    norm: Literal["l1", "l2"] = Field(
        "l1", description="of the complex differences: the sum of their moduli, or PyKEEN's root"
    )


class RotatE(ScoreFunction):
    """score(h, r, t) = -sum_k |h_k exp(i r_k) - t_k|; h, t complex (dim/2,), r phases (dim/2,).

    With the norm L2, as in PyKEEN, it is the root of the sum of squared moduli instead.

    Sun, Deng, Nie, Tang 2019, "RotatE: knowledge graph embedding by relational rotation in complex
    space". Phases are in radians and start uniform in (-pi, pi) whatever the scale. Entities start
    uniform in +-22/dim, so that the first distances are near the customary margin of 9 (its code's
    (gamma + 2) / number of complex coordinates).
    """

    Options = RotatEOptions
    parts = 2

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the floats make whole complex numbers, and choose the kernel."""
        require_even(dim, "RotatE", "complex numbers of two floats each")
        super().__init__(dim, options)
        self.kernel = "complex_modulus" if options.norm == "l1" else "l2"

    @property
    def relation_floats(self) -> int:
        """One phase per complex coordinate."""
        return self.dim // 2

    def init_entity(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the entity table uniformly."""
        super().init_entity(weight, 22.0 / self.dim if scale is None else scale, generator)

    def init_relation(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the phases uniformly in (-pi, pi)."""
        weight.uniform_(-math.pi, math.pi, generator=generator)

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Rotate the head forward to meet tails, the tail backward to meet heads: (b, dim)."""
        phase = relation if side == "tail" else -relation
        return multiply(entity, torch.cat([phase.cos(), phase.sin()], dim=-1))

    def squared_magnitudes(self, vectors: Tensor) -> Tensor:
        """Return the squared moduli of entities, (u, dim/2); 1 for phases, the rotation's own."""
        if vectors.shape[-1] == self.relation_floats:
            return torch.ones_like(vectors)
        return squared_moduli(vectors)
