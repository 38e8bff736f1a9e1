"""MulDE: several teachers of different kinds, weighted per relation and per candidate.

Wang, Liu, Ma, Sheng 2021, "MulDE: multi-teacher knowledge distillation for low-dimensional
knowledge graph embeddings".

Published: a student (Junior) learns from the soft labels of a Senior, which puts the teachers'
scores together by two mechanisms, a learned scaling of every teacher's scores by relation, and
contrast attention, by which a teacher counts more where it is nearer to the student's own opinion;
the Senior learns from the hard labels.

Ours: a teacher's scores are calibrated on validation triples, then multiplied by a factor in (0, 2)
of its own for every relation and side, 1 at the start. Opinions are logarithms of distributions
over the batch's candidates. Attention is for every candidate a softmax over the teachers of minus
the distance to the student's opinion of it. The Senior's opinion is the weighted mean,
renormalised; its loss is the cross-entropy of the facts. The published teachers are small
hyperbolic models; ours are whatever is trained or loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dglke_distill.base.schema import Field
from dglke_distill.config import DistillationConfig, LossConfig
from dglke_distill.config.registry import NoOptions
from dglke_distill.distill.method import OneShot
from dglke_distill.distill.student_objective import DistillationObjective, SoftLabels, Step, Terms
from dglke_distill.distill.teacher import Ensemble
from dglke_distill.runs.workspace import Workspace
from dglke_distill.sampling.batch import Batch, Queries
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import Group, HardObjective, Objective
from dglke_distill.training.scored import ScoredBatch


class Senior(nn.Module):
    """Makes one opinion of those of several teachers.

    Args:
        relations: how many there are, each with two sides.
        teachers: how many.
        temperature: of the contrast attention; the higher, the more alike teachers count.
    """

    def __init__(self, relations: int, teachers: int, temperature: float) -> None:
        """Start with scores as they are."""
        super().__init__()
        self.scaling = nn.Parameter(torch.zeros(2 * relations, teachers))
        self.temperature = temperature

    def forward(self, scores: Sequence[Tensor], student: Tensor, rows: Tensor) -> Tensor:
        """Return logarithms of a distribution over the candidates, (b, n).

        Args:
            scores: (b, n) of every teacher.
            student: (b, n) logits, detached.
            rows: (b,) of the scaling, by relation and side.
        """
        factors = 2 * torch.sigmoid(self.scaling[rows])
        opinions = torch.stack(
            [(each * factors[:, i, None]).log_softmax(dim=-1) for i, each in enumerate(scores)]
        )
        # Without gradient: scaling would learn to push a bad teacher far from the student.
        contrast = (opinions.detach() - student.log_softmax(dim=-1)).abs()
        attention = torch.softmax(-contrast / self.temperature, dim=0)
        return (attention * opinions).sum(dim=0).log_softmax(dim=-1)


class MultipleObjective(DistillationObjective):
    """The student's losses against the facts and the Senior, and the Senior's against the facts.

    Args:
        hard: the hard objective.
        hard_weight: its weight.
        teacher: all teachers.
        labels: with a KL loss on the batch's candidates.
        senior: puts the teachers' opinions together.
    """

    keeps_answers = False

    def __init__(
        self,
        hard: HardObjective,
        hard_weight: float,
        teacher: Ensemble,
        labels: SoftLabels,
        senior: Senior,
    ) -> None:
        """Keep them."""
        super().__init__(hard, hard_weight, teacher, labels)
        self.teachers, self.senior = teacher.teachers, senior
        self._facts = build_loss(LossConfig(name="softmax"))

    def ask_teacher(self, batch: Batch) -> Any:
        """Ask every teacher."""
        return [teacher.ask(batch) for teacher in self.teachers]

    def terms(self, scored: ScoredBatch, group: Group, step: Step) -> Terms:
        """See ``DistillationObjective.terms``."""
        ours, theirs = scored.table, [reply(group.numbers) for reply in step.reply]
        groups = [step.asked.queries[number][0] for number in group.numbers]
        labels = self._labels(theirs, ours, groups)
        # Both hard losses may overwrite what they are given, and the others need it.
        hard = self.loss(scored.copied())
        soft = self.soft(ours, labels.detach(), scored.total)
        if scored.positive is None:
            facts = scored._replace(scores=labels.clone())
        else:
            facts = scored._replace(scores=labels[:, 1:], positive=labels[:, 0])
        return Terms(hard, soft, {"senior": self._facts(facts)})

    def _labels(self, scores: list[Tensor], student: Tensor, groups: Sequence[Queries]) -> Tensor:
        """Return the Senior's opinion, (b, n), of the queries of some groups end to end."""
        relations = len(self.senior.scaling) // 2
        rows = [queries.relation + relations * (queries.side == "head") for queries in groups]
        labels: Tensor = self.senior(scores, student.detach() * self._logits, torch.cat(rows))
        return labels


class MulDE(OneShot):
    """Several teachers of different kinds, weighted per relation and per candidate."""

    name = "mulde"
    least_teachers = 2

    class Options(NoOptions):
        """The ``temperature`` of the contrast attention."""

        temperature: float = Field(
            1.0, gt=0, description="the higher, the more alike the teachers count"
        )

    def settings(self) -> dict[str, Any]:
        """Copy distributions over the batch's candidates, with a weight that stays."""
        soft = {"name": "kl", "candidates": "batch", "scale": "calibrate"}
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
        relations, count = workspace.dataset.num_relations, len(teacher.teachers)
        senior = Senior(relations, count, self.options.temperature)
        return MultipleObjective(hard, settings.hard_weight, teacher, labels, senior)
