"""A training shown to the user, and to a tracker if one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from dglke_distill.cli.output import TrainingDisplay
    from dglke_distill.distill.plan import Stage
    from dglke_distill.runs.tracking import Tracker
    from dglke_distill.training.loop import Progress


class Heard:
    """Passes on what happens, to the display and to a tracker.

    Args:
        display: what the user sees.
        tracker: one that also hears of it, or None.
    """

    def __init__(self, display: TrainingDisplay, tracker: Optional[Tracker]) -> None:
        """Keep both."""
        self.display, self.tracker = display, tracker

    def begin(self, stage: str, place: Path) -> None:
        """Begin a stage, see ``Tracker.begin``."""
        if self.tracker is not None:
            self.tracker.begin(stage, place)

    def stage_of(self, directory: Path) -> Callable[[Stage, int, int], None]:
        """Return what a chain in a directory calls when a stage begins."""
        from dglke_distill.distill.finished import STAGES

        def begin(stage: Stage, number: int, total: int) -> None:
            self.display.begin(stage, number, total)
            self.begin(stage.name, directory / STAGES / stage.name)

        return begin

    def report(self, now: Progress) -> None:
        """Tell where a training stands."""
        self.display.report(now)
        if self.tracker is not None:
            self.tracker.report(now)

    def validated(self, epoch: int, mrr: float) -> None:
        """Tell the MRR of a validation."""
        if self.tracker is not None:
            self.tracker.validated(epoch, mrr)


def check_tracker(name: Optional[str]) -> None:
    """Look whether a tracker is there, before anything is done.

    Raises:
        UserError: there is no tracker of that name, or its package is not installed.
    """
    if name is not None:
        from dglke_distill.runs.tracking import open_tracker

        open_tracker(name, Path(), {}, lambda line: None)


@contextmanager
def tracked(
    name: Optional[str], folder: Path, settings: Mapping[str, Any], display: TrainingDisplay
) -> Iterator[Heard]:
    """Have a display and, if one is named, a tracker hear of a training.

    Args:
        name: of the tracker, or None.
        folder: the run directory.
        settings: of the run.
        display: what the user sees.
    """
    if name is None:
        yield Heard(display, None)
        return
    from dglke_distill.runs.tracking import open_tracker

    tracker = open_tracker(name, folder, settings, display.announce)
    assert tracker is not None
    with tracker:
        yield Heard(display, tracker)
