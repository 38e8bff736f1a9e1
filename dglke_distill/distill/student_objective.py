"""What a student minimises: the facts, and its teacher's opinion of the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Optional, Protocol

import torch
from torch import Tensor

from dglke_distill.distill.candidates import ExtraCandidates
from dglke_distill.distill.extra_queries import ExtraQueries
from dglke_distill.distill.schedules import Schedule
from dglke_distill.distill.soft import SoftLoss
from dglke_distill.distill.structure import Structure
from dglke_distill.kernels import distillation_cross_entropy
from dglke_distill.models.base import KGEModel
from dglke_distill.sampling.batch import Batch, Queries
from dglke_distill.training.objective import (
    START,
    Asked,
    Group,
    HardObjective,
    Moment,
    Objectives,
    ask,
)
from dglke_distill.training.scored import ScoredBatch

Scale = Literal["none", "standardize"]
"""How a teacher's scores are laid beside a student's; calibration is the teacher's own factor."""


class TeacherReply(Protocol):
    """What ``Teacher.ask`` returns."""

    def __call__(self, numbers: Sequence[int], extra: Sequence[Tensor] = ()) -> Tensor:
        """Score what the queries of some groups of the batch met, one group after the other.

        Args:
            numbers: places of the groups in the batch.
            extra: entity ids (b_i, k) for each of the groups, or none.

        Returns:
            (b, 1 + n + k) of answers, sampled candidates and extra ones; without sampled
            candidates (b, E) of all entities, or (b, k) of the extra ones alone. They are the
            caller's to overwrite.
        """


class AskedTeacher(Protocol):
    """A teacher, or several with one voice."""

    model: KGEModel

    def ask(self, batch: Batch) -> TeacherReply:
        """Answer a batch."""


class SoftLabels(NamedTuple):
    """What is copied of a teacher, and how much it weighs.

    Attributes:
        loss: between scores; None to copy no scores.
        schedule: weight of all soft terms over time.
        candidates: extra ones beside the sampled, or in place of all entities.
        scale: how the teacher's scores are laid beside the student's.
        structure: a term on the entities' vectors, or None.
        structure_weight: its weight.
        extra: queries beyond those of train, or None.
        extra_share: how many for each of train's in a batch, and how much all of them weigh
            beside train's.
        extra_candidates: how many candidates they share; None: all entities.
    """

    loss: Optional[SoftLoss]
    schedule: Schedule
    candidates: Optional[ExtraCandidates] = None
    scale: Scale = "none"
    structure: Optional[Structure] = None
    structure_weight: float = 1.0
    extra: Optional[ExtraQueries] = None
    extra_share: float = 0.0
    extra_candidates: Optional[int] = None


class Terms(NamedTuple):
    """The losses of a batch, before their weights.

    Attributes:
        hard: against the facts.
        soft: against the teacher.
        more: named terms of a method's own, which are added as they are.
    """

    hard: Tensor
    soft: Tensor
    more: Mapping[str, Tensor] = {}


class Step(NamedTuple):
    """A batch put to student and teacher at a moment of the training.

    ``reply`` is what ``DistillationObjective.ask_teacher`` returned.
    """

    asked: Asked
    batch: Batch
    moment: Moment
    reply: Any


