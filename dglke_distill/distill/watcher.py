"""What hears of a chain under way."""

from __future__ import annotations

from typing import Callable, NamedTuple

from dglke_distill.distill.plan import Stage
from dglke_distill.training.loop import Progress


class Watcher(NamedTuple):
    """What hears of a chain under way.

    Attributes:
        stage: called with (stage, number from 0, stages in all) when a stage begins.
        report: progress of its training.
        announce: lines for the user.
        validated: called after each validation with the epochs done and the MRR.
    """

    stage: Callable[[Stage, int, int], None] = lambda stage, number, total: None
    report: Callable[[Progress], None] = lambda progress: None
    announce: Callable[[str], None] = lambda line: None
    validated: Callable[[int, float], None] = lambda epoch, mrr: None
