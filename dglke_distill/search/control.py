"""The control of a chain, tuned for as long as its student and the student's teachers took."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.config import Config
from dglke_distill.distill.tuner import Searches, Tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.models import ENCODERS, canonical_name
from dglke_distill.runs.settings import flattened
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.found import Found, StudyConfig
from dglke_distill.search.lengths import SEARCH
from dglke_distill.search.race import race
from dglke_distill.search.space import find_space, read_space
from dglke_distill.search.study import StudyWatch, space_digest, tune
from dglke_distill.training.loop import Progress

_TRIALS = 10
"""Trials to their end that the time for the search should have room for."""
_FEWEST = 6
"""Trials below which nothing can be said of how much better a longer search would be."""
_LEAST_EPOCHS = 10
_LONGER = 4
"""By what factor a training may be longer than by the recipe, if there is time."""
_TINY = 16
"""Floats up to which rivals are tried: with more, they were worse (`experiments/defaults.py`)."""
_MODEL = "model.name"
_MOST_ENTITIES = 50_000
"""Beyond, a trial over all entities takes as long as a chain: the recipe gets the time instead."""


def trial_settings(config: Config, epochs: int) -> dict[str, Any]:
    """Return what the trials of a search keep of settings: data, size, hardware and seed.

    Args:
        config: the settings.
        epochs: of a trial.
    """
    model = config.model.model_dump(exclude={"options", "reciprocal", "init_scale"})
    if ENCODERS.find(config.model.encoder).is_table:
        model = {"name": config.model.name, "dim": config.model.dim}
    kept = {"seed", "device", "threads", "dtype", "processes", "memory_megabytes", "tables"}
    kept |= {"validation_limit", "storage", "products"}
    training = config.training.model_dump(include=kept, exclude_none=True)
    return {
        "data": config.data.model_dump(exclude_none=True),
        "model": model,
        "training": {**training, "epochs": epochs},
        "evaluation": {"query_block_megabytes": config.evaluation.query_block_megabytes},
    }


def equal_time(
    config: Config,
    place: Path,
    seconds: float,
    epoch: float,
    workspaces: Workspaces,
    watcher: Watcher,
    known: Sequence[Mapping[str, Any]] = (),
    rivals: Sequence[Config] = (),
) -> Tuned:
    """Search for the settings of a control; ``distill.tuner.Tuner`` describes the arguments.

    Where no trial comes to its end in time, the recipe is trained for that time. Of few floats
    rivals are searched for too, each for as long as the model: any may be what a student must beat.
    """
    usual = config.training.epochs
    affordable = max(1, min(_LONGER * usual, int(seconds / max(epoch, 1e-9))))
    by_recipe: Optional[Config] = None
    if affordable > usual:
        by_recipe = _lasting(config, affordable)
    if workspaces.of(config).dataset.num_entities > _MOST_ENTITIES:
        return Tuned(by_recipe, 0.0, 0)
    rivals = rivals if config.model.dim <= _TINY else ()
    others = "".join(f", also as {published_name(rival)}" for rival in rivals)
    watcher.announce(
        f"searching settings for {config.model.dim} floats trained directly{others}, for "
        f"{SEARCH * seconds:.0f} of {seconds:.0f} seconds{' each' if rivals else ''}, as its "
        "student and teachers took"
    )
    studies = [
        _Study(each, place / published_name(each) if number else place, seconds, epoch)
        for number, each in enumerate((config, *rivals))
    ]
    all_found = [study.search(SEARCH * seconds, workspaces, watcher, known) for study in studies]
    # The model itself, where none was judged.
    best, found = max(
        zip(studies, all_found), key=lambda pair: -1.0 if pair[1].mrr is None else pair[1].mrr
    )
    room = shared_headroom([each.values for each in all_found])
    spent = sum(each.seconds for each in all_found)
    tried = sum(len(each.values) for each in all_found)
    if found.config is None:
        return Tuned(by_recipe, spent, tried, room)
    once = best.took.get(-1 if found.number is None else found.number, 0.0) or epoch * best.epochs
    share = int((1 - SEARCH) * seconds / once * best.epochs)
    longest = _LONGER * best.config.training.epochs
    lasting = max(best.epochs, min(longest, share))
    chosen = {**found.chosen, _MODEL: published_name(best.config)}
    made = _lasting(found.config, lasting).model_copy(
        update={"evaluation": config.evaluation, "recipe": None, "distillation": None}
    )
    return Tuned(made, spent, tried, room, chosen)


def published_name(config: Config) -> str:
    """Return the name of the score function of settings, as it is published."""
    return canonical_name(config.model.name)


class _Study:
    """The search for one model's settings."""

    def __init__(self, config: Config, place: Path, seconds: float, epoch: float) -> None:
        self.config, self.place = config, place
        fitting = int(SEARCH * seconds / _TRIALS / max(epoch, 1e-9))
        self.epochs = min(config.training.epochs, max(_LEAST_EPOCHS, fitting))
        self.took: dict[int, float] = {}

    def search(
        self,
        seconds: float,
        workspaces: Workspaces,
        watcher: Watcher,
        known: Sequence[Mapping[str, Any]],
    ) -> Found:
        """Search for so many seconds, and return all that was found."""
        begun: dict[int, float] = {}

        def began(number: int, chosen: Mapping[str, Any]) -> None:
            begun[number] = time.perf_counter()

        def ended(number: int, how: str, mrr: Optional[float], found: Found) -> None:
            self.took[number] = time.perf_counter() - begun.get(number, time.perf_counter())

        name = find_space(self.config.model.name, taught=False)
        space = read_space(name)
        model = published_name(self.config)
        alike = [chosen for chosen in known if chosen.get(_MODEL, model) == model]
        before = [*reversed(alike), flattened(self.config.model_dump())]
        return tune(
            StudyConfig(
                space=name,
                space_sha256=space_digest(space),
                settings=trial_settings(self.config, self.epochs),
                seed=self.config.training.seed % (1 << 32),
            ),
            self.place,
            seconds=seconds,
            workspaces=workspaces,
            watch=StudyWatch(began, ended, _until(watcher, time.monotonic() + seconds)),
            plots=False,
            rehearsed=True,
            first=[*space.first(), *map(space.known, before)],
        )


