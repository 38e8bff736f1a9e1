"""The parts of results: figures, data, model, provenance, a chain's summary; see ``results``."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union

from dglke_distill.artifacts.results_node import ResultsNode
from dglke_distill.base.schema import Field

__all__ = [
    "ChainSummary",
    "ClassificationFigures",
    "ComparisonRow",
    "CompressedFrom",
    "DatasetDescription",
    "DatasetName",
    "DistillationDescription",
    "ExtendedFrom",
    "Figures",
    "GitState",
    "Hardware",
    "ModelSizes",
    "ModelSource",
    "OtherTriples",
    "Protocol",
    "Provenance",
    "SplitFigures",
    "StartedFrom",
    "TeacherDescription",
    "TrainingFigures",
]


class Figures(ResultsNode):
    """Figures over a set of ranks."""

    mrr: float = Field(description="mean of 1 / rank")
    mr: float = Field(description="mean rank")
    hits_at_1: float = Field(alias="hits@1", description="share of ranks that are 1")
    hits_at_3: float = Field(alias="hits@3", description="share of ranks that are at most 3")
    hits_at_10: float = Field(alias="hits@10", description="share of ranks that are at most 10")
    count: int = Field(description="number of ranks: one per triple and side")

    def row(self) -> dict[str, float]:
        """Return the figures as a row of a table."""
        names = {"hits_at_1": "hits@1", "hits_at_3": "hits@3", "hits_at_10": "hits@10"}
        own = ("mrr", "mr", *names)
        return {**{names.get(key, key): getattr(self, key) for key in own}, "ranks": self.count}


class Protocol(ResultsNode):
    """How a split was ranked."""

    name: Literal["all", "seen", "no-self"] = Field(
        "all",
        description="all: the standard; others compare with no other, see evaluate",
    )
    filtered: bool = Field(description="whether other known answers were left out")
    ties: str = Field(description="realistic: the mean of the best and the worst place")
    sides: str = Field(description="both: heads and tails are asked for")
    candidates: Literal["all", "given"] = Field(
        description="all entities, or those that the dataset gives with each question (OGB)"
    )
    estimate: bool = Field(description="whether a sample of the split was ranked")
    negatives: Optional[int] = Field(None, description="given candidates per question")
    dropped: int = Field(0, description="triples of the split that the protocol leaves out")
    evaluator: Optional[str] = Field(None, description="whose evaluator ranked, with its version")


class SplitFigures(Figures):
    """Figures of a ranked split, over both sides, and in parts."""

    protocol: Optional[Protocol] = Field(None, description="how it was ranked")
    entities: Optional[int] = Field(None, description="candidates before filtering")
    triples: Optional[int] = Field(None, description="triples that were ranked")
    sampled_from: Optional[int] = Field(
        None, description="triples of the split, where a sample was ranked"
    )
    queries: Optional[int] = Field(None, description="distinct questions that were scored")
    seconds: Optional[float] = Field(None, description="wall clock time of the ranking")
    by_side: dict[str, Figures] = Field(
        default_factory=dict, repr=False, description="head and tail"
    )
    by_category: dict[str, dict[str, Figures]] = Field(
        default_factory=dict,
        repr=False,
        description="relation category (1-1, 1-N, N-1, N-N, unseen) to both, head and tail",
    )
    by_relation: dict[str, Figures] = Field(
        default_factory=dict, repr=False, description="relation id to its figures over both sides"
    )
    popularity_control: Optional[SplitFigures] = Field(
        None, description="the same split ranked by how often relation and answer meet in train"
    )


class ClassificationFigures(ResultsNode):
    """How well true and false test triples are told apart."""

    roc_auc: float = Field(description="area under the ROC curve of the scores")
    average_precision: float = Field(description="of the scores")
    accuracy: float = Field(description="with a threshold per relation, chosen on valid")
    f1: float = Field(description="of the true class, with these thresholds")
    valid_accuracy: float = Field(description="on the split that chose the thresholds")
    true_triples: int = Field(description="number of true ones")
    false_triples: int = Field(description="number of false ones")
    seconds: float = Field(description="wall clock time")


class OtherTriples(ResultsNode):
    """Triples, other than its dataset's, that a model may know through a teacher."""

    teacher: str = Field(description="name of the teacher")
    dataset: str = Field(description="name of its dataset; empty if that is not recorded")
    fingerprint: Optional[str] = Field(None, description="of its triples, if that is recorded")


