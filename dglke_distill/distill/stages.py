"""The stages of a chain: each is run, gone on with, or read, whichever is due."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import NamedTuple, Optional, Protocol

from dglke_distill.artifacts.results import (
    DistillationDescription,
    StageResults,
    TrainingResults,
)
from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import MAX_TOML_BYTES
from dglke_distill.base.regular_files import read_text
from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.finished import STAGES, finished, stage_results
from dglke_distill.distill.going_on import InitModel, begins, start
from dglke_distill.distill.loading import load_teacher
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import Stage
from dglke_distill.distill.saved import describe_teacher, teacher_name
from dglke_distill.distill.teacher_data import teacher_data
from dglke_distill.distill.tuner import Searches
from dglke_distill.distill.watcher import Watcher
from dglke_distill.models.base import KGEModel
from dglke_distill.runs import train_run as pipeline
from dglke_distill.runs.memory_parts import TeacherSize
from dglke_distill.runs.run_files import (
    BEST_FILE,
    CHECKPOINT_DIRECTORY,
    CONFIG_FILE,
    LATEST_DIRECTORY,
    RESUME_FILE,
)
from dglke_distill.runs.start import Start
from dglke_distill.runs.workspace import Workspace, Workspaces
from dglke_distill.training.objective import Objective


class StageTrainer(Protocol):
    """Trains the stages of a chain in place of ``train_run``, as by many machines."""

    command: str
    """Begins a command that runs such a chain; the options of ``run`` follow."""

    def __call__(self, stage: Stage, directory: Path, watcher: Watcher) -> TrainingResults:
        """Train a stage, or go on with it, and leave its run in the chain's directory.

        Args:
            stage: from a plan.
            directory: of the chain; this process has claimed it.
            watcher: hears of progress.

        Raises:
            UserError: it cannot be trained so.
            Interrupted: asked to stop; the stage can be resumed.
        """
        ...


class ChainRun(NamedTuple):
    """A chain under way.

    Attributes:
        chain: its settings.
        directory: where it lies.
        workspaces: the prepared data.
        watcher: hears of progress.
        searches: for settings, where the chain asks for that.
        init: the model that its first stage goes on from, if any.
        trainer: trains its stages; None: this process.
    """

    chain: ChainConfig
    directory: Path
    workspaces: Workspaces
    watcher: Watcher
    searches: Optional[Searches]
    init: Optional[InitModel] = None
    trainer: Optional[StageTrainer] = None

    def stage(self, stage: Stage, number: int, total: int) -> StageResults:
        """Run a stage, the number of which is counted from 0."""
        self.watcher.stage(stage, number, total)
        allowed = bool(self.chain.allow_other_data)
        return run_stage(
            stage, self.directory, self.workspaces, self.watcher, allow_other_data=allowed,
            init=self.init if begins(self.chain, stage) else None, trainer=self.trainer,
        )  # fmt: skip


def run_stage(
    stage: Stage,
    directory: Path,
    workspaces: Workspaces,
    watcher: Watcher,
    *,
    allow_other_data: bool = False,
    init: Optional[InitModel] = None,
    trainer: Optional[StageTrainer] = None,
) -> StageResults:
    """Run a stage, go on with it, or read what it left, whichever is due.

    Args:
        stage: from a plan.
        directory: of the chain.
        workspaces: the data.
        watcher: hears of progress.
        allow_other_data: whether its teachers may have been trained on other triples.
        init: the chain's model, if the stage goes on from it.
        trainer: trains it; None: this process.

    Returns:
        The stage's entry in ``results.json``.
    """
    place = directory / STAGES / stage.name
    last = finished(stage.name, directory)
    if last.is_file():
        saved = place / CONFIG_FILE
        if read_text(saved, MAX_TOML_BYTES) != stage.config.to_toml():
            raise UserError(f"{saved}: the stage was run with other settings; choose another --out")
        results = stage_results(last)
        watcher.announce(f"{stage.name}: done already")
    elif trainer is not None:
        results = trainer(stage, directory, watcher)
    else:
        begun = Start() if init is None else start(init)
        if stage.teachers:
            dataset = workspaces.of(stage.config).dataset
            begun = _taught(stage, directory, dataset, allow_other_data)
        results = pipeline.train_run(
            stage.config,
            place,
            resume=(place / RESUME_FILE).exists(),
            workspace=workspaces.of(stage.config),
            start=begun,
            report=watcher.report,
            validated=watcher.validated,
            announce=watcher.announce,
        )
    for scratch in (RESUME_FILE, BEST_FILE):  # as large as the model, or larger
        (place / scratch).unlink(missing_ok=True)
    rmtree(place / LATEST_DIRECTORY, ignore_errors=True)
    return StageResults(
        name=stage.name,
        role=stage.role,
        teacher=stage.teachers[0] if stage.teachers else None,
        teachers=list(stage.teachers),
        directory=f"{STAGES}/{stage.name}",
        results=results,
    )


def _taught(stage: Stage, directory: Path, dataset: Dataset, allow_other_data: bool) -> Start:
    """Return how a student of these teachers begins."""
    assert stage.config.distillation is not None
    method = build_method(stage.config.distillation.method, stage.config.distillation.options)
    places = [checkpoint_of(teacher, directory) for teacher in stage.teachers]

    def setup(config: Config, student: KGEModel, workspace: Workspace) -> Objective:
        models = [
            load_teacher(place, workspace.dataset, allow_other_data=allow_other_data)
            for place in places
        ]
        return method.objective(config, student, models, workspace)

    described = [
        {"name": stage_name(teacher), **describe_teacher(place)}
        for teacher, place in zip(stage.teachers, places)
    ]
    others = [
        other
        for teacher, place in zip(described, places)
        for other in teacher_data(
            place, dataset, allow_other_data=allow_other_data, name=teacher["name"]
        )
    ]
    about = DistillationDescription.of({"method": method.name, "teachers": described}, "teachers")
    sizes = [TeacherSize.described(teacher) for teacher in described]
    return Start(setup, {"distillation": about}, sizes, list(dict.fromkeys(others)))


def stage_name(teacher: str) -> str:
    """Return what results call a teacher.

    Args:
        teacher: name of a stage, or the path of a loaded checkpoint.
    """
    return teacher_name(Path(teacher)) if Path(teacher).is_absolute() else teacher


def checkpoint_of(teacher: str, directory: Path) -> Path:
    """Return where a teacher's checkpoint lies.

    Args:
        teacher: name of a stage, or the path of a loaded checkpoint.
        directory: of the chain.
    """
    if Path(teacher).is_absolute():  # a loaded one; stages go by their names
        return Path(teacher)
    return directory / STAGES / teacher / CHECKPOINT_DIRECTORY
