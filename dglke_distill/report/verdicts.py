"""The verdicts of a run on its students, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from dglke_distill.report.fields import Fields

__all__ = ["SizeVerdict", "read_verdicts"]


@dataclass(frozen=True)
class SizeVerdict:
    """Whether a student is better than its size trained directly.

    Attributes:
        student, control: names of the stages; the control is the one that validation prefers.
        sentence: the verdict in words.
        outcome: ``better``, ``alike``, ``direct`` or ``none``.
        gain: by what share the student's MRR is above the control's; None where it is not known.
        low, high: ends of its interval of 95 %; None where the split is too small for one.
        student_seconds, control_seconds: to the control's final validation MRR, with teachers and
            searches; None where it was not reached.
    """

    student: str
    control: Optional[str]
    sentence: str
    outcome: str
    gain: Optional[float] = None
    low: Optional[float] = None
    high: Optional[float] = None
    student_seconds: Optional[float] = None
    control_seconds: Optional[float] = None


def read_verdicts(fields: Fields) -> dict[str, SizeVerdict]:
    """Return the verdicts by the student's name; none of a run of an older version."""
    if not fields.tree.get("sizes"):
        return {}
    found = {}
    for size in fields.objects("sizes"):
        spent = size.optional_object("time")
        verdict = SizeVerdict(
            student=size.text("student"),
            control=size.optional_text("control"),
            sentence=size.text("sentence"),
            outcome=size.text("outcome"),
            gain=size.optional_number("gain"),
            low=size.optional_number("low"),
            high=size.optional_number("high"),
            student_seconds=spent.optional_number("student_seconds"),
            control_seconds=spent.optional_number("control_seconds"),
        )
        found[verdict.student] = verdict
    return found