class DatasetDescription(ResultsNode):
    """Which triples: what is needed to find the same ones again."""

    name: str = Field(description="of the catalog, or of the folder or file")
    fingerprint: Optional[str] = Field(
        None, description="SHA-256 of all triples; None: what it was trained on is not known"
    )
    ranked_on: Optional[str] = Field(
        None, description="fingerprint of the triples that a foreign model was ranked on"
    )
    entities: int = Field(description="number of entities")
    relations: int = Field(description="number of relations")
    triples: dict[str, int] = Field(description="split to its number of triples")
    format: Optional[str] = Field(
        None, description="file format that it was read by; memory: a table given from Python"
    )
    split_seed: Optional[int] = Field(None, description="seed where one file was split")
    header: Optional[bool] = Field(None, description="whether its files begin with a heading")
    columns: Optional[str] = Field(None, description="which columns of its files were read")
    delimiter: Optional[str] = Field(None, description="what separates its files' columns")
    ignore_extra: Optional[bool] = Field(None, description="whether further columns were left out")
    weight_column: Optional[str] = Field(None, description="the column of its facts' weights")
    literals: Optional[str] = Field(None, description="whether literals of RDF are entities")
    path: Optional[str] = Field(None, description="where it lay, if it was given by a path")
    others: list[OtherTriples] = Field(
        default_factory=list, description="other triples that teachers may know"
    )


class DatasetName(ResultsNode):
    """Which dataset was ranked."""

    name: str = Field(description="of the catalog, or of the folder or file")
    fingerprint: str = Field(description="SHA-256 of all triples")


class ModelSizes(ResultsNode):
    """What a model is, and how large."""

    name: str = Field(description="score function")
    dim: Optional[int] = Field(None, description="the setting model.dim")
    floats_per_entity: int = Field(description="floats of an entity, as the zoo's names count them")
    bytes_per_entity: int = Field(description="bytes that an entity takes as it is stored")
    parameters: int = Field(description="all trained numbers of the model")
    shared_bytes: int = Field(0, description="bytes that all entities share, such as code books")
    storage: Optional[dict[str, Any]] = Field(
        None, description="how entities and relations are stored, if not as they were trained"
    )


class TrainingFigures(ResultsNode):
    """How a training went."""

    epochs: int = Field(description="epochs that were trained")
    best_epoch: int = Field(description="epochs after which the kept model stood")
    best_validation_mrr: Optional[float] = Field(None, description="its validation MRR")
    seconds: float = Field(description="of the training steps")
    setup_seconds: float = Field(0.0, description="of preparing what a teacher knows")
    validation_seconds: float = Field(0.0, description="of the validations meanwhile")
    threads: Optional[int] = Field(None, description="threads of torch and of the kernels")
    device: Optional[str] = Field(None, description="where the model lived")
    seed: Optional[int] = Field(None, description="the setting training.seed")
    peak_memory_bytes: Optional[int] = Field(
        None, description="most that the process held in memory"
    )
    trainers: Optional[int] = Field(None, description="processes of a training by many")
    machines: Optional[int] = Field(None, description="hosts of a training by many")
    objective_parameters: int = Field(
        0, description="numbers learned beside the model and thrown away"
    )

    @property
    def all_seconds(self) -> float:
        """Steps, validation and preparation together."""
        return self.seconds + self.validation_seconds + self.setup_seconds


class ModelSource(ResultsNode):
    """A saved model, and by which files it is known again."""

    format: Optional[str] = Field(None, description="checkpoint, dglke, openke or pykeen")
    sizes: Optional[dict[str, Any]] = Field(
        None, alias="model", description="as the section model of results"
    )
    weights: Union[str, dict[str, str], None] = Field(
        None, description="SHA-256 of the weights, or of each file by its name"
    )


class _Named(ResultsNode):
    name: str = Field(description="a stage, a zoo name or a folder")


class TeacherDescription(ModelSource, _Named):
    """A teacher of a student: its name stands first."""


class DistillationDescription(ResultsNode):
    """By which method a student learned, and from whom."""

    method: str = Field(description="name of the distillation method")
    teachers: list[TeacherDescription] = Field(default_factory=list, description="its teachers")


class CompressedFrom(ResultsNode):
    """The model whose tables were stored in fewer bytes."""

    bytes_per_entity: int = Field(description="before")
    metrics: dict[str, SplitFigures] = Field(default_factory=dict, description="before, by split")


class StartedFrom(ResultsNode):
    """The model that a training on other data went on from."""

    name: str = Field(description="a zoo name or a folder's")
    dataset: str = Field(description="that it was trained on")
    fingerprint: Optional[str] = Field(None, description="of those triples")
    entities: int = Field(description="that it knew")
    relations: int = Field(description="that it knew")


