"""What a finished chain left on disk, as typed values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts.results import (
    ChainSummary,
    DatasetDescription,
    Figures,
    SplitFigures,
    StageResults,
)
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_chain_results
from dglke_distill.artifacts.results_node import FIX
from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.base.errors import UserError
from dglke_distill.data.ogb import OGB_DATASETS
from dglke_distill.data.table_options import IN_MEMORY
from dglke_distill.report.history import read_history, read_text

__all__ = [
    "ROLES",
    "Category",
    "History",
    "RunResults",
    "ShownDataset",
    "ShownStage",
    "read_run",
    "read_stage",
    "stage_labels",
]

_IN_PYTHON = 'kd.distill(TABLE, recipe="none", config="chain.toml")'
"""Runs a chain again whose data were a table in memory."""

ROLES = {
    "teacher": "Teacher",
    "student": "Student",
    "direct": "Direct",
    "direct_budget": "Direct, equal time",
    "direct_tuned": "Direct, tuned",
}
"""How a stage's role is called in tables and plots."""


@dataclass(frozen=True)
class Category:
    """The figures of the relations of one category: MRR over both sides, number of ranks."""

    mrr: float
    ranks: int


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
    """One trained model of a run.

    Attributes:
        name: its name in the run directory.
        role: a key of ``ROLES``.
        teachers: names of the stages it learnt from.
        model: name of the score function.
        floats_per_entity: as the model counts them; ``bytes_per_entity`` likewise.
        parameters: number of all trained floats.
        quality: figures of the split that the run reports.
        categories: relation category to its figures; empty when none were measured.
        training_seconds: of the training loop alone.
        validation_seconds: of the validations meanwhile.
        setup_seconds: of preparing the teacher's knowledge.
        best_epoch: the epoch that was kept, None for a model that was loaded.
        history: the course of its training; empty for a model that was loaded.
    """

    name: str
    role: str
    teachers: tuple[str, ...]
    model: str
    floats_per_entity: int
    bytes_per_entity: int
    parameters: int
    quality: Figures
    categories: dict[str, Category]
    training_seconds: float
    validation_seconds: float
    setup_seconds: float
    best_epoch: Optional[int]
    history: History

    @property
    def seconds(self) -> float:
        """Everything that the stage took before its test split was ranked."""
        return self.training_seconds + self.validation_seconds + self.setup_seconds

    @property
    def in_chain(self) -> bool:
        """Whether it is a teacher or a student, and not a control."""
        return self.role in ("teacher", "student")


@dataclass(frozen=True)
class ShownDataset:
    """The data of a run."""

    name: str
    fingerprint: str
    entities: int
    relations: int
    triples: dict[str, int]

    @classmethod
    def of(cls, described: DatasetDescription) -> ShownDataset:
        """Return it from its description in results."""
        return cls(
            name=described.name,
            fingerprint=described.fingerprint or "not recorded",
            entities=described.entities,
            relations=described.relations,
            triples=described.triples,
        )

    @property
    def candidates(self) -> str:
        """What true answers are ranked among, in words."""
        return "the given candidates" if self.name in OGB_DATASETS else "all entities"


@dataclass(frozen=True)
class RunResults:
    """A finished chain.

    Attributes:
        directory: where it lies.
        method: name of the distillation method.
        seed: seed of the first stage.
        split: the split that the figures are of, ``test`` or ``valid``.
        stages: teachers and students in the order of the chain, then the controls.
        summary: the run's own totals; figures that follow from stages are computed from them.
        settings: the text of ``chain.toml``.
        provenance: versions, revision and hardware.
        data_warnings: what must be known of its teachers' data.
        command: runs it again.
        verdicts: by the student's name; empty for a run of an older version.
    """

    directory: Path
    method: str
    seed: int
    dataset: ShownDataset
    split: str
    stages: tuple[ShownStage, ...]
    summary: ChainSummary
    settings: str
    provenance: dict[str, Any]
    data_warnings: tuple[str, ...] = ()
    command: str = "dglke-distill run --config chain.toml"
    verdicts: dict[str, SizeVerdict] = field(default_factory=dict)

    @property
    def teacher(self) -> Optional[ShownStage]:
        """The strongest teacher that was not taught itself."""
        return _best([stage for stage in self.stages if stage.role == "teacher"])

    @property
    def students(self) -> list[ShownStage]:
        """The students in the order of the chain; the last one is what the run is for."""
        return [stage for stage in self.stages if stage.role == "student"]

    @property
    def teacher_mrr(self) -> Optional[float]:
        """The teacher's MRR, also that of a teacher that was loaded and is no stage."""
        if self.teacher is not None:
            return self.teacher.quality.mrr
        return self.summary.teacher_mrr if self.split == "test" else None

    def share_of_teacher(self, stage: ShownStage) -> Optional[float]:
        """Return a stage's MRR over the teacher's."""
        return stage.quality.mrr / self.teacher_mrr if self.teacher_mrr else None

    @property
    def chain_seconds(self) -> float:
        """What the last student took with all its teachers; the run's own total if it has one."""
        total = self.summary.chain_seconds
        return sum(s.seconds for s in self.stages if s.in_chain) if total is None else total


def _best(stages: Sequence[ShownStage]) -> Optional[ShownStage]:
    return max(stages, key=lambda stage: stage.quality.mrr, default=None)


def stage_labels(stages: Sequence[ShownStage]) -> dict[str, str]:
    """Return a short label per stage name, such as ``Student 32``; no two are the same.

    The model's name is part of it only where the models differ.
    """
    several = len({stage.model for stage in stages}) > 1
    labels = {}
    for stage in stages:
        model = f" {stage.model}" if several else ""
        labels[stage.name] = f"{ROLES[stage.role]}{model} {stage.floats_per_entity}"
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
    sizes = [] if chain.verdict is None else chain.verdict.sizes
    in_memory = chain.dataset.format == IN_MEMORY
    return RunResults(
        directory=directory,
        method=chain.method,
        seed=chain.seed,
        dataset=ShownDataset.of(chain.dataset),
        split=split,
        stages=tuple(sorted(stages, key=lambda stage: not stage.in_chain)),
        summary=chain.summary,
        settings=read_text(directory / "chain.toml"),
        provenance=chain.provenance.to_tree(),
        data_warnings=tuple(chain.data_warnings),
        command=chain.command or (_IN_PYTHON if in_memory else RunResults.command),
        verdicts={verdict.student: verdict for verdict in sizes},
    )


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
    return ShownStage(
        name=entry.name,
        role=entry.role,
        teachers=entry.taught_by,
        model=model.name,
        floats_per_entity=model.floats_per_entity,
        bytes_per_entity=model.bytes_per_entity,
        parameters=model.parameters,
        quality=figures,
        categories=_categories(figures, path),
        training_seconds=0.0 if training is None else training.seconds,
        validation_seconds=0.0 if training is None else training.validation_seconds,
        setup_seconds=0.0 if training is None else training.setup_seconds,
        best_epoch=None if training is None else training.best_epoch,
        history=History(columns),
    )


def _categories(figures: SplitFigures, path: Path) -> dict[str, Category]:
    # Those that name no category (relations that train never shows) come last.
    found = {}
    for name, sides in sorted(figures.by_category.items(), key=lambda item: item[0] == "unseen"):
        if "both" not in sides:
            raise UserError(f"{path}: by_category.{name}.both is missing; {FIX}")
        found[name] = Category(sides["both"].mrr, sides["both"].count)
    return found
