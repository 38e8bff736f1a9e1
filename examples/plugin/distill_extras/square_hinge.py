"""The squared hinge loss between a fact and each of its negatives."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dglke_distill.config.registry import NoOptions
from dglke_distill.training.losses import Loss, masked_mean
from dglke_distill.training.scored import ScoredBatch


class SquareHinge(Loss):
    """Mean over negatives of max(0, margin - positive + negative)^2."""

    name = "square_hinge"

    class Options(NoOptions):
        """The ``margin`` that a fact keeps from its negatives."""

        margin: float = Field(1.0, ge=0)

    def __call__(self, batch: ScoredBatch) -> Tensor:
        """Return the mean over facts, weighted."""
        each = batch.by_triple()
        assert each.positive is not None
        gap = torch.relu(self.options.margin - each.positive[:, None] + each.logits)
        return each.mean(masked_mean(gap.square(), each.known))
