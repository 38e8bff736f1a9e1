"""Settings that a user gives and nothing reads: the user is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

from dglke_distill.config import Config, components
from dglke_distill.config.flags import FLAGS, named_setting


class _Rule(NamedTuple):
    """Settings, by their names or what these begin with, and why nothing reads them, if so."""

    names: tuple[str, ...]
    why: Callable[[Config], Optional[str]]


def _mode(config: Config) -> Optional[str]:
    mode = config.training.mode
    if mode == "negatives":
        return None
    return f"training.mode {mode} compares with all entities and draws no negatives"


def _chunks(config: Config) -> Optional[str]:
    private = config.negatives.sharing == "private"
    return "negatives.sharing private gives each positive its own" if private else None


def _sides(config: Config) -> Optional[str]:
    tossed = config.negatives.sampler.lower() == "bernoulli"
    return "negatives.sampler bernoulli tosses the side of each positive" if tossed else None


def _schedule(*wanted: str) -> Callable[[Config], Optional[str]]:
    def why(config: Config) -> Optional[str]:
        schedule = config.optimizer.schedule
        read = schedule in wanted
        return None if read else f"optimizer.schedule {schedule} has none"

    return why


def _penalty(config: Config) -> Optional[str]:
    return "regularizer.name is none" if config.regularizer.name.lower() == "none" else None


def _patience(config: Config) -> Optional[str]:
    return "training.evaluate_every is 0" if config.training.evaluate_every == 0 else None


def _soft(config: Config) -> Optional[str]:
    settings = config.distillation
    if settings is None:
        return "there is no teacher"
    method = components.METHODS.find(settings.method)
    return None if method.scores else f"distillation.method {method.name} copies no scores"


def _taught(config: Config) -> Optional[str]:
    return "there is no teacher" if config.distillation is None else None


def _candidates(*wanted: str) -> Callable[[Config], Optional[str]]:
    def why(config: Config) -> Optional[str]:
        if config.distillation is None:
            return None
        candidates = config.distillation.soft.candidates
        read = candidates in wanted
        return None if read else f"distillation.soft.candidates {candidates} has none"

    return why


def _extra(config: Config) -> Optional[str]:
    settings = config.distillation
    return "distillation.soft.extra is 0" if settings and settings.soft.extra == 0 else None


_RULES = (
    _Rule(("negatives.",), _mode),
    _Rule(("negatives.chunk_size",), _chunks),
    _Rule(("negatives.sides",), _sides),
    _Rule(("optimizer.step_at",), _schedule("step")),
    _Rule(("optimizer.final",), _schedule("linear", "cosine", "step")),
    _Rule(
        ("regularizer.weight", "regularizer.relation_weight", "regularizer.options."),
        _penalty,
    ),
    _Rule(("training.patience",), _patience),
    _Rule(("distillation.",), _taught),
    _Rule(("distillation.soft.",), _soft),
    _Rule(("distillation.soft.count",), _candidates("top", "neighbors")),
    _Rule(("distillation.soft.cache_megabytes",), _candidates("top", "all")),
    _Rule(("distillation.soft.extra_pool",), _extra),
)


def idle_because(config: Config, setting: str) -> Optional[str]:
    """Return why nothing reads a setting beside the others; None where something does.

    Args:
        config: all settings.
        setting: its dotted name, such as ``negatives.count``.
    """
    for rule in _RULES:
        if setting.startswith(rule.names) and (why := rule.why(config)) is not None:
            return why
    return None


def idle_settings(config: Config, given: Mapping[str, Any]) -> list[str]:
    """Return a warning of each setting of a training that a user has given and nothing reads.

    Args:
        config: all settings.
        given: those of the user, by dotted names; what switches something off may stay.
    """
    found = []
    for setting, value in given.items():
        # 0, False, nothing: it shall not be, and is not.
        why = idle_because(config, setting) if value else None
        if why is not None:
            named = named_setting(setting) if setting in FLAGS.values() else setting
            found.append(idle_line(named, why))
    return found


def idle_line(named: str, why: str) -> str:
    """Return the warning that a setting does nothing.

    Args:
        named: the setting, as the user knows it.
        why: see ``idle_because``.
    """
    return f"warning: {named}: does nothing here, since {why}; leave it out"
