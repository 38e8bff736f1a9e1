"""Losses triple by triple, and how much the labels of each triple are worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dglke_distill.training.objective import Group


class SoftLabelEvaluation(nn.Module):
    """How much a triple's soft label is worth, judged by the teacher's score of it.

    Args:
        offset: where b starts; a starts at 1.
    """

    def __init__(self, offset: float = 0.0) -> None:
        """Start alike for positives, which come first, and negatives."""
        super().__init__()
        self.slope = nn.Parameter(torch.ones(2))
        self.offset = nn.Parameter(torch.full((2,), offset))

    def forward(self, scores: Tensor) -> Tensor:
        """Return weights: sigma(a s + b) of positives, 1 - sigma(a s + b) of negatives.

        Args:
            scores: (b, 1 + n), the teacher's, those of positives first.
        """
        slope, offset = self.slope, self.offset
        true = torch.sigmoid(slope[0] * scores[:, :1] + offset[0])
        return torch.cat([true, torch.sigmoid(-(slope[1] * scores[:, 1:] + offset[1]))], dim=1)


def by_kind(each: Tensor) -> Tensor:
    """Return losses (b, 1 + n), whose rows add up to half the positive plus half the negatives."""
    return 0.5 * torch.cat([each[:, :1], each[:, 1:] / max(1, each.shape[1] - 1)], dim=1)


class AnswerPlaces:
    """Where the answers of queries against all entities stand.

    ``index`` are the rows and columns of answers (k,) in scores (b, E), ``counts`` (b,) how many
    each query has, ``total`` (b,) the same times the queries' own weights.

    Args:
        group: the queries.
    """

    def __init__(self, group: Group) -> None:
        """Find them."""
        self.counts = group.offsets.diff()
        rows = torch.arange(len(self.counts), device=self.counts.device)
        self.index = torch.repeat_interleave(rows, self.counts), group.answers
        self.total = self.counts if group.weight is None else self.counts * group.weight

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean (b,) over the answers of each query of values (k,)."""
        sums = values.new_zeros(len(self.counts)).index_add(0, self.index[0], values)
        return sums / self.counts

    def by_kind(self, each: Tensor) -> Tensor:
        """Return half the mean over answers plus half that over the others, (b,), of (b, E)."""
        true = self.mean(each[self.index])
        others = (each.sum(dim=-1) - true * self.counts) / (each.shape[1] - self.counts).clamp(1)
        return 0.5 * (true + others)
