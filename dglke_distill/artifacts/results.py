"""What ``results.json`` holds, as one typed tree: of a training, of a chain, of a comparison.

``results_files`` reads and writes such a file; ``results_parts`` has the smaller parts. A
file of an older version lacks keys that came later, so those are optional; keys that are not known
are kept as they are. A file of another schema is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional

from dglke_distill.artifacts.results_node import ResultsNode
from dglke_distill.artifacts.results_parts import (
    ChainSummary,
    ClassificationFigures,
    ComparisonRow,
    CompressedFrom,
    DatasetDescription,
    DatasetName,
    DistillationDescription,
    ExtendedFrom,
    Figures,
    ModelSizes,
    ModelSource,
    Provenance,
    SplitFigures,
    StartedFrom,
    TrainingFigures,
)
from dglke_distill.artifacts.results_verdict import MethodGain, Verdict
from dglke_distill.base.schema import Field, model_validator
from dglke_distill.base.tabular import Tabular

if TYPE_CHECKING:
    import pandas

__all__ = [
    "SCHEMA",
    "Against",
    "ChainResults",
    "ChainSummary",
    "ComparisonResults",
    "ComparisonRow",
    "CompressedFrom",
    "DatasetDescription",
    "DatasetName",
    "DistillationDescription",
    "EvaluationResults",
    "Figures",
    "MethodGain",
    "ModelSizes",
    "ModelSource",
    "Provenance",
    "ResultsNode",
    "SplitFigures",
    "StageResults",
    "StartedFrom",
    "TrainingFigures",
    "TrainingResults",
    "Verdict",
]

SCHEMA = 1
"""The schema that this version writes; it reads no other."""


class TrainingResults(ResultsNode, Tabular):
    """``results.json`` of a checkpoint: what was trained, how, and how good it is.

    A model of another library has no ``training``, ``config`` or ``provenance``; one that was never
    ranked has no ``metrics``. Keys are in the order in which a training writes them.
    """

    schema_: int = Field(SCHEMA, alias="schema", description="version of this layout")
    dataset: Optional[DatasetDescription] = Field(None, description="what it was trained on")
    model: Optional[ModelSizes] = Field(None, description="what was trained")
    metrics: dict[str, SplitFigures] = Field(
        default_factory=dict, description="split (valid, test) to its figures"
    )
    training: Optional[TrainingFigures] = Field(None, description="how the training went")
    config: Optional[dict[str, Any]] = Field(
        None, repr=False, description="all settings, as config.Config"
    )
    provenance: Optional[Provenance] = Field(None, description="versions and hardware")
    distillation: Optional[DistillationDescription] = Field(
        None, description="of whom it learned; None: of the facts alone"
    )
    init: Optional[StartedFrom] = Field(None, description="the model that it went on from")
    data_warnings: list[str] = Field(
        default_factory=list, description="what belongs beside every figure: data of others"
    )
    underfitted: list[str] = Field(default_factory=list, description="signs that it learned little")
    source: Optional[ModelSource] = Field(None, description="the foreign model it was read from")
    compressed_from: Optional[CompressedFrom] = Field(
        None, description="the model that was compressed into it"
    )
    extended_from: Optional[ExtendedFrom] = Field(None, description="before entities were added")
    other_test: Optional[bool] = Field(
        None, description="whether its figures are of another test split (a loaded teacher)"
    )

    @property
    def ranked(self) -> Optional[str]:
        """The split that the model is judged by: test, else valid, else None."""
        return next((split for split in ("test", "valid") if split in self.metrics), None)

    def frame(self) -> pandas.DataFrame:
        """Return the figures as a table: a row per split and side, ``both`` first."""
        return _frame(
            {"split": split, "side": side, **figures.row()}
            for split, of in self.metrics.items()
            for side, figures in {"both": of, **of.by_side}.items()
        )


class Against(ResultsNode):
    """Another model on the same questions, and what the first one gains over it."""

    model: str = Field(description="the other one, as it was named")
    metrics: SplitFigures = Field(description="its figures")
    gain: MethodGain = Field(description="MRR of the first over its own, less 1")


class EvaluationResults(SplitFigures, Tabular):
    """What ``evaluate`` returns, and prints with ``--json``: one ranked split."""

    dataset: DatasetName = Field(description="what was ranked")
    warnings: list[str] = Field(default_factory=list, description="what belongs beside figures")
    classification: Optional[ClassificationFigures] = Field(
        None, description="test triples against those that are known to be false, if any ship"
    )
    against: Optional[Against] = Field(
        None, description="a second model on the same questions, if one was named"
    )

    def frame(self) -> pandas.DataFrame:
        """Return the figures as a table: a row per side, ``both`` first."""
        sides = {"both": self, **self.by_side}
        return _frame({"side": side, **figures.row()} for side, figures in sides.items())


# --- a chain ----------------------------------------------------------------------------------


class StageResults(ResultsNode):
    """One model of a chain."""

    name: str = Field(description="unique in the chain")
    role: Literal["teacher", "student", "direct", "direct_budget", "direct_tuned"] = Field(
        description="direct: a control without a teacher; direct_budget: one with the time of its "
        "student; direct_tuned: one by settings searched for in that time"
    )
    teacher: Optional[str] = Field(None, description="the stage, or folder, that it learned from")
    teachers: Optional[list[str]] = Field(None, description="all of them, the first included")
    directory: str = Field(description="its run, relative to the chain's directory")
    results: TrainingResults = Field(description="what its checkpoint says")
    repeats: Optional[str] = Field(None, description="of a further seed: the stage it repeats")
    seed: Optional[int] = Field(None, description="of a further seed: which")

    @property
    def taught_by(self) -> tuple[str, ...]:
        """Names of all its teachers, also where an older file names the first alone."""
        if self.teachers is not None:
            return tuple(self.teachers)
        return () if self.teacher is None else (self.teacher,)

    @property
    def dim(self) -> int:
        """The setting model.dim of a stage that was trained here."""
        model = self.results.model
        assert model is not None and model.dim is not None
        return model.dim

    @property
    def seconds(self) -> float:
        """What its training took, validation and preparation included; 0 if that is not known."""
        return 0.0 if self.results.training is None else self.results.training.all_seconds

    def mrr(self, split: str) -> Optional[float]:
        """Return the MRR of a split; None if that was not ranked."""
        figures = self.results.metrics.get(split)
        return None if figures is None else figures.mrr

    @property
    def valid_mrr(self) -> Optional[float]:
        """Validation MRR: of the whole split, else the one that its training saw last."""
        ranked, training = self.mrr("valid"), self.results.training
        return training.best_validation_mrr if ranked is None and training is not None else ranked


def _check_one_protocol(stages: Sequence[StageResults], wanted: Optional[str] = None) -> None:
    """Refuse figures of different protocols, which would stand side by side and do not compare."""
    for stage in stages:
        for split, figures in stage.results.metrics.items():
            name = "all" if figures.protocol is None else figures.protocol.name
            wanted = name if wanted is None else wanted
            if name != wanted:
                raise ValueError(
                    f"{stage.name}: its {split} figures are of the protocol {name}, others of "
                    f"{wanted}; figures of different protocols do not compare"
                )


class ChainResults(ResultsNode, Tabular):
    """``results.json`` of a chain, also of one seed of an OGB entry."""

    KIND: ClassVar[str] = "chain"

    schema_: int = Field(alias="schema", description="version of this layout")
    kind: Literal["chain"] = Field(description="always chain")
    method: str = Field(description="name of the distillation method")
    seed: int = Field(description="of the last stage")
    dataset: DatasetDescription = Field(description="of the last stage")
    chain: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="all settings, as chain.toml"
    )
    stages: list[StageResults] = Field(min_length=1, description="in the order of training")
    data_warnings: list[str] = Field(default_factory=list, description="of all stages, once each")
    summary: ChainSummary = Field(default_factory=ChainSummary, description="the main figures")
    repeats: list[StageResults] = Field(default_factory=list, description="by further seeds")
    verdict: Optional[Verdict] = Field(None, description="whether distilling was worth it")
    command: Optional[str] = Field(None, description="runs the chain again")
    provenance: Provenance = Field(default_factory=Provenance, description="of the last process")

    @model_validator(mode="after")
    def _one_protocol(self) -> ChainResults:
        _check_one_protocol([*self.stages, *self.repeats])
        return self

    def frame(self) -> pandas.DataFrame:
        """Return the stages as a table: a row per stage and ranked split."""
        return _frame(
            {
                "stage": stage.name,
                "role": stage.role,
                **_sizes(stage.results),
                "split": split,
                **figures.row(),
                "seconds": stage.results.training and stage.results.training.all_seconds,
            }
            for stage in self.stages
            for split, figures in stage.results.metrics.items()
        )


# --- a comparison -----------------------------------------------------------------------------


class ComparisonResults(ResultsNode, Tabular):
    """``results.json`` of methods side by side under one teacher."""

    KIND: ClassVar[str] = "comparison"

    schema_: int = Field(alias="schema", description="version of this layout")
    kind: Literal["comparison"] = Field(description="always comparison")
    dataset: DatasetDescription = Field(description="of all chains")
    teacher: Optional[StageResults] = Field(None, description="the first teacher")
    more_teachers: list[StageResults] = Field(default_factory=list, description="the others")
    teacher_seconds: Optional[float] = Field(None, description="of training the teachers")
    data_warnings: list[str] = Field(default_factory=list, description="of all chains, once each")
    rows: list[ComparisonRow] = Field(min_length=1, description="one per method and seed")
    gains: dict[str, MethodGain] = Field(
        default_factory=dict, description="method to what it gains over direct"
    )
    provenance: Provenance = Field(default_factory=Provenance, description="of the last process")

    @model_validator(mode="after")
    def _one_protocol(self) -> ComparisonResults:
        """Compare the teachers with the rows, which are of the standard protocol."""
        teachers = [] if self.teacher is None else [self.teacher]
        _check_one_protocol([*teachers, *self.more_teachers], "all")
        return self

    def frame(self) -> pandas.DataFrame:
        """Return the rows as a table."""
        return _frame(row.model_dump() for row in self.rows)


# --- tables -----------------------------------------------------------------------------------


def _sizes(results: TrainingResults) -> dict[str, Any]:
    of = results.model
    if of is None:
        return {"model": None, "floats": None, "bytes": None}
    return {"model": of.name, "floats": of.floats_per_entity, "bytes": of.bytes_per_entity}


def _frame(rows: Any) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(list(rows))
