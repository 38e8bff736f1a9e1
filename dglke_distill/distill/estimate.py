"""What a chain will cost before it is run: floats, bytes and time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from itertools import chain, count, cycle, islice
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.distill.candidates import ExtraCandidates
from dglke_distill.distill.loading import load_teacher
from dglke_distill.distill.method import cached_queries
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import Stage
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.distill.rehearsal import stage_memory
from dglke_distill.distill.student_objective import (
    AskedTeacher,
    DistillationObjective,
    TeacherReply,
)
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.memory import MemoryNeed
from dglke_distill.runs.memory_parts import DataSize
from dglke_distill.runs.rehearsal import untrained
from dglke_distill.runs.workspace import (
    Workspace,
    Workspaces,
    build_loader,
    build_objective,
    build_optimizer,
)
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.loop import step
from dglke_distill.training.objective import Moment, Objective

_STEPS = 4


class Estimate(NamedTuple):
    """Size of a stage's model, seconds of its training without validation, and its memory."""

    floats_per_entity: int
    bytes_per_entity: int
    parameters: int
    seconds: float
    memory: MemoryNeed


def estimate(
    stages: Sequence[Stage],
    loaded: Sequence[str] = (),
    *,
    allow_other_data: bool = False,
    workspaces: Optional[Workspaces] = None,
) -> list[Estimate]:
    """Return what each stage will cost, by timing a few of its steps.

    Teachers that do not exist yet are stood in for by untrained models of their size, which cost
    the same.

    Args:
        stages: the plan.
        loaded: checkpoints of the first student's teachers.
        allow_other_data: whether these may have been trained on other triples.
        workspaces: the prepared data; None: found by the settings.

    Raises:
        UserError: a stage needs more memory than it may have.
    """
    workspaces = workspaces or Workspaces()
    configs = {stage.name: stage.config for stage in stages}
    needs = [
        stage_memory(stage, configs, DataSize.of(workspaces.of(stage.config).dataset), Path())
        for stage in stages
    ]
    models: dict[str, KGEModel] = {}
    found = []
    for stage, need in zip(stages, needs):
        workspace = workspaces.of(stage.config)
        for path in loaded:
            if path not in models:
                models[path] = load_teacher(
                    Path(path), workspace.dataset, allow_other_data=allow_other_data
                )
        models[stage.name] = model = untrained(stage.config, workspace)
        model.encoder.store_encoded()
        teachers = [models[name] for name in stage.teachers]
        found.append(
            Estimate(
                model.floats_per_entity,
                model.bytes_per_entity,
                sum(p.numel() for p in model.parameters()),
                _seconds(stage, workspace, teachers),
                need,
            )
        )
    return found


def _seconds(stage: Stage, workspace: Workspace, teachers: Sequence[KGEModel]) -> float:
    config, model = stage.config, untrained(stage.config, workspace)
    model.encoder.store_encoded()
    objective: Objective
    kept: Optional[QueryRows] = None
    if config.distillation is None:
        objective = build_objective(config, model)
    else:
        # What a teacher would be asked once and for all is asked here for a few batches only.
        soft = config.distillation.soft.model_copy(update={"cache_megabytes": 0, "scale": "none"})
        settings = config.distillation.model_copy(update={"initialization": "random", "soft": soft})
        here = config.model_copy(update={"distillation": settings})
        method = build_method(settings.method, settings.options)
        objective = method.objective(here, model, teachers, workspace)
        if isinstance(objective, DistillationObjective) and objective.keeps_answers:
            kept = cached_queries(config, workspace, objective.labels.extra, objective.labels.loss)
    loader = build_loader(config, workspace, model)
    learned = torch.nn.ModuleDict({"model": model, "objective": objective})
    optimizer = build_optimizer(config.optimizer, learned)
    batches = chain.from_iterable(map(loader.epoch, count()))
    epochs = config.training.epochs
    # A method may do more in the second half than in the first.
    moments = cycle((Moment(0, epochs), Moment(epochs - 1, epochs)))

    def timed(batches: Sequence[Batch]) -> float:
        begun = time.perf_counter()
        for batch in batches:
            step(model, batch, objective, optimizer, moment=next(moments))
        return time.perf_counter() - begun

    timed(list(islice(batches, 2)))  # compiles the kernels
    chosen = list(islice(batches, _STEPS))
    if kept is None:
        return timed(chosen) / _STEPS * len(loader) * epochs
    assert isinstance(objective, DistillationObjective)
    tape = Tape()
    tape.listen_to(objective)
    asking = timed(chosen)
    tape.playing = True
    recalling = timed(chosen)
    once = max(0.0, asking - recalling) / max(1, tape.queries) * len(kept)
    return once + recalling / _STEPS * len(loader) * epochs


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
