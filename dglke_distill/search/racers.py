"""The settings that a race begins with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, compose, merge
from dglke_distill.distill.methods import build_method
from dglke_distill.models import ENCODERS
from dglke_distill.search.space import find_space, read_space

RACERS = 18
"""Settings that begin a race, if there is time for so many."""


def racing_settings(config: Config, taught: bool, stated: Mapping[str, Any]) -> list[Config]:
    """Return the settings that race, those given first; the others are drawn from the space.

    Args:
        config: the settings that the data ask for.
        taught: whether they are a student's.
        stated: a partial tree of what the user has set, which all of them keep.
    """
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
            found += [near for near in _near(config, stated) if near not in found]
        if len(found) >= RACERS:
            break
        drawn = space.suggest(study.ask())
        trees = [*before, merge(_frame(config), drawn), *after, stated]
        with suppress(UserError):
            made = compose(trees, recipe=None)
            if made not in found:
                found.append(made)
    return found


def _near(config: Config, stated: Mapping[str, Any]) -> list[Config]:
    """Return settings with another margin, or another rate where there is no margin."""
    found, tree = [], config.model_dump()
    for factor in (0.4, 2.0):
        options = tree["loss"]["options"]
        if "margin" in options:
            loss = {"options": {"margin": options["margin"] * factor}}
            near = merge(tree, {"loss": loss})
        else:
            rate = {"learning_rate": min(1.0, tree["optimizer"]["learning_rate"] * factor)}
            near = merge(tree, {"optimizer": rate})
        found.append(Config.from_mapping(merge(near, stated), "race"))
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
