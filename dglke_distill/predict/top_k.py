"""The best candidates of each query, found block by block as they are scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dglke_distill.base.arguments import whole
from dglke_distill.base.errors import UserError

Score = Callable[[int, int], Tensor]

FEW_SCORES = 1 << 21
"""Up to as many, torch finds the best in the time that it takes to load compiled code."""

CACHED_SCORES = 1 << 20
"""Scores per block of the compiled search: 4 MiB, which stay in the cache and reuse memory."""


class TopK(NamedTuple):
    """The best candidates, best first.

    Attributes:
        ids: (b, k) int64; -1 where a query has fewer than k candidates.
        scores: (b, k), minus infinity there.
    """

    ids: Tensor
    scores: Tensor


def asked(k: int, one: Tensor, other: Tensor) -> int:
    """Return how many answers are asked for.

    Args:
        k: their number, for each question.
        one: (b,) ids, a part of each question.
        other: (b,) ids, its other part.

    Raises:
        UserError: it is no number, or below 1; or parts are missing.
    """
    k = whole(k, "k")
    if k < 1:
        raise UserError(f"k is {k}: ask for at least 1 answer")
    if len(one) != len(other):
        raise UserError(f"{len(one)} ids beside {len(other)}: give as many of each")
    return k


def search(score: Score, queries: int, candidates: int, k: int, width: int) -> TopK:
    """Find the best candidates without keeping all scores.

    Args:
        score: (start, stop) to the scores (queries, stop - start) of consecutive candidates;
            minus infinity for a candidate that is left out. It is called in order.
        queries: number of queries, b, at least 1.
        candidates: number of candidates, at least 1.
        k: how many to find; all, where there are fewer candidates.
        width: most candidates to ask for at once.

    Returns:
        Lists of k, padded where candidates are left out. Which of several candidates with equal
        scores come first is not specified.
    """
    k = min(k, candidates)
    if queries * candidates <= FEW_SCORES:
        return _few(score, candidates, k, width)
    return _many(score, queries, candidates, k, width)


def _few(score: Score, candidates: int, k: int, width: int) -> TopK:
    parts: list[TopK] = []
    for start in range(0, candidates, width):
        scores = score(start, min(start + width, candidates))
        best, ids = scores.topk(min(k, scores.shape[1]))
        parts.append(TopK(ids + start, best))
    all_ids, all_scores = (torch.cat(part, dim=1) for part in zip(*parts))
    missing = max(0, k - all_scores.shape[1])
    all_ids = torch.nn.functional.pad(all_ids, (0, missing))
    all_scores = torch.nn.functional.pad(all_scores, (0, missing), value=-torch.inf)
    if len(parts) > 1:
        all_scores, order = all_scores.topk(k)
        all_ids = all_ids.gather(1, order)
    return TopK(all_ids.masked_fill(all_scores == -torch.inf, -1), all_scores)


def _many(score: Score, queries: int, candidates: int, k: int, width: int) -> TopK:
    """Search in blocks that fit the cache; on the CPU by the compiled loop."""
    width = min(width, max(1024, CACHED_SCORES // queries))
    first = score(0, min(width, candidates))
    if first.device.type != "cpu":
        return _few(score, candidates, k, max(width, FEW_SCORES // queries))
    from dglke_distill.predict.keep_best import keep_best

    best = torch.full((queries, k), -torch.inf, dtype=first.dtype)
    ids = torch.full((queries, k), -1, dtype=torch.int64)
    arrays = best.numpy(), ids.numpy()
    for start in range(0, candidates, width):
        block = score(start, min(start + width, candidates)) if start else first
        keep_best(block.contiguous().numpy(), start, *arrays)
    return TopK(ids, best)
