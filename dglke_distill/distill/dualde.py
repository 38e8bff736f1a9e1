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
are weighed triple by triple, as published; with the others, which compare triples, both labels of
a query have the weights of its answers. Soft labels of positives and of negatives are averaged
apart and count half each, as hard ones do, so that neither label is cheaper because of how many
negatives there are. The structure difference is that of true triples. In the second
stage the teacher minimises the student's kind of hard loss plus the soft loss towards the student,
whose weight is the schedule's; it learns at ``teacher_rate`` of the student's learning rate, as a
fresh optimiser's first steps at full rate would undo its training.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config import DistillationConfig
from dglke_distill.config.registry import NoOptions
from dglke_distill.distill.method import OneShot
from dglke_distill.distill.structure import LengthAngle
from dglke_distill.distill.student_objective import (
    DistillationObjective,
    SoftLabels,
    Terms,
    positives,
    standardized,
)
from dglke_distill.distill.teacher import Teacher, thaw
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.objective import (
    Asked,
    Group,
    HardObjective,
    Moment,
    Objective,
    ask,
)
from dglke_distill.training.scored import ScoredBatch, weighted_mean

_SMALLEST = 1e-6


class DualObjective(DistillationObjective):
    """The student's losses with a weight for every triple, and later the teacher's own.

    Args:
        hard: the hard objective.
        hard_weight: its weight.
        teacher: a copy of it is a part of this module, trained and saved with it.
        labels: with a Huber loss on the batch's candidates, and with ``LengthAngle``.
        second_phase: last share of the epochs, in which the teacher learns.
        teacher_rate: share of the learning rate at which it does.
        dtype: of the student; None: the teacher's.
    """

    keeps_answers = False

    def __init__(
        self,
        hard: HardObjective,
        hard_weight: float,
        teacher: Teacher,
        labels: SoftLabels,
        second_phase: float,
        teacher_rate: float,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        """Thaw the teacher."""
        assert isinstance(labels.structure, LengthAngle) and labels.loss is not None
        probe = torch.zeros(1, 1)
        if labels.loss.per_candidate(probe, probe) is None:
            raise UserError(
                f"distillation.soft.name {labels.loss.name!r}: dualde weighs each "
                "candidate, and this loss compares them; choose huber"
            )
        super().__init__(hard, hard_weight, teacher, labels._replace(structure=None))
        self.lengths, self.second_phase = labels.structure, second_phase
        self.live = thaw(teacher.model, teacher_rate, dtype)
        self.factor = teacher.factor
        self.evaluation = SoftLabelEvaluation(hard.loss.margin)

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
        for share, group, ours in asked.scored():
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                other = theirs.beside(group)
            student, scores = ours.table, other.table
            if ours.positive is None:
                answers = AnswerPlaces(group)
                trust.append(self.evaluation(scores.detach()[answers.index][:, None])[:, 0])
                weight = answers.mean(trust[-1])
                loss = self._weighed(ours.copied(), weight)
                towards, away = map(answers.by_kind, self._apart(student, scores))
                rows = weight * towards
            else:
                weight = self.evaluation(scores.detach())
                trust.append(weight[:, 0])
                loss, weight = self._sampled_hard(ours, weight)
                towards, away = map(by_kind, self._apart(student, scores))
                rows, away = (weight * towards).sum(dim=-1), away.sum(dim=-1)
            hard = hard + share * loss
            soft = soft + share * weighted_mean(rows, ours.total)
            if learns:
                taught = taught + share * self.loss(other.copied())
                back = back + share * weighted_mean(away, ours.total)
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

    def _sampled_hard(self, ours: ScoredBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hard loss of a group, and the weights of its soft labels: (b, 1 + n)."""
        each = self.loss.per_triple(ours)
        if each is not None:
            return weighted_mean(((1 - weight) * each).sum(dim=-1), ours.weight), weight
        return self._weighed(ours, weight[:, 0]), weight[:, :1]

    def _weighed(self, ours: ScoredBatch, weight: Tensor) -> Tensor:
        """Return the hard loss, 1 - weight (b,) being that of each query."""
        kept = (1 - weight).clamp(min=_SMALLEST)
        counted = kept if ours.weight is None else kept * ours.weight
        return self.loss(ours._replace(weight=counted)) * weighted_mean(kept, ours.total)

    def _apart(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the soft losses (b, n) of candidates for the student, and for the teacher."""
        assert self.labels.loss is not None
        if self.labels.scale == "standardize":
            teacher = standardized(teacher, student.detach())
        elif self.factor != 1:
            teacher = teacher * self.factor
        towards = self.labels.loss.per_candidate(student, teacher.detach())
        away = towards
        if teacher.requires_grad:
            away = self.labels.loss.per_candidate(teacher, student.detach())
        assert towards is not None and away is not None
        return towards, away


class DualDE(OneShot):
    """Dual distillation: adaptive weights of soft labels, and a teacher that adapts."""

    name = "dualde"
    structure = "length_angle"
    most_teachers = 1

    class Options(NoOptions):
        """The teacher's phase and pace, and the weight of the structure difference."""

        second_phase: float = Field(
            0.5, ge=0, le=1, description="last share of the epochs, in which the teacher learns too"
        )
        teacher_rate: float = Field(
            0.01, gt=0, description="its learning rate, as a share of the student's"
        )
        structure_weight: float = Field(1.0, ge=0, description="weight of the structure difference")

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
        return DualObjective(
            hard,
            settings.hard_weight,
            teacher,
            labels,
            self.options.second_phase,
            self.options.teacher_rate,
            getattr(torch, config.training.dtype),
        )


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
