"""What a finished chain left on disk, as typed values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from dglke_distill.data.ogb import OGB_DATASETS
from dglke_distill.report.fields import Fields, read_history, read_results, read_text
from dglke_distill.report.verdicts import SizeVerdict, read_verdicts

__all__ = [
    "ROLES",
    "Category",
    "Dataset",
    "History",
    "Quality",
    "RunResults",
    "Stage",
    "read_dataset",
    "read_run",
    "read_stage",
    "stage_labels",
]

ROLES = {
    "teacher": "Teacher",
    "student": "Student",
    "direct": "Direct",
    "direct_budget": "Direct, equal time",
    "direct_tuned": "Direct, tuned",
}
"""How a stage's role is called in tables and plots."""


@dataclass(frozen=True)
class Quality:
    """The figures of a ranking."""

    mrr: float
    hits_at_1: float
    hits_at_3: float
    hits_at_10: float


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
class Stage:
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
    quality: Quality
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
class Dataset:
    """The data of a run."""

    name: str
    fingerprint: str
    entities: int
    relations: int
    triples: dict[str, int]

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
    dataset: Dataset
    split: str
    stages: tuple[Stage, ...]
    summary: dict[str, Optional[float]]
    settings: str
    provenance: dict[str, Any]
    data_warnings: tuple[str, ...] = ()
    command: str = "dglke-distill run --config chain.toml"
    verdicts: dict[str, SizeVerdict] = field(default_factory=dict)

    @property
    def teacher(self) -> Optional[Stage]:
        """The strongest teacher that was not taught itself."""
        return _best([stage for stage in self.stages if stage.role == "teacher"])

    @property
    def students(self) -> list[Stage]:
        """The students in the order of the chain; the last one is what the run is for."""
        return [stage for stage in self.stages if stage.role == "student"]

    @property
    def teacher_mrr(self) -> Optional[float]:
        """The teacher's MRR, also that of a teacher that was loaded and is no stage."""
        if self.teacher is not None:
            return self.teacher.quality.mrr
        return self.summary.get("teacher_mrr") if self.split == "test" else None

    def share_of_teacher(self, stage: Stage) -> Optional[float]:
        """Return a stage's MRR over the teacher's."""
        return stage.quality.mrr / self.teacher_mrr if self.teacher_mrr else None

    @property
    def chain_seconds(self) -> float:
        """What the last student took with all its teachers; the run's own total if it has one."""
        total = self.summary.get("chain_seconds")
        return sum(s.seconds for s in self.stages if s.in_chain) if total is None else total


def _best(stages: Sequence[Stage]) -> Optional[Stage]:
    return max(stages, key=lambda stage: stage.quality.mrr, default=None)


def stage_labels(stages: Sequence[Stage]) -> dict[str, str]:
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
    fields = read_results(directory / "results.json", "chain")
    entries = fields.objects("stages")
    tested = all("test" in entry.object("results").object("metrics") for entry in entries)
    split = "test" if tested else "valid"
    stages = tuple(read_stage(entry, directory, split) for entry in entries)
    names = Counter(stage.name for stage in stages)
    for name, times in names.items():
        if times > 1:
            raise fields.error("stages", f"holds {name!r} {times} times")
    summary = fields.optional_object("summary")
    return RunResults(
        directory=directory,
        method=fields.text("method"),
        seed=fields.integer("seed"),
        dataset=read_dataset(fields.object("dataset")),
        split=split,
        stages=tuple(sorted(stages, key=lambda stage: not stage.in_chain)),
        summary={key: summary.optional_number(key) for key in summary},
        settings=read_text(directory / "chain.toml"),
        provenance=fields.optional_object("provenance").tree,
        data_warnings=fields.texts("data_warnings"),
        command=fields.optional_text("command") or RunResults.command,
        verdicts=read_verdicts(fields.optional_object("verdict")),
    )


def read_dataset(fields: Fields) -> Dataset:
    """Read the description of a dataset."""
    triples = fields.object("triples")
    return Dataset(
        name=fields.text("name"),
        fingerprint=fields.text("fingerprint"),
        entities=fields.integer("entities"),
        relations=fields.integer("relations"),
        triples={split: triples.integer(split) for split in triples},
    )


def read_stage(entry: Fields, directory: Path, split: str, *, history: bool = True) -> Stage:
    """Read a stage.

    Args:
        entry: the stage in ``results.json``.
        directory: the run directory.
        split: whose figures to take.
        history: whether its history is wanted too.
    """
    role = entry.text("role")
    if role not in ROLES:
        raise entry.error("role", f"is {role!r}, not one of {', '.join(ROLES)}")
    results = entry.object("results")
    model, training = results.object("model"), results.optional_object("training")
    metrics = results.object("metrics").object(split)
    trained = bool(training.tree)  # a teacher may also come as a checkpoint of somebody else's
    columns = {}
    if trained and history:
        columns = read_history(directory / entry.text("directory") / "history.csv")
    return Stage(
        name=entry.text("name"),
        role=role,
        teachers=_teachers(entry),
        model=model.text("name"),
        floats_per_entity=model.integer("floats_per_entity"),
        bytes_per_entity=model.integer("bytes_per_entity"),
        parameters=model.integer("parameters"),
        quality=Quality(*(metrics.number(key) for key in ("mrr", "hits@1", "hits@3", "hits@10"))),
        categories=_categories(metrics.optional_object("by_category")),
        training_seconds=training.number("seconds") if trained else 0.0,
        validation_seconds=training.optional_number("validation_seconds") or 0.0,
        setup_seconds=training.optional_number("setup_seconds") or 0.0,
        best_epoch=training.integer("best_epoch") if trained else None,
        history=History(columns),
    )


def _teachers(entry: Fields) -> tuple[str, ...]:
    names = entry.tree.get("teachers")
    if names is None:
        one = entry.optional_text("teacher")
        return () if one is None else (one,)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise entry.error("teachers", "is no list of names")
    return tuple(names)


def _categories(fields: Fields) -> dict[str, Category]:
    # Those that name no category (relations that train never shows) come last.
    found = {}
    for name in sorted(fields, key=lambda name: name == "unseen"):
        both = fields.object(name).object("both")
        found[name] = Category(both.number("mrr"), both.integer("count"))
    return found
