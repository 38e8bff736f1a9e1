"""Queries that have met their candidates: what a loss is a function of."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.kernels import Products, Scores


def weighted_mean(values: Tensor, weight: Optional[Tensor]) -> Tensor:
    """Return the mean of (b,) values, weighted if weights (b,) are given."""
    return values.mean() if weight is None else (values * weight).sum() / weight.sum()


class ScoredBatch(NamedTuple):
    """The scores of b queries with n candidates each.

    The answers of query i are ``answers[offsets[i]:offsets[i + 1]]``. Candidates that were sampled
    are beside a single answer, whose score stands apart; all entities have the answers among them.

    Attributes:
        scores: (b, n) of the candidates; a loss may overwrite them. Only one that
            ``takes_products`` is given some that are not multiplied out.
        offsets: (b + 1,) int64, where each query's answers begin.
        answers: (k,) int64; columns of ``scores`` where ``positive`` is None.
        positive: (b,) scores of the answers that stand apart, or None.
        known: (b, n) bool, true where a sampled candidate is a known fact and must not count.
        weight: (b,) weights of the queries, or None.
    """

    scores: Scores
    offsets: Tensor
    answers: Tensor
    positive: Optional[Tensor] = None
    known: Optional[Tensor] = None
    weight: Optional[Tensor] = None

    @property
    def logits(self) -> Tensor:
        """The scores of the candidates, multiplied out."""
        return self.scores.multiplied() if isinstance(self.scores, Products) else self.scores

    @property
    def table(self) -> Tensor:
        """All scores, (b, 1 + n) with the answer's first where it stands apart, else (b, n)."""
        if self.positive is None:
            return self.logits
        return torch.cat([self.positive[:, None], self.logits], dim=1)

    @property
    def rows(self) -> Tensor:
        """The query of each answer, (k,)."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    @property
    def total(self) -> Optional[Tensor]:
        """What each query counts, (b,): its weight for each of its answers; None for all alike."""
        if self.positive is not None:
            return self.weight
        counts = self.offsets.diff()
        return counts if self.weight is None else counts * self.weight

    def mean(self, costs: Tensor) -> Tensor:
        """Return the weighted sum of the queries' costs (b,) per true triple, a scalar.

        A query with several answers has the cost of all of them.
        """
        if self.positive is not None:
            return weighted_mean(costs, self.weight)
        # In this order: where weights learn, it decides in which their gradients are summed.
        cost = (costs if self.weight is None else costs * self.weight).sum()
        total = self.total
        assert total is not None
        return cost / total.sum()

    def by_triple(self) -> ScoredBatch:
        """Return the same with a row for each true triple, its score apart, known answers marked.

        Sampled candidates are so already. All entities take as much memory for each answer as for
        a query: for losses without a formula for several answers at once.
        """
        if self.positive is not None:
            return self
        rows, scores = self.rows, self.logits
        known = torch.zeros_like(scores, dtype=torch.bool)
        known[rows, self.answers] = True
        weight = None if self.weight is None else self.weight[rows]
        offsets = torch.arange(len(rows) + 1, device=rows.device)
        positive = scores[rows, self.answers]
        return ScoredBatch(scores[rows], offsets, self.answers, positive, known[rows], weight)

    def copied(self) -> ScoredBatch:
        """Return the same, to be overwritten while others still need the scores."""
        return self if self.positive is not None else self._replace(scores=self.logits.clone())
