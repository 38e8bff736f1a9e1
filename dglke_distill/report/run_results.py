"""What a finished chain left on disk, as typed values."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from dglke_distill.artifacts.results import (
    ChainResults,
    DatasetDescription,
    Figures,
    ModelSizes,
    SplitFigures,
    StageResults,
)
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_chain_results
from dglke_distill.artifacts.results_node import FIX
from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.base import regular_files
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.ogb_package import OGB_DATASETS

_MISSING = "no such file; is that the directory of a finished run?"
_MAX_BYTES = 1 << 26

ROLES = {
    "teacher": "Teacher",
    "student": "Student",
    "direct": "Direct",
    "direct_budget": "Direct, equal time",
    "direct_tuned": "Direct, tuned",
}
"""How a stage's role is called in tables and plots."""


@dataclass(frozen=True)
class History:
    """A training's course: column name to one value per epoch, NaN where there is none."""

    columns: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def points(self, name: str) -> tuple[list[float], list[float]]:
        """Return epochs and values of a column where it has values; both empty without it."""
        pairs = zip(self.columns.get("epoch", ()), self.columns.get(name, ()))
        kept = [(epoch, value) for epoch, value in pairs if math.isfinite(value)]
        return [epoch for epoch, _ in kept], [value for _, value in kept]


@dataclass(frozen=True)
class ShownStage:
    """One trained model of a run: its results, and the course of its training.

    Attributes:
        entry: what the results say of it.
        sizes: of the model, which ``entry`` may lack.
        quality: figures of the split that the run reports.
        history: empty for a model that was loaded.
    """

    entry: StageResults
    sizes: ModelSizes
    quality: SplitFigures
    history: History

    @property
    def name(self) -> str:
        """Its name in the run directory."""
        return self.entry.name

    @property
    def categories(self) -> dict[str, Figures]:
        """Figures over both sides by relation category; empty when none were measured.

        Relations that train never shows, which have no category, come last.
        """
        named = sorted(self.quality.by_category.items(), key=lambda item: item[0] == "unseen")
        return {name: sides["both"] for name, sides in named}

    @property
    def best_epoch(self) -> Optional[int]:
        """The epoch that was kept, None for a model that was loaded."""
        training = self.entry.results.training
        return None if training is None else training.best_epoch

    @property
    def in_chain(self) -> bool:
        """Whether it is a teacher or a student, and not a control."""
        return self.entry.role in ("teacher", "student")


def candidates_text(dataset: DatasetDescription) -> str:
    """Return what true answers of a dataset are ranked among, in words."""
    return "the given candidates" if dataset.name in OGB_DATASETS else "all entities"


@dataclass(frozen=True)
class RunResults:
    """A finished chain, with what else a report shows of it.

    Attributes:
        directory: where it lies.
        chain: its results.
        split: the split that the figures are of, ``test`` or ``valid``.
        stages: teachers and students in the order of the chain, then the controls.
        settings: the text of ``chain.toml``.
        verdicts: by the student's name; empty for a run of an older version.
    """

    directory: Path
    chain: ChainResults
    split: str
    stages: tuple[ShownStage, ...]
    settings: str
    verdicts: dict[str, SizeVerdict] = field(default_factory=dict)

    @property
    def teacher(self) -> Optional[ShownStage]:
        """The strongest teacher that was not taught itself."""
        teachers = (stage for stage in self.stages if stage.entry.role == "teacher")
        return max(teachers, key=lambda stage: stage.quality.mrr, default=None)

    @property
    def students(self) -> list[ShownStage]:
        """The students in the order of the chain; the last one is what the run is for."""
        return [stage for stage in self.stages if stage.entry.role == "student"]

    @property
    def teacher_mrr(self) -> Optional[float]:
        """The teacher's MRR, also that of a teacher that was loaded and is no stage."""
        if self.teacher is not None:
            return self.teacher.quality.mrr
        return self.chain.summary.teacher_mrr if self.split == "test" else None

    def share_of_teacher(self, stage: ShownStage) -> Optional[float]:
        """Return a stage's MRR over the teacher's."""
        return stage.quality.mrr / self.teacher_mrr if self.teacher_mrr else None

    @property
    def chain_seconds(self) -> float:
        """What the last student took with all its teachers; the run's own total if it has one."""
        total = self.chain.summary.chain_seconds
        return sum(s.entry.seconds for s in self.stages if s.in_chain) if total is None else total


