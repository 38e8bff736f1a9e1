"""Gradients of scores whose candidates are shared by many queries.

A task owns one vector's width of coordinates of one part of the queries, so it may add to both
gradients without anybody else, and forms each difference once. Every sum has one fixed order.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from torch import Tensor

from dglke_distill.kernels.rows import scatter_rows
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    integers_at,
    next_task,
)
from dglke_distill.kernels.tiles import by_kernel, strip_tile

# Candidates per strip; with the packed gradients they fill two thirds of a first-level cache.
_STRIP = 256
# Queries per strip tile.
_LINES = 8
# Tasks wanted, so that a few cores are busy even if rows are short.
_TASKS = 8

# Gradients of dot products shared by many queries are matrix products.
_strip = by_kernel(lambda kernel: strip_tile(kernel, _LINES), skip=["dot"])


def _strips_kernel(data):
    """Gradients of one (part of the queries, vector of coordinates) after another."""
    kind, group, chunks, n, d = arguments(data, 0, 5)
    splits, pieces, lanes = arguments(data, 5, 3)
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
                    kind,
                    data,
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


_strips = NativeKernel(_strips_kernel)


def shared_gradients(
    kind: int, query: Tensor, rows: Tensor, index: Tensor, weight: Tensor, in_order: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of query (b, d) and rows (u, d); arguments as in `gradients`, not for dot."""
    chunks, n = index.shape
    b, d = query.shape
    lanes = 64 // query.element_size()
    pieces = 2 if kind == 3 else 1
    steps = d // (pieces * lanes)
    splits = min(max(1, _TASKS // (steps * chunks)), b // chunks)
    query_gradient = query.new_empty(b, d)
    partial = query.new_empty(chunks * splits, n, d)
    sizes = kind, b // chunks, chunks, n, d, splits, pieces, lanes
    given = query, rows, rows.shape[0], index, weight
    _strips(query.dtype, b * n * d, *sizes, *given, query_gradient, partial)
    if in_order and chunks * splits == 1:
        return query_gradient, partial[0]
    return query_gradient, scatter_rows(partial, index, rows.shape[0])
