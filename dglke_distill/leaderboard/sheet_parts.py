"""What ``submission.json`` holds, as one typed tree; its keys are in this order."""

from __future__ import annotations

from typing import Any, Literal, Optional

from dglke_distill.artifacts.results import DatasetDescription, ResultsNode
from dglke_distill.base.schema import Field


class Mean(ResultsNode):
    """A figure over the seeds."""

    mean: float = Field(description="over the seeds")
    std: Optional[float] = Field(description="unbiased deviation; None of a single seed")
    seeds: int = Field(description="how many")
    text: str = Field(description="both, as the form wants them")


class Contact(ResultsNode):
    """A person to ask."""

    name: str = Field(description="empty if not given")
    email: str = Field(description="empty if not given")


class Form(ResultsNode):
    """The fields of the leaderboard's form."""

    ogb_version: str = Field(description="of the package that judged")
    method: str = Field(description="what the entry is called")
    external_data: bool = Field(description="whether other data were used")
    dataset: str = Field(description="as the leaderboard calls it")
    test_performance: Mean = Field(description="test MRR")
    validation_performance: Mean = Field(description="validation MRR")
    contact: Contact = Field(description="whom to ask")
    code: str = Field(description="address of the code")
    paper: str = Field(description="address of the paper")
    parameters: int = Field(description="of all stages together")
    hardware: str = Field(description="processor, memory and GPUs of all seeds")
    official: Optional[bool] = Field(description="whether the method's authors submit it")
    hyperparameters: str = Field(description="the tuned ones")


class StageRow(ResultsNode):
    """A stage: its size and its test figure over the seeds."""

    name: str = Field(description="of the stage")
    role: str = Field(description="teacher, student or a control")
    model: str = Field(description="score function")
    floats_per_entity: int = Field(description="floats of an entity")
    bytes_per_entity: int = Field(description="bytes of an entity")
    parameters: int = Field(description="of the model")
    extra_parameters: int = Field(description="learned beside it and thrown away")
    test_mrr: Optional[Mean] = Field(description="None where it was not ranked")


class Parameters(ResultsNode):
    """Numbers that were learned."""

    all_stages: int = Field(description="what the form asks for")
    deployed: int = Field(description="of the last model alone")
    stages: list[StageRow] = Field(description="those that led to it")


class SeedRow(ResultsNode):
    """One seed."""

    seed: int = Field(description="its number")
    directory: str = Field(description="its chain, relative to the run")
    test: dict[str, float] = Field(description="figure to its value")
    valid: dict[str, float] = Field(description="figure to its value")
    seconds: float = Field(description="of training all stages")
    peak_memory_bytes: int = Field(description="of the process")
    date: Optional[str] = Field(description="when it was done")
    revision: Optional[str] = Field(description="commit of the code")


class Memory(ResultsNode):
    """What the largest process held."""

    peak_bytes: int = Field(description="over all seeds")


class SheetDataset(DatasetDescription):
    """The triples, and whether they are those that were published."""

    published: bool = Field(description="whether their counts are")


class Sheet(ResultsNode):
    """Every field of the leaderboard's form, and what stands behind it."""

    schema_: Literal[1] = Field(alias="schema", description="version of this layout")
    kind: Literal["ogb submission"] = Field(description="always this")
    missing: list[str] = Field(description="what still keeps it from being submitted")
    notes: list[str] = Field(description="what a reader should know")
    form: Form = Field(description="the fields of the form in its order")
    metric: str = Field(description="what performance is measured by")
    evaluator: str = Field(description="who judged")
    performance: dict[str, dict[str, Mean]] = Field(description="split to figure to its mean")
    popularity_control: dict[str, dict[str, float]] = Field(
        description="split to figure of a control that ignores the known entity"
    )
    parameters: Parameters = Field(description="of the stages that led to the deployed model")
    controls: list[StageRow] = Field(description="models that were trained beside")
    seeds: list[SeedRow] = Field(description="those that are done")
    dataset: SheetDataset = Field(description="what was trained and ranked on")
    memory: Memory = Field(description="of the processes")
    seconds: float = Field(description="of training all seeds")
    versions: list[dict[str, Optional[str]]] = Field(description="of libraries, each set once")
    commands: dict[str, str] = Field(description="what to run again, by what it does")
    settings: dict[str, Any] = Field(description="of the deployed model, as config.Config")
    chain: dict[str, Any] = Field(description="of all seeds, as chain.toml")
