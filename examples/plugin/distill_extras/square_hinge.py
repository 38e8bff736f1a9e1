"""The squared hinge loss between a fact and each of its negatives."""

from __future__ import annotations

from typing import Optional

import torch
from pydantic import Field
from torch import Tensor

from dglke_distill.config.registry import NoOptions
from dglke_distill.training.losses import Loss, masked_mean, weighted_mean


class SquareHinge(Loss):
    """Mean over negatives of max(0, margin - positive + negative)^2."""

    name = "square_hinge"

    class Options(NoOptions):
        """The ``margin`` that a fact keeps from its negatives."""

        margin: float = Field(1.0, ge=0)

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """Return the mean over facts, weighted."""
        gap = torch.relu(self.options.margin - positive[:, None] + negative)
        return weighted_mean(masked_mean(gap.square(), known), weight)
