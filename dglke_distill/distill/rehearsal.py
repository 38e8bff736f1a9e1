"""All stages of a chain looked at before the first byte of it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

from dglke_distill.config import Config
from dglke_distill.distill.checks import named_stage
from dglke_distill.distill.initialization import check_initialization
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import Stage
from dglke_distill.distill.saved import FOREIGN_FORMATS, foreign, saved_results, teacher_settings
from dglke_distill.models import ENCODERS
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.memory import MemoryNeed, check_memory, memory_need
from dglke_distill.runs.memory_parts import DataSize, TeacherSize
from dglke_distill.runs.rehearsal import Taught, few_facts, rehearse
from dglke_distill.runs.workspace import Workspace, Workspaces
from dglke_distill.training.objective import Objective


def check_stages(stages: Sequence[Stage], workspaces: Workspaces, directory: Path) -> list[str]:
    """Look whether all stages can be trained: their memory, disk, and how their settings go along.

    A teacher may take hours, and a folder that holds the settings of a chain is taken. What only
    training can tell is not known here.

    Args:
        stages: from a plan; teachers that are no stages are paths of loaded ones.
        workspaces: the prepared data.
        directory: where the chain would be written.

    Returns:
        What is legal and hardly meant, in lines: students that are no smaller than a teacher.

    Raises:
        UserError: a stage cannot be trained; it is named.
    """
    configs = {stage.name: stage.config for stage in stages}
    known = dict(configs)
    for stage in stages:
        for teacher in stage.teachers:
            if teacher not in known:
                known[teacher] = teacher_settings(Path(teacher))
    for stage in stages:
        workspace = workspaces.of(stage.config)
        with named_stage(stage.name, stage.role):
            stage_memory(stage, configs, DataSize.of(workspace.dataset), directory)
            rehearse(
                stage.config,
                few_facts(workspace.dataset),
                workspace.device,
                teachers=[known[teacher] for teacher in stage.teachers],
                taught=_taught(stage) if stage.teachers else None,
            )
    return [line for stage in stages for line in _no_smaller(stage, known)]


def _no_smaller(stage: Stage, known: Mapping[str, Config]) -> list[str]:
    """Return what to say of a student that is as large as its teachers, or larger."""
    models = [known[teacher].model for teacher in stage.teachers]
    if not models or not all(ENCODERS.find(model.encoder).is_table for model in models):
        return []  # not so many floats for each entity
    ours, theirs = stage.config.model.dim, max(model.dim for model in models)
    if ours < theirs:
        return []
    more = "more" if ours > theirs else "as many"
    than = f"than its teacher, which has {theirs}" if ours > theirs else "as its teacher"
    return [
        f"warning: {stage.name} has {more} floats per entity ({ours}) {than}; a student is meant "
        "to be smaller (--dims)"
    ]


def stage_memory(
    stage: Stage, configs: Mapping[str, Config], size: DataSize, directory: Path
) -> MemoryNeed:
    """Return what a stage needs, if there is as much.

    Args:
        stage: from a plan.
        configs: settings of all stages by their names.
        size: counts of the data.
        directory: where it writes.

    Raises:
        UserError: it needs more memory or disk than there is.
    """
    teachers = [
        TeacherSize.of(configs[name], size) if name in configs else _teacher_size(Path(name))
        for name in stage.teachers
    ]
    need = memory_need(stage.config, size, teachers)
    check_memory(stage.config, need, directory, name=stage.name)
    return need


def _taught(stage: Stage) -> Callable[[Sequence[KGEModel]], Taught]:
    """Return what ``rehearse`` is given for a student."""
    settings = stage.config.distillation
    assert settings is not None
    method = build_method(settings.method, settings.options)

    def taught(teachers: Sequence[KGEModel]) -> Taught:
        def objective(config: Config, student: KGEModel, workspace: Workspace) -> Objective:
            check_initialization(settings.initialization, student, teachers[0])
            # A few vectors have no projection.
            there = settings.model_copy(update={"initialization": "random"})
            config = config.model_copy(update={"distillation": there})
            return method.objective(config, student, teachers, workspace)

        return objective

    return taught


def _teacher_size(place: Path) -> TeacherSize:
    format = foreign(place)
    if format is not None:
        return TeacherSize.described({"model": FOREIGN_FORMATS[format].open_folder(place).sizes})
    model = saved_results(place).model
    return TeacherSize.described({"model": None if model is None else model.to_tree()})
