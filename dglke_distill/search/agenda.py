"""What a study was asked for, and which trial comes next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from dglke_distill.distill.watcher import Watcher
from dglke_distill.search.found import StudyConfig
from dglke_distill.search.leave import EPOCHS, PACE, ROOT, SECONDS, highest, interrupted, state_of
from dglke_distill.search.lengths import Budget, Training, longer
from dglke_distill.training.loop import Progress

if TYPE_CHECKING:
    import optuna


_GOAL = "goal:"
_TIME = "seconds:"
TIMED = "timed"
"""Of a trial whose seconds are those of a time that was asked for."""


def allowed(
    study: optuna.Study, config: StudyConfig, trials: Optional[int], seconds: Optional[float]
) -> Optional[float]:
    """Write down what is asked for, and return the seconds of this call; None: no limit.

    Where nothing is asked for, it is what is left of before: of calls, or of the settings if the
    first one was killed before it came to that.

    Args:
        study: that is begun or gone on with.
        config: its settings, as they were saved.
        trials: how many more; None: not said.
        seconds: how long; None: not said.
    """
    going_on = trials is None and seconds is None
    if going_on and not study.user_attrs:
        trials, seconds = config.trials, config.seconds
    if trials is not None:
        _ask(study, _GOAL, trials + max(0, -rest_of(study)))
    if seconds is not None:
        _ask(study, _TIME, seconds + max(0.0, -_time_left(study)))
    return max(0.0, _time_left(study)) or None if going_on else seconds


def _ask(study: optuna.Study, kind: str, value: float) -> None:
    study.set_user_attr(f"{kind}{time.time_ns()}", value)


def _asked(study: optuna.Study, kind: str) -> float:
    """Return what all calls have asked for: a number of trials, or seconds."""
    return sum(value for key, value in study.user_attrs.items() if key.startswith(kind))


def rest_of(study: optuna.Study) -> int:
    """Return how many of the trials that were asked for have not begun."""
    trials = study.get_trials(deepcopy=False)
    return int(_asked(study, _GOAL)) - (len(trials) - _waiting(study) - interrupted(trials))


def _time_left(study: optuna.Study) -> float:
    """Return the seconds that were asked for and not used; below 0: a trial took longer."""
    own = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    return round(_asked(study, _TIME) - sum(a.get(SECONDS, 0.0) for a in own if TIMED in a), 3)


def take_no_more(study: optuna.Study) -> None:
    """Write down that a call came to its end: no time of it is left."""
    if (left := _time_left(study)) > 0:
        _ask(study, _TIME, -left)


def unfinished(directory: Path) -> bool:
    """Return whether something is left of what a study was asked for.

    Args:
        directory: of the study.
    """
    import optuna

    from dglke_distill.search.journal import STUDY, storage_of

    try:
        study = optuna.load_study(study_name=STUDY, storage=storage_of(directory))
    except KeyError:  # stopped before it was made
        return True
    return not study.user_attrs or rest_of(study) > 0 or _time_left(study) > 0


def _waiting(study: optuna.Study) -> int:
    import optuna

    return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)))


def next_trial(study: optuna.Study, lengths: Sequence[int], budget: Budget) -> optuna.Trial:
    """Return the next trial: of new settings, or of some that deserve a longer training.

    Args:
        study: with its trials.
        lengths: of trainings; none: all are alike.
        budget: what is left.
    """
    if not lengths:
        return study.ask()
    trials = study.get_trials(deepcopy=False)
    trainings = [
        Training(
            root=trial.user_attrs.get(ROOT, trial.number),
            epochs=trial.user_attrs[EPOCHS],
            mrr=highest(trial) if trial.state.is_finished() else None,
            pace=trial.user_attrs.get(PACE, 0.0),
        )
        for trial in trials
        if EPOCHS in trial.user_attrs and state_of(trial) != "interrupted"
    ]
    if not _waiting(study) and (found := longer(trainings, lengths, budget)):
        root, epochs = found
        study.enqueue_trial(trials[root].params, user_attrs={ROOT: root, EPOCHS: epochs})
    trial = study.ask()
    if EPOCHS not in trial.user_attrs:
        alone = budget.last and not trainings
        trial.set_user_attr(EPOCHS, lengths[-2] if alone else lengths[0])
    return trial


def until(watcher: Watcher, deadline: float) -> Watcher:
    """Return a watcher that stops a trial at a moment of the monotonic clock.

    Args:
        watcher: that hears of the training.
        deadline: the moment.
    """
    import optuna

    def report(progress: Progress) -> None:
        if time.monotonic() >= deadline:
            raise optuna.TrialPruned
        watcher.report(progress)

    return watcher._replace(report=report)
