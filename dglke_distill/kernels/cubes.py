"""Sums of cubed magnitudes of rows, with their gradient in the same pass, on the CPU."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dglke_distill.kernels.threads import NativeKernel, argument, arguments, array_at, next_task

# Rows per task.
_ROWS = 1024


def sum_of_cubes(rows: Tensor, weight: Tensor, complex_coordinates: bool) -> Tensor:
    """Return the sum; see ``kernels.cubed_magnitudes``."""
    result: Tensor = _Cubes.apply(rows, weight, complex_coordinates)
    return result


def _cubes_kernel(data):
    """Per task: the sum; per row: the gradient."""
    u, d, parts = arguments(data, 0, 3)
    rows = array_at(data, argument(data, 3), (u, d))
    weight = array_at(data, argument(data, 4), u)
    gradient = array_at(data, argument(data, 5), (u, d))
    sums = array_at(data, argument(data, 6), (u + _ROWS - 1) // _ROWS)
    three = rows.dtype.type(3)
    half = d // 2
    task = next_task(data)
    while task * _ROWS < u:
        total = np.float64(0)
        for i in range(task * _ROWS, min((task + 1) * _ROWS, u)):
            row, slope, factor = rows[i], gradient[i], three * weight[i]
            added = rows.dtype.type(0)
            if parts == 2:
                for k in range(half):
                    square = row[k] * row[k] + row[half + k] * row[half + k]
                    root = np.sqrt(square)
                    added += square * root
                    slope[k] = factor * root * row[k]
                    slope[half + k] = factor * root * row[half + k]
            else:
                for k in range(d):
                    size = abs(row[k])
                    added += size * size * size
                    slope[k] = factor * size * row[k]
            total += weight[i] * added
        sums[task] = total
        task = next_task(data)


_cubes = NativeKernel(_cubes_kernel)


class _Cubes(torch.autograd.Function):
    """Makes the gradient along with the sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, complex_coordinates: bool) -> Tensor:
        """Return the sum."""
        source, weight = rows.detach().contiguous(), weight.detach().contiguous()
        u, d = source.shape
        ctx.gradient = torch.empty_like(source)
        sums = source.new_zeros(-(-u // _ROWS))
        parts = 2 if complex_coordinates else 1
        _cubes(source.dtype, u * d, u, d, parts, source, weight, ctx.gradient, sums)
        return sums.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return the rows' gradient."""
        return ctx.gradient * grad, None, None
