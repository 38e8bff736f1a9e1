"""What a chain may do beside the stages of its plan, and how long that takes at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dglke_distill.base.shown import plural
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.controls import LONGER, SEEDS, race_seconds
from dglke_distill.distill.going_on import begins
from dglke_distill.distill.plan import Stage
from dglke_distill.search.control import TINY
from dglke_distill.search.lengths import SEARCH


class Allowance(NamedTuple):
    """A search, a further control, or trainings by further seeds, and their most seconds."""

    name: str
    seconds: float


def allowances(
    chain: ChainConfig, stages: Sequence[Stage], seconds: Sequence[float]
) -> list[Allowance]:
    """Return what a chain may do beside the stages of its plan.

    Args:
        chain: the settings.
        stages: its plan.
        seconds: what each stage is expected to take.
    """
    took = {stage.name: each for stage, each in zip(stages, seconds)}
    students = [stage for stage in stages if stage.role == "student"]
    found = _races(chain, stages)
    searched = sum(each.seconds for each in found)
    controls: dict[int, float] = {}  # the longest training of each size
    for direct in [stage for stage in stages if stage.role == "direct"] if students else []:
        dim, own = direct.config.model.dim, took[direct.name]
        controls[dim] = own
        if chain.control not in LONGER:
            continue
        student = next(stage for stage in students if stage.config.model.dim == dim)
        # No less: what the control by its recipe takes is not known well enough to be left out.
        left = searched + sum(took[name] for name in _needed(student, stages))
        rivals = 0
        if chain.control == "tuned":
            left = min(left, chain.control_seconds or left)
            rivals = len(chain.rivals) if dim <= TINY else 0
        controls[dim] = max(own, left)
        name = f"{direct.name}-{LONGER[chain.control]}"
        found.append(Allowance(name, left * (1 + SEARCH * rivals)))
    seeds = chain.seeds or (1 if chain.search_seconds is None else SEEDS)
    if seeds > 1 and students:
        repeated = {name for student in students for name in _needed(student, stages)}
        again = sum(took[name] for name in repeated) + sum(controls.values())
        found.append(Allowance(plural(seeds - 1, "more seed"), (seeds - 1) * again))
    return found


def _races(chain: ChainConfig, stages: Sequence[Stage]) -> list[Allowance]:
    """Return the searches for settings of teacher and students; see ``distill.controls.raced``."""
    if chain.search_seconds is None:
        return []
    roles = {stage.role: stage for stage in reversed(stages)}  # the first one of each
    share = race_seconds(chain.search_seconds, stages)
    asked = [roles[role] for role in ("teacher", "student") if role in roles] or stages[:1]
    return [Allowance(f"search: {one.role}", share) for one in asked if not begins(chain, one)]


def _needed(student: Stage, stages: Sequence[Stage]) -> set[str]:
    """Return the names of a student and all stages that it learns from, directly or not."""
    found = {student.name}
    for stage in reversed(stages):  # teachers precede their students
        if stage.name in found:
            found |= set(stage.teachers) & {each.name for each in stages}
    return found