def headroom(values: Sequence[float]) -> Optional[float]:
    """Return by what share a search three times as long may find better settings.

    What a search has gained since a third of its trials is taken for what thrice the trials would
    gain: more of them gain less and less. A third is the first one, as the search went, or any one,
    on average over all choices of so many trials; the larger gain counts.

    Args:
        values: validation MRRs of the trials in their order.

    Returns:
        A share of the highest value; None of too few trials.
    """
    count = len(values)
    best = max(values, default=0.0)
    if count < _FEWEST or best <= 0:
        return None
    third = -(-count // 3)
    falling = sorted(values, reverse=True)
    ways = math.comb(count, third)
    # The n-th highest is the best of a third if the others are drawn from those below it.
    on_average = sum(
        value * (math.comb(count - n, third - 1) / ways)
        for n, value in enumerate(falling, start=1)
        if count - n >= third - 1
    )
    return max(0.0, 1 - min(on_average, max(values[:third])) / best)


def shared_headroom(searches: Sequence[Sequence[float]]) -> Optional[float]:
    """Return by what share the best of several searches may be better, if all were thrice as long.

    Args:
        searches: what each found, as for ``headroom``.

    Returns:
        A share of the highest value of all; None if any search had too few trials.
    """
    rooms = [headroom(values) for values in searches]
    best = max((max(values, default=0.0) for values in searches), default=0.0)
    if best <= 0 or None in rooms:
        return None
    reach = (max(values) * (1 + (room or 0.0)) for values, room in zip(searches, rooms))
    return max(reach) / best - 1


def _lasting(config: Config, epochs: int) -> Config:
    """Return settings with other epochs, validated as often as nine times on their way."""
    every = max(1, -(-epochs // 9))
    training = config.training.model_copy(update={"epochs": epochs, "evaluate_every": every})
    return config.model_copy(update={"training": training})


def _until(watcher: Watcher, deadline: float) -> Watcher:
    """Return a watcher that stops a trial at a moment of the monotonic clock."""
    import optuna

    def report(progress: Progress) -> None:
        if time.monotonic() >= deadline:
            raise optuna.TrialPruned
        watcher.report(progress)

    return watcher._replace(report=report, announce=lambda line: None)


SEARCHES = Searches(equal_time, race)
"""The searches that a chain may need: in equal time for controls, a race for the others."""
