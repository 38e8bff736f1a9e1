"""The compiled loop that keeps the best candidates while scores pass by."""

from __future__ import annotations

from dglke_distill.kernels.compiled import njit

STRIP = 64


@njit(cache=True, nogil=True)
def keep_best(block, first, scores, ids):  # type: ignore[no-untyped-def]
    """Merge a block of scores into the best found so far; equal scores keep the lower id.

    A strip of 64 scores that holds none above the worst of the best is read once, by vector
    instructions, and forgotten; nearly all are.

    Args:
        block: (b, n) scores of the candidates from id ``first`` on.
        scores: (b, k), the best, descending; minus infinity where there is none. Changed.
        ids: (b, k) int64, theirs. Changed.
    """
    last = scores.shape[1] - 1
    for query in range(block.shape[0]):
        row = block[query]
        best, whose = scores[query], ids[query]
        worst = best[last]
        for start in range(0, len(row), STRIP):
            strip = row[start : start + STRIP]
            above = 0
            for j in range(len(strip)):
                above += strip[j] > worst
            if above == 0:
                continue
            for j in range(len(strip)):
                value = strip[j]
                if value > worst:
                    place = last
                    while place > 0 and best[place - 1] < value:
                        best[place] = best[place - 1]
                        whose[place] = whose[place - 1]
                        place -= 1
                    best[place] = value
                    whose[place] = first + start + j
                    worst = best[last]
