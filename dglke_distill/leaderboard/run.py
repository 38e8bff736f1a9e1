"""Runs the seeds of a leaderboard entry, or goes on with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from dglke_distill.artifacts.results_files import RESULTS_FILE
from dglke_distill.base.claims import LOCK_FILE, Kind, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.base.parsing import MAX_TOML_BYTES
from dglke_distill.base.regular_files import read_text
from dglke_distill.distill.chain import CHAIN_FILE, run_chain
from dglke_distill.distill.watcher import Watcher
from dglke_distill.leaderboard.settings import (
    ABOUT_FILE,
    SEEDS_FILE,
    SeedsConfig,
    about_template,
    chain_of,
    read_about,
    saved_seeds,
)
from dglke_distill.leaderboard.sheet import SEEDS, write_sheet
from dglke_distill.leaderboard.sheet_parts import Sheet
from dglke_distill.runs.workspace import Workspaces


class SeedWatcher(NamedTuple):
    """What hears of the seeds under way.

    Attributes:
        seed: called with (seed, seeds in all) when a seed begins.
        chain: hears of its stages.
    """

    seed: Callable[[int, int], None] = lambda seed, total: None
    chain: Watcher = Watcher()


def run_seeds(
    settings: SeedsConfig,
    directory: Path,
    *,
    resume: bool = False,
    about: Optional[Path] = None,
    data_root: Optional[Path] = None,
    watcher: SeedWatcher = SeedWatcher(),  # noqa: B008 (immutable)
) -> Sheet:
    """Train and rank every seed, and write the sheet after each.

    Args:
        settings: what to run.
        directory: receives ``ogb.toml``, ``about.toml``, ``seeds/`` (a chain each),
            ``submission.json`` and ``submission.md``.
        resume: go on with the run that is there; seeds that are done stay as they are, and there
            may be more of them than before.
        about: file of what only the author can say; else what ``about.toml`` there says.
        data_root: folder of pre-placed datasets.
        watcher: hears of progress.

    Returns:
        What ``submission.json`` holds.

    Raises:
        UserError: bad settings or data, or a directory in use.
        Interrupted: asked to stop; the run can be resumed.
    """
    told = None if about is None else (read_about(about), read_text(about, MAX_TOML_BYTES))
    with claimed(
        directory,
        Kind("leaderboard run", SEEDS_FILE, (SEEDS_FILE,), _foreign),
        settings.to_toml(),
        lambda: _same(settings, directory),
        resume=resume,
        announce=watcher.chain.announce,
    ):
        return _run_alone(settings, directory, told, data_root, watcher)


def _run_alone(
    settings: SeedsConfig,
    directory: Path,
    told: Optional[tuple[Any, str]],
    data_root: Optional[Path],
    watcher: SeedWatcher,
) -> Sheet:
    """Do what ``run_seeds`` does in a directory that no other process writes to."""
    saved = saved_seeds(directory)
    if settings.seeds > saved.seeds:
        more = saved.model_copy(update={"seeds": settings.seeds})
        atomic_write_text(directory / SEEDS_FILE, more.to_toml())
    if told is not None:
        atomic_write_text(directory / ABOUT_FILE, told[1])
    elif not (directory / ABOUT_FILE).exists():
        atomic_write_text(directory / ABOUT_FILE, about_template())
    else:
        read_about(directory / ABOUT_FILE)  # before hours of training, not after
    workspaces = Workspaces(data_root)
    for seed in range(settings.seeds):
        place = directory / SEEDS / str(seed)
        watcher.seed(seed, settings.seeds)
        done = (place / RESULTS_FILE).is_file()
        if done:
            watcher.chain.announce(f"seed {seed}: done already")
        else:
            run_chain(
                chain_of(settings, seed),
                place,
                resume=(place / CHAIN_FILE).is_file(),
                workspaces=workspaces,
                watcher=watcher.chain,
            )
            if seed < settings.seeds - 1:
                write_sheet(directory)
    return write_sheet(directory)


def _foreign(directory: Path) -> Optional[str]:
    names = {path.name for path in directory.iterdir()} - {ABOUT_FILE, LOCK_FILE}
    return min(names, default=None)


def _same(settings: SeedsConfig, directory: Path) -> bool:
    """Return whether a run that is there has the same settings; there may be more seeds now."""
    saved = saved_seeds(directory)
    if settings.chain == saved.chain and settings.seeds < saved.seeds:
        raise UserError(
            f"--seeds {settings.seeds}: the run has {saved.seeds} already; seeds are not chosen "
            "among afterwards"
        )
    return settings.chain == saved.chain
