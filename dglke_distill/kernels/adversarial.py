"""The self-adversarial loss of sampled negatives, and its gradient in the same pass, on the CPU."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba.core import cgutils
from torch import Tensor
from torch.autograd.function import once_differentiable

from dglke_distill.kernels.exponentials import highest_and_sum
from dglke_distill.kernels.simd import Simd, emits
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    float_argument,
    next_task,
)

# Rows per task.
_ROWS = 16


def row_costs(negative: Tensor, margin: float, temperature: float) -> Tensor:
    """Return the costs; see ``kernels.adversarial_costs``."""
    result: Tensor = _Costs.apply(negative, margin, temperature)
    return result


@emits("iiifffi")
def _costs(simd, source, target, vectors, highest, temperature, margin, sums):
    """Write e^(t (s - highest)) sigmoid(s + margin) of some vectors.

    Adds the powers, and the powers times softplus(s + margin), to two vectors of sums in memory.
    """
    builder = simd.builder
    top, factor, shift = (simd.splat(scalar) for scalar in (highest, temperature, margin))
    reads, writes, kept = (simd.pointer(a) for a in (source, target, sums))
    second = simd.at(kept, simd.lanes)
    total, cost = simd.local(simd.load(kept)), simd.local(simd.load(second))
    with cgutils.for_range(builder, vectors, intp=vectors.type) as loop:
        offset = builder.mul(loop.index, loop.index.type(simd.lanes))
        score = simd.load(simd.at(reads, offset))
        power = simd.exponential(builder.fmul(builder.fsub(score, top), factor))
        value = builder.fadd(score, shift)
        small = simd.exponential(builder.fneg(simd.magnitude(value)))
        positive = builder.fcmp_ordered(">", value, simd.zero)
        above = builder.fadd(small, simd.constant(1.0))
        slope = builder.fdiv(builder.select(positive, simd.constant(1.0), small), above)
        simd.store(builder.fmul(power, slope), simd.at(writes, offset))
        # NaN stays NaN.
        part = builder.select(builder.fcmp_ordered("<", value, simd.zero), simd.zero, value)
        each = builder.fadd(part, _log_1p(simd, small))
        builder.store(builder.fadd(builder.load(total), power), total)
        builder.store(simd.multiply_add(power, each, builder.load(cost)), cost)
    simd.store(builder.load(total), kept)
    simd.store(builder.load(cost), second)


def _log_1p(simd: Simd, value: Any) -> Any:
    """log(1 + value) for values in [0, 1]: 2 artanh(value / (2 + value)) by its series."""
    build = simd.builder
    ratio = build.fdiv(value, build.fadd(value, simd.constant(2.0)))
    square = build.fmul(ratio, ratio)
    terms = 8 if simd.bits == 32 else 17
    total = simd.constant(2 / (2 * terms - 1))
    for term in range(terms - 2, -1, -1):
        total = simd.multiply_add(total, square, simd.constant(2 / (2 * term + 1)))
    return build.fmul(total, ratio)


def _costs_kernel(data):
    """Per row: the cost; the gradient of the cost by each score."""
    b, n, lanes = arguments(data, 0, 3)
    scores = array_at(data, argument(data, 3), (b, n))
    slopes = array_at(data, argument(data, 4), (b, n))
    out = array_at(data, argument(data, 5), b)
    kind = scores.dtype.type
    temperature, margin = kind(float_argument(data, 6)), kind(float_argument(data, 7))
    itemsize = scores.itemsize
    whole = n // lanes
    rest = n - whole * lanes
    edge = np.empty(lanes, scores.dtype)
    edge_slopes = np.empty(lanes, scores.dtype)
    sums = np.empty((2, lanes), scores.dtype)
    task = next_task(data)
    while task * _ROWS < b:
        for i in range(task * _ROWS, min((task + 1) * _ROWS, b)):
            source = scores.ctypes.data + i * n * itemsize
            highest, _ = highest_and_sum(data, source, whole)
            for j in range(whole * lanes, n):
                highest = max(highest, scores[i, j])
            sums[:] = kind(0)
            target = slopes.ctypes.data + i * n * itemsize
            place = sums.ctypes.data
            _costs(data, source, target, whole, highest, temperature, margin, place)
            total, cost = kind(0), kind(0)
            for lane in range(lanes):
                total += sums[0, lane]
                cost += sums[1, lane]
            if rest:
                for lane in range(lanes):
                    edge[lane] = scores[i, whole * lanes + min(lane, rest - 1)]
                sums[:] = kind(0)
                last = edge_slopes.ctypes.data
                _costs(data, edge.ctypes.data, last, 1, highest, temperature, margin, place)
                for lane in range(rest):
                    total += sums[0, lane]
                    cost += sums[1, lane]
                    slopes[i, whole * lanes + lane] = edge_slopes[lane]
            share = kind(1) / total
            out[i] = cost * share
            for j in range(n):
                slopes[i, j] *= share
        task = next_task(data)


_kernel = NativeKernel(_costs_kernel)


class _Costs(torch.autograd.Function):
    """Makes the gradient along with the costs."""

    @staticmethod
    def forward(ctx: Any, negative: Tensor, margin: float, temperature: float) -> Tensor:
        """Return the costs."""
        source = negative.detach().contiguous()
        b, n = source.shape
        ctx.slopes, out = torch.empty_like(source), source.new_empty(b)
        sizes = b, n, 64 // source.element_size()
        settings = float(temperature), float(margin)
        _kernel(source.dtype, 2 * b * n, *sizes, source, ctx.slopes, out, *settings)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return the gradient of the scores."""
        return ctx.slopes * grad[:, None], None, None
