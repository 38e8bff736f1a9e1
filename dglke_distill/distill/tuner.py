"""What a chain asks of a search for its controls' settings, and how the answer is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Protocol

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.base.parsing import read_object
from dglke_distill.config import Config
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.workspace import Workspaces

_FILE = "found.json"


class Tuned(NamedTuple):
    """What a search has found.

    Attributes:
        config: the settings with the best validation MRR; None if no trial ended.
        seconds: of all trials.
        trials: number of them that reached a validation.
        headroom: by what share three times as long a search may still be better; None: not known.
        chosen: what the search chose, by names of settings, ``model.name`` among them, for a
            search at another size.
        mrr: the best validation MRR, before the control was trained; None: not known.
    """

    config: Optional[Config]
    seconds: float
    trials: int
    headroom: Optional[float] = None
    chosen: Mapping[str, Any] = {}
    mrr: Optional[float] = None


NOTHING = Tuned(None, 0.0, 0)
"""What a search has found that was not made."""


class Tuner(Protocol):
    """Searches for the settings of a model that is trained directly."""

    def __call__(
        self,
        config: Config,
        place: Path,
        seconds: float,
        epoch: float,
        workspaces: Workspaces,
        watcher: Watcher,
        known: Sequence[Mapping[str, Any]] = (),
        rivals: Sequence[Config] = (),
    ) -> Tuned:
        """Search on the validation split alone.

        Args:
            config: settings by the recipe; data, size and hardware stay what they are.
            place: folder for what the search leaves.
            seconds: how long it may last.
            epoch: seconds that an epoch by the recipe took.
            workspaces: the prepared data.
            watcher: hears of progress.
            known: what searches at other sizes chose, to begin with.
            rivals: settings of other models of the same size, one of which may be found instead.
        """
        ...


class Racer(Protocol):
    """Chooses settings of a teacher or a student, before it is trained."""

    def __call__(
        self,
        config: Config,
        place: Path,
        seconds: float,
        workspaces: Workspaces,
        watcher: Watcher,
        teachers: Sequence[str] = (),
        stated: Mapping[str, Any] = MappingProxyType({}),
    ) -> Tuned:
        """Search on the validation split alone.

        Args:
            config: settings that the data ask for; data, size and length stay what they are.
            place: folder that the search works in.
            seconds: how long it may last.
            workspaces: the prepared data.
            watcher: hears of progress.
            teachers: checkpoints that a student learns from.
            stated: a partial tree of what the user has set, which no search changes.
        """
        ...


class Searches(NamedTuple):
    """Both searches that a chain may need.

    Attributes:
        control: for the settings of controls.
        race: for those of teachers and students.
    """

    control: Tuner
    race: Racer


def save_tuned(place: Path, tuned: Tuned) -> None:
    """Write what a search has found into its folder."""
    tree = {
        "seconds": tuned.seconds,
        "trials": tuned.trials,
        "headroom": tuned.headroom,
        "chosen": dict(tuned.chosen),
        "mrr": tuned.mrr,
        "config": None
        if tuned.config is None
        else tuned.config.model_dump(mode="json", exclude_none=True),
    }
    atomic_write_text(place / _FILE, json.dumps(tree, indent=2) + "\n")


def saved_tuned(place: Path) -> Optional[Tuned]:
    """Return what a search has found; None if it has not ended.

    Raises:
        UserError: the file is damaged.
    """
    path = place / _FILE
    if not path.is_file():
        return None
    tree = read_object(path)
    config, seconds, trials = tree.get("config"), tree.get("seconds"), tree.get("trials")
    if not isinstance(seconds, (int, float)) or not isinstance(trials, int):
        raise UserError(f"{path}: seconds and trials must be numbers; remove the file")
    headroom, chosen, mrr = tree.get("headroom"), tree.get("chosen", {}), tree.get("mrr")
    numbers = all(isinstance(each, (int, float, type(None))) for each in (headroom, mrr))
    if not numbers or not isinstance(chosen, dict):
        raise UserError(f"{path}: headroom and mrr must be numbers, chosen a table; remove it")
    found = None if config is None else Config.from_mapping(config, str(path))
    return Tuned(found, float(seconds), trials, headroom, chosen, mrr)
