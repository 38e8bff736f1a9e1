"""Hard-label losses: pure functions of scores.

A loss has two faces: ``sampled`` compares a positive's score with those of its sampled negatives;
``over_all`` sees the scores of every entity and the set of true answers. Higher scores are more
plausible. The margin (gamma) of distance models lives here and nowhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.config import LossConfig, components
from dglke_distill.config.registry import NoOptions, Registry
from dglke_distill.kernels import Products, Scores, adversarial_costs, softmax_cross_entropy

__all__ = [
    "LOSSES",
    "BinaryCrossEntropyLoss",
    "LogisticLoss",
    "Loss",
    "MarginLoss",
    "SelfAdversarialLoss",
    "SoftmaxLoss",
    "build_loss",
]


class Loss:
    """Base of the losses; a subclass writes ``sampled``, ``over_all`` or both."""

    Options: ClassVar[type[BaseModel]] = NoOptions
    name: ClassVar[str] = ""
    takes_products: ClassVar[bool] = False
    """Whether ``over_all`` is faster on products that are not multiplied out."""

    def __init__(self, options: Any) -> None:
        """Keep the validated options."""
        self.options = options

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """Return the mean loss of sampled negatives.

        Args:
            positive: (b,) scores of the true triples.
            negative: (b, n) scores of their negatives.
            known: (b, n) bool, true where a negative is a known fact and must not count.
            weight: (b,) weights of the positives; the mean is weighted by them.

        Returns:
            A scalar.
        """
        raise UserError(f"loss.name {self.name!r} cannot train with sampled negatives")

    def over_all(
        self, scores: Scores, offsets: Tensor, answers: Tensor, weight: Optional[Tensor] = None
    ) -> Tensor:
        """Return the loss over all entities, per true triple.

        Args:
            scores: (b, E) scores of every entity for each query; may be overwritten. Only a loss
                that ``takes_products`` is given some that are not multiplied out.
            offsets: (b + 1,) int64; answers of query i are ``answers[offsets[i]:offsets[i + 1]]``.
            answers: (k,) int64 entity ids.
            weight: (b,) weights of the queries.

        Returns:
            A scalar: the weighted sum over the k true triples, divided by their total weight.
        """
        raise UserError(
            f"loss.name {self.name!r} needs sampled negatives: "
            "set training.mode=negatives, or choose softmax or bce"
        )


def weighted_mean(values: Tensor, weight: Optional[Tensor]) -> Tensor:
    """Return the mean of (b,) values, weighted if weights (b,) are given."""
    return values.mean() if weight is None else (values * weight).sum() / weight.sum()


def masked_mean(values: Tensor, known: Optional[Tensor]) -> Tensor:
    """Return the mean over the last axis of (b, n) values, entries marked in ``known`` left out."""
    if known is None:
        return values.mean(dim=-1)
    kept = (~known).to(values.dtype)
    return (values * kept).sum(dim=-1) / kept.sum(dim=-1).clamp(min=1)


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

    class Options(NoOptions):
        """``margin`` in score units; ``temperature`` of self-adversarial weights, 0 for none."""

        margin: float = Field(1.0, gt=0)
        temperature: float = Field(0.0, ge=0)

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """See ``Loss.sampled``."""
        hinge = F.relu(self.options.margin - positive[:, None] + negative)
        if self.options.temperature == 0:
            return weighted_mean(masked_mean(hinge, known), weight)
        share = adversarial_weights(negative, known, self.options.temperature)
        return weighted_mean((share * hinge).sum(dim=-1), weight)


class LogisticLoss(Loss):
    """Logistic (softplus) loss: softplus(-(margin + positive)) + mean softplus(margin + negative).

    Trouillon et al. 2016, "Complex embeddings for simple link prediction", equation 12, with
    negatives averaged and the two halves averaged; ``margin`` shifts the negated distances.
    """

    name = "logistic"

    class Options(NoOptions):
        """``margin`` added to every score before the sigmoid."""

        margin: float = 0.0

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """See ``Loss.sampled``."""
        margin = self.options.margin
        false = masked_mean(F.softplus(negative + margin), known)
        return 0.5 * weighted_mean(F.softplus(-positive - margin) + false, weight)


class SelfAdversarialLoss(Loss):
    """Self-adversarial negative sampling loss.

    Sun, Deng, Nie, Tang 2019, "RotatE: knowledge graph embedding by relational rotation in complex
    space", equation 6: -log sigma(margin + positive) - sum_i p_i log sigma(-margin - negative_i),
    with p the detached softmax of temperature * negative; the two halves averaged, as its released
    code does.
    """

    name = "self_adversarial"

    class Options(NoOptions):
        """``margin`` (gamma) in score units and the ``temperature`` (alpha) of the weights."""

        margin: float = 9.0
        temperature: float = Field(1.0, ge=0)

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """See ``Loss.sampled``."""
        margin = self.options.margin
        native = negative.device.type == "cpu" and negative.dtype in (torch.float32, torch.float64)
        if known is None and native and negative.numel():
            false = adversarial_costs(negative, margin, self.options.temperature)
            return 0.5 * weighted_mean(F.softplus(-positive - margin) + false, weight)
        share = adversarial_weights(negative, known, self.options.temperature)
        false = (share * F.softplus(negative + margin)).sum(dim=-1)
        return 0.5 * weighted_mean(F.softplus(-positive - margin) + false, weight)


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

        scale: float = Field(1.0, gt=0)
        smoothing: float = Field(0.0, ge=0, lt=1)
        balance: float = Field(0.0, ge=0, le=1)

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """See ``Loss.sampled``."""
        if self.options.scale != 1:
            positive, negative = positive * self.options.scale, negative * self.options.scale
        if known is not None:
            negative = negative.masked_fill(known, -torch.inf)
        total = torch.logaddexp(positive, negative.logsumexp(dim=-1))
        return weighted_mean(total - positive, weight)

    def over_all(
        self, scores: Scores, offsets: Tensor, answers: Tensor, weight: Optional[Tensor] = None
    ) -> Tensor:
        """See ``Loss.over_all``."""
        if self.options.scale != 1:
            scores = scores * self.options.scale
        if self.options.balance != 0:
            share = offsets.diff().to(scores.dtype).pow(-self.options.balance)
            weight = share if weight is None else share * weight
        total = softmax_cross_entropy(
            scores, offsets, answers, weight, smoothing=self.options.smoothing, inplace=True
        )
        return total / total_weight(offsets, weight)


class BinaryCrossEntropyLoss(Loss):
    """Binary cross-entropy of each candidate, summed over candidates and averaged per true triple.

    Dettmers et al. 2018, "Convolutional 2D knowledge graph embeddings", equation 2 (KvsAll).
    """

    name = "bce"

    class Options(NoOptions):
        """``margin`` added to every score before the sigmoid."""

        margin: float = 0.0

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """See ``Loss.sampled``."""
        margin = self.options.margin
        false = F.softplus(negative + margin)
        if known is not None:
            false = false.masked_fill(known, 0.0)
        return weighted_mean(F.softplus(-positive - margin) + false.sum(dim=-1), weight)

    def over_all(
        self, scores: Scores, offsets: Tensor, answers: Tensor, weight: Optional[Tensor] = None
    ) -> Tensor:
        """See ``Loss.over_all``."""
        logits = scores.multiplied() if isinstance(scores, Products) else scores
        if self.options.margin != 0:
            logits = logits + self.options.margin
        counts = offsets.diff()
        query = torch.repeat_interleave(torch.arange(len(counts), device=logits.device), counts)
        # softplus(s) - s = softplus(-s): what an answer costs in place of a false candidate
        value = F.softplus(logits).sum(dim=-1)
        value = value - value.new_zeros(len(counts)).index_add(0, query, logits[query, answers])
        value = value if weight is None else value * weight
        return value.sum() / total_weight(offsets, weight)


def total_weight(offsets: Tensor, weight: Optional[Tensor]) -> Tensor:
    """Return the number of true triples behind (b + 1,) offsets, each with its query's weight."""
    counts = offsets[1:] - offsets[:-1]
    return counts.sum() if weight is None else (counts * weight).sum()


LOSSES: Registry[type[Loss]] = components.LOSSES


def build_loss(config: LossConfig) -> Loss:
    """Build the loss that the configuration names.

    Raises:
        UserError: unknown name or option.
    """
    name = LOSSES.spell(config.name)
    made: Loss = LOSSES.build(name, config.options, where=f"loss.options of {name}")
    return made
