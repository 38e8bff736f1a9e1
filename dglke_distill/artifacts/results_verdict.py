"""The verdict of a chain in its results: what students gain over direct training, and how sure."""

from __future__ import annotations

from typing import Literal, Optional

from dglke_distill.artifacts.results_node import ResultsNode
from dglke_distill.base.schema import Field

__all__ = ["ControlTime", "MethodGain", "SizeVerdict", "Verdict", "VerdictTime"]


class MethodGain(ResultsNode):
    """What a method gains over direct training, with an interval of 95 %."""

    gain: float = Field(description="test MRR over that of direct, less 1, over all seeds")
    low: Optional[float] = Field(None, description="lower end; None: the split is too small")
    high: Optional[float] = Field(None, description="upper end")
    seeds: int = Field(description="that both have")
    questions: int = Field(description="of the test split, two per triple")


class ControlTime(ResultsNode):
    """One of the controls that validation chose among."""

    name: str = Field(description="of the stage")
    role: str = Field(description="direct, direct_budget or direct_tuned")
    valid_mrr: Optional[float] = Field(None, description="what it is chosen by")
    seconds: float = Field(description="of its training, validation included")
    searched_seconds: float = Field(0.0, description="of the search for its settings")
    trials: int = Field(0, description="of that search")
    headroom: Optional[float] = Field(
        None, description="by what share a search three times as long may be better; None: unknown"
    )


class VerdictTime(ResultsNode):
    """Seconds to the control's final validation MRR, both ways."""

    goal_valid_mrr: Optional[float] = Field(None, description="the control's best validation MRR")
    student_seconds: Optional[float] = Field(
        None, description="of student, teachers and search until then; None: never reached"
    )
    control_seconds: Optional[float] = Field(None, description="of control and search until then")
    teachers_loaded: bool = Field(False, description="whether a teacher's time is not counted")
    chain_seconds: Optional[float] = Field(None, description="of student, teachers and search")
    control_total_seconds: Optional[float] = Field(None, description="of control and its search")


class SizeVerdict(ResultsNode):
    """The verdict on one student."""

    student: str = Field(description="name of its stage")
    control: Optional[str] = Field(None, description="the control that validation prefers")
    dim: int = Field(description="the setting model.dim of both")
    student_mrr: Optional[float] = Field(None, description="on test, mean over the seeds")
    control_mrr: Optional[float] = Field(None, description="on test, mean over the seeds")
    gain: Optional[float] = Field(None, description="student over control, less 1, over all seeds")
    low: Optional[float] = Field(None, description="lower end of the interval of 95 %")
    high: Optional[float] = Field(None, description="upper end")
    questions: Optional[int] = Field(None, description="of the test split, two per triple")
    seeds: int = Field(1, description="trainings of both")
    outcome: Literal["better", "alike", "unclaimed", "direct", "none"] = Field(
        description="better: the student is; alike: the interval holds 0; unclaimed: it does not, "
        "but a reason speaks against a claim; direct: train directly"
    )
    claim: Optional[str] = Field(None, description="the outcome in words")
    sentence: str = Field(description="that, with the command to train directly where it is better")
    command: Optional[str] = Field(None, description="trains the control")
    time: Optional[VerdictTime] = Field(None, description="of both ways")
    controls: list[ControlTime] = Field(default_factory=list, description="all of this size")

    @property
    def student_seconds(self) -> Optional[float]:
        """Seconds of the student to the goal of ``time``."""
        return None if self.time is None else self.time.student_seconds

    @property
    def control_seconds(self) -> Optional[float]:
        """Seconds of the control to the goal of ``time``."""
        return None if self.time is None else self.time.control_seconds


class Verdict(ResultsNode):
    """Whether distilling was worth it, size by size."""

    level: float = Field(description="of the intervals")
    sizes: list[SizeVerdict] = Field(default_factory=list, description="one per student")
    sentence: Optional[str] = Field(None, description="the one on the last student")
    interval: str = Field(description="how intervals are made")
