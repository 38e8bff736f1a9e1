"""How many candidates beat a true answer, and how many tie with it.

Every score is read once per four answers of its query, and the check that scores are finite rides
along. Known answers are not struck out of the scores: they are counted the same way and subtracted,
so that a model's own memory is never written to.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.known_answers import lower_bound

Int64 = NDArray[np.int64]

RankCounts = tuple[Int64, Int64, int]
"""(greater, equal, bad): candidates that score more than each target, other candidates that score
the same, both without the filtered ones; and the first query whose scores are not all finite, or
-1. The counts are meaningless when ``bad`` is not -1."""


@njit(cache=True, nogil=True)
def _count_one(values, target, largest):  # type: ignore[no-untyped-def]
    """Return how many values are greater, greater or equal, and finite."""
    # 32-bit counters are as wide as the scores, which doubles the speed of the vector loop.
    greater, reached, finite = np.int32(0), np.int32(0), np.int32(0)
    for i in range(values.shape[0]):
        value = values[i]
        greater = np.int32(greater + (value > target))
        reached = np.int32(reached + (value >= target))
        finite = np.int32(finite + (abs(value) <= largest))
    return greater, reached, finite


@njit(cache=True, nogil=True)
def _count_four(values, target, largest, greater, reached):  # type: ignore[no-untyped-def]
    """Fill ``greater`` and ``reached`` (4,) for four targets; return how many values are finite."""
    t0, t1, t2, t3 = target[0], target[1], target[2], target[3]
    g0, g1, g2, g3 = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    r0, r1, r2, r3 = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    finite = np.int32(0)
    for i in range(values.shape[0]):
        value = values[i]
        g0, r0 = np.int32(g0 + (value > t0)), np.int32(r0 + (value >= t0))
        g1, r1 = np.int32(g1 + (value > t1)), np.int32(r1 + (value >= t1))
        g2, r2 = np.int32(g2 + (value > t2)), np.int32(r2 + (value >= t2))
        g3, r3 = np.int32(g3 + (value > t3)), np.int32(r3 + (value >= t3))
        finite = np.int32(finite + (abs(value) <= largest))
    greater[0], greater[1], greater[2], greater[3] = g0, g1, g2, g3
    reached[0], reached[1], reached[2], reached[3] = r0, r1, r2, r3
    return finite


@njit(cache=True, nogil=True)
def _is_among(ascending, wanted):  # type: ignore[no-untyped-def]
    low = lower_bound(ascending, 0, len(ascending), wanted)
    return low < len(ascending) and ascending[low] == wanted


@njit(cache=True, nogil=True)
def _count_values(values, targets, largest, sign, greater, equal):  # type: ignore[no-untyped-def]
    """Add ``sign`` times the counts of each target; return how many values are finite."""
    number = len(targets)
    if number == 1:
        above, reached, finite = _count_one(values, targets[0], largest)
        greater[0] += sign * above
        equal[0] += sign * (reached - above)
        return finite
    four = np.empty(4, targets.dtype)
    above4, reached4 = np.empty(4, np.int32), np.empty(4, np.int32)
    finite = np.int32(0)
    for first in range(0, number, 4):
        for j in range(4):
            four[j] = targets[min(first + j, number - 1)]
        finite = _count_four(values, four, largest, above4, reached4)
        for j in range(min(4, number - first)):
            greater[first + j] += sign * above4[j]
            equal[first + j] += sign * (reached4[j] - above4[j])
    return finite


@njit(cache=True, nogil=True)
def _count_row(row, values, columns, known, largest, greater, equal):  # type: ignore[no-untyped-def]
    """Add the counts of a query's targets, without known ones; return whether all is finite."""
    if _count_values(row, values, largest, 1, greater, equal) != len(row):
        return False
    others = np.empty(len(known), row.dtype)
    for j in range(len(known)):
        others[j] = row[known[j]]
    _count_values(others, values, largest, -1, greater, equal)
    for j in range(len(columns)):
        # A target ties with itself, unless it was subtracted as a known answer already.
        if columns[j] >= 0 and not _is_among(known, columns[j]):
            equal[j] -= 1
    return True


@njit(cache=True, nogil=True)
def _count_queries(  # type: ignore[no-untyped-def]
    scores, target_offsets, targets, known_offsets, known, largest, greater, equal, bad, begin, end
):
    for query in range(begin, end):
        row = scores[query]
        first, last = target_offsets[query], target_offsets[query + 1]
        chosen = targets[first:last]
        values = np.empty(len(chosen), row.dtype)
        for j in range(len(chosen)):
            values[j] = row[chosen[j]]
        answers = known[known_offsets[query] : known_offsets[query + 1]]
        above, tied = greater[first:last], equal[first:last]
        bad[query] = not _count_row(row, values, chosen, answers, largest, above, tied)


