"""Complex vectors multiplied coordinate by coordinate, forward and backward in one pass each."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dglke_distill.kernels.threads import NativeKernel, argument, arguments, array_at, next_task

# Rows per task.
_ROWS = 1024


def _products_kernel(data):
    """Left * right, or left * conjugate(right)."""
    u, d, conjugate = arguments(data, 0, 3)
    left = array_at(data, argument(data, 3), (u, d))
    right = array_at(data, argument(data, 4), (u, d))
    out = array_at(data, argument(data, 5), (u, d))
    half = d // 2
    task = next_task(data)
    while task * _ROWS < u:
        for i in range(task * _ROWS, min((task + 1) * _ROWS, u)):
            a, b = left[i, :half], left[i, half:]
            c, e = right[i, :half], right[i, half:]
            real, imaginary = out[i, :half], out[i, half:]
            if conjugate:
                for k in range(half):
                    real[k] = a[k] * c[k] + b[k] * e[k]
                    imaginary[k] = b[k] * c[k] - a[k] * e[k]
            else:
                for k in range(half):
                    real[k] = a[k] * c[k] - b[k] * e[k]
                    imaginary[k] = a[k] * e[k] + b[k] * c[k]
        task = next_task(data)


_products = NativeKernel(_products_kernel)


def _multiplied(left: Tensor, right: Tensor, conjugate: bool) -> Tensor:
    u, d = left.shape
    out = torch.empty_like(left)
    _products(left.dtype, u * d, u, d, conjugate, left, right, out)
    return out


class ComplexProducts(torch.autograd.Function):
    """left * right of (u, d) each, float32 or float64 on the CPU; d even.

    The bits are those of the written-out operations of torch.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        """Multiply."""
        ctx.save_for_backward(left, right)
        return _multiplied(left.detach().contiguous(), right.detach().contiguous(), False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return grad * conjugate of the other one."""
        left, right = (side.detach().contiguous() for side in ctx.saved_tensors)
        grad = grad.contiguous()
        wanted = ctx.needs_input_grad
        return (
            _multiplied(grad, right, True) if wanted[0] else None,
            _multiplied(grad, left, True) if wanted[1] else None,
        )
