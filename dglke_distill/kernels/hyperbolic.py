"""Squared distances of the hyperbolic space of curvature -1.

A row v of d floats is a tangent vector at the origin and stands for the point of the hyperboloid
x_0^2 - |x|^2 = 1 that lies |v| away in its direction: x = v sinh |v| / |v|, x_0 = cosh |v|. Two
points are cosh d = q_0 c_0 - q c apart (Nickel, Kiela 2018, "Learning continuous hierarchies in the
Lorentz model of hyperbolic geometry", equations 5 and 9).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Shorter vectors are as good as none: sinh(x) / x is 1 in every dtype long before.
_SMALLEST = 1e-12


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1, keepdim=True).clamp(min=_SMALLEST**2).sqrt()


def point_of(vectors: Tensor) -> Tensor:
    """Return the coordinates x (..., d), without x_0, of tangent vectors (..., d)."""
    length = _length(vectors)
    return vectors * (length.sinh() / length)


def tangent_of(points: Tensor) -> Tensor:
    """Return the tangent vectors (..., d) of points (..., d) given without x_0."""
    length = _length(points)
    return points * (length.asinh() / length)


def time_of(points: Tensor) -> Tensor:
    """Return the coordinate x_0 (..., 1) of points (..., d)."""
    return (1.0 + points.square().sum(-1, keepdim=True)).sqrt()


def lifted(query: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return (b, d + 2) and (u, d + 2) whose dot products are (cosh d - 1) / 2 of two points."""
    one = rows.new_ones(1, 1)
    ours = (-0.5 * query, 0.5 * time_of(query), -0.5 * one.expand(len(query), 1))
    theirs = (rows, time_of(rows), one.expand(len(rows), 1))
    return torch.cat(ours, dim=1), torch.cat(theirs, dim=1)


class _NegatedSquares(torch.autograd.Function):
    """-4 asinh(sqrt(u))^2 of u = (cosh d - 1) / 2, that is -d^2; its slope at 0 is -4."""

    @staticmethod
    def forward(ctx: Any, half: Tensor) -> Tensor:
        """Take numbers that rounding made negative for 0."""
        half = half.clamp(min=0)
        ctx.save_for_backward(half)
        return half.sqrt().asinh_().square_().mul_(-4.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Multiply with -4 asinh(s) / (s sqrt(1 + u)), s the root of u."""
        (half,) = ctx.saved_tensors
        root = half.clamp(min=_SMALLEST).sqrt_()
        slope = root.asinh().div_(root).div_((1.0 + half).sqrt_())
        return slope.mul_(grad).mul_(-4.0)


def negated_squares(half: Tensor) -> Tensor:
    """Return -d^2 of (cosh d - 1) / 2, any shape."""
    result: Tensor = _NegatedSquares.apply(half)
    return result