@njit(cache=True, nogil=True)
def _count_shares(  # type: ignore[no-untyped-def]
    scores, offsets, columns, values, known_offsets, known, largest, greater, equal
):
    bad = -1
    for query in range(len(scores)):
        row = scores[query]
        first, last = offsets[query], offsets[query + 1]
        answers = known[known_offsets[query] : known_offsets[query + 1]]
        above, tied, chosen = greater[first:last], equal[first:last], columns[first:last]
        finite = _count_row(row, values[first:last], chosen, answers, largest, above, tied)
        if not finite and bad < 0:
            bad = query
    return bad


def count_share(
    scores: NDArray[np.floating[Any]],
    target_offsets: Int64,
    targets: Int64,
    values: NDArray[np.floating[Any]],
    known_offsets: Int64,
    known: Int64,
) -> RankCounts:
    """Count among some of the candidates; counts of all shares add up to those of ``count``.

    Args:
        scores: (b, n) of the share's n candidates.
        target_offsets: as for ``count_numba``.
        targets: (t,) columns of the true answers; -1 for those of other shares.
        values: (t,) what the true answers score, of the scores' dtype.
        known_offsets: as for ``count_numba``.
        known: (k,) columns to filter, ascending within a query and distinct.
    """
    greater, equal = np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)
    largest = np.finfo(scores.dtype).max
    bad = _count_shares(
        scores, target_offsets, targets, values.astype(scores.dtype), known_offsets, known,
        largest, greater, equal,
    )  # fmt: skip
    return greater, equal, int(bad)


def count_numba(
    scores: NDArray[np.floating[Any]],
    target_offsets: Int64,
    targets: Int64,
    known_offsets: Int64,
    known: Int64,
) -> RankCounts:
    """Count for a block of queries on the CPU, with as many threads as torch uses.

    Args:
        scores: float32 or float64 array of shape (b, E), C-contiguous; only read.
        target_offsets: (b + 1,); query i has the true answers
            ``targets[target_offsets[i]:target_offsets[i + 1]]``, at least one.
        targets: (t,) entity ids.
        known_offsets: (b + 1,), in the same way for ``known``.
        known: (k,) entity ids to filter, ascending within a query and distinct. A target among
            them is still ranked: it is filtered for the query's other targets only.
    """
    greater, equal = np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)
    bad = np.zeros(len(scores), np.bool_)
    largest = np.finfo(scores.dtype).max
    threads = torch.get_num_threads()
    # Threads without a pool of numba's own: its idle ones would spin where torch's want to work.
    borders = np.linspace(0, len(scores), 1 + min(len(scores), 4 * threads)).astype(int).tolist()

    def part(begin: int, end: int) -> None:
        _count_queries(
            scores, target_offsets, targets, known_offsets, known,
            largest, greater, equal, bad, begin, end,
        )  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, borders[:-1], borders[1:]))
    return greater, equal, int(bad.argmax()) if bad.any() else -1


def count_torch(
    scores: Tensor,
    target_offsets: Int64,
    targets: Int64,
    known_offsets: Int64,
    known: Int64,
) -> RankCounts:
    """Count where the scores live; the same arguments and result as ``count_numba``.

    Besides the scores it holds at most two more matrices of their size.
    """
    finite = torch.isfinite(scores).all(dim=1)
    if not bool(finite.all()):
        return (
            np.zeros(len(targets), np.int64),
            np.zeros(len(targets), np.int64),
            int(torch.argmin(finite.int())),
        )

    def rows_and_ids(offsets: Int64, ids: Int64) -> tuple[Tensor, Tensor]:
        rows = np.repeat(np.arange(len(scores)), np.diff(offsets))
        return torch.from_numpy(rows).to(scores.device), torch.from_numpy(ids).to(scores.device)

    target_rows, target_ids = rows_and_ids(target_offsets, targets)
    values = scores[target_rows, target_ids]
    remaining = scores.clone()
    remaining[rows_and_ids(known_offsets, known)] = -torch.inf
    # Unless it was struck out as a known answer, a target ties with itself.
    equal = -(remaining[target_rows, target_ids] == values).long()
    greater = torch.zeros_like(equal)
    for first in range(0, len(targets), len(scores)):
        part = slice(first, first + len(scores))
        candidates, value = remaining[target_rows[part]], values[part, None]
        greater[part] += (candidates > value).sum(dim=1)
        equal[part] += (candidates == value).sum(dim=1)
    return greater.cpu().numpy(), equal.cpu().numpy(), -1


def count(
    scores: Tensor,
    target_offsets: Int64,
    targets: Int64,
    known_offsets: Int64,
    known: Int64,
) -> RankCounts:
    """Count with numba for scores in main memory, with torch for scores elsewhere."""
    if scores.device.type != "cpu":
        return count_torch(scores, target_offsets, targets, known_offsets, known)
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()  # exact, so ties stay ties
    array = scores.detach().contiguous().numpy()
    return count_numba(array, target_offsets, targets, known_offsets, known)
