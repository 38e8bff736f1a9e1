"""What a row of the OGB leaderboard needs: seeds, their mean and deviation, and the sheet."""

from __future__ import annotations

from dglke_distill.leaderboard.run import run_seeds
from dglke_distill.leaderboard.settings import SeedsConfig, compose_seeds, saved_seeds
from dglke_distill.leaderboard.sheet import build_sheet, write_sheet

__all__ = [
    "SeedsConfig",
    "build_sheet",
    "compose_seeds",
    "run_seeds",
    "saved_seeds",
    "write_sheet",
]
