"""Settings of a chain that a user gives and no stage reads; see ``config.idle``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from dglke_distill.config.idle import idle_because, idle_line
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.plan import Stage, plan
from dglke_distill.runs.settings import flattened


def idle_parts(
    chain: ChainConfig, given: Sequence[Mapping[str, Any]], loaded: Sequence[str] = ()
) -> list[str]:
    """Return a warning of each setting of a chain that a user has given and no stage reads.

    Args:
        chain: all settings.
        given: the partial trees of the user; what switches something off may stay.
        loaded: teachers that are not trained.
    """
    if not any(given):
        return []
    found = []
    stages = plan(chain, loaded)
    for tree in given:
        for name, value in flattened(tree).items():
            part, _, setting = name.partition(".")
            size = None
            if part == "sizes":
                size, _, setting = setting.partition(".")
            if part not in ("shared", "teacher", "student", "direct", "sizes") or not setting:
                continue
            why = _why(setting, value, _read_by(part, size, stages, chain))
            if why is not None:
                found.append(idle_line(name, why))
    return found


def _read_by(
    part: str, size: Optional[str], stages: Sequence[Stage], chain: ChainConfig
) -> list[Stage]:
    """Return the stages whose settings a part of a chain's belongs to."""
    if part == "shared":
        return list(stages)
    if part == "teacher":
        return [stage for stage in stages if stage.role == "teacher"]
    if part == "direct":
        return [stage for stage in stages if stage.role == "direct"]
    own = [stage for stage in stages if stage.role != "teacher"]
    if chain.direct is not None:  # else the control's are the student's
        own = [stage for stage in own if stage.role == "student"]
    return [stage for stage in own if size is None or str(stage.config.model.dim) == size]


def _why(setting: str, value: Any, stages: Sequence[Stage]) -> Optional[str]:
    """Return why none of the stages reads a setting; None where one does, or it is off."""
    if not stages:
        return "the chain trains no such stage"
    if setting.startswith("distillation."):  # what is said of teaching is of those that are taught
        stages = [stage for stage in stages if stage.role == "student"] or stages
    reasons = [idle_because(stage.config, setting) for stage in stages]
    return reasons[0] if value and None not in reasons else None
