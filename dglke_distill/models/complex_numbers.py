"""Arithmetic on complex vectors kept as floats: the first half real, the second half imaginary."""

from __future__ import annotations

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError


def conjugate(vectors: Tensor) -> Tensor:
    """Return the complex conjugates of vectors (..., d)."""
    real, imaginary = vectors.chunk(2, dim=-1)
    return torch.cat([real, -imaginary], dim=-1)


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Multiply complex vectors coordinate by coordinate: (..., d) and (..., d) to (..., d)."""
    flat = left.dim() == 2 and left.shape == right.shape and left.numel() > 0
    if flat and _native(left, right) and torch.is_grad_enabled():
        from dglke_distill.kernels.complex_products import ComplexProducts

        result: Tensor = ComplexProducts.apply(left, right)
        return result
    a, b = left.chunk(2, dim=-1)
    c, d = right.chunk(2, dim=-1)
    return torch.cat([a * c - b * d, a * d + b * c], dim=-1)


def _native(left: Tensor, right: Tensor) -> bool:
    """Whether the native kernel can take both."""
    fits = left.dtype in (torch.float32, torch.float64) and left.dtype == right.dtype
    return fits and left.device.type == right.device.type == "cpu"


def squared_moduli(vectors: Tensor) -> Tensor:
    """Return the squared moduli of complex vectors: (..., d) to (..., d/2)."""
    real, imaginary = vectors.chunk(2, dim=-1)
    return real.square() + imaginary.square()


def require_even(dim: int, name: str, parts: str) -> None:
    """Check that ``dim`` floats split into two equal parts.

    Raises:
        UserError: ``dim`` is odd; the message names the setting.
    """
    if dim % 2:
        raise UserError(
            f"model.dim: {name} keeps {parts}, so it needs an even number of floats per entity; "
            f"got {dim}, take {dim + 1}, or for an odd number {max(2, dim - 1)} with "
            "model.entity_bias=true, which adds one"
        )
