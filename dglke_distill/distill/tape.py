"""A teacher's answers recorded, to learn what a step costs once they are kept."""

from __future__ import annotations

from collections import deque
from typing import Callable

from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.distill.candidates import ExtraCandidates
from dglke_distill.distill.student_objective import (
    AskedTeacher,
    DistillationObjective,
    TeacherReply,
)
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.objective import Moment


class Tape:
    """Records what a teacher answers, and plays it when the same is asked again in that order.

    Attributes:
        playing: whether it plays.
        queries: how many were answered and recorded.
    """

    def __init__(self) -> None:
        """Begin to record."""
        self.playing, self.queries = False, 0
        self._answers: deque[Tensor] = deque()

    def listen_to(self, objective: DistillationObjective) -> None:
        """Stand between an objective and the answers that it would keep."""
        labels = objective.labels
        if labels.candidates is None:
            objective.teacher = _TapedTeacher(objective.teacher, self)
        else:
            objective.labels = labels._replace(candidates=_TapedCandidates(labels.candidates, self))

    def __call__(self, answer: Callable[[], Tensor]) -> Tensor:
        """Return an answer: the recorded one, if it is played."""
        if self.playing:
            return self._answers.popleft()
        given = answer()
        self._answers.append(given.clone())  # a loss may overwrite what it is given
        self.queries += len(given)
        return given


class _TapedCandidates(ExtraCandidates):
    """A teacher's best candidates."""

    def __init__(self, candidates: ExtraCandidates, tape: Tape) -> None:
        self._candidates, self._tape = candidates, tape

    def of(self, side: Side, entity: Tensor, relation: Tensor, moment: Moment) -> Tensor:
        return self._tape(lambda: self._candidates.of(side, entity, relation, moment))


class _TapedTeacher:
    """A teacher's scores of all entities."""

    def __init__(self, teacher: AskedTeacher, tape: Tape) -> None:
        self.model, self._teacher, self._tape = teacher.model, teacher, tape

    def ask(self, batch: Batch) -> TeacherReply:
        return lambda *asked: self._tape(lambda: self._teacher.ask(batch)(*asked))
