"""Which process a trial is of, and what becomes of trials whose process has died."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dglke_distill.base.claims import LOCK_FILE
from dglke_distill.base.files import try_lock
from dglke_distill.distill.finished import STAGES
from dglke_distill.search.leave import AGAIN, EPOCHS, ROOT, tidy

if TYPE_CHECKING:
    import optuna


_OWNER = "owner"
_YOUNG = 60.0
"""Seconds that a trial may take until it has claimed its directory."""


def place_of(trial: Any) -> str:
    """Return the name of a trial's directory."""
    return f"trial-{trial.number:04d}"


def own(trial: optuna.Trial) -> None:
    """Write down that a trial is this process's."""
    trial.set_user_attr(_OWNER, {"host": socket.gethostname(), "pid": os.getpid()})


def under_way(study: optuna.Study) -> list[Any]:
    """Return the trials that have begun and not ended."""
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))


def bury(study: optuna.Study, directory: Path) -> None:
    """Interrupt the trials whose process has died: nobody holds the lock of their directory.

    Args:
        study: with its trials.
        directory: of the study.
    """
    for trial in under_way(study):
        if not _alive(trial, directory / STAGES / place_of(trial) / LOCK_FILE):
            # What has killed a process may do so again, and then is the settings' fault.
            interrupt(study, trial, directory, {AGAIN: True})


def interrupt(
    study: optuna.Study,
    trial: Any,
    directory: Path,
    marks: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """End a trial without a result, and queue its settings again.

    Args:
        study: of the trial.
        trial: under way.
        directory: of the study.
        marks: attributes of the trial to come; one that has them already is not queued again.
    """
    import optuna

    # Another process may do so at the same moment: one of them queues the settings again.
    with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        tidy(directory, place_of(trial))
        if marks and set(marks) <= set(trial.user_attrs):
            return
        kept = {key: value for key, value in trial.user_attrs.items() if key in (EPOCHS, ROOT)}
        chosen = trial.system_attrs.get("fixed_params") or trial.params
        study.enqueue_trial(dict(chosen), user_attrs={**kept, **marks})


def _alive(trial: Any, lock: Path) -> bool:
    """Return whether the process of a running trial is still at it."""
    owner = trial.user_attrs.get(_OWNER, {})
    if owner.get("host") == socket.gethostname() and not Path(f"/proc/{owner['pid']}").exists():
        return False
    begun = trial.datetime_start
    if begun is not None and (datetime.now() - begun).total_seconds() < _YOUNG:
        return True  # it may not have claimed its directory yet
    try:
        with open(lock, "rb") as stream:
            return try_lock(stream.fileno()) is not True
    except OSError:
        return False
