"""The two passes of a softmax over products, tile by tile; see `product_softmax`."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numba
import numpy as np

from dglke_distill.kernels.product_tiles import (
    ROWS,
    TILE,
    gradient_row,
    product_tile,
    small_row,
    softmax_row,
    transposed_tile,
)
from dglke_distill.kernels.threads import NativeKernel, argument, arguments, array_at, next_task

UNIT = 1 / math.log(2)
"""Scores are kept in units of ln 2, so that powers are those of 2."""
# Queries whose gradients of a tile are kept at once; they fill a fifth of a second-level cache.
_BLOCK = 20 * ROWS
# Where no score of a tile can be larger, 2^score is summed as it is.
_SMALL = 60.0

_scores_2 = product_tile(2, 1, ROWS, "row")
_scores_1 = product_tile(1, 1, ROWS, "row")
_to_query_2 = product_tile(2, TILE, 1, "own")
_to_query_1 = product_tile(1, TILE, 1, "own")
_to_rows_2 = product_tile(2, 1, TILE, "own")
_to_rows_1 = product_tile(1, 1, TILE, "own")


@numba.njit
def _load_tile(rows, bias, offset, start, stop, local, edge):
    """Return the address of candidates start to stop as (TILE, width), zeros around them.

    That is `local`, unless they lie so in memory. `edge` (TILE,) is what their scores, in units of
    ln 2, start from: their bias; -inf where there is no candidate.
    """
    zero, unit = local.dtype.type(0), local.dtype.type(UNIT)
    for j in range(start, stop):
        edge[j - start] = bias[j] * unit if offset else zero
    edge[stop - start :] = -np.inf
    d = rows.shape[1]
    if d == local.shape[1] and stop - start == TILE:
        return rows.ctypes.data + start * d * rows.itemsize
    local[:] = zero
    for j in range(start, stop):
        for k in range(d):
            local[j - start, k] = rows[j, k]
    return local.ctypes.data


@numba.njit
def _scores(data, packed, panel, edge, out, width, lanes, itemsize):
    """Scores of ROWS packed queries with a tile."""
    for column in range(0, TILE, 2 * lanes):
        at = column * itemsize
        _scores_2(data, packed, panel + at, TILE, out + at, TILE, width, edge + at)


@numba.njit
def _to_query(data, weights, rows, out, width, lanes, itemsize):
    """Add a tile's part to the gradient of ROWS queries."""
    column = 0
    while column < width:
        at = column * itemsize
        if column + 2 * lanes <= width:
            _to_query_2(data, weights, rows + at, width, out + at, width, TILE, 0)
            column += 2 * lanes
        else:
            _to_query_1(data, weights, rows + at, width, out + at, width, TILE, 0)
            column += lanes


@numba.njit
def _to_rows(data, weights, query, count, out, width, lanes, itemsize):
    """Add what `count` queries contribute to the gradient of ROWS candidates."""
    column = 0
    while column < width:
        at = column * itemsize
        if column + 2 * lanes <= width:
            _to_rows_2(data, weights, query + at, width, out + at, width, count, 0)
            column += 2 * lanes
        else:
            _to_rows_1(data, weights, query + at, width, out + at, width, count, 0)
            column += lanes


@numba.njit
def _longest_column(table, squares):
    """Return the largest squared length of the columns of a table; `squares` is as long as a row.

    NaN if there is one.
    """
    squares[:] = table.dtype.type(0)
    for k in range(table.shape[0]):
        for j in range(table.shape[1]):
            squares[j] += table[k, j] * table[k, j]
    longest = table.dtype.type(0)
    for j in range(table.shape[1]):
        if not squares[j] <= longest:
            longest = squares[j]
    return longest


@numba.njit
def _stays_small(longest_query, longest_row, edge, count):
    """Whether no score of a tile can exceed _SMALL, by the inequality of Cauchy and Schwarz."""
    bound = np.sqrt(longest_query) * np.sqrt(longest_row)
    most = bound
    for j in range(count):
        if not bound + abs(edge[j]) <= most:
            most = bound + abs(edge[j])
    return most <= _SMALL


