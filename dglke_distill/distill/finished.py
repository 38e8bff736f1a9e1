"""What the finished stages of a chain left, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from dglke_distill.artifacts.results import (
    ChainResults,
    ChainSummary,
    StageResults,
    TrainingResults,
)
from dglke_distill.artifacts.results_files import (
    RESULTS_FILE,
    read_chain_results,
    read_training_results,
)
from dglke_distill.base.errors import UserError
from dglke_distill.data.identity import Identity, compare_data
from dglke_distill.distill.plan import Stage
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.runs.workspace import Workspaces

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
                Identity.of(stage_results(path).to_tree(), stage.config.data),
                workspaces.of(stage.config).dataset,
                who=f"{directory}: stage {stage.name}",
                allow_other_data=None,
                fix="put the data back as they were, or begin anew with another --out",
            )


def finished(name: str, directory: Path) -> Path:
    """Return the file that a stage leaves last.

    Args:
        name: of the stage.
        directory: of the chain.
    """
    place = directory / STAGES / name / CHECKPOINT_DIRECTORY
    return place / RESULTS_FILE


def stage_results(path: Path) -> TrainingResults:
    """Return the results of a finished stage, with all that a chain asks of them.

    Args:
        path: its ``results.json``.

    Raises:
        UserError: it is damaged.
    """
    return _whole(read_training_results(path), path)


def chain_results(path: Path) -> ChainResults:
    """Return the results of a finished chain; see ``stage_results``.

    Args:
        path: its ``results.json``.

    Raises:
        UserError: it is damaged.
    """
    found = read_chain_results(path)
    if found.dataset.fingerprint is None:
        raise UserError(f"{path}: dataset.fingerprint {_GONE}")
    for stage in found.stages:
        _whole(stage.results, f"{path}: stage {stage.name}")
    return found


def _whole(results: TrainingResults, source: Union[str, Path]) -> TrainingResults:
    """Return results in which nothing lacks that a training always states."""
    parts = {key: getattr(results, key) for key in ("dataset", "model", "training")}
    parts["metrics"] = results.metrics if "metrics" in results.model_fields_set else None
    missing = [key for key, value in parts.items() if value is None]
    if not missing and parts["dataset"].fingerprint is None:
        missing = ["dataset.fingerprint"]
    if not missing and parts["model"].dim is None:
        missing = ["model.dim"]
    if missing:
        raise UserError(f"{source}: {missing[0]} {_GONE}")
    return results


def data_warnings(stages: Sequence[StageResults]) -> list[str]:
    """Return what was found about the data of teachers, each line once."""
    return list(dict.fromkeys(line for stage in stages for line in stage.results.data_warnings))


def chain_seconds(stages: Sequence[StageResults]) -> float:
    """Return the seconds that stages took, validation and preparation included."""
    return float(sum(stage.seconds for stage in stages))


def with_teachers(stage: StageResults, stages: Sequence[StageResults]) -> list[StageResults]:
    """Return a stage and all stages that it learnt from, directly or not.

    Args:
        stage: one of them.
        stages: those of its chain.
    """
    by_name = {each.name: each for each in stages}
    found: dict[str, StageResults] = {}
    waiting = [stage.name]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:  # a loaded teacher is no stage
            found[name] = by_name[name]
            waiting += by_name[name].taught_by
    return list(found.values())


def summary(done: Sequence[StageResults], loaded: Optional[TrainingResults]) -> ChainSummary:
    """Return the figures a chain is judged by; None where a stage is missing or not ranked.

    Of students and controls they are those of the last size. What a student gains over a control
    stands under ``verdict``, with its interval.

    Args:
        done: the stages.
        loaded: results of the teacher, if it was loaded.
    """

    def mrr(role: str, last: bool = True) -> Optional[float]:
        found = of(role)
        return found[-1 if last else 0].mrr("test") if found else None

    def of(role: str) -> list[StageResults]:
        return [stage for stage in done if stage.role == role]

    teacher = mrr("teacher", last=False)
    if loaded is not None:
        figures = loaded.metrics.get("test")
        # Figures of other protocols do not compare.
        other = figures is None or (figures.protocol is not None and figures.protocol.name != "all")
        teacher = None if other or figures is None else figures.mrr
    student = mrr("student")
    return ChainSummary(
        teacher_mrr=teacher,
        student_mrr=student,
        direct_mrr=mrr("direct"),
        direct_budget_mrr=mrr("direct_budget"),
        direct_tuned_mrr=mrr("direct_tuned"),
        share_of_teacher=None if student is None or not teacher else student / teacher,
        chain_seconds=chain_seconds(of("teacher") + of("student")),
        direct_seconds=chain_seconds(of("direct")[-1:]),
        direct_budget_seconds=chain_seconds(of("direct_budget")[-1:]),
        direct_tuned_seconds=chain_seconds(of("direct_tuned")[-1:]),
    )
