"""The settings of a chain."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Optional

from dglke_distill.base.schema import Field, field_validator
from dglke_distill.config import DataConfig, Section, meant_in_a_chain
from dglke_distill.config.components import MethodName
from dglke_distill.config.sections import MOST_FLOATS

Tree = dict[str, Any]


class FitSize(Section):
    """The size of data that settings are made to fit."""

    entities: int = Field(ge=1, le=1 << 40, description="number of them")
    triples: int = Field(ge=1, le=1 << 40, description="of the train split")


class ChainConfig(Section):
    """All settings of a chain of distillations.

    The trees are partial ``Config`` trees. Every stage starts from the shipped recipe that fits its
    model, dataset and size; then come ``shared``, ``teacher`` or ``student``, and ``sizes``.
    """

    recipe: Optional[str] = Field(None, description="the shipped chain recipe it was built from")
    data: DataConfig = Field(default_factory=DataConfig)
    method: MethodName = Field("iterde", description="distillation method; none is set twice")
    dims: list[int] = Field([256, 128, 64, 32], min_length=1, description="floats of each stage")
    shared: Tree = Field(default_factory=dict, description="settings of every stage")
    teacher: Tree = Field(default_factory=dict, description="settings of the first stage")
    more_teachers: list[Tree] = Field(
        default_factory=list,
        description="settings of further teachers of the first student; their size is the first "
        "one's, unless they say model.dim",
    )
    student: Tree = Field(default_factory=dict, description="settings of the stages after it")
    sizes: dict[str, Tree] = Field(
        default_factory=dict, description="settings of the student of a size"
    )
    direct: Optional[Tree] = Field(
        None, description="settings of the control without a teacher; None: the student's own"
    )
    # Not set by default, so that the settings saved with older chains are theirs.
    allow_other_data: Optional[bool] = Field(
        None, description="whether teachers may have been trained on other triples"
    )
    init: Optional[str] = Field(None, description="model that the first stage goes on from")
    init_store: Optional[str] = Field(None, description="store of its name; None: all of them")
    control: Literal["none", "recipe", "both", "tuned"] = Field(
        "recipe",
        description="train every student's size without a teacher too: by its recipe; with both, "
        "also for as long as that student and its teachers took; with tuned, also by settings "
        "searched for in that time",
    )
    rivals: list[str] = Field(
        default_factory=list,
        max_length=10,
        description="score functions that the search for a tuned control's settings tries too, at "
        "small sizes; none where a model is asked for",
    )
    fit: Optional[FitSize] = Field(
        None, description="size of the data that the defaults shall fit; None: as recipes say"
    )
    search_seconds: Optional[float] = Field(
        None, gt=0, le=1e9, description="how long settings are searched for first; None: not"
    )
    control_seconds: Optional[float] = Field(
        None, gt=0, le=1e9, description="most time that a control is tuned for; None: equal time"
    )
    seeds: Optional[int] = Field(
        None, ge=1, le=100, description="trainings of students and controls; None: one"
    )

    @field_validator("dims")
    @classmethod
    def _not_rising(cls, dims: list[int]) -> list[int]:
        if any(not 1 <= dim <= MOST_FLOATS for dim in dims):
            raise ValueError(f"sizes must be from 1 to {MOST_FLOATS}")
        if any(after > before for before, after in zip(dims, dims[1:])):
            raise ValueError("no size can be larger than the one before it")
        return dims

    meant_by: ClassVar[Any] = staticmethod(meant_in_a_chain)
