"""Softmax cross-entropy over all candidates with several answers per query."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

__all__ = ["softmax_cross_entropy"]


def softmax_cross_entropy(
    scores: Tensor,
    offsets: Tensor,
    answers: Tensor,
    weight: Optional[Tensor] = None,
    *,
    smoothing: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    """Sum over queries of weight_i * sum over its answers a of -log softmax(scores_i)[a].

    scores (b, n) float; offsets (b + 1,) int64 and answers (k,) int64 are the answers of each
    query in CSR form; weight (b,) or None. With smoothing s an answer's target is 1 - s on
    itself plus s / n on every candidate. `inplace` allows overwriting the scores.
    """
    counts = offsets[1:] - offsets[:-1]
    query = torch.repeat_interleave(torch.arange(len(counts), device=scores.device), counts)
    logs = torch.log_softmax(scores, dim=1)
    loss = -logs[query, answers] * (1.0 - smoothing)
    if smoothing:
        loss = loss - (smoothing * logs.mean(1))[query]
    return (loss if weight is None else loss * weight[query]).sum()
