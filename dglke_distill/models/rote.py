"""RotE: a relation rotates each complex coordinate and then moves the entity."""

from __future__ import annotations

import math
from typing import Any, Optional

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.kernels import KernelName
from dglke_distill.models.complex_numbers import multiply, require_even, squared_moduli
from dglke_distill.models.hidden import WithHiddenLayer


class RotE(WithHiddenLayer):
    """score(h, r, t) = -||h exp(i p_r) + m_r - t||^2; h, t, m complex (dim/2,), p phases (dim/2,).

    Chami, Wolf, Juan, Sala, Ravi, Re 2020, "Low-dimensional hyperbolic knowledge graph
    embeddings", section 4.3 without curvature; its biases are ``entity_bias``. Entities and moves
    start uniform in +-sqrt(6/dim), phases in (-pi, pi) whatever the scale. With ``hidden`` units
    h exp(i p_r) + m_r gains relu(W h + b_r)^T V, as ``WithHiddenLayer`` has it.
    """

    kernel: KernelName = "l2_squared"
    parts = 2

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the floats make whole complex numbers."""
        require_even(dim, type(self).__name__, "complex numbers of two floats each")
        super().__init__(dim, options)

    @property
    def published_floats(self) -> int:
        """A move, then a phase per complex coordinate."""
        return self.dim + self.dim // 2

    def init_relation(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill moves as entities are, phases uniformly in (-pi, pi), biases with zeros."""
        move, phase, bias = weight.split([self.dim, self.dim // 2, self.hidden], dim=1)
        super().init_relation(move, scale, generator)
        phase.uniform_(-math.pi, math.pi, generator=generator)
        bias.zero_()

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Rotate and move the head to meet tails; move the tail back and rotate it: (b, dim)."""
        move, phase, bias = relation.split([self.dim, self.dim // 2, self.hidden], dim=-1)
        known = entity
        if side == "head":
            entity, phase = entity - move, -phase
        turned = multiply(entity, torch.cat([phase.cos(), phase.sin()], dim=-1))
        query = turned + move if side == "tail" else turned
        return query + self.through(known, bias) if self.hidden else query

    def squared_magnitudes(self, vectors: Tensor) -> Tensor:
        """Return the squared moduli of entities or moves, (u, dim/2); phases have none."""
        return squared_moduli(vectors[..., : self.dim])
