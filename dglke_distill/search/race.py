"""A race of a few settings: each is trained for a short while, the best third for longer.

Successive halving (Jamieson, Talwalkar 2016, "Non-stochastic best arm identification and
hyperparameter optimization") on the validation split, within a time. The settings that the data
ask for are always among those that race, so that a race can only choose others if these are better.

Where an epoch takes long, the first look at each is a training on a part of the facts, so that six
can be looked at in any time. Such a look alone chooses nothing: the settings that the data ask for
stay, unless others were better after an epoch on all facts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.config import Config
from dglke_distill.distill.finished import STAGES
from dglke_distill.distill.plan import Role, Stage
from dglke_distill.distill.stages import run_stage
from dglke_distill.distill.tuner import Tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.durations import SECONDS
from dglke_distill.search.racers import racing_settings

_KEPT = 3
"""One of so many goes on, to so many times as many epochs."""

_LOOKS = 6
"""Settings that are looked at, however slow the data."""

_SLICES = 13
"""A race's time in first looks: six, one that was too long, and two of three times the length."""

_FACTS = 256
"""The least of them that a first look trains on."""

_QUESTIONS = 2000
"""Validation triples that a training is judged by, at most."""


class _TimeIsUp(Exception):
    """The race is over in the midst of a training."""


class _TooLong(Exception):
    """A first look does not end in its share of the time; ``seconds`` is what it would take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _Racer(NamedTuple):
    """Settings under way: their number, and the best MRR of their longest training, in epochs."""

    number: int
    config: Config
    mrr: float = -1.0
    epochs: float = 0


class _Track(NamedTuple):
    """What all trainings of a race share."""

    place: Path
    workspaces: Workspaces
    watcher: Watcher
    teachers: Sequence[str]
    deadline: float
    parts: dict[float, Workspaces]


def race(
    config: Config,
    place: Path,
    seconds: float,
    workspaces: Workspaces,
    watcher: Watcher,
    teachers: Sequence[str] = (),
    stated: Mapping[str, Any] = MappingProxyType({}),
) -> Tuned:
    """Return the settings that win, with the epochs of ``config``.

    Args:
        config: the settings that the data ask for; they race too, and win where nothing is better.
        place: folder that the race works in; it is removed at the end.
        seconds: how long it may last; kernels are compiled before.
        workspaces: the prepared data.
        watcher: hears of progress.
        teachers: checkpoints that a student learns from; none for a model trained directly.
        stated: a partial tree of what the user has set, which no racer changes.
    """
    settings = racing_settings(config, bool(teachers), stated)
    racers = [_Racer(n, c) for n, c in enumerate(settings)]
    track = _Track(place, workspaces, watcher, teachers, np.inf, {})
    with suppress(UserError, FloatingPointError):
        _trained(racers[0], 0.0, track)
    begun = time.monotonic()
    track = track._replace(deadline=begun + seconds)
    epochs = float(max(1, config.training.epochs // _KEPT**3))
    runs, best = 0, racers[0]
    rung: list[_Racer] = []
    try:
        first, epochs = _first_look(racers[0], epochs, seconds / _SLICES, track)
        while True:
            rung = []
            for racer in racers:
                if time.monotonic() >= track.deadline:
                    raise _TimeIsUp
                if racer.number == 0 and first is not None and first.epochs == epochs:
                    rung.append(first)
                    runs += 1
                    continue
                with suppress(UserError, FloatingPointError):  # settings that do not work together
                    rung.append(_trained(racer, epochs, track))
                    runs += 1
                # A longer training of fewer is worth more than a first look at all.
                spent = (time.monotonic() - begun) / seconds
                if len(rung) >= _LOOKS and spent > (_LOOKS + 1) / _SLICES:
                    if epochs < config.training.epochs:
                        break
            if not rung:
                break
            best = _best_of(rung)
            if epochs >= config.training.epochs or len(rung) == 1:
                break
            racers = _go_on(rung, all_facts=epochs >= 1)
            if len(racers) == 1:
                break
            epochs = min(config.training.epochs, epochs * _KEPT)
            epochs = epochs if epochs < 1 else float(round(epochs))
    except _TimeIsUp:
        if len(rung) > 1 and (not best.epochs or any(racer.number == 0 for racer in rung)):
            best = _best_of(rung)
    finally:
        shutil.rmtree(place / STAGES, ignore_errors=True)
    spent = time.monotonic() - begun
    longer = "try a --search four times as long"
    longer += f" (of {4 * SECONDS:.0f}s, if none was given)"
    if 0 < best.epochs < 1:  # too little to choose others by
        best = _Racer(0, config)
        watcher.announce(
            f"{_counted(runs)} on a part of the facts raced for {spent:.0f} s, too little to "
            f"choose by: the defaults for this data stay; {longer}"
        )
    elif runs < 2:
        watcher.announce(
            f"{_counted(runs)} of settings ended within {seconds:g} s, so that there is nothing to "
            f"choose from: the defaults for this data stay; {longer}"
        )
    else:
        said = (
            "the defaults for this data" if best.number == 0 else _difference(config, best.config)
        )
        reached = f", valid MRR {best.mrr:.4f} after {best.epochs:g} epochs" if best.epochs else ""
        watcher.announce(f"{_counted(runs)} raced for {spent:.0f} s: {said} won{reached}")
    return Tuned(_as_long(best.config, config), spent, runs)


def _counted(runs: int) -> str:
    return plural(runs, "training") if runs else "no training"


def _best_of(rung: Sequence[_Racer]) -> _Racer:
    return max(rung, key=lambda racer: (racer.mrr, -racer.number))


def _go_on(rung: Sequence[_Racer], *, all_facts: bool) -> list[_Racer]:
    """Return those that go on, the best first; a part of the facts is no reason to drop 0."""
    ranked = sorted(rung, key=lambda racer: (-racer.mrr, racer.number))
    kept = ranked[: max(1, -(-len(ranked) // _KEPT))]
    if not all_facts and all(racer.number for racer in kept):
        kept += [racer for racer in ranked if racer.number == 0]
    return kept


def _first_look(
    racer: _Racer, epochs: float, slice_seconds: float, track: _Track
) -> tuple[Optional[_Racer], float]:
    """Return the first racer after a training that fits into a slice of time, and its epochs.

    Below one, these are the share of the facts that one epoch is of.

    Raises:
        _TimeIsUp: so is the race's time.
    """
    facts = len(track.workspaces.of(racer.config).dataset.train)
    least = min(1.0, _FACTS / max(facts, 1))
    while True:
        limit = None if epochs <= least else time.monotonic() + slice_seconds
        try:
            return _trained(racer, epochs, track, limit), epochs
        except (UserError, FloatingPointError):
            return None, epochs
        except _TooLong as error:
            fits = max(least, epochs * 0.8 * slice_seconds / error.seconds)
            epochs = fits if fits < 1 else float(int(fits))


def _trained(racer: _Racer, epochs: float, track: _Track, limit: Optional[float] = None) -> _Racer:
    """Return a racer after a training of so many epochs, or one of such a share of the facts.

    Raises:
        _TimeIsUp: so is the race's time.
        _TooLong: ``limit``, a moment of the monotonic clock, has passed.
    """
    reached: list[float] = []
    whole = max(1, round(epochs))
    questions = _QUESTIONS if epochs else 1  # of a training that compiles kernels, and no more
    questions = min(racer.config.training.validation_limit or questions, questions)
    training = racer.config.training.model_copy(
        update={
            "epochs": whole,
            "evaluate_every": max(1, -(-whole // _KEPT)),
            "validation_limit": questions,
        }
    )
    evaluation = racer.config.evaluation.model_copy(update={"split": "none"})
    config = racer.config.model_copy(update={"training": training, "evaluation": evaluation})
    role: Role = "student" if track.teachers else "direct"
    stage = Stage(f"racer-{racer.number}-{epochs:g}", role, config, tuple(track.teachers))
    place = track.place / STAGES / stage.name
    shutil.rmtree(place, ignore_errors=True)  # of a race that was killed
    hears = _until(track, limit)._replace(validated=lambda epoch, mrr: reached.append(mrr))
    workspaces = track.workspaces
    if epochs < 1:
        if epochs not in track.parts:
            track.parts[epochs] = _part(workspaces, config, epochs)
        workspaces = track.parts[epochs]
    try:
        run_stage(stage, track.place, workspaces, hears, allow_other_data=epochs < 1)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return racer._replace(mrr=max(reached, default=-1.0), epochs=epochs)


def _part(workspaces: Workspaces, config: Config, share: float) -> Workspaces:
    """Return the data with a share of the facts, drawn at random; all entities stay."""
    dataset = workspaces.of(config).dataset
    facts = len(dataset.train)
    count = min(facts, max(_FACTS, round(share * facts)))
    drawn = np.random.default_rng(config.training.seed).permutation(facts)[:count]
    rows, weight = np.sort(drawn), dataset.train_weight
    part = replace(
        dataset,
        train=dataset.train[rows],
        train_weight=None if weight is None else weight[rows],
    )
    return Workspaces(dataset=part)


def _until(track: _Track, limit: Optional[float]) -> Watcher:
    """Return a watcher that ends a training at a moment of the monotonic clock."""
    begun = time.monotonic()

    def report(progress: Any) -> None:
        now = time.monotonic()
        if now >= track.deadline:
            raise _TimeIsUp
        if limit is not None and now >= limit:
            raise _TooLong(now - begun + progress.seconds_left)
        track.watcher.report(progress)

    return track.watcher._replace(report=report, announce=lambda line: None)


def _as_long(found: Config, config: Config) -> Config:
    """Return settings with the length, the validations and the ranking of others."""
    length = {key: getattr(config.training, key) for key in ("epochs", "evaluate_every")}
    training = found.training.model_copy(update=length)
    return found.model_copy(update={"training": training, "evaluation": config.evaluation})


def _difference(before: Config, after: Config) -> str:
    """Return what settings choose that others do not, in a few words."""
    parts: list[str] = []
    for section in ("model", "loss", "negatives", "regularizer", "optimizer", "training"):
        old, new = getattr(before, section).model_dump(), getattr(after, section).model_dump()
        for key, value in new.items():
            if value != old.get(key):
                parts.append(f"{section}.{key} {_short(value)}")
    return ", ".join(parts) or "the defaults for this data"


def _short(value: Any) -> Optional[str]:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