class DistillationObjective(HardObjective):
    """hard_weight * hard + weight(moment) * soft, plus the regulariser.

    Liu, Wang, Shang, Wu 2023, "IterDE", equation of the total loss. Teacher and student are asked
    the same queries with the same candidates, the teacher once per batch and without gradients.

    Args:
        hard: the hard objective, whose loss, regulariser and relation weight are taken over.
        hard_weight: weight of the loss against the facts.
        teacher: answers batches.
        labels: what is copied of it.
    """

    keeps_answers: ClassVar[bool] = True
    """Whether all that it learns of its teacher are answers to queries, which may be kept."""

    def __init__(
        self,
        hard: HardObjective,
        hard_weight: float,
        teacher: AskedTeacher,
        labels: SoftLabels,
    ) -> None:
        """Keep them; a structure term's parameters are trained with the student."""
        super().__init__(hard.loss, hard.regularizer, hard.relation_weight, hard_weight)
        self.teacher, self.labels = teacher, labels
        self.structure = labels.structure
        self._logits = self.loss.scale
        kernel = None if labels.loss is None else labels.loss.fused_kernel
        alike = kernel is not None and kernel == self.loss.fused_kernel
        self._fused = alike and labels.scale == "none" and labels.candidates is None

    def forward(self, model: KGEModel, batch: Batch, moment: Moment = START) -> Objectives:
        """Return the loss of a batch; the named parts are not weighted, ``soft_weight`` is λ."""
        if self.labels.schedule.over(moment):
            alone = super().forward(model, batch, moment)
            return Objectives(alone.total, {**alone.parts, "soft_weight": torch.tensor(0.0)})
        asked = ask(model, batch)
        hard, soft, own = self.compare(model, batch, asked, moment)
        parts: dict[str, Tensor] = {"hard": hard.detach(), "soft": soft.detach()}
        if self.labels.extra is not None:
            more = self.extra(model, sum(len(q.entity) for q in batch.queries), moment)
            parts["extra"] = more.detach()
            share = self.labels.extra_share
            soft = (soft + share * more) / (1 + share)
        if self.structure is not None:
            heads, tails = positives(asked)
            theirs = self.teacher.model.encode(batch.nodes).vectors
            structure = self.structure(asked.entities.vectors, theirs, heads, tails)
            parts["structure"] = structure.detach()
            soft = soft + self.labels.structure_weight * structure
        weight = self.labels.schedule.weight(moment, float(hard.detach()), float(soft.detach()))
        parts["soft_weight"] = torch.tensor(weight)
        parts.update({name: term.detach() for name, term in own.items()})
        extra, others = self.extras(model, asked)
        total = self.hard_weight * hard + weight * soft + extra + sum(own.values())
        return Objectives(total, {**parts, **others})

    def extra(self, model: KGEModel, queries: int, moment: Moment) -> Tensor:
        """Return the mean soft loss of queries that train does not ask."""
        labels = self.labels
        assert labels.extra is not None
        count = max(1, round(queries * labels.extra_share))
        device = model.relation_weight.device
        batch = labels.extra.draw(count, moment, device, labels.extra_candidates)
        step = Step(ask(model, batch), batch, moment, self.teacher.ask(batch))
        total = step.asked.entities.vectors.new_zeros(())
        for _, group, scored in step.asked.scored():
            if scored.positive is not None:
                student, teacher = self._beside(step, group, scored)
                total = total + self.soft(student, teacher, None) * (len(student) / count)
                continue
            teacher = step.reply(group.numbers)
            if self._fused:
                each = teacher.new_ones(len(teacher))
                soft = self._in_one_pass(scored, teacher, each, each)[1]
            else:
                soft = self.soft(scored.logits, teacher, None) * len(teacher)
            total = total + soft / count
        return total

    def ask_teacher(self, batch: Batch) -> Any:
        """Put a batch to whoever teaches; ``terms`` is given the answer."""
        return self.teacher.ask(batch)

    def compare(self, model: KGEModel, batch: Batch, asked: Asked, moment: Moment) -> Terms:
        """Ask the teacher and return the losses; groups count by their share of triples."""
        step = Step(asked, batch, moment, self.ask_teacher(batch))
        zero = asked.entities.vectors.new_zeros(())
        hard, soft, more = zero, zero, dict[str, Tensor]()
        for share, group, scored in asked.scored():
            terms = self.terms(scored, group, step)
            hard, soft = hard + share * terms.hard, soft + share * terms.soft
            for name, term in terms.more.items():
                more[name] = more.get(name, zero) + share * term
        return Terms(hard, soft, more)

    def terms(self, scored: ScoredBatch, group: Group, step: Step) -> Terms:
        """Return the losses of a group of queries, per true triple.

        Args:
            scored: the student's scores; they may be overwritten.
            group: the queries.
            step: what they are a part of.
        """
        if self.labels.loss is None:
            hard = self.loss(scored)
            return Terms(hard, hard.new_zeros(()))
        if self._fused and scored.positive is None:
            dtype = scored.logits.dtype
            counts = scored.offsets.diff().to(dtype)
            each = torch.ones_like(counts)
            if scored.weight is not None:
                each, counts = scored.weight, counts * scored.weight
            hard, soft = self._in_one_pass(scored, step.reply(group.numbers), each, counts)
            return Terms(hard / counts.sum(), soft / counts.sum())
        # The hard loss may overwrite what it is given, and the soft one needs it.
        hard = self.loss(scored.copied())
        return Terms(hard, self.soft(*self._beside(step, group, scored), scored.total))

    def soft(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor]) -> Tensor:
        """Return the soft loss of (b, n) scores, queries weighted by (b,) or equally."""
        assert self.labels.loss is not None
        if self.labels.loss.of_distributions and self._logits != 1:
            student = student * self._logits
        if self.labels.scale == "standardize":
            teacher = standardized(teacher, student.detach())
        return self.labels.loss(student, teacher, weight)

    def _beside(self, step: Step, group: Group, scored: ScoredBatch) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's scores of the same candidates, (b, m) each."""
        if self.labels.candidates is None:
            return scored.table, step.reply(group.numbers)
        batch, model = step.batch, step.asked.model
        ids = [self._extra_ids(batch, step.asked.queries[n][0], step.moment) for n in group.numbers]
        if scored.positive is None:
            return scored.logits.gather(1, torch.cat(ids)), step.reply(group.numbers, ids)
        nodes, rows = torch.unique(torch.cat(ids), return_inverse=True)
        entities = model.encode(nodes, model.encoder.blocks_for(nodes))
        extra = model.score(group.query, entities, rows)
        return torch.cat([scored.table, extra], dim=1), step.reply(group.numbers, ids)

    def _in_one_pass(
        self, scored: ScoredBatch, teacher: Tensor, hard: Tensor, soft: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return both losses, summed over queries that weigh ``hard`` and ``soft`` (b,)."""
        assert self.labels.loss is not None
        scores = scored.logits
        return distillation_cross_entropy(
            scores if self._logits == 1 else scores * self._logits,
            teacher,
            scored.offsets,
            scored.answers,
            hard,
            soft,
            temperature=self.labels.loss.options.temperature,
            inplace=True,
        )

    def _extra_ids(self, batch: Batch, queries: Queries, moment: Moment) -> Tensor:
        assert self.labels.candidates is not None
        entity = queries.entity if batch.nodes is None else batch.nodes[queries.entity]
        return self.labels.candidates.of(queries.side, entity, queries.relation, moment)


def standardized(teacher: Tensor, student: Tensor) -> Tensor:
    """Return a teacher's scores moved and stretched to the mean and deviation of a student's.

    Both are taken over the whole batch, so that differences between queries stay.

    Args:
        teacher: (b, n).
        student: (b, n), detached.
    """
    spread = teacher.std().clamp(min=torch.finfo(teacher.dtype).tiny)
    return (teacher - teacher.mean()) * (student.std() / spread) + student.mean()


def positives(asked: Asked) -> tuple[Tensor, Tensor]:
    """Return the rows of the batch's entities that are heads and tails of its true triples."""
    heads, tails = [], []
    for queries, _ in asked.queries:
        answers = queries.all_answers()
        known = torch.repeat_interleave(queries.entity, answers.offsets.diff())
        heads.append(known if queries.side == "tail" else answers.entities)
        tails.append(answers.entities if queries.side == "tail" else known)
    return torch.cat(heads), torch.cat(tails)
