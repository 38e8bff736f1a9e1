"""Hard-label losses: pure functions of scores.

Higher scores are more plausible. The margin (gamma) of distance models lives here and nowhere else.
"""

from __future__ import annotations

from typing import ClassVar, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.config import LossConfig, components
from dglke_distill.config.registry import NoOptions, Registry
from dglke_distill.kernels import adversarial_costs, softmax_cross_entropy
from dglke_distill.training.loss import MODES, Loss, masked_mean
from dglke_distill.training.scored import ScoredBatch, weighted_mean

__all__ = [
    "LOSSES",
    "MODES",
    "BinaryCrossEntropyLoss",
    "LogisticLoss",
    "Loss",
    "MarginLoss",
    "PointwiseLoss",
    "SelfAdversarialLoss",
    "SoftmaxLoss",
    "adversarial_weights",
    "build_loss",
    "masked_mean",
    "weighted_mean",
]


def adversarial_weights(negative: Tensor, known: Optional[Tensor], temperature: float) -> Tensor:
    """Return softmax(temperature * scores) over the negatives, detached; known facts get 0.

    Sun, Deng, Nie, Tang 2019, "RotatE", equation 5.
    """
    logits = negative.detach() * temperature
    if known is None:
        return logits.softmax(dim=-1)
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(known, lowest).softmax(dim=-1).masked_fill(known, 0.0)


class MarginLoss(Loss):
    """Margin ranking loss: max(0, margin - positive + negative).

    Bordes et al. 2013, "Translating embeddings for modeling multi-relational data", equation 1.
    With ``temperature`` above 0 negatives are weighted self-adversarially, as OpenKE does.
    """

    name = "margin"
    modes = ("negatives",)

    class Options(NoOptions):
        """``margin`` in score units; ``temperature`` of self-adversarial weights, 0 for none."""

        margin: float = Field(1.0, gt=0, description="in units of the score")
        temperature: float = Field(
            0.0, ge=0, description="of self-adversarial weights; 0: every negative counts alike"
        )

    def __call__(self, batch: ScoredBatch) -> Tensor:
        """See ``Loss.__call__``."""
        assert batch.positive is not None
        negative = batch.logits
        hinge = F.relu(self.options.margin - batch.positive[:, None] + negative)
        if self.options.temperature == 0:
            return batch.mean(masked_mean(hinge, batch.known))
        share = adversarial_weights(negative, batch.known, self.options.temperature)
        return batch.mean((share * hinge).sum(dim=-1))


