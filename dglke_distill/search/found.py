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
    lengths: list[int] = Field(
        default_factory=list,
        max_length=10,
        description="epochs of trainings, short to long; none: as settings say",
    )
    trials: Optional[int] = Field(None, description="that were asked for when the study began")
    seconds: Optional[float] = Field(None, description="that it was to last when it began")

    def alike(self, other: StudyConfig) -> bool:
        """Return whether both search the same; how long, and by how many threads, is no matter."""
        return self._search() == other._search()

    def _search(self) -> StudyConfig:
        training = {k: v for k, v in self.settings.get("training", {}).items() if k != "threads"}
        settings = {**self.settings, "training": training}
        return self.model_copy(update={"settings": settings, "trials": None, "seconds": None})


class Ended(NamedTuple):
    """A training that came to its end.

    Attributes:
        epochs: how long it was.
        mrr: its highest validation MRR.
        seconds: that it took.
    """

    epochs: int
    mrr: float
    seconds: float


class Found(NamedTuple):
    """What a study has found.

    Attributes:
        trials: ended ones, failed ones included; not those that were interrupted.
        pruned: stopped early.
        failed: ended by an error.
        seconds: of all trials together.
        mrr: validation MRR of the best; None where no trial has reached a validation.
        config: its settings, or None.
        number: its number, or None.
        chosen: what it chose, by names of settings.
        ended: the trials that came to their end, in their order.
        pace: seconds that an epoch of the best took.
        interrupted: ended by Ctrl-C, or because their process was killed.
    """

    trials: int
    pruned: int
    failed: int
    seconds: float
    mrr: Optional[float]
    config: Optional[Config]
    number: Optional[int]
    chosen: dict[str, Any]
    ended: tuple[Ended, ...] = ()
    pace: float = 0.0
    interrupted: int = 0
