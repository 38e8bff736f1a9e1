"""Scores of queries against candidates on the CPU: splits the work into tasks of tiles."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from dglke_distill.kernels.threads import (
    NativeKernel,
    arguments,
    integers_at,
    next_task,
    set_argument,
)
from dglke_distill.kernels.tiles import by_kernel, score_tile

# Queries and candidates per task: a few hundred KiB of rows, for the second-level cache.
_QUERIES, _CANDIDATES = 128, 64
# Candidates that meet all queries of a task before the next come: a cache line of results.
_GROUP = 16
# Fewer queries than this per chunk go one by one.
_SHARED = 3

_tile4 = by_kernel(lambda kernel: score_tile(kernel, 4))
_tile1 = by_kernel(lambda kernel: score_tile(kernel, 1))


@numba.njit
def _within(index, limit):
    """Whether all row numbers are valid."""
    low, high = np.int64(0), np.int64(-1)
    for number in index:
        low = min(low, number)
        high = max(high, number)
    return low >= 0 and high < limit


def _scores_kernel(data):
    kind, query, rows, index, out = arguments(data, 0, 5)
    group, chunks, n, d = arguments(data, 5, 4)
    lanes, step, limit = arguments(data, 9, 3)
    numbers = integers_at(index, (chunks, n))
    query_blocks = (group + _QUERIES - 1) // _QUERIES
    candidate_blocks = (n + _CANDIDATES - 1) // _CANDIDATES
    tasks = chunks * query_blocks * candidate_blocks
    task = next_task(data)
    while task < tasks:
        chunk = task // (query_blocks * candidate_blocks)
        block = task // candidate_blocks % query_blocks
        low = chunk * group + block * _QUERIES
        high = min(low + _QUERIES, (chunk + 1) * group)
        line = index + chunk * n * 8
        begin = task % candidate_blocks * _CANDIDATES
        end = min(begin + _CANDIDATES, n)
        if not _within(numbers[chunk, begin:end], limit):
            set_argument(data, 12, 1)
            end = begin
        for strip in range(begin, end, _GROUP):
            stop = min(strip + _GROUP, end)
            for i in range(low, high, step):
                if step == 1:
                    for j in range(strip, stop, lanes):
                        _tile1(kind, data, query, i, high - 1, rows, line, j, n, out, d)
                else:
                    for j in range(strip, stop, lanes // 4):
                        _tile4(kind, data, query, i, high - 1, rows, line, j, n, out, d)
        task = next_task(data)


_scores = NativeKernel(_scores_kernel)


def scores(kind: int, query: Tensor, rows: Tensor, index: Tensor, out: Tensor) -> None:
    """Fill out (b, n) with the scores of query (b, d) against rows[index], index (c, n).

    All contiguous, d (for the modulus: d / 2) a multiple of the vector length. Raises IndexError.
    """
    chunks, n = index.shape
    b, d = query.shape
    group = b // chunks
    sizes = group, chunks, n, d, 64 // query.element_size(), 1 if group < _SHARED else 4
    limit = rows.shape[0]
    left = _scores(query.dtype, b * n * d, kind, query, rows, index, out, *sizes, limit, 0)
    if left[-1]:
        raise IndexError(f"a candidate index lies outside the {rows.shape[0]} rows")