class ExtendedFrom(ResultsNode):
    """The model that entities were added to."""

    dataset: str = Field(description="that it was trained on")
    fingerprint: Optional[str] = Field(None, description="of those triples")
    facts: int = Field(description="given for the new entities")
    entities: int = Field(description="new ones")
    refreshed: int = Field(0, description="known entities that moved")
    seconds: float = Field(description="wall clock time")
    metrics: dict[str, SplitFigures] = Field(default_factory=dict, description="before, by split")
    extended_from: Optional[ExtendedFrom] = Field(None, description="what that was extended from")


class GitState(ResultsNode):
    """The checkout that ran."""

    revision: str = Field(description="commit")
    dirty: bool = Field(description="whether tracked files were changed")


class Hardware(ResultsNode):
    """The machine."""

    cpu: Optional[str] = Field(None, description="name of the processor")
    cores: Optional[int] = Field(None, description="cores that the process might use")
    memory_bytes: Optional[int] = Field(None, description="of the machine")
    cuda: list[str] = Field(default_factory=list, description="names of the GPUs")


class Provenance(ResultsNode):
    """What results depend on besides their settings."""

    version: Optional[str] = Field(None, description="of this package")
    git: Optional[GitState] = Field(None, description="None outside a checkout")
    python: Optional[str] = Field(None, description="version")
    torch: Optional[str] = Field(None, description="version")
    dgl: Optional[str] = Field(None, description="version")
    numba: Optional[str] = Field(None, description="version")
    numpy: Optional[str] = Field(None, description="version")
    hardware: Optional[Hardware] = Field(None, description="the machine")
    platform: Optional[str] = Field(None, description="operating system")
    date: Optional[str] = Field(None, description="UTC, ISO 8601")
    run: Optional[str] = Field(None, description="tells one run of the same settings from another")


class ChainSummary(ResultsNode):
    """The figures a chain is judged by, of the test split; None where one was not measured."""

    teacher_mrr: Optional[float] = Field(None, description="of the first teacher")
    student_mrr: Optional[float] = Field(None, description="of the last student")
    direct_mrr: Optional[float] = Field(None, description="of the same size without a teacher")
    direct_budget_mrr: Optional[float] = Field(
        None, description="of that one with the seconds of the whole chain"
    )
    share_of_teacher: Optional[float] = Field(None, description="student over teacher")
    direct_tuned_mrr: Optional[float] = Field(None, description="of that one, settings searched")
    gain_over_direct: Optional[float] = Field(None, description="of an older version")
    gain_over_direct_budget: Optional[float] = Field(None, description="of an older version")
    chain_seconds: Optional[float] = Field(None, description="of teachers and students")
    direct_seconds: Optional[float] = Field(None, description="of the control")
    direct_budget_seconds: Optional[float] = Field(None, description="of the control with time")
    direct_tuned_seconds: Optional[float] = Field(None, description="of its last training")


class ComparisonRow(ResultsNode):
    """The last model of one method and seed, by its test figures."""

    method: str = Field(description="name of the distillation method; direct: the control")
    seed: int = Field(description="of its students")
    model: str = Field(description="score function")
    dim: Optional[int] = Field(None, description="the setting model.dim")
    floats_per_entity: int = Field(description="floats of an entity")
    bytes_per_entity: int = Field(description="bytes of an entity")
    parameters: int = Field(description="all trained numbers of the model")
    mrr: float = Field(description="test MRR")
    hits_at_1: float = Field(description="test hits at 1")
    hits_at_3: float = Field(description="test hits at 3")
    hits_at_10: float = Field(description="test hits at 10")
    valid_mrr: Optional[float] = Field(None, description="valid MRR")
    training_seconds: float = Field(description="of the last model's training steps")
    chain_seconds: Optional[float] = Field(
        None, description="of all its stages; the shared teacher is not counted"
    )
    seconds_to_direct: Optional[float] = Field(
        None,
        description="of teachers, search, chain and last model until it had the best validation "
        "MRR of the direct model of its seed; None: never, or none was trained",
    )
    share_of_teacher: Optional[float] = Field(None, description="MRR over the teacher's")
    search_seconds: Optional[float] = Field(
        None,
        description="of the method's search for settings, which its first seed made; None: without",
    )
    search_trials: Optional[int] = Field(
        None, description="of that search: the trainings that were validated"
    )
    gain_over_direct: Optional[float] = Field(
        None, description="of an older version, without an interval"
    )
    epochs: Optional[int] = Field(None, description="that the last model was trained for")
