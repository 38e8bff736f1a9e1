"""What a study was asked for, and which trial comes next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from dglke_distill.distill.watcher import Watcher
from dglke_distill.search.found import StudyConfig
from dglke_distill.search.leave import EPOCHS, PACE, ROOT, SECONDS, highest, interrupted, state_of
from dglke_distill.search.lengths import Budget, Training, longer
from dglke_distill.training.loop import Progress

if TYPE_CHECKING:
    import optuna


_GOAL = "goal:"
_TIME = "time:"


def allowed(
    study: optuna.Study, config: StudyConfig, trials: Optional[int], seconds: Optional[float]
) -> Optional[float]:
    """Write down what is asked for, and return the seconds of this call; None: no limit.

    Where nothing is asked for, it is what was before: by calls, or in the settings if the first one
    was killed before it came to that.

    Args:
        study: that is begun or gone on with.
        config: its settings, as they were saved.
        trials: how many more; None: not said.
        seconds: how long; None: not said.
    """
    going_on = trials is None and seconds is None
    if going_on and not _asked(study, _GOAL) and not _asked(study, _TIME):
        trials, seconds = config.trials, config.seconds
    for kind, value in ((_GOAL, trials), (_TIME, seconds)):
        if value is not None:
            study.set_user_attr(f"{kind}{time.time_ns()}", value)
    if not going_on or _asked(study, _GOAL) or not _asked(study, _TIME):
        return seconds
    spent = sum(t.user_attrs.get(SECONDS, 0.0) for t in study.get_trials(deepcopy=False))
    return max(0.0, sum(_asked(study, _TIME)) - spent)


def _asked(study: optuna.Study, kind: str) -> list[float]:
    """Return what calls have asked for: numbers of trials, or seconds."""
    return [value for key, value in study.user_attrs.items() if key.startswith(kind)]


def rest_of(study: optuna.Study) -> int:
    """Return how many of the trials that were asked for have not begun."""
    trials = study.get_trials(deepcopy=False)
    return int(sum(_asked(study, _GOAL))) - (len(trials) - _waiting(study) - interrupted(trials))


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
