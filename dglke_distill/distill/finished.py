"""What the finished stages of a chain left, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.results import ChainResults, TrainingResults, read_results_tree
from dglke_distill.base.errors import UserError
from dglke_distill.data.identity import Identity, compare_data
from dglke_distill.distill.plan import Stage
from dglke_distill.runs import train_run as pipeline
from dglke_distill.runs.workspace import Workspaces

__all__ = [
    "STAGES",
    "chain_results",
    "chain_seconds",
    "check_finished",
    "data_warnings",
    "finished",
    "stage_results",
    "summary",
    "with_teachers",
]

STAGES = "stages"
"""The folder of the stages in a chain's directory."""
_GONE = "is missing; restore the file, or begin anew with another --out"


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
                Identity.of(stage_results(path), stage.config.data),
                workspaces.of(stage.config).dataset,
                who=f"{directory}: stage {stage.name}",
                allow_other_data=False,
                fix="put the data back as they were, or begin anew with another --out",
            )


def finished(name: str, directory: Path) -> Path:
    """Return the file that a stage leaves last.

    Args:
        name: of the stage.
        directory: of the chain.
    """
    place = directory / STAGES / name / pipeline.CHECKPOINT_DIRECTORY
    return place / checkpoint.RESULTS_FILE


def stage_results(path: Path) -> dict[str, Any]:
    """Return the results of a finished stage, as they stand, with all that a chain asks of them.

    Args:
        path: its ``results.json``.

    Raises:
        UserError: it is damaged.
    """
    return _whole(read_results_tree(path), path)


def chain_results(path: Path) -> dict[str, Any]:
    """Return the results of a finished chain, as they stand; see ``stage_results``.

    Args:
        path: its ``results.json``.

    Raises:
        UserError: it is damaged.
    """
    tree = read_results_tree(path)
    if ChainResults.of(tree, path).dataset.fingerprint is None:
        raise UserError(f"{path}: dataset.fingerprint {_GONE}")
    for stage in tree["stages"]:
        stage.setdefault("teachers", [])
        _whole(stage["results"], f"{path}: stage {stage['name']}")
    return tree


def _whole(tree: dict[str, Any], source: Union[str, Path]) -> dict[str, Any]:
    """Return results in which nothing lacks that a training always states.

    Raises:
        UserError: something does, or is of another kind.
    """
    typed = TrainingResults.of(tree, source)
    for key in ("dataset", "model", "metrics", "training"):
        if tree.get(key) is None:
            raise UserError(f"{source}: {key} {_GONE}")
    assert typed.dataset is not None and typed.model is not None and typed.training is not None
    if typed.dataset.fingerprint is None or typed.model.dim is None:
        key = "dataset.fingerprint" if typed.dataset.fingerprint is None else "model.dim"
        raise UserError(f"{source}: {key} {_GONE}")
    for key in ("seconds", "validation_seconds", "setup_seconds"):
        tree["training"].setdefault(key, getattr(typed.training, key))
    return tree


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


def with_teachers(
    stage: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return a stage and all stages that it learnt from, directly or not.

    Args:
        stage: its entry in ``results.json``.
        stages: all entries.
    """
    by_name = {each["name"]: each for each in stages}
    found: dict[str, Mapping[str, Any]] = {}
    waiting = [stage["name"]]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:  # a loaded teacher is no stage
            found[name] = by_name[name]
            waiting += by_name[name]["teachers"]
    return list(found.values())


def summary(
    done: list[dict[str, Any]], loaded: Optional[Mapping[str, Any]]
) -> dict[str, Optional[float]]:
    """Return the figures a chain is judged by; None where a stage is missing or not ranked.

    Of students and controls they are those of the last size. What a student gains over a control
    stands under ``verdict``, with its interval.

    Args:
        done: the stages.
        loaded: results of the teacher, if it was loaded.
    """

    def mrr(role: str, last: bool = True) -> Optional[float]:
        found = [s["results"]["metrics"].get("test", {}).get("mrr") for s in of(role)]
        return found[-1 if last else 0] if found else None

    def of(role: str) -> list[dict[str, Any]]:
        return [stage for stage in done if stage["role"] == role]

    teacher = mrr("teacher", last=False)
    if loaded is not None:
        figures = loaded.get("metrics", {}).get("test", {})
        standard = figures.get("protocol", {}).get("name", "all") == "all"
        teacher = figures.get("mrr") if standard else None  # figures of others do not compare
    student = mrr("student")
    return {
        "teacher_mrr": teacher,
        "student_mrr": student,
        "direct_mrr": mrr("direct"),
        "direct_budget_mrr": mrr("direct_budget"),
        "direct_tuned_mrr": mrr("direct_tuned"),
        "share_of_teacher": None if student is None or not teacher else student / teacher,
        "chain_seconds": chain_seconds(of("teacher") + of("student")),
        "direct_seconds": chain_seconds(of("direct")[-1:]),
        "direct_budget_seconds": chain_seconds(of("direct_budget")[-1:]),
        "direct_tuned_seconds": chain_seconds(of("direct_tuned")[-1:]),
    }
