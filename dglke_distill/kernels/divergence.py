"""The pass over a student's and a teacher's scores that distilling takes, on the CPU."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from torch import Tensor

from dglke_distill.kernels.exponentials import _answered, highest_and_sum
from dglke_distill.kernels.simd import INT, Simd, emits, integer
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    float_argument,
    integers_at,
    next_task,
)

# Queries per task. Each query's passes fetch the next one's scores, which the last does in vain.
_ROWS = 8


def _fetch(simd: Simd, pointer: Any) -> None:
    """Have a cache line brought into the second-level cache."""
    whole = ir.IntType(32)
    line = simd.builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [line.type, whole, whole, whole])
    name = "llvm.prefetch.p0i8"
    function = cgutils.get_or_insert_function(simd.builder.module, kind, name)
    # To read; of middling locality; data.
    simd.builder.call(function, [line, *(ir.Constant(whole, value) for value in (0, 2, 1))])


@emits("iiiffi", "f")
def _powers(simd, source, target, vectors, highest, rate, ahead):
    """Write e^(rate * (x - highest)) of `vectors` vectors and return their sum.

    Fetches what lies `ahead` elements further on, beyond the end of the buffer or not.
    """
    builder = simd.builder
    top, factor, total = simd.splat(highest), simd.splat(rate), simd.local(simd.zero)
    reads, writes = simd.pointer(source), simd.pointer(target)
    with cgutils.for_range(builder, vectors, intp=INT) as loop:
        offset = builder.mul(loop.index, integer(simd.lanes))
        _fetch(simd, simd.at(reads, builder.add(offset, ahead)))
        below = builder.fsub(simd.load(simd.at(reads, offset)), top)
        power = simd.exponential(builder.fmul(below, factor))
        simd.store(power, simd.at(writes, offset))
        builder.store(builder.fadd(builder.load(total), power), total)
    return simd.sum(builder.load(total))


@emits("iiiiffffi", "ff")
def _powers_and_gap(
    simd, source, other, target, vectors, highest, rate, other_highest, other_rate, ahead
):
    """Write e^u, u = rate * (x - highest), and return the sums of e^u and of e^u (u - v).

    v is the same of the other scores, with their own rate and highest. Where e^u is 0, so is the
    product, whatever v. Fetches `ahead` elements further on.
    """
    builder = simd.builder
    top, factor = simd.splat(highest), simd.splat(rate)
    other_top, other_factor = simd.splat(other_highest), simd.splat(other_rate)
    reads, others, writes = (simd.pointer(a) for a in (source, other, target))
    total, gap = simd.local(simd.zero), simd.local(simd.zero)
    against = builder.fneg(other_factor)
    with cgutils.for_range(builder, vectors, intp=INT) as loop:
        offset = builder.mul(loop.index, integer(simd.lanes))
        _fetch(simd, simd.at(reads, builder.add(offset, ahead)))
        above = builder.fsub(simd.load(simd.at(reads, offset)), top)
        above = builder.fmul(above, factor)
        below = builder.fsub(simd.load(simd.at(others, offset)), other_top)
        power = simd.exponential(above)
        simd.store(power, simd.at(writes, offset))
        builder.store(builder.fadd(builder.load(total), power), total)
        difference = simd.multiply_add(below, against, above)
        none = builder.fcmp_ordered("==", power, simd.zero)
        difference = builder.select(none, simd.zero, difference)
        builder.store(simd.multiply_add(power, difference, builder.load(gap)), gap)
    return [simd.sum(builder.load(total)), simd.sum(builder.load(gap))]


def _distillation_kernel(data):
    """Per query, of the student: highest score, sum of powers, sum of softened powers, answered.

    Then of the teacher: sum of powers, and their sum weighted by the distance to the student's.
    """
    b, n, lanes = arguments(data, 0, 3)
    student = array_at(data, argument(data, 3), (b, n))
    teacher = array_at(data, argument(data, 4), (b, n))
    wanted = argument(data, 5) != 0
    gradient = array_at(data, argument(data, 5), (b, n))
    offsets = integers_at(argument(data, 6), b + 1)
    answers = integers_at(argument(data, 7), argument(data, 8))
    hard = array_at(data, argument(data, 9), b)
    soft = array_at(data, argument(data, 10), b)
    kind = student.dtype.type
    temperature, one = kind(float_argument(data, 11)), kind(1)
    rate, teacher_rate = kind(float_argument(data, 12)), kind(float_argument(data, 13))
    found = array_at(data, argument(data, 14), (6, b))
    itemsize = student.itemsize
    whole = n // lanes
    rest = n - whole * lanes
    last = whole * lanes * itemsize
    edge = np.empty(lanes, student.dtype)
    teacher_edge = np.empty(lanes, student.dtype)
    # Of one query: short enough to stay in the core's own cache.
    powers = np.empty((3, (whole + 1) * lanes), student.dtype)
    plain, softened, taught = powers[0], powers[1], powers[2]
    edges, teacher_edges = edge.ctypes.data, teacher_edge.ctypes.data
    to_plain, to_softened, to_taught = plain.ctypes.data, softened.ctypes.data, taught.ctypes.data
    task = next_task(data)
    while task * _ROWS < b:
        for i in range(task * _ROWS, min((task + 1) * _ROWS, b)):
            start, stop = offsets[i], offsets[i + 1]
            answered = _answered(data, student, i, answers, start, stop, 15)
            source = student.ctypes.data + i * n * itemsize
            teacher_source = teacher.ctypes.data + i * n * itemsize
            highest, _ = highest_and_sum(data, source, whole)
            teacher_highest, _ = highest_and_sum(data, teacher_source, whole)
            edge[:] = -np.inf
            teacher_edge[:] = -np.inf
            for j in range(rest):
                edge[j] = student[i, whole * lanes + j]
                if edge[j] > highest:
                    highest = edge[j]
                teacher_edge[j] = teacher[i, whole * lanes + j]
                if teacher_edge[j] > teacher_highest:
                    teacher_highest = teacher_edge[j]
            total = _powers(data, source, to_plain, whole, highest, one, n)
            total += _powers(data, edges, to_plain + last, 1, highest, one, n)
            soft_total = total
            if rate != one:
                soft_total = _powers(data, source, to_softened, whole, highest, rate, n)
                soft_total += _powers(data, edges, to_softened + last, 1, highest, rate, n)
            teacher_total, gap = _powers_and_gap(
                data,
                teacher_source,
                source,
                to_taught,
                whole,
                teacher_highest,
                teacher_rate,
                highest,
                rate,
                n,
            )
            more, further = _powers_and_gap(
                data,
                teacher_edges,
                edges,
                to_taught + last,
                1,
                teacher_highest,
                teacher_rate,
                highest,
                rate,
                n,
            )
            teacher_total += more
            found[0, i], found[1, i], found[2, i] = highest, total, soft_total
            found[3, i], found[4, i], found[5, i] = answered, teacher_total, gap + further
            # The offsets of a query that does not fit are of no use for writing.
            if not wanted or argument(data, 15):
                continue
            row = gradient[i]
            scale = hard[i] * kind(stop - start) / total
            pull = soft[i] * temperature / teacher_total
            if rate == one:
                scale += soft[i] / soft_total
                for j in range(n):
                    row[j] = scale * plain[j] - pull * taught[j]
            else:
                push = soft[i] * temperature / soft_total
                for j in range(n):
                    row[j] = scale * plain[j] + push * softened[j] - pull * taught[j]
            for a in range(start, stop):
                row[answers[a]] -= hard[i]
        task = next_task(data)


_distillation = NativeKernel(_distillation_kernel)


def distillation_pass(
    student: Tensor,
    teacher: Tensor,
    gradient: Optional[Tensor],
    offsets: Tensor,
    answers: Tensor,
    hard_weight: Tensor,
    soft_weight: Tensor,
    temperature: float,
    teacher_scale: float,
) -> tuple[Tensor, Tensor]:
    """Return each query's two weighted losses, (b,) float64; see `distillation_cross_entropy`.

    Args:
        student: (b, n) contiguous.
        teacher: (b, n) contiguous, of the student's dtype.
        gradient: (b, n) contiguous, to be filled with the gradient of the sum of all losses with
            respect to the student's scores; it may be the teacher's scores. None: not wanted.
        offsets: (b + 1,).
        answers: (k,).
        hard_weight: (b,) of the student's dtype.
        soft_weight: likewise.
        temperature: positive.
        teacher_scale: positive.

    Raises:
        IndexError: an answer that is no candidate, or offsets that do not fit the answers.
    """
    b, n = student.shape
    offsets, answers = offsets.contiguous(), answers.contiguous()
    hard_weight, soft_weight = hard_weight.contiguous(), soft_weight.contiguous()
    found = student.new_empty(6, b)
    sizes = b, n, 64 // student.element_size()
    given = student, teacher, gradient, offsets, answers, len(answers), hard_weight, soft_weight
    rates = temperature, 1.0 / temperature, teacher_scale / temperature
    left = _distillation(student.dtype, 2 * b * n, *sizes, *given, *map(float, rates), found, 0)
    if left[-1]:
        raise IndexError(f"an answer lies outside the {n} candidates, or the offsets do not fit")
    highest, total, soft_total, answered, teacher_total, gap = found.double()
    counts = offsets[1:] - offsets[:-1]
    hard = hard_weight * (counts * (highest + total.log()) - answered)
    # Rounding may leave a divergence of nearly 0 below it; clamping keeps NaN.
    divergence = (gap / teacher_total - teacher_total.log() + soft_total.log()).clamp(min=0.0)
    return hard, soft_weight * temperature**2 * divergence
