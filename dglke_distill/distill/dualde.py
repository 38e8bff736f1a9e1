"""DualDE: every triple has its own weights of soft and hard label, and the teacher adapts too.

Zhu, Zhang, Chen, Chen, Cheng, Zhang, Chen 2022, "DualDE: dually distilling knowledge graph
embedding for faster and cheaper reasoning".

Published: the soft label (Huber loss on scores, plus the structure difference, Huber losses on
length ratio and angle of head and tail); its evaluation, which weighs the soft label of a triple
by w(teacher's score) and its hard label by 1 - w, with w = 1 / (1 + exp(-(a s + b))) of a positive,
1 minus that of a negative, and a and b learned for either; and two stages, in the second of which
the teacher learns from the student as well.

Ours: a starts at 1 and b at the hard loss's margin. The hard loss is the one that the settings
name: losses that are sums over triples (logistic, self_adversarial and bce on sampled negatives)
are weighed triple by triple, as published, the others, which compare triples, query by query with
the weight of the query's answers. The structure difference is that of true triples. In the second
stage the teacher minimises the student's kind of hard loss plus the soft loss towards the student,
whose weight is the schedule's; it learns at ``teacher_rate`` of the student's learning rate, as a
fresh optimiser's first steps at full rate would undo its training.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from dglke_distill.config import DistillationConfig
from dglke_distill.distill.method import OneShot
from dglke_distill.distill.objective import (
    DistillationObjective,
    SoftLabels,
    Terms,
    positives,
    standardized,
)
from dglke_distill.distill.registry import NoOptions
from dglke_distill.distill.structure import LengthAngle
from dglke_distill.distill.teacher import Teacher, freeze
from dglke_distill.losses import (
    BinaryCrossEntropyLoss,
    LogisticLoss,
    Loss,
    MarginLoss,
    SelfAdversarialLoss,
    adversarial_weights,
    weighted_mean,
)
from dglke_distill.models.base import KGEModel
from dglke_distill.objective import Asked, HardObjective, Moment, Objective, ask, triples_of
from dglke_distill.sampling.batch import Batch, Queries
from dglke_distill.workspace import Workspace

__all__ = ["DualDE", "DualObjective", "SoftLabelEvaluation", "thaw", "triple_losses"]

_SMALLEST = 1e-6


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

    def forward(self, scores: Tensor, true: Tensor) -> Tensor:
        """Return weights in (0, 1): sigma(a s + b) of positives, 1 - sigma(a s + b) of negatives.

        Args:
            scores: the teacher's. true: bool, which of them are of positives; it may broadcast.
        """
        slope, offset = self.slope, self.offset
        return torch.where(
            true,
            torch.sigmoid(slope[0] * scores + offset[0]),
            torch.sigmoid(-(slope[1] * scores + offset[1])),
        )


def thaw(model: KGEModel, rate: float) -> KGEModel:
    """Return a copy that can learn, of fixed vectors whatever the encoder, with row gradients.

    Args:
        model: not changed. rate: its share of the learning rate.
    """
    live = freeze(model)
    for parameter in live.parameters():
        parameter.data = parameter.data.clone()
        parameter.requires_grad_(True)
        parameter.rate = rate  # type: ignore[attr-defined]
    live.set_row_sparse(entities=True, relations=True)
    return live


def triple_losses(
    loss: Loss, positive: Tensor, negative: Tensor, known: Optional[Tensor]
) -> Optional[Tensor]:
    """Return what every triple adds to a loss, (b, 1 + n); None if it compares triples.

    The sum of a row is the loss of its query.

    Args:
        loss: on sampled negatives. positive: (b,) scores. negative: (b, n).
        known: (b, n) bool, negatives that do not count, or None.
    """
    if not isinstance(loss, (LogisticLoss, SelfAdversarialLoss, BinaryCrossEntropyLoss)):
        return None
    margin = loss.options.margin
    true, false = F.softplus(-positive - margin)[:, None], F.softplus(negative + margin)
    if isinstance(loss, SelfAdversarialLoss):
        share = adversarial_weights(negative, known, loss.options.temperature)
    else:
        share = torch.ones_like(negative) if known is None else (~known).to(negative.dtype)
    if isinstance(loss, LogisticLoss):
        share = share / share.sum(dim=-1, keepdim=True).clamp(min=1)
    each = torch.cat([true, share * false], dim=1)
    return each if isinstance(loss, BinaryCrossEntropyLoss) else 0.5 * each


class DualObjective(DistillationObjective):
    """The student's losses with a weight for every triple, and later the teacher's own.

    Args:
        hard: the hard objective. hard_weight: its weight.
        teacher: a copy of it is a part of this module, trained and saved with it.
        labels: with a Huber loss on the batch's candidates, and with ``LengthAngle``.
        second_phase: last share of the epochs, in which the teacher learns.
        teacher_rate: share of the learning rate at which it does.
    """

    def __init__(
        self,
        hard: HardObjective,
        hard_weight: float,
        teacher: Teacher,
        labels: SoftLabels,
        second_phase: float,
        teacher_rate: float,
    ) -> None:
        """Thaw the teacher."""
        assert isinstance(labels.structure, LengthAngle)
        super().__init__(hard, hard_weight, teacher, labels._replace(structure=None))
        self.lengths, self.second_phase = labels.structure, second_phase
        self.live = thaw(teacher.model, teacher_rate)
        self.factor = teacher.factor
        compares = isinstance(hard.loss, MarginLoss)  # its margin is one between two scores
        margin = 0.0 if compares else float(getattr(hard.loss.options, "margin", 0.0))
        self.evaluation = SoftLabelEvaluation(margin)

    def teacher_learns(self, moment: Moment) -> bool:
        """Return whether the second phase has begun."""
        return moment.epoch >= round(moment.epochs * (1 - self.second_phase))

    def compare(self, model: KGEModel, batch: Batch, asked: Asked, moment: Moment) -> Terms:
        """See ``DistillationObjective.compare``."""
        learns = self.teacher_learns(moment)
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            theirs = ask(self.live, batch)
        zero = asked.entities.vectors.new_zeros(())
        hard, soft, taught, back = zero, zero, zero, zero
        trust: list[Tensor] = []
        for group, other in zip(asked.sampled, theirs.sampled):
            queries, share = group.queries, triples_of(group.queries) / asked.triples
            ours = torch.cat([group.positive[:, None], group.negative], dim=1)
            scores = torch.cat([other.positive[:, None], other.negative], dim=1)
            true = torch.arange(ours.shape[1], device=ours.device) == 0
            weight = self.evaluation(scores.detach(), true)
            trust.append(weight[:, 0])
            hard = hard + share * self._sampled_hard(ours, queries, weight)
            towards = self._towards(ours, scores, weight, queries.weight)
            soft = soft + share * towards[0]
            if learns:
                taught, back = taught + share * self.sampled(other), back + share * towards[1]
        for everything in asked.whole:
            share = len(everything.answers) / asked.triples
            ours = model.score(everything.query, asked.entities)
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                queried = [theirs.queries[number][1] for number in everything.numbers]
                scores = torch.cat([self.live.score(query, theirs.entities) for query in queried])
            counts = everything.offsets.diff()
            rows = torch.repeat_interleave(torch.arange(len(counts), device=ours.device), counts)
            true = torch.zeros_like(ours, dtype=torch.bool)
            true[rows, everything.answers] = True
            weight = self.evaluation(scores.detach(), true)
            trust.append(weight[rows, everything.answers])
            distrust = _means(1 - trust[-1], rows, counts)
            each = counts.to(ours.dtype)
            each = each if everything.weight is None else each * everything.weight
            counted = distrust if everything.weight is None else distrust * everything.weight
            # The hard loss may overwrite what it is given, and the soft one still needs it.
            loss = self.over_all(ours.clone(), everything._replace(weight=counted))
            hard = hard + share * loss * weighted_mean(distrust, each)
            towards = self._towards(ours, scores, weight, each)
            soft = soft + share * towards[0]
            if learns:
                taught = taught + share * self.over_all(scores.clone(), everything)
                back = back + share * towards[1]
        heads, tails = positives(asked)
        vectors, others = asked.entities.vectors, theirs.entities.vectors
        structure = self.lengths.each(vectors, others.detach(), heads, tails)
        soft = soft + self.labels.structure_weight * (torch.cat(trust) * structure).mean()
        if not learns:
            return Terms(hard, soft)
        structure = self.lengths(others, vectors.detach(), heads, tails)
        back = back + self.labels.structure_weight * structure
        scale = self.labels.schedule.weight(moment, float(hard.detach()), float(soft.detach()))
        return Terms(hard, soft, {"teacher": taught + scale * back})

    def _sampled_hard(self, scores: Tensor, queries: Queries, weight: Tensor) -> Tensor:
        """Return the hard loss of (b, 1 + n) scores, 1 - weight being that of each."""
        positive, negative = scores[:, 0], scores[:, 1:]
        each = triple_losses(self.loss, positive, negative, queries.known)
        if each is not None:
            return weighted_mean(((1 - weight) * each).sum(dim=-1), queries.weight)
        kept = (1 - weight[:, 0]).clamp(min=_SMALLEST)
        counted = kept if queries.weight is None else kept * queries.weight
        loss = self.loss.sampled(positive, negative, queries.known, counted)
        return loss * weighted_mean(kept, queries.weight)

    def _towards(
        self, student: Tensor, teacher: Tensor, weight: Tensor, counts: Optional[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the student's soft loss, weighed, and the teacher's, which is not.

        Args:
            student: (b, n) scores. teacher: (b, n). weight: (b, n), of the soft labels.
            counts: (b,) weights of the queries, or None.
        """
        assert self.labels.loss is not None
        options = self.labels.loss.options
        if self.labels.scale == "standardize":
            teacher = standardized(teacher, student.detach())
        elif self.factor != 1:
            teacher = teacher * self.factor
        found = []
        for learner, other, share in (
            (student, teacher.detach(), weight),
            (teacher, student.detach(), None),
        ):
            each = F.huber_loss(learner, other, reduction="none", delta=options.delta)
            each = each if share is None else each * share
            rows = each.sum(dim=-1) if options.reduction == "sum" else each.mean(dim=-1)
            found.append(weighted_mean(rows, counts))
        return found[0], found[1]


