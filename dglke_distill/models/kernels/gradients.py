"""Gradients of the pairwise scores on the CPU.

Shared candidates (strips): a task owns one vector's width of coordinates of one part of the
queries, so it may add to both gradients without anybody else; each difference is formed once.
Private candidates (gathers): first each query collects from its candidates, then each candidate
row collects from the queries that met it, through an index inverted by counting sort. Either way
every sum has one fixed order: the gradients do not depend on the number of threads.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from dglke_distill.models.kernels.rows import invert, scatter_rows
from dglke_distill.models.kernels.threads import (
    NativeKernel,
    argument,
    array_at,
    integers_at,
    next_task,
)
from dglke_distill.models.kernels.tiles import KERNELS, gather_tile, strip_tile

__all__ = ["gradients"]

# Candidates per strip; with the packed gradients they fill two thirds of a first-level cache.
_STRIP = 256
# Queries per strip tile.
_LINES = 8
# Fewer queries than this per chunk are gathered one by one.
_SHARED = 8
# Rows per task of the gathers.
_ROWS = 16
# Tasks wanted from the strips, so that a few cores are busy even if rows are short.
_STRIP_TASKS = 8

_, _l1_strip, _l2_strip, _modulus_strip = [strip_tile(kernel, _LINES) for kernel in KERNELS]
_dot_8, _l1_8, _l2_8, _modulus_4 = [
    gather_tile(kernel, 4 if kernel == "complex_modulus" else 8) for kernel in KERNELS
]
_dot_2, _l1_2, _l2_2, _ = [gather_tile(kernel, 2) for kernel in KERNELS]
_dot_1, _l1_1, _l2_1, _modulus_1 = [gather_tile(kernel, 1) for kernel in KERNELS]


@numba.njit
def _strip(data, kind, query, query_sum, rows, rows_sum, weight, stride, count):
    if kind == 1:
        _l1_strip(data, query, query_sum, rows, rows_sum, weight, stride, count)
    elif kind == 2:
        _l2_strip(data, query, query_sum, rows, rows_sum, weight, stride, count)
    else:
        _modulus_strip(data, query, query_sum, rows, rows_sum, weight, stride, count)


def _strips_kernel(data):
    """Gradients of one (part of the queries, vector of coordinates) after another."""
    kind, group, chunks, n, d = (
        argument(data, 0),
        argument(data, 1),
        argument(data, 2),
        argument(data, 3),
        argument(data, 4),
    )
    splits, pieces, lanes = argument(data, 5), argument(data, 6), argument(data, 7)
    b = group * chunks
    query = array_at(data, argument(data, 8), (b, d))
    rows = array_at(data, argument(data, 9), (argument(data, 10), d))
    index = integers_at(argument(data, 11), (chunks, n))
    weight = array_at(data, argument(data, 12), (b, n))
    query_gradient = array_at(data, argument(data, 13), (b, d))
    # (chunks * splits, n, d), summed over into the rows' gradient afterwards.
    partial = array_at(data, argument(data, 14), (chunks * splits, n, d))

    width = pieces * lanes
    steps = d // width
    half = d // pieces
    size = (group + splits - 1) // splits
    block = _STRIP // pieces
    padded = (size + _LINES - 1) // _LINES * _LINES
    zero = weight.dtype.type(0)
    left = np.empty((padded, width), weight.dtype)
    left_sum = np.empty((padded, width), weight.dtype)
    right = np.empty((block, width), weight.dtype)
    right_sum = np.empty((block, width), weight.dtype)
    edge = np.zeros((_LINES, block), weight.dtype)
    itemsize = weight.itemsize

    task = next_task(data)
    while task < chunks * splits * steps:
        part = task // steps
        column = task % steps * lanes
        chunk = part // splits
        low = chunk * group + min(part % splits * size, group)
        high = min(low + size, (chunk + 1) * group)
        for i in range(low, high):
            for piece in range(pieces):
                for lane in range(lanes):
                    left[i - low, piece * lanes + lane] = query[i, piece * half + column + lane]
        for i in range(high - low, padded):
            left[i] = zero
        left_sum[:] = zero
        for begin in range(0, n, block):
            count = min(block, n - begin)
            for j in range(count):
                row = index[chunk, begin + j]
                for piece in range(pieces):
                    for lane in range(lanes):
                        right[j, piece * lanes + lane] = rows[row, piece * half + column + lane]
            right_sum[:] = zero
            for i in range(low, high, _LINES):
                where = weight.ctypes.data + (i * n + begin) * itemsize
                stride = n
                if i + _LINES > high:
                    edge[:] = zero
                    for line in range(high - i):
                        edge[line, :count] = weight[i + line, begin : begin + count]
                    where = edge.ctypes.data
                    stride = block
                offset = (i - low) * width * itemsize
                _strip(
                    data,
                    kind,
                    left.ctypes.data + offset,
                    left_sum.ctypes.data + offset,
                    right.ctypes.data,
                    right_sum.ctypes.data,
                    where,
                    stride,
                    count,
                )
            for j in range(count):
                for piece in range(pieces):
                    for lane in range(lanes):
                        partial[part, begin + j, piece * half + column + lane] = right_sum[
                            j, piece * lanes + lane
                        ]
        for i in range(low, high):
            for piece in range(pieces):
                for lane in range(lanes):
                    query_gradient[i, piece * half + column + lane] = left_sum[
                        i - low, piece * lanes + lane
                    ]
        task = next_task(data)


@numba.njit
def _gather(data, kind, anchor, others, numbers, weights, count, target, d, lanes, itemsize):
    """Gradient of a whole row with respect to `count` others."""
    length = d // 2 if kind == 3 else d
    k = 0
    while k < length:
        left = (length - k) // lanes
        at = k * itemsize
        a, o, t = anchor + at, others + at, target + at
        if kind == 3:
            if left >= 4:
                _modulus_4(data, a, o, numbers, weights, count, t, d)
                k += 4 * lanes
            else:
                _modulus_1(data, a, o, numbers, weights, count, t, d)
                k += lanes
        elif left >= 8:
            if kind == 0:
                _dot_8(data, a, o, numbers, weights, count, t, d)
            elif kind == 1:
                _l1_8(data, a, o, numbers, weights, count, t, d)
            else:
                _l2_8(data, a, o, numbers, weights, count, t, d)
            k += 8 * lanes
        elif left >= 2:
            if kind == 0:
                _dot_2(data, a, o, numbers, weights, count, t, d)
            elif kind == 1:
                _l1_2(data, a, o, numbers, weights, count, t, d)
            else:
                _l2_2(data, a, o, numbers, weights, count, t, d)
            k += 2 * lanes
        else:
            if kind == 0:
                _dot_1(data, a, o, numbers, weights, count, t, d)
            elif kind == 1:
                _l1_1(data, a, o, numbers, weights, count, t, d)
            else:
                _l2_1(data, a, o, numbers, weights, count, t, d)
            k += lanes


def _gathers_kernel(data):
    """Gradient of each row of `anchors` with respect to the rows of `others` it met."""
    kind, count, d, lanes, itemsize = (
        argument(data, 0),
        argument(data, 1),
        argument(data, 2),
        argument(data, 3),
        argument(data, 4),
    )
    anchors, others, target = argument(data, 5), argument(data, 6), argument(data, 7)
    offsets = integers_at(argument(data, 8), count + 1)
    numbers, group, weights = argument(data, 9), argument(data, 10), argument(data, 11)
    task = next_task(data)
    while task * _ROWS < count:
        for row in range(task * _ROWS, min((task + 1) * _ROWS, count)):
            start, met = offsets[row], offsets[row + 1] - offsets[row]
            # Rows of one group share their list of numbers (chunks); else group is 1.
            first = offsets[row // group] if group > 1 else start
            at = row * d * itemsize
            _gather(
                data,
                kind,
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


_strips = NativeKernel(_strips_kernel)
_gathers = NativeKernel(_gathers_kernel)


def gradients(
    kind: int, query: Tensor, rows: Tensor, index: Tensor, weight: Tensor, in_order: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradients of query (b, d) and rows (u, d), given index (c, n) and weight (b, n).

    The weight is the gradient of the scores, for l2 divided by the scores. All contiguous; d (for
    the modulus: d / 2) a multiple of the vector length. `in_order` promises that the index is
    0 to u - 1.
    """
    chunks, n = index.shape
    b, d = query.shape
    group = b // chunks
    lanes, size = 64 // query.element_size(), query.element_size()
    query_gradient = torch.empty_like(query)
    if kind > 0 and group >= _SHARED:
        pieces = 2 if kind == 3 else 1
        steps = d // (pieces * lanes)
        splits = min(max(1, _STRIP_TASKS // (steps * chunks)), group)
        partial = query.new_empty(chunks * splits, n, d)
        _strips(
            query.dtype,
            b * n * d,
            kind,
            group,
            chunks,
            n,
            d,
            splits,
            pieces,
            lanes,
            query.data_ptr(),
            rows.data_ptr(),
            rows.shape[0],
            index.data_ptr(),
            weight.data_ptr(),
            query_gradient.data_ptr(),
            partial.data_ptr(),
        )
        if in_order and chunks * splits == 1:
            return query_gradient, partial[0]
        return query_gradient, scatter_rows(partial, index, rows.shape[0])
    rows_gradient = torch.empty_like(rows)
    starts = torch.arange(0, b * n + 1, n)
    _gathers(
        query.dtype,
        b * n * d,
        kind,
        b,
        d,
        lanes,
        size,
        query.data_ptr(),
        rows.data_ptr(),
        query_gradient.data_ptr(),
        starts.data_ptr(),
        index.data_ptr(),
        group,
        weight.data_ptr(),
    )
    offsets, queries, values = invert(index, weight, rows.shape[0])
    _gathers(
        query.dtype,
        b * n * d,
        kind,
        rows.shape[0],
        d,
        lanes,
        size,
        rows.data_ptr(),
        query.data_ptr(),
        rows_gradient.data_ptr(),
        offsets.data_ptr(),
        queries.data_ptr(),
        1,
        values.data_ptr(),
    )
    return query_gradient, rows_gradient
