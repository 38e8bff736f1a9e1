"""Gradients of scores whose candidates belong to one query or a few.

Short rows: a task owns a vector's width of all rows, so it may add to both gradients as it goes
through the pairs once. Long rows would be read and written too often that way: first each query
collects from its candidates, then each candidate row collects from the queries that met it,
through an index inverted by counting sort. Either way every sum has one fixed order.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numba
import torch
from torch import Tensor

from dglke_distill.kernels.rows import invert
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    integers_at,
    next_task,
)
from dglke_distill.kernels.tiles import by_kernel, gather_tile

# Rows per task of the gathers.
_ROWS = 16
# Rows of at most this many bytes are short.
_SHORT = 512

_gather_8 = by_kernel(lambda kernel: gather_tile(kernel, 8), skip=["complex_modulus"])
_gather_4 = by_kernel(lambda kernel: gather_tile(kernel, 4), skip=["dot", "l1", "l2"])
_gather_2 = by_kernel(lambda kernel: gather_tile(kernel, 2), skip=["complex_modulus"])
_gather_1 = by_kernel(lambda kernel: gather_tile(kernel, 1))
_pass_1 = by_kernel(lambda kernel: gather_tile(kernel, 1, scatter=True))


@numba.njit
def _gather(kind, data, anchor, others, numbers, weights, count, target, d, lanes, itemsize):
    """Gradient of a whole row with respect to `count` others."""
    length = d // 2 if kind == 3 else d
    k = 0
    while k < length:
        left = (length - k) // lanes
        at = k * itemsize
        a, o, t = anchor + at, others + at, target + at
        if kind == 3 and left >= 4:
            _gather_4(kind, data, a, o, numbers, weights, count, t, d, 0)
            k += 4 * lanes
        elif kind != 3 and left >= 8:
            _gather_8(kind, data, a, o, numbers, weights, count, t, d, 0)
            k += 8 * lanes
        elif kind != 3 and left >= 2:
            _gather_2(kind, data, a, o, numbers, weights, count, t, d, 0)
            k += 2 * lanes
        else:
            _gather_1(kind, data, a, o, numbers, weights, count, t, d, 0)
            k += lanes


def _gathers_kernel(data):
    """Gradient of each row of `anchors` with respect to the rows of `others` it met."""
    kind, count, d, lanes, itemsize = arguments(data, 0, 5)
    anchors, others, target = arguments(data, 5, 3)
    offsets = integers_at(argument(data, 8), count + 1)
    numbers, group, weights = arguments(data, 9, 3)
    task = next_task(data)
    while task * _ROWS < count:
        for row in range(task * _ROWS, min((task + 1) * _ROWS, count)):
            start, met = offsets[row], offsets[row + 1] - offsets[row]
            # Rows of one group share their list of numbers (chunks); else group is 1.
            first = offsets[row // group] if group > 1 else start
            at = row * d * itemsize
            _gather(
                kind,
                data,
                anchors + at,
                others,
                numbers + first * 8,
                weights + start * itemsize,
                met,
                target + at,
                d,
                lanes,
                itemsize,
            )
        task = next_task(data)


def _passes_kernel(data):
    """Both gradients in one pass over the pairs, one vector of coordinates after another."""
    kind, b, group, n, u, d = arguments(data, 0, 6)
    lanes, itemsize = arguments(data, 6, 2)
    query, rows, index, weight = arguments(data, 8, 4)
    query_gradient, rows_gradient = arguments(data, 12, 2)
    pieces = 2 if kind == 3 else 1
    gradient = array_at(data, rows_gradient, (u, pieces, d // pieces))
    zero = gradient.dtype.type(0)
    task = next_task(data)
    while task < d // (pieces * lanes):
        column = task * lanes
        for row in range(u):
            for piece in range(pieces):
                for lane in range(lanes):
                    gradient[row, piece, column + lane] = zero
        at = column * itemsize
        for i in range(b):
            _pass_1(
                kind,
                data,
                query + i * d * itemsize + at,
                rows + at,
                index + i // group * n * 8,
                weight + i * n * itemsize,
                n,
                query_gradient + i * d * itemsize + at,
                d,
                rows_gradient + at,
            )
        task = next_task(data)


_gathers = NativeKernel(_gathers_kernel)
_passes = NativeKernel(_passes_kernel)


def private_gradients(
    kind: int, query: Tensor, rows: Tensor, index: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of query (b, d) and rows (u, d); arguments as in `gradients`."""
    chunks, n = index.shape
    b, d = query.shape
    u, group, size = rows.shape[0], b // chunks, query.element_size()
    lanes = 64 // size
    query_gradient, rows_gradient = query.new_empty(b, d), rows.new_empty(u, d)
    if d * size <= _SHORT:
        sizes = kind, b, group, n, u, d, lanes, size
        made = query_gradient, rows_gradient
        _passes(query.dtype, b * n * d, *sizes, query, rows, index, weight, *made)
        return query_gradient, rows_gradient
    starts = torch.arange(0, b * n + 1, n)
    given = query, rows, query_gradient, starts, index, group, weight
    _gathers(query.dtype, b * n * d, kind, b, d, lanes, size, *given)
    offsets, queries, values = invert(index, weight, u)
    given = rows, query, rows_gradient, offsets, queries, 1, values
    _gathers(query.dtype, b * n * d, kind, u, d, lanes, size, *given)
    return query_gradient, rows_gradient
