"""What several calls are given: folders, models, teachers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from dglke_distill.api.outcomes import TrainingRun
from dglke_distill.distill.saved import teacher_place

AnyPath = Union[str, Path]
AnyTeacher = Union[str, Path, TrainingRun]
"""A folder, or what ``train`` returned."""


def places_of(given: Union[AnyTeacher, Sequence[AnyTeacher]]) -> list[str]:
    """Return the checkpoints of one teacher or several, by their folders or those of runs."""
    teachers = [given] if isinstance(given, (str, Path, TrainingRun)) else given
    places = (each.checkpoint if isinstance(each, TrainingRun) else each for each in teachers)
    return [str(teacher_place(place)) for place in places]


def path_of(given: Optional[AnyPath]) -> Optional[Path]:
    """Return a path, or None where none is given."""
    return None if given is None else Path(given)
