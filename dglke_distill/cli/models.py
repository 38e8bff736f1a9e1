"""The model that a command is given: a name of the zoo, a checkpoint, or the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.cli.say import say

if TYPE_CHECKING:
    from dglke_distill.artifacts.checkpoint import LoadedModel

__all__ = ["check_apart", "load_given", "say_which"]


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

    place = folder_of(model)
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
