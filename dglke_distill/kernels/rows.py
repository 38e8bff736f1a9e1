"""Sums of rows by row number on the CPU, in one fixed order and in parallel."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Optional

import numba
import torch
from torch import Tensor

from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    integers_at,
    next_task,
)

# Columns that fill a cache line of either dtype.
_LINE = 16
# Pairs per part of an inversion, at least.
_PAIRS = 16384


def _scatter_kernel(data):
    """Add all source rows in order; a task owns a block of columns of the target."""
    parts, splits, chunks, n, d, u = arguments(data, 0, 6)
    width = argument(data, 6)
    source = array_at(data, argument(data, 7), (parts, n, d))
    index = integers_at(argument(data, 8), (chunks, n))
    target = array_at(data, argument(data, 9), (u, d))
    zero = target.dtype.type(0)
    task = next_task(data)
    while task * width < d:
        low, high = task * width, min((task + 1) * width, d)
        for row in range(u):
            target[row, low:high] = zero
        for part in range(parts):
            for j in range(n):
                row = index[part // splits, j]
                for k in range(low, high):
                    target[row, k] += source[part, j, k]
        task = next_task(data)


_scatter = NativeKernel(_scatter_kernel)


def scatter_rows(source: Tensor, index: Tensor, u: int) -> Tensor:
    """Sum source (p, n, d) into a fresh (u, d) by index (c, n), c dividing p.

    Source row [i, j] is added to row index[i // (p // c), j]. Contiguous float32 or float64;
    the index, int64, must be valid.
    """
    parts, n, d = source.shape
    target = source.new_empty(u, d)
    # Few, wide blocks: memory is read faster in long stretches.
    width = -(-d // (torch.get_num_threads() * _LINE)) * _LINE
    sizes = parts, parts // index.shape[0], index.shape[0], n, d, u, width
    work = source.numel() + target.numel()
    _scatter(source.dtype, work, *sizes, source, index, target)
    return target


@numba.njit(cache=True)
def _add_rows(target, index, source):
    """Add source row j to target row index[j], in order; return how many rows exist."""
    for j in range(index.size):
        row = index[j]
        if row < 0 or row >= target.shape[0]:
            return j
        for k in range(target.shape[1]):
            target[row, k] += source[j, k]
    return index.size


def add_rows(target: Tensor, index: Tensor, source: Tensor) -> None:
    """Add source (k, d) to the rows index (k,) of a target (u, d), in order, in this thread.

    For few rows of a large table: torch's own sorts the index first, and wakes its threads.

    Raises:
        IndexError: an index lies outside the target.
    """
    k = len(index)
    if _add_rows(target.numpy(), index.numpy(), source.contiguous().numpy()) < k:
        raise IndexError(f"a row gradient's id lies outside the {len(target)} rows")


def _count_kernel(data):
    """Count how often each row occurs in each part of the queries."""
    parts, size, b, group, n, u = arguments(data, 0, 6)
    index = integers_at(argument(data, 6), (b // group, n))
    counts = integers_at(argument(data, 7), (parts, u))
    task = next_task(data)
    while task < parts:
        count = counts[task]
        count[:] = 0
        for i in range(task * size, min((task + 1) * size, b)):
            for row in index[i // group]:
                count[row] += 1
        task = next_task(data)


def _place_kernel(data):
    """Write each part's pairs to their places, part after part within a row."""
    parts, size, b, group, n, u = arguments(data, 0, 6)
    index = integers_at(argument(data, 6), (b // group, n))
    places = integers_at(argument(data, 7), (parts, u))
    weight = array_at(data, argument(data, 8), (b, n))
    query = integers_at(argument(data, 9), b * n)
    value = array_at(data, argument(data, 10), b * n)
    task = next_task(data)
    while task < parts:
        place = places[task]
        for i in range(task * size, min((task + 1) * size, b)):
            numbers = index[i // group]
            for j in range(n):
                row = numbers[j]
                at = place[row]
                query[at] = i
                value[at] = weight[i, j]
                place[row] = at + 1
        task = next_task(data)


_count = NativeKernel(_count_kernel)
_place = NativeKernel(_place_kernel)


def invert(
    index: Tensor, weight: Tensor, u: int, parts: Optional[int] = None
) -> tuple[Tensor, Tensor, Tensor]:
    """List the queries that meet each row.

    Args:
        index: (c, n) int64, the rows that each chunk of queries meets.
        weight: (b, n) float, one weight per meeting; b a multiple of c.
        u: number of rows.
        parts: pieces that the queries are cut into to be shared among threads; None leaves it to
            the amount of work. The result does not depend on it.

    Returns:
        offsets (u + 1,) int64; and for each row's meetings, in order of query and position, the
        query (b * n,) int64 and the weight (b * n,).
    """
    chunks, n = index.shape
    b = weight.shape[0]
    if parts is None:
        parts = max(1, min(torch.get_num_threads(), b * n // _PAIRS, b))
    counts = torch.empty(parts, u, dtype=torch.int64)
    sizes = (parts, -(-b // parts), b, b // chunks, n, u)
    _count(weight.dtype, b * n, *sizes, index, counts)
    offsets = torch.zeros(u + 1, dtype=torch.int64)
    # Places run row by row and within a row part by part.
    ends = counts.T.reshape(-1).cumsum(0).view(u, parts)
    offsets[1:] = ends[:, -1]
    places = (ends.T - counts).contiguous()
    query = torch.empty(b * n, dtype=torch.int64)
    value = torch.empty(b * n, dtype=weight.dtype)
    _place(weight.dtype, b * n, *sizes, index, places, weight, query, value)
    return offsets, query, value
