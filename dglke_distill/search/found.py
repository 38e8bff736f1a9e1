"""What a study searches, and what it has found."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from dglke_distill.base.schema import Field
from dglke_distill.config import Config, Section


class StudyConfig(Section):
    """What a study searches.

    Attributes are settings; a study that is gone on with must have the same ones.
    """

    space: str = Field(description="name of a space that ships, or the path of a file")
    space_sha256: str = Field(description="of its content")
    settings: dict[str, Any] = Field(description="settings of all trials, merged over the space's")
    method: Optional[str] = Field(None, description="distillation method; None: trained directly")
    teachers: list[str] = Field(default_factory=list, description="checkpoints it learns from")
    seed: int = Field(0, ge=0, lt=1 << 32)


class Found(NamedTuple):
    """What a study has found.

    Attributes:
        trials: ended ones, failed ones included.
        pruned: stopped early.
        failed: ended by an error.
        seconds: of all trials together.
        mrr: validation MRR of the best; None where no trial has reached a validation.
        config: its settings, or None.
        number: its number, or None.
        chosen: what it chose, by names of settings.
        values: the highest validation MRR of every trial that reached one, in their order.
    """

    trials: int
    pruned: int
    failed: int
    seconds: float
    mrr: Optional[float]
    config: Optional[Config]
    number: Optional[int]
    chosen: dict[str, Any]
    values: tuple[float, ...] = ()
