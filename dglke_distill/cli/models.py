"""The model that a command is given: a name of the zoo, a checkpoint, or the folder of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.places import check_free, check_writable
from dglke_distill.base.regular_files import resolved
from dglke_distill.cli.say import say

if TYPE_CHECKING:
    from dglke_distill.artifacts.loaded_model import LoadedModel

_RUNS = Path("runs")
"""Where runs lie that the user names no folder for."""
_LOGS = (".log", ".out", ".err")


def load_given(model: str, *, store: Optional[str] = None, offline: bool = False) -> LoadedModel:
    """Load what was given; which checkpoint of a run it is, is said on standard error.

    Args:
        model: a name of the zoo, a checkpoint, or the folder of a run.
        store: the only store that names are looked up in; None: all of them.
        offline: whether to refuse to download.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    from dglke_distill.zoo import load_checkpoint
    from dglke_distill.zoo.fetch import folder_of
    from dglke_distill.zoo.hub import is_hub

    place = folder_of(model)
    if store is not None and (place is not None or is_hub(model)):
        what = "on the hub" if place is None else "a folder"
        raise UserError(
            f"--store {store}: is where names are looked up, and {model} is {what}; leave it out"
        )
    loaded = load_checkpoint(model if place is None else place, store=store, offline=offline)
    _say(model, place)
    return loaded


def check_apart(out: Path, model: str) -> None:
    """Check that what is written does not take the place of what is read.

    Args:
        out: the directory to be written.
        model: what was given; the folder of a run stands for its checkpoint.

    Raises:
        UserError: both are one.
    """
    from dglke_distill.zoo.fetch import folder_of

    if resolved(out) in (resolved(Path(model)), resolved(folder_of(model) or Path(model))):
        raise UserError(f"--out {out}: is the checkpoint itself; choose another directory")


def check_outside(
    out: Path, model: str, flag: str = "--out", reads: Iterable[Union[str, Path, None]] = ()
) -> None:
    """Check that a file which is written is none of the model's own, and none that is read.

    Args:
        out: the file or folder.
        model: see ``check_apart``.
        flag: the option that names it.
        reads: what else the command reads, as given: names, files or folders; None: nothing.

    Raises:
        UserError: it lies in the folder of the model, or is read.
    """
    from dglke_distill.zoo.fetch import folder_of

    place = folder_of(model)
    if place is not None and resolved(out).is_relative_to(resolved(place)):
        raise UserError(f"{flag} {out}: lies in the checkpoint {place}; choose another place")
    for given in reads:
        if given and Path(given).exists() and resolved(out).is_relative_to(resolved(Path(given))):
            raise UserError(f"{flag} {out}: is read by this command, too; choose another place")


def check_new_checkpoint(out: Path, overwrite: bool) -> None:
    """Check that a checkpoint may be written to a place, before it costs any work.

    Args:
        out: the directory to be written.
        overwrite: whether an earlier checkpoint there is replaced.

    Raises:
        UserError: something is there that is not to be replaced.
    """
    from dglke_distill.artifacts.checkpoint import check_place

    check_place(out)
    check_free(out, overwrite)


def check_run_folder(out: Optional[Path]) -> None:
    """Check that a run can be written, and not among files that have nothing to do with it.

    Hidden files and logs may lie there, since a shell makes them before a command begins. What a
    run before has left is not looked at here.

    Args:
        out: the directory that the user named; None: a new one is made.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    if out is not None and os.path.lexists(out) and not out.is_dir():
        raise UserError(f"--out {out}: is no folder; name a new or empty one")
    check_writable(out or _RUNS, out or _RUNS)
    if out is None or not out.is_dir():
        return
    from dglke_distill.distill.chain import CHAIN_FILE
    from dglke_distill.distill.compare import COMPARISON_FILE
    from dglke_distill.distill.controls import SEARCHES
    from dglke_distill.distill.finished import STAGES
    from dglke_distill.runs.run_files import BEST_FILE, CHECKPOINT_DIRECTORY, CONFIG_FILE
    from dglke_distill.search.study import STUDY_FILE

    ours = {BEST_FILE, CHAIN_FILE, CHECKPOINT_DIRECTORY, COMPARISON_FILE, CONFIG_FILE, SEARCHES}
    ours |= {STAGES, STUDY_FILE}
    there = sorted(path.name for path in out.iterdir())
    others = [name for name in there if not name.startswith(".") and not name.endswith(_LOGS)]
    if others and not ours.intersection(there):
        raise UserError(
            f"--out {out}: holds {others[0]!r}, which no run has left there; name a new or empty "
            "folder"
        )


def say_which(model: str) -> None:
    """Say which checkpoint is meant, where a folder holds it and is none itself.

    Args:
        model: what was given.

    Raises:
        UserError: the results of a chain cannot be read.
    """
    from dglke_distill.zoo.fetch import folder_of

    _say(model, folder_of(model))


def _say(model: str, place: Optional[Path]) -> None:
    if place is not None and place != Path(model):
        say(f"model: {place}", err=True)
