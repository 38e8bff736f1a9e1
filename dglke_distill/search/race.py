"""A race of a few settings: each is trained for a short while, the best third for longer.

Successive halving (Jamieson, Talwalkar 2016, "Non-stochastic best arm identification and
hyperparameter optimization") on the validation split, within a time. The settings that the data
ask for are always among those that race, so that a race can only choose others if these are better.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, compose, merge
from dglke_distill.distill.finished import STAGES
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import Role, Stage
from dglke_distill.distill.stages import run_stage
from dglke_distill.distill.tuner import Tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.models import ENCODERS
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.space import find_space, read_space

__all__ = ["RACERS", "race"]

RACERS = 18
"""Settings that begin a race, if there is time for so many."""

_KEPT = 3
"""One of so many goes on, to so many times as many epochs."""


class _TimeIsUp(Exception):
    """The race is over in the midst of a training."""


class _Racer(NamedTuple):
    """Settings under way: their number, and the best MRR of their longest training."""

    number: int
    config: Config
    mrr: float = -1.0
    epochs: int = 0


def race(
    config: Config,
    place: Path,
    seconds: float,
    workspaces: Workspaces,
    watcher: Watcher,
    teachers: Sequence[str] = (),
) -> Tuned:
    """Return the settings that win, with the epochs of ``config``.

    Args:
        config: the settings that the data ask for; they race too, and win where nothing is better.
        place: folder that the race works in; it is removed at the end.
        seconds: how long it may last.
        workspaces: the prepared data.
        watcher: hears of progress.
        teachers: checkpoints that a student learns from; none for a model trained directly.
    """
    begun = time.monotonic()
    deadline = begun + seconds
    racers = [_Racer(n, c) for n, c in enumerate(_settings(config, bool(teachers)))]
    epochs = max(1, config.training.epochs // _KEPT**3)
    quiet = _until(watcher, deadline)
    runs, best = 0, racers[0]
    rung: list[_Racer] = []
    try:
        while True:
            rung = []
            for racer in racers:
                if time.monotonic() >= deadline:
                    raise _TimeIsUp
                with suppress(UserError, FloatingPointError):  # settings that do not work together
                    rung.append(_trained(racer, epochs, place, workspaces, quiet, teachers))
                    runs += 1
                # A longer training of fewer is worth more than a first look at all.
                if len(rung) > 2 and time.monotonic() - begun > seconds * (len(rung) + 1) / 9:
                    if time.monotonic() - begun > seconds / 3 and epochs < config.training.epochs:
                        break
            if not rung:
                break
            rung.sort(key=lambda racer: (-racer.mrr, racer.number))
            best = rung[0]
            if epochs >= config.training.epochs or len(rung) == 1:
                break
            racers = rung[: max(1, -(-len(rung) // _KEPT))]
            if len(racers) == 1:
                break
            epochs = min(config.training.epochs, epochs * _KEPT)
    except _TimeIsUp:
        if not best.epochs and len(rung) > 1:
            best = max(rung, key=lambda racer: (racer.mrr, -racer.number))
    finally:
        shutil.rmtree(place / STAGES, ignore_errors=True)
    spent = time.monotonic() - begun
    said = "the defaults for this data" if best.number == 0 else _difference(config, best.config)
    reached = f", valid MRR {best.mrr:.4f} after {best.epochs} epochs" if best.epochs else ""
    watcher.announce(f"{runs} trainings raced for {spent:.0f} s: {said} won{reached}")
    return Tuned(_as_long(best.config, config), spent, runs)


def _settings(config: Config, taught: bool) -> list[Config]:
    """Return the settings that race, those given first; the others are drawn from the space."""
    import logging

    import optuna

    found = [config]
    optuna.logging.set_verbosity(logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=config.training.seed % (1 << 32))
    study = optuna.create_study(sampler=sampler)
    space = read_space(find_space(config.model.name, taught))
    first = space.first()
    for chosen in first:
        study.enqueue_trial(chosen)
    before: list[Mapping[str, Any]] = []
    after: list[Mapping[str, Any]] = []
    if taught and config.distillation is not None:
        method = build_method(config.distillation.method, config.distillation.options)
        before = [method.defaults()]
        after = [{"distillation": {"method": config.distillation.method}}, method.settings()]
    for drawing in range(10 * RACERS):
        if drawing == len(first):  # near the given ones, behind the space's own first
            found += _near(config)
        if len(found) >= RACERS:
            break
        drawn = space.suggest(study.ask())
        trees = [*before, merge(_frame(config), drawn), *after]
        with suppress(UserError):
            found.append(compose(trees, recipe=None))
    return found


def _near(config: Config) -> list[Config]:
    """Return settings with another margin, or another rate where there is no margin."""
    found, tree = [], config.model_dump()
    for factor in (0.4, 2.0):
        options = tree["loss"]["options"]
        if "margin" in options:
            loss = {"options": {"margin": options["margin"] * factor}}
            found.append(Config.from_mapping(merge(tree, {"loss": loss}), "race"))
        else:
            rate = {"learning_rate": min(1.0, tree["optimizer"]["learning_rate"] * factor)}
            found.append(Config.from_mapping(merge(tree, {"optimizer": rate}), "race"))
    return found


def _frame(config: Config) -> dict[str, Any]:
    """Return what all racers share: data, size, method, hardware, length and evaluation."""
    training = config.training.model_dump(
        exclude={"mode", "batch_size", "subsampling"}, exclude_none=True
    )
    frame: dict[str, Any] = {
        "data": config.data.model_dump(exclude_none=True),
        "model": {"name": config.model.name, "dim": config.model.dim},
        "training": training,
        "evaluation": config.evaluation.model_dump(),
    }
    if not ENCODERS.find(config.model.encoder).is_table:
        frame["model"] = config.model.model_dump()
    return frame


def _trained(
    racer: _Racer,
    epochs: int,
    place: Path,
    workspaces: Workspaces,
    watcher: Watcher,
    teachers: Sequence[str],
) -> _Racer:
    """Return a racer after a training of so many epochs."""
    reached: list[float] = []
    training = racer.config.training.model_copy(
        update={"epochs": epochs, "evaluate_every": max(1, -(-epochs // 3))}
    )
    evaluation = racer.config.evaluation.model_copy(update={"split": "none"})
    config = racer.config.model_copy(update={"training": training, "evaluation": evaluation})
    role: Role = "student" if teachers else "direct"
    stage = Stage(f"racer-{racer.number}-{epochs}", role, config, tuple(teachers))
    shutil.rmtree(place / STAGES / stage.name, ignore_errors=True)  # of a race that was killed
    hears = watcher._replace(validated=lambda epoch, mrr: reached.append(mrr))
    try:
        run_stage(stage, place, workspaces, hears)
    finally:
        shutil.rmtree(place / STAGES / stage.name, ignore_errors=True)
    return racer._replace(mrr=max(reached, default=-1.0), epochs=epochs)


def _until(watcher: Watcher, deadline: float) -> Watcher:
    """Return a watcher that ends a race at a moment of the monotonic clock."""

    def report(progress: Any) -> None:
        if time.monotonic() >= deadline:
            raise _TimeIsUp
        watcher.report(progress)

    return watcher._replace(report=report, announce=lambda line: None)


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