def _means(values: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Return the mean (b,) of the values (k,) of each row, at least a little above 0."""
    sums = values.new_zeros(len(counts)).index_add(0, rows, values)
    return (sums / counts.clamp(min=1)).clamp(min=_SMALLEST)


class DualDE(OneShot):
    """Dual distillation: adaptive weights of soft labels, and a teacher that adapts."""

    name = "dualde"
    structure = "length_angle"
    most_teachers = 1

    class Options(NoOptions):
        """The teacher's phase and pace, and the weight of the structure difference."""

        second_phase: float = Field(0.5, ge=0, le=1)
        teacher_rate: float = Field(0.01, gt=0)
        structure_weight: float = Field(1.0, ge=0)

    def settings(self) -> dict[str, Any]:
        """Copy scores by the Huber loss on the batch's candidates, with weights of its own."""
        soft = {"name": "huber", "candidates": "batch"}
        return {"distillation": {"soft": soft, "weight": {"name": "constant"}}}

    def combine(
        self,
        config: Any,
        hard: Any,
        settings: DistillationConfig,
        teacher: Any,
        labels: SoftLabels,
        workspace: Workspace,
    ) -> Objective:
        """Put the pieces together."""
        options = self.options
        return DualObjective(
            hard, settings.hard_weight, teacher, labels, options.second_phase, options.teacher_rate
        )
