"""Passes over score matrices that take exponentials, on the CPU."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numba
import numpy as np
from numba.core import cgutils
from torch import Tensor

from dglke_distill.kernels.simd import INT, emits, integer
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    integers_at,
    next_task,
    set_argument,
)

# Queries per task.
_ROWS = 4


@emits("ii", "ff")
def highest_and_sum(simd, address, vectors):
    """Return the largest element (NaN aside) and the sum of `vectors` vectors."""
    builder = simd.builder
    source = simd.pointer(address)
    highest, total = simd.local(simd.constant(float("-inf"))), simd.local(simd.zero)
    with cgutils.for_range(builder, vectors, intp=INT) as loop:
        offset = builder.mul(loop.index, integer(simd.lanes))
        value = simd.load(simd.at(source, offset))
        best = builder.load(highest)
        builder.store(builder.select(builder.fcmp_ordered(">", value, best), value, best), highest)
        builder.store(builder.fadd(builder.load(total), value), total)
    lanes = simd.elements(builder.load(highest))
    best = lanes[0]
    for value in lanes[1:]:
        best = builder.select(builder.fcmp_ordered(">", value, best), value, best)
    added = simd.sum(builder.load(total))
    return [best, added]


@emits("iiif", "f")
def _exponentials(simd, source, target, vectors, shift):
    """Write e^(x - shift) of `vectors` vectors and return their sum; no x exceeds the shift."""
    builder = simd.builder
    below, total = simd.splat(shift), simd.local(simd.zero)
    reads, writes = simd.pointer(source), simd.pointer(target)
    with cgutils.for_range(builder, vectors, intp=INT) as loop:
        offset = builder.mul(loop.index, integer(simd.lanes))
        value = builder.fsub(simd.load(simd.at(reads, offset)), below)
        power = simd.exponential(value)
        simd.store(power, simd.at(writes, offset))
        builder.store(builder.fadd(builder.load(total), power), total)
    return simd.sum(builder.load(total))


@numba.njit
def _answered(data, scores, i, answers, start, stop, flag):
    """Sum the scores of a query's answers; raise the flag if they are none."""
    answered = scores.dtype.type(0)
    if start < 0 or stop < start or stop > answers.size:
        set_argument(data, flag, 1)
        return answered
    for a in range(start, stop):
        if answers[a] < 0 or answers[a] >= scores.shape[1]:
            set_argument(data, flag, 1)
        else:
            answered += scores[i, answers[a]]
    return answered


def _softmax_kernel(data):
    """Per query: highest score, sum of exponentials, sum of scores, sum of the answers' scores."""
    b, n, lanes = arguments(data, 0, 3)
    scores = array_at(data, argument(data, 3), (b, n))
    powers = array_at(data, argument(data, 4), (b, n))
    offsets = integers_at(argument(data, 5), b + 1)
    answers = integers_at(argument(data, 6), argument(data, 7))
    found = array_at(data, argument(data, 8), (4, b))
    itemsize = scores.itemsize
    whole = n // lanes
    rest = n - whole * lanes
    edge = np.empty(lanes, scores.dtype)
    out = np.empty(lanes, scores.dtype)
    task = next_task(data)
    while task * _ROWS < b:
        for i in range(task * _ROWS, min((task + 1) * _ROWS, b)):
            found[3, i] = _answered(data, scores, i, answers, offsets[i], offsets[i + 1], 9)
            source = scores.ctypes.data + i * n * itemsize
            highest, plain = highest_and_sum(data, source, whole)
            edge[:] = -np.inf
            for j in range(rest):
                edge[j] = scores[i, whole * lanes + j]
                plain += edge[j]
                if edge[j] > highest:
                    highest = edge[j]
            target = powers.ctypes.data + i * n * itemsize
            total = _exponentials(data, source, target, whole, highest)
            total += _exponentials(data, edge.ctypes.data, out.ctypes.data, 1, highest)
            for j in range(rest):
                powers[i, whole * lanes + j] = out[j]
            found[0, i] = highest
            found[1, i] = total
            found[2, i] = plain
        task = next_task(data)


def _gradient_kernel(data):
    """Scale * power + shift, plus drop at each answer."""
    b, n = arguments(data, 0, 2)
    powers = array_at(data, argument(data, 2), (b, n))
    offsets = integers_at(argument(data, 3), b + 1)
    answers = integers_at(argument(data, 4), argument(data, 5))
    scale = array_at(data, argument(data, 6), b)
    shift = array_at(data, argument(data, 7), b)
    drop = array_at(data, argument(data, 8), b)
    task = next_task(data)
    while task * _ROWS < b:
        for i in range(task * _ROWS, min((task + 1) * _ROWS, b)):
            factor, extra = scale[i], shift[i]
            row = powers[i]
            for j in range(n):
                row[j] = row[j] * factor + extra
            for a in range(offsets[i], offsets[i + 1]):
                row[answers[a]] += drop[i]
        task = next_task(data)


_softmax = NativeKernel(_softmax_kernel)
_gradient = NativeKernel(_gradient_kernel)


def softmax_forward(
    scores: Tensor, powers: Tensor, offsets: Tensor, answers: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fill powers (b, n) with e^(score - highest score of the query); it may be scores itself.

    Returns:
        Each (b,): highest score, sum of the powers, sum of the scores, sum of the scores of the
        answers.

    Raises:
        IndexError: an answer that is no candidate, or offsets that do not fit the answers.
    """
    b, n = scores.shape
    found = scores.new_empty(4, b)
    offsets, answers = offsets.contiguous(), answers.contiguous()
    sizes = b, n, 64 // scores.element_size()
    given = scores, powers, offsets, answers, len(answers)
    left = _softmax(scores.dtype, b * n, *sizes, *given, found, 0)
    if left[-1]:
        raise IndexError(f"an answer lies outside the {n} candidates, or the offsets do not fit")
    return found[0], found[1], found[2], found[3]


def scores_gradient(
    powers: Tensor, offsets: Tensor, answers: Tensor, scale: Tensor, shift: Tensor, drop: Tensor
) -> None:
    """Replace powers (b, n) by scale * powers + shift, plus drop at each answer; those are (b,)."""
    b, n = powers.shape
    offsets, answers = offsets.contiguous(), answers.contiguous()
    scale, shift, drop = (value.to(powers.dtype).contiguous() for value in (scale, shift, drop))
    _gradient(powers.dtype, b * n, b, n, powers, offsets, answers, len(answers), scale, shift, drop)