class PointwiseLoss(Loss):
    """Base of losses that add up what every triple costs by itself, negatives in shares."""

    half: ClassVar[float] = 0.5
    """What a triple's cost is multiplied by."""

    class Options(NoOptions):
        """``margin`` added to every score before the sigmoid."""

        margin: float = Field(0.0, description="added to every score before the sigmoid")

    @property
    def margin(self) -> float:
        """See ``Loss.margin``."""
        return float(self.options.margin)

    def __call__(self, batch: ScoredBatch) -> Tensor:
        """See ``Loss.__call__``."""
        assert batch.positive is not None
        true = F.softplus(-batch.positive - self.options.margin)
        each = true + self.false_costs(batch.logits, batch.known)
        return self.half * batch.mean(each)

    def false_costs(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """Return what the negatives of each query cost together, (b,)."""
        raise NotImplementedError

    def shares(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """Return how much each negative counts, (b, n); by default fully, known facts not."""
        return torch.ones_like(negative) if known is None else (~known).to(negative.dtype)

    def per_triple(self, batch: ScoredBatch) -> Tensor:
        """See ``Loss.per_triple``."""
        assert batch.positive is not None
        negative, margin = batch.logits, self.options.margin
        true, false = F.softplus(-batch.positive - margin)[:, None], F.softplus(negative + margin)
        each = torch.cat([true, self.shares(negative, batch.known) * false], dim=1)
        return each if self.half == 1 else self.half * each


class LogisticLoss(PointwiseLoss):
    """Logistic (softplus) loss: softplus(-(margin + positive)) + mean softplus(margin + negative).

    Trouillon et al. 2016, "Complex embeddings for simple link prediction", equation 12, with
    negatives averaged and the two halves averaged; ``margin`` shifts the negated distances.
    """

    name = "logistic"
    modes = ("negatives",)

    def shares(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """Count negatives equally, all together once."""
        share = super().shares(negative, known)
        return share / share.sum(dim=-1, keepdim=True).clamp(min=1)

    def false_costs(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """See ``PointwiseLoss.false_costs``."""
        return masked_mean(F.softplus(negative + self.options.margin), known)


class SelfAdversarialLoss(PointwiseLoss):
    """Self-adversarial negative sampling loss.

    Sun, Deng, Nie, Tang 2019, "RotatE: knowledge graph embedding by relational rotation in complex
    space", equation 6: -log sigma(margin + positive) - sum_i p_i log sigma(-margin - negative_i),
    with p the detached softmax of temperature * negative; the two halves averaged, as its released
    code does.
    """

    name = "self_adversarial"
    modes = ("negatives",)

    class Options(NoOptions):
        """``margin`` (gamma) in score units and the ``temperature`` (alpha) of the weights."""

        margin: float = Field(9.0, description="gamma, in units of the score")
        temperature: float = Field(
            1.0, ge=0, description="alpha, of the negatives' weights; 0: all count alike"
        )

    def shares(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """Count negatives by the model's own opinion of them."""
        return adversarial_weights(negative, known, self.options.temperature)

    def false_costs(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """See ``PointwiseLoss.false_costs``."""
        margin = self.options.margin
        native = negative.device.type == "cpu" and negative.dtype in (torch.float32, torch.float64)
        if known is None and native and negative.numel():
            return adversarial_costs(negative, margin, self.options.temperature)
        return (self.shares(negative, known) * F.softplus(negative + margin)).sum(dim=-1)


class SoftmaxLoss(Loss):
    """Cross-entropy of a softmax over the positive and its negatives, or over all entities.

    Lacroix, Usunier, Obozinski 2018, "Canonical tensor decomposition for knowledge base
    completion" (all entities); Kadlec, Bajgar, Kleindienst 2017 (sampled). ``scale`` multiplies
    the scores, which distance models need; ``smoothing`` spreads a share of the label over all.
    """

    name = "softmax"
    takes_products = True

    class Options(NoOptions):
        """``scale`` of the scores; over all entities also label ``smoothing`` and ``balance``.

        A query with k answers weighs k^(1 - balance): 0 counts triples, 1 counts queries.
        """

        scale: float = Field(1.0, gt=0, description="factor of the scores")
        smoothing: float = Field(
            0.0, ge=0, lt=1, description="share of the label that all entities get alike"
        )
        balance: float = Field(
            0.0, ge=0, le=1, description="0: every triple counts alike; 1: every query does"
        )

    @property
    def scale(self) -> float:
        """See ``Loss.scale``."""
        return float(self.options.scale)

    @property
    def fused_kernel(self) -> Optional[str]:
        """The kernel counts triples and spreads no label."""
        return None if self.options.smoothing or self.options.balance else "softmax"

    def __call__(self, batch: ScoredBatch) -> Tensor:
        """See ``Loss.__call__``."""
        if batch.positive is None:
            return self._over_all(batch)
        positive, negative = batch.positive, batch.logits
        if self.options.scale != 1:
            positive, negative = positive * self.options.scale, negative * self.options.scale
        if batch.known is not None:
            negative = negative.masked_fill(batch.known, -torch.inf)
        total = torch.logaddexp(positive, negative.logsumexp(dim=-1))
        return batch.mean(total - positive)

    def _over_all(self, batch: ScoredBatch) -> Tensor:
        scores, offsets, answers, _, _, weight = batch
        if self.options.scale != 1:
            scores = scores * self.options.scale
        if self.options.balance != 0:
            share = offsets.diff().to(scores.dtype).pow(-self.options.balance)
            weight = share if weight is None else share * weight
        total = softmax_cross_entropy(
            scores, offsets, answers, weight, smoothing=self.options.smoothing, inplace=True
        )
        counts = offsets.diff()
        return total / (counts.sum() if weight is None else (counts * weight).sum())


class BinaryCrossEntropyLoss(PointwiseLoss):
    """Binary cross-entropy of each candidate, summed over candidates and averaged per true triple.

    Dettmers et al. 2018, "Convolutional 2D knowledge graph embeddings", equation 2 (KvsAll).
    """

    name = "bce"
    half = 1.0
    per_triple = PointwiseLoss.per_triple

    def false_costs(self, negative: Tensor, known: Optional[Tensor]) -> Tensor:
        """See ``PointwiseLoss.false_costs``."""
        false = F.softplus(negative + self.options.margin)
        return (false if known is None else false.masked_fill(known, 0.0)).sum(dim=-1)

    def __call__(self, batch: ScoredBatch) -> Tensor:
        """See ``Loss.__call__``."""
        if batch.positive is not None:
            return super().__call__(batch)
        logits = batch.logits
        if self.options.margin != 0:
            logits = logits + self.options.margin
        query = batch.rows
        # softplus(s) - s = softplus(-s): what an answer costs in place of a false candidate
        value = F.softplus(logits).sum(dim=-1)
        answered = value.new_zeros(len(value)).index_add(0, query, logits[query, batch.answers])
        return batch.mean(value - answered)


LOSSES: Registry[type[Loss]] = components.LOSSES


def build_loss(config: LossConfig) -> Loss:
    """Build the loss that the configuration names.

    Raises:
        UserError: unknown name or option.
    """
    name = LOSSES.spell(config.name)
    made: Loss = LOSSES.build(name, config.options, where=f"loss.options of {name}")
    return made