def _forward_kernel(data):
    """Per part and query: highest score in units of ln 2, sum of e^(score - highest)."""
    b, n, d, width = arguments(data, 0, 4)
    lanes, tiles, parts = arguments(data, 4, 3)
    packed = array_at(data, argument(data, 7), (b // ROWS, width, ROWS))
    rows = array_at(data, argument(data, 8), (n, d))
    offset = argument(data, 9) != 0
    bias = array_at(data, argument(data, 9), n)
    found = array_at(data, argument(data, 10), (parts, 2, b))
    itemsize = packed.itemsize
    local = np.empty((TILE, width), packed.dtype)
    panel = np.empty((width, TILE), packed.dtype)
    edge = np.empty(TILE, packed.dtype)
    scores = np.empty((ROWS, TILE), packed.dtype)
    highest = np.empty(b, packed.dtype)
    total = np.empty((b, lanes), packed.dtype)
    squares = np.empty(TILE, packed.dtype)
    longest = packed.dtype.type(0)
    for block in range(b // ROWS):
        found_here = _longest_column(packed[block], squares[:ROWS])
        if not found_here <= longest:
            longest = found_here
    part = next_task(data)
    while part < parts:
        total[:] = packed.dtype.type(0)
        small = True
        for start in range(part * tiles * TILE, min(n, (part + 1) * tiles * TILE), TILE):
            stop = min(n, start + TILE)
            tile = _load_tile(rows, bias, offset, start, stop, local, edge)
            transposed_tile(data, tile, width, panel.ctypes.data, width)
            if small:
                longest_row = _longest_column(panel, squares)
                small = _stays_small(longest, longest_row, edge, stop - start)
                if start == part * tiles * TILE:
                    highest[:] = 0.0 if small else -np.inf
            for block in range(b // ROWS):
                source = packed.ctypes.data + block * width * ROWS * itemsize
                _scores(
                    data,
                    source,
                    panel.ctypes.data,
                    edge.ctypes.data,
                    scores.ctypes.data,
                    width,
                    lanes,
                    itemsize,
                )
                for line in range(ROWS):
                    i = block * ROWS + line
                    row = scores.ctypes.data + line * TILE * itemsize
                    sums = total.ctypes.data + i * lanes * itemsize
                    if small:
                        small_row(data, row, sums)
                    else:
                        softmax_row(data, row, highest.ctypes.data + i * itemsize, sums)
        for i in range(b):
            added = total[i, 0]
            for lane in range(1, lanes):
                added += total[i, lane]
            found[part, 0, i] = highest[i]
            found[part, 1, i] = added
        part = next_task(data)


def _gradient_kernel(data):
    """Gradients factor * e^(score - shift) + extra of the scores, met with both sides."""
    b, n, d, width = arguments(data, 0, 4)
    lanes, tiles, parts = arguments(data, 4, 3)
    packed = array_at(data, argument(data, 7), (b // ROWS, width, ROWS))
    rows = array_at(data, argument(data, 8), (n, d))
    offset = argument(data, 9) != 0
    bias = array_at(data, argument(data, 9), n)
    query = array_at(data, argument(data, 10), (b, width))
    shift = array_at(data, argument(data, 11), b)
    factor = array_at(data, argument(data, 12), b)
    extra = array_at(data, argument(data, 13), b)
    partial = array_at(data, argument(data, 14), (parts, b, width))
    rows_gradient = array_at(data, argument(data, 15), (n, d))
    bias_gradient = array_at(data, argument(data, 16), n)
    itemsize = packed.itemsize
    zero = packed.dtype.type(0)
    local = np.empty((TILE, width), packed.dtype)
    pull = np.empty((TILE, width), packed.dtype)
    panel = np.empty((width, TILE), packed.dtype)
    edge = np.empty(TILE, packed.dtype)
    sums = np.empty(TILE, packed.dtype)
    weights = np.empty((_BLOCK, TILE), packed.dtype)
    line_bytes = TILE * itemsize
    part = next_task(data)
    while part < parts:
        partial[part] = zero
        ours = partial.ctypes.data + part * b * width * itemsize
        for start in range(part * tiles * TILE, min(n, (part + 1) * tiles * TILE), TILE):
            stop = min(n, start + TILE)
            tile = _load_tile(rows, bias, offset, start, stop, local, edge)
            transposed_tile(data, tile, width, panel.ctypes.data, width)
            # In place where the rows of a tile lie so in memory.
            direct = tile != local.ctypes.data
            pulls = pull.ctypes.data
            if direct:
                pulls = rows_gradient.ctypes.data + start * width * itemsize
                rows_gradient[start:stop] = zero
            else:
                pull[:] = zero
            sums[:] = zero
            for first in range(0, b, _BLOCK):
                last = min(b, first + _BLOCK)
                for begin in range(first, last, ROWS):
                    target = weights.ctypes.data + (begin - first) * line_bytes
                    _scores(
                        data,
                        packed.ctypes.data + begin * width * itemsize,
                        panel.ctypes.data,
                        edge.ctypes.data,
                        target,
                        width,
                        lanes,
                        itemsize,
                    )
                    for line in range(ROWS):
                        i = begin + line
                        gradient_row(
                            data, target + line * line_bytes, shift[i], factor[i], extra[i]
                        )
                    if stop - start < TILE:
                        # Beyond the last candidate there is nothing to smooth.
                        weights[begin - first : begin - first + ROWS, stop - start :] = zero
                    _to_query(
                        data,
                        target,
                        tile,
                        ours + begin * width * itemsize,
                        width,
                        lanes,
                        itemsize,
                    )
                for j in range(0, TILE, ROWS):
                    _to_rows(
                        data,
                        weights.ctypes.data + j * itemsize,
                        query.ctypes.data + first * width * itemsize,
                        last - first,
                        pulls + j * width * itemsize,
                        width,
                        lanes,
                        itemsize,
                    )
                if offset:
                    for i in range(last - first):
                        for j in range(TILE):
                            sums[j] += weights[i, j]
            for j in range(start, stop):
                if not direct:
                    for k in range(d):
                        rows_gradient[j, k] = pull[j - start, k]
                if offset:
                    bias_gradient[j] = sums[j - start]
        part = next_task(data)


first_pass = NativeKernel(_forward_kernel)
second_pass = NativeKernel(_gradient_kernel)
