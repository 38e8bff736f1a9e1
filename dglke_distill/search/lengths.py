"""How long the next training of a search is: short for new settings, longer for the best ones.

Asynchronous successive halving (Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht,
Talwalkar 2020, "A system for massively parallel hyperparameter tuning"). A longer training begins
anew, since schedules of the learning rate are spread over all epochs: only what has ended is
compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

SEARCH = 0.6
"""The share of the time that is searched in; what is left is for the training of what was found."""

_KEPT = 3
"""One of so many settings is trained for longer, and for so many times as many epochs."""

_WORTH = 1.5
"""By what factor the last training shall be longer than the settings have had."""

_SAFETY = 0.95
"""The share of the time left that a training is made for."""


class Training(NamedTuple):
    """A training of a search.

    Attributes:
        root: number of the trial that its settings were first tried by.
        epochs: how long it is.
        mrr: highest validation MRR; None where it has not ended.
        pace: seconds that an epoch took.
    """

    root: int
    epochs: int
    mrr: Optional[float]
    pace: float


class Budget(NamedTuple):
    """What is left to a search.

    Attributes:
        left: seconds; None: as long as it takes.
        whole: seconds that it had at first; 0: no last training is wanted.
        last: whether one trial is left.
    """

    left: Optional[float] = None
    whole: float = 0.0
    last: bool = False


def lengths_of(epochs: int) -> list[int]:
    """Return the epochs of a search's trainings, the usual ones second to last.

    Args:
        epochs: that such a model is usually trained for.
    """
    found = [max(1, round(epochs * share)) for share in (1 / _KEPT**2, 1 / _KEPT, 1, _KEPT)]
    return sorted(set(found))


def last_length(epochs: int, pace: float, left: float, lengths: Sequence[int]) -> int:
    """Return how many epochs the best settings are trained for at last.

    Args:
        epochs: that they have had.
        pace: seconds of one.
        left: seconds.
        lengths: see ``lengths_of``.

    Returns:
        ``epochs`` where no training that is worth it fits in.
    """
    fits = min(lengths[-1], int(_SAFETY * left / max(pace, 1e-9)))
    return fits if fits >= _WORTH * epochs else epochs


def longer(
    trainings: Sequence[Training], lengths: Sequence[int], budget: Budget
) -> Optional[tuple[int, int]]:
    """Return which settings, by their root, are trained for longer now, and for how many epochs.

    Args:
        trainings: all that have begun, without those that failed.
        lengths: see ``lengths_of``.
        budget: what is left.

    Returns:
        None where new settings are to be tried, for the shortest time.
    """
    begun: dict[int, int] = {}
    for one in trainings:
        begun[one.root] = max(one.epochs, begun.get(one.root, 0))
    ended = sorted(
        (one for one in trainings if one.mrr is not None), key=lambda one: -(one.mrr or 0)
    )
    if not ended:
        return None
    best = ended[0]
    if budget.left is not None and budget.left <= (1 - SEARCH) * budget.whole:
        epochs = last_length(begun[best.root], best.pace, budget.left, lengths)
        if epochs > begun[best.root]:
            return best.root, epochs
    if budget.last and begun[best.root] < lengths[-2]:
        return best.root, lengths[-2]
    for length, more in reversed(list(zip(lengths, lengths[1:]))):
        alike = [one for one in ended if one.epochs == length]
        for one in alike[: len(alike) // _KEPT]:
            ends = budget.left is None or one.pace * more <= budget.left
            if begun[one.root] == length and ends:
                return one.root, more
    return None
