"""The control of a chain, tuned for as long as its student and the student's teachers took.

The scheme is that of ``dglke-distill tune``: short trainings first, longer ones of the best
settings, and a last one, which is the control itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Optional

from dglke_distill.config import Config
from dglke_distill.distill.tuner import Searches, Tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.models import ENCODERS, canonical_name
from dglke_distill.runs.settings import flattened
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.found import Ended, Found, StudyConfig
from dglke_distill.search.lengths import SEARCH, last_length, lengths_of
from dglke_distill.search.race import race
from dglke_distill.search.space import find_space, read_space
from dglke_distill.search.study import STUDY_FILE, StudyWatch, space_digest, tune

_FITTING = 3
"""Trainings of the usual length that the search has time for at least: else all are shorter."""
_FEWEST = 6
"""Settings below which nothing can be said of how much better a longer search would be."""
_LEAST_EPOCHS = 10
TINY = 16
"""Floats up to which rivals are tried: with more, they were worse (`experiments/defaults.py`)."""
_MODEL = "model.name"
_MOST_ENTITIES = 50_000
"""Beyond, a trial over all entities takes as long as a chain: the recipe gets the time instead."""


def trial_settings(config: Config) -> dict[str, Any]:
    """Return what the trials of a search keep of settings: data, size, hardware and seed."""
    model = config.model.model_dump(exclude={"options", "reciprocal", "init_scale"})
    if ENCODERS.find(config.model.encoder).is_table:
        model = {"name": config.model.name, "dim": config.model.dim}
    kept = {"seed", "device", "threads", "dtype", "processes", "memory_megabytes", "tables"}
    kept |= {"validation_limit", "storage", "products"}
    return {
        "data": config.data.model_dump(exclude_none=True),
        "model": model,
        "training": config.training.model_dump(include=kept, exclude_none=True),
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
    affordable = last_length(usual, epoch, seconds, lengths_of(usual))
    by_recipe = _lasting(config, affordable) if affordable > usual else None
    if workspaces.of(config).dataset.num_entities > _MOST_ENTITIES:
        return Tuned(by_recipe, 0.0, 0)
    rivals = rivals if config.model.dim <= TINY else ()
    others = "".join(f", also as {published_name(rival)}" for rival in rivals)
    watcher.announce(
        f"searching settings for {config.model.dim} floats trained directly{others}: "
        f"{SEARCH * seconds:.0f} s{' each' if rivals else ''}, and {(1 - SEARCH) * seconds:.0f} s "
        f"to train by the best (the student and its teachers took at least {seconds:.0f} s)"
    )
    fitting = max(_LEAST_EPOCHS, int(SEARCH * seconds / _FITTING / max(epoch, 1e-9)))
    quiet = watcher._replace(announce=lambda line: None)
    searches: list[tuple[Config, list[int], Found]] = []
    for number, each in enumerate((config, *rivals)):
        lengths = lengths_of(min(each.training.epochs, fitting))
        folder = place / published_name(each) if number else place
        found = _search(each, folder, SEARCH * seconds, lengths, workspaces, quiet, known)
        searches.append((each, lengths, found))
    # The model itself, where none was judged.
    best, lengths, found = max(searches, key=lambda one: -1.0 if one[2].mrr is None else one[2].mrr)
    room = shared_headroom([one[2].ended for one in searches])
    spent = sum(one[2].seconds for one in searches)
    tried = sum(len(_settings(one[2].ended)) for one in searches)
    if found.config is None:
        return Tuned(by_recipe, spent, tried, room)
    longest = [*lengths, lengths_of(best.training.epochs)[-1]]
    left = (1 - SEARCH) * seconds
    epochs = last_length(found.config.training.epochs, found.pace, left, longest)
    epochs = max(epochs, lengths[-2])  # for which there is time: no control ends as a short trial
    made = _lasting(found.config, epochs).model_copy(
        update={"evaluation": config.evaluation, "recipe": None, "distillation": None}
    )
    chosen = {**found.chosen, _MODEL: published_name(best)}
    return Tuned(made, spent, tried, room, chosen, found.mrr)


def published_name(config: Config) -> str:
    """Return the name of the score function of settings, as it is published."""
    return canonical_name(config.model.name)


def _search(
    config: Config,
    place: Path,
    seconds: float,
    lengths: Sequence[int],
    workspaces: Workspaces,
    watcher: Watcher,
    known: Sequence[Mapping[str, Any]],
) -> Found:
    """Search for one model's settings, or go on with that for what is left of the time.

    The recipe's settings come first, then what was found for it at other sizes.
    """
    name = find_space(config.model.name, taught=False)
    space = read_space(name)
    model = published_name(config)
    alike = [chosen for chosen in known if chosen.get(_MODEL, model) == model]
    before = [flattened(config.model_dump()), *reversed(alike)]
    first = [space.near(chosen) for chosen in before] + space.first()
    return tune(
        StudyConfig(
            space=name,
            space_sha256=space_digest(space),
            settings=trial_settings(config),
            lengths=list(lengths),
            seed=config.training.seed % (1 << 32),
        ),
        place,
        seconds=None if (place / STUDY_FILE).is_file() else seconds,
        workspaces=workspaces,
        watch=StudyWatch(trial=watcher),
        control=True,
        first=[chosen for n, chosen in enumerate(first) if chosen not in first[:n]],
    )


def headroom(ended: Sequence[Ended]) -> Optional[float]:
    """Return by what share a search three times as long may find better settings.

    What has been gained since a third of the time is taken for what thrice the time would gain:
    more of it gains less and less. A search of a third of the time would have trained its best
    settings for longer at its end, which is not seen here: the true gain is rather smaller. As the
    order of the first trials may have been lucky, the gain is also that of all settings over any
    third of them, on average over all choices, by trainings of one length, the shortest. The larger
    gain counts.

    Args:
        ended: the trainings in their order.

    Returns:
        A share of the highest value; None of too few settings.
    """
    best = max((one.mrr for one in ended), default=0.0)
    values = _settings(ended)
    count = len(values)
    if count < _FEWEST or best <= 0:
        return None
    clock = list(accumulate(one.seconds for one in ended))
    early = max(
        (one.mrr for one, now in zip(ended, clock) if now <= clock[-1] / SEARCH / 3), default=0.0
    )
    third = -(-count // 3)
    falling = sorted(values, reverse=True)
    ways = math.comb(count, third)
    # The n-th highest is the best of a third if the others are drawn from those below it.
    on_average = sum(
        value * (math.comb(count - n, third - 1) / ways)
        for n, value in enumerate(falling, start=1)
        if count - n >= third - 1
    )
    return max(0.0, 1 - min(early / best, on_average / max(falling[0], 1e-9)))


def _settings(ended: Sequence[Ended]) -> list[float]:
    """Return what settings reached when they were first tried: in the shortest trainings."""
    shortest = min((one.epochs for one in ended), default=0)
    return [one.mrr for one in ended if one.epochs == shortest]


def shared_headroom(searches: Sequence[Sequence[Ended]]) -> Optional[float]:
    """Return by what share the best of several searches may be better, if all were thrice as long.

    Args:
        searches: the trainings of each, as for ``headroom``.

    Returns:
        A share of the highest value of all; None if any search had too few settings.
    """
    rooms = [headroom(ended) for ended in searches]
    highest = [max((one.mrr for one in ended), default=0.0) for ended in searches]
    best = max(highest, default=0.0)
    if best <= 0 or None in rooms:
        return None
    return max(each * (1 + (room or 0.0)) for each, room in zip(highest, rooms)) / best - 1


def _lasting(config: Config, epochs: int) -> Config:
    """Return settings with other epochs, validated as often as nine times on their way."""
    every = max(1, -(-epochs // 9))
    training = config.training.model_copy(update={"epochs": epochs, "evaluate_every": every})
    return config.model_copy(update={"training": training})


SEARCHES = Searches(equal_time, race)
"""The searches that a chain may need: in equal time for controls, a race for the others."""