def stage_labels(stages: Sequence[ShownStage]) -> dict[str, str]:
    """Return a short label per stage name, such as ``Student 32``; no two are the same.

    The model's name is part of it only where the models differ.
    """
    several = len({stage.sizes.name for stage in stages}) > 1
    labels = {}
    for stage in stages:
        model = f" {stage.sizes.name}" if several else ""
        labels[stage.name] = f"{ROLES[stage.entry.role]}{model} {stage.sizes.floats_per_entity}"
    count = Counter(labels.values())
    return {
        name: f"{label} ({name})" if count[label] > 1 else label for name, label in labels.items()
    }


def read_run(directory: Path) -> RunResults:
    """Read ``results.json``, ``chain.toml`` and every stage's ``history.csv``.

    Raises:
        UserError: a file is missing or malformed; the message names it.
    """
    path = directory / RESULTS_FILE
    chain = read_chain_results(path)
    tested = all("test" in stage.results.metrics for stage in chain.stages)
    split = "test" if tested else "valid"
    if not any(stage.results.metrics for stage in chain.stages):
        raise UserError(
            f"{path}: no stage was ranked, so there is nothing to report; set evaluation.split to "
            "valid or test, and give data that have such a split"
        )
    stages = tuple(read_stage(stage, path, split) for stage in chain.stages)
    for name, times in Counter(stage.name for stage in stages).items():
        if times > 1:
            raise UserError(f"{path}: stages holds {name!r} {times} times; {FIX}")
    return RunResults(
        directory=directory,
        chain=chain,
        split=split,
        stages=tuple(sorted(stages, key=lambda stage: not stage.in_chain)),
        settings=read_text(directory / "chain.toml"),
        verdicts={} if chain.verdict is None else {v.student: v for v in chain.verdict.sizes},
    )


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        UserError: the file is missing or not UTF-8.
    """
    return regular_files.read_text(path, _MAX_BYTES, missing=_MISSING)


def read_history(path: Path) -> dict[str, tuple[float, ...]]:
    """Read a ``history.csv``: column name to its values, NaN where a cell is empty.

    Raises:
        UserError: the file is missing, has no rows, no column ``epoch``, or a cell that is no
            number; the message names the line.
    """
    rows = list(csv.reader(io.StringIO(read_text(path))))
    if len(rows) < 2 or "epoch" not in rows[0]:
        raise UserError(f"{path}: no epochs, or no column named epoch; {FIX}")
    names = rows[0]
    columns: dict[str, list[float]] = {name: [] for name in names}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise UserError(
                f"{path}: line {line} has {plural(len(row), 'cell')}, not {len(names)}; {FIX}"
            )
        for name, cell in zip(names, row):
            try:
                columns[name].append(float(cell) if cell else math.nan)
            except ValueError:
                raise UserError(f"{path}: line {line}, {name}: {cell!r} is no number") from None
    return {name: tuple(values) for name, values in columns.items()}


def read_stage(entry: StageResults, path: Path, split: str, *, history: bool = True) -> ShownStage:
    """Return a stage with its history.

    Args:
        entry: the stage.
        path: the ``results.json`` that it stands in.
        split: whose figures to take.
        history: whether its history is wanted too.

    Raises:
        UserError: its size or its figures are missing, or its history is.
    """
    model, training = entry.results.model, entry.results.training
    figures = entry.results.metrics.get(split)
    for what, found in (("model", model), (f"metrics.{split}", figures)):
        if found is None:
            raise UserError(f"{path}: {what} of {entry.name} is missing; {FIX}")
    assert model is not None and figures is not None
    columns = {}
    # A teacher may also come as a checkpoint of somebody else's, which has no training.
    if training is not None and history:
        columns = read_history(path.parent / entry.directory / "history.csv")
    for name, sides in figures.by_category.items():
        if "both" not in sides:
            raise UserError(f"{path}: by_category.{name}.both is missing; {FIX}")
    return ShownStage(entry, model, figures, History(columns))
