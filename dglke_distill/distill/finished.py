"""What the finished stages of a chain left, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.parsing import read_object
from dglke_distill.data.identity import Identity, compare_data
from dglke_distill.distill.plan import Stage
from dglke_distill.runs import train_run as pipeline
from dglke_distill.runs.workspace import Workspaces

__all__ = [
    "STAGES",
    "chain_seconds",
    "check_finished",
    "data_warnings",
    "finished",
    "summary",
]

STAGES = "stages"
"""The folder of the stages in a chain's directory."""


def check_finished(
    stages: Sequence[Stage], directory: Path, workspaces: Workspaces, more: Sequence[str] = ()
) -> None:
    """Look whether the stages that are done were trained on the triples that there are now.

    Args:
        stages: of a plan.
        directory: of the chain.
        workspaces: the data; they are not read if all stages are done, or none.
        more: names of stages that follow and are not planned yet.

    Raises:
        UserError: they were not; figures of several datasets would stand side by side.
    """
    names = [*(stage.name for stage in stages), *more]
    done = {name: finished(name, directory) for name in names}
    if all(path.is_file() for path in done.values()):
        return
    for stage in stages:
        path = done[stage.name]
        if path.is_file():
            compare_data(
                Identity.of(read_object(path), stage.config.data),
                workspaces.of(stage.config).dataset,
                who=f"{directory}: stage {stage.name}",
                allow_other_data=False,
                mend="put the data back as they were, or begin anew with another --out",
            )


def finished(name: str, directory: Path) -> Path:
    """Return the file that a stage leaves last.

    Args:
        name: of the stage.
        directory: of the chain.
    """
    place = directory / STAGES / name / pipeline.CHECKPOINT_DIRECTORY
    return place / checkpoint.RESULTS_FILE


def data_warnings(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was found about the data of teachers, each line once.

    Args:
        stages: entries of ``results.json``.
    """
    lines = [line for s in stages for line in s["results"].get("data_warnings", [])]
    return list(dict.fromkeys(lines))


def chain_seconds(stages: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds that stages took, validation and preparation included."""
    keys = ("seconds", "validation_seconds", "setup_seconds")
    return float(sum(stage["results"]["training"][key] for stage in stages for key in keys))


def summary(
    done: list[dict[str, Any]], loaded: Optional[Mapping[str, Any]]
) -> dict[str, Optional[float]]:
    """Return the figures a chain is judged by; None where a stage is missing or not ranked.

    Args:
        done: the stages. loaded: results of the teacher, if it was loaded.
    """

    def mrr(role: str, last: bool = False) -> Optional[float]:
        found = [s["results"]["metrics"].get("test", {}).get("mrr") for s in of(role)]
        return found[-1 if last else 0] if found else None

    def of(role: str) -> list[dict[str, Any]]:
        return [stage for stage in done if stage["role"] == role]

    def over(value: Optional[float], base: Optional[float]) -> Optional[float]:
        return None if value is None or not base else value / base

    teacher = mrr("teacher")
    if loaded is not None:
        teacher = loaded.get("metrics", {}).get("test", {}).get("mrr")
    student = mrr("student", last=True)
    gains = {role: over(student, mrr(role)) for role in ("direct", "direct_budget")}
    return {
        "teacher_mrr": teacher,
        "student_mrr": student,
        "direct_mrr": mrr("direct"),
        "direct_budget_mrr": mrr("direct_budget"),
        "share_of_teacher": over(student, teacher),
        "gain_over_direct": None if gains["direct"] is None else gains["direct"] - 1,
        "gain_over_direct_budget": (
            None if gains["direct_budget"] is None else gains["direct_budget"] - 1
        ),
        "chain_seconds": chain_seconds(of("teacher") + of("student")),
        "direct_seconds": chain_seconds(of("direct")),
        "direct_budget_seconds": chain_seconds(of("direct_budget")),
    }
