"""What calls return: typed results, with the models and tables within reach."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from dglke_distill.api.datasets import AnyDataset
from dglke_distill.artifacts.results import (
    ChainResults,
    SplitFigures,
    StageResults,
    TrainingResults,
)
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.base.tabular import Tabular
from dglke_distill.config import Config
from dglke_distill.predict import NamedModel
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY, HISTORY_FILE
from dglke_distill.search.found import Found
from dglke_distill.search.leave import RECIPE_FILE, TRIALS_FILE
from dglke_distill.zoo import load_checkpoint

if TYPE_CHECKING:
    import pandas


def warn_underfitted(results: TrainingResults, name: str = "") -> None:
    """Warn, as Python does, of a model that has learned little.

    Args:
        results: of its training.
        name: of the stage, in front of each line.
    """
    for line in results.underfitted:  # above: train or distill, its check, and kd.distill's room
        warnings.warn(f"{name}{line}", stacklevel=5 if name else 4)


def _mrr(results: TrainingResults) -> str:
    """Return the headline figure, of test where it was ranked; nothing where no split was."""
    found = [split for split in ("test", "valid") if split in results.metrics]
    return f", {found[0]} MRR {results.metrics[found[0]].mrr:.4f}" if found else ""


@dataclass(frozen=True)
class TrainingRun(Tabular):
    """A finished training.

    Attributes:
        directory: of the run.
        results: all that was measured.
        dataset: what it was trained on.
    """

    directory: Path
    results: TrainingResults
    dataset: AnyDataset

    def __repr__(self) -> str:
        return f"TrainingRun({str(self.directory)!r}{_mrr(self.results)})"

    @property
    def checkpoint(self) -> Path:
        """The folder of the model."""
        return self.directory / CHECKPOINT_DIRECTORY

    @cached_property
    def model(self) -> NamedModel:
        """The model with its names, loaded when first asked for."""
        return NamedModel(load_checkpoint(self.checkpoint), name=str(self.directory)).eval()

    @property
    def metrics(self) -> Mapping[str, SplitFigures]:
        """Split to its figures."""
        return self.results.metrics

    def history(self) -> pandas.DataFrame:
        """Return the course of the training: a row per epoch."""
        import pandas

        return pandas.read_csv(self.directory / HISTORY_FILE)

    def frame(self) -> pandas.DataFrame:
        """Return the figures as a table: a row per split and side."""
        return self.results.frame()


@dataclass(frozen=True)
class DistillationRun(Tabular):
    """A finished chain from a teacher to small students.

    Attributes:
        directory: of the chain.
        results: all that was measured.
        dataset: what it was trained on.
    """

    directory: Path
    results: ChainResults
    dataset: AnyDataset

    def __repr__(self) -> str:
        stages = self.results.stages
        runs = self.students or list(self.stages.values())
        last = _mrr(runs[-1].results) if runs else ""
        return f"DistillationRun({str(self.directory)!r}, {plural(len(stages), 'stage')}{last})"

    @property
    def stages(self) -> dict[str, TrainingRun]:
        """The run of every stage by its name, in the order of training."""
        return {stage.name: self._run(stage) for stage in self.results.stages}

    @property
    def students(self) -> list[TrainingRun]:
        """The students, the largest first."""
        return [self._run(stage) for stage in self.results.stages if stage.role == "student"]

    @property
    def teacher(self) -> Optional[TrainingRun]:
        """The first teacher, if the chain trained it."""
        found = (stage for stage in self.results.stages if stage.role == "teacher")
        return next(map(self._run, found), None)

    @cached_property
    def model(self) -> NamedModel:
        """The last student, which the chain is for; the last stage where there is none."""
        runs = self.students or list(self.stages.values())
        return runs[-1].model

    @property
    def verdict(self) -> Optional[str]:
        """Whether distilling was worth it, in one sentence; None without controls."""
        of = self.results.verdict
        return None if of is None else of.sentence

    def frame(self) -> pandas.DataFrame:
        """Return the stages as a table: a row per stage and split."""
        return self.results.frame()

    def report(self) -> Path:
        """Write the page with tables and plots, and return its place."""
        from dglke_distill.report import write_report

        return write_report(self.directory)

    def _run(self, stage: StageResults) -> TrainingRun:
        return TrainingRun(self.directory / stage.directory, stage.results, self.dataset)


@dataclass(frozen=True)
class Study(Tabular):
    """A search for settings.

    Attributes:
        directory: of the study.
        found: numbers of trials, the best validation MRR, and what it chose.
    """

    directory: Path
    found: Found

    @property
    def recipe(self) -> Path:
        """The best settings as a file, to be given as ``config``."""
        return self.directory / RECIPE_FILE

    @property
    def config(self) -> Config:
        """The best settings.

        Raises:
            UserError: no trial has reached a validation.
        """
        if self.found.config is None:
            raise UserError(
                f"{self.directory}: no trial has reached its end: give more seconds, or fewer "
                "epochs"
            )
        return self.found.config

    def frame(self) -> pandas.DataFrame:
        """Return the trials as a table."""
        import pandas

        return pandas.read_csv(self.directory / TRIALS_FILE)
