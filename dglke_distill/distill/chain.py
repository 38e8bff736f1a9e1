"""The iterative distiller: a teacher, then ever smaller students, each the next one's teacher.

A chain is a directory of ordinary training runs, one per stage. A finished stage is never redone,
an interrupted one goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import tomli_w

from dglke_distill import checkpoint, pipeline, runtime
from dglke_distill.claims import Kind, among, claimed
from dglke_distill.config import Config, read_toml
from dglke_distill.distill.entries import ENTRIES_FILE, write_entries
from dglke_distill.distill.loading import (
    check_teacher,
    describe_teacher,
    load_teacher,
    teacher_name,
    teacher_results,
)
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import ChainConfig, Stage, plan
from dglke_distill.errors import UserError
from dglke_distill.files import atomic_write_text
from dglke_distill.memory import TeacherSize
from dglke_distill.models.base import KGEModel
from dglke_distill.objective import Objective
from dglke_distill.parsing import MAX_TOML_BYTES, read_object
from dglke_distill.regular_files import read_text
from dglke_distill.train import Progress
from dglke_distill.workspace import Setup, Workspace, Workspaces

__all__ = [
    "CHAIN_FILE",
    "RESULTS_FILE",
    "STAGES",
    "Watcher",
    "chain_seconds",
    "run_chain",
    "run_stage",
    "saved_chain",
]

CHAIN_FILE = "chain.toml"
RESULTS_FILE = "results.json"
STAGES = "stages"
_OUTCOMES = (RESULTS_FILE, ENTRIES_FILE, "report")


class Watcher(NamedTuple):
    """What hears of a chain under way.

    Attributes:
        stage: called with (stage, number from 0, stages in all) when a stage begins.
        report: progress of its training. announce: lines for the user.
    """

    stage: Callable[[Stage, int, int], None] = lambda stage, number, total: None
    report: Callable[[Progress], None] = lambda progress: None
    announce: Callable[[str], None] = lambda line: None


def saved_chain(directory: Path) -> tuple[ChainConfig, list[str]]:
    """Return the settings that a chain was started with, and its loaded teachers.

    Raises:
        UserError: there is no chain, or its settings are damaged.
    """
    path = directory / CHAIN_FILE
    if not path.is_file():
        raise UserError(f"{directory}: there is no chain to resume ({CHAIN_FILE} is missing)")
    tree = read_toml(path)
    loaded = tree.pop("loaded", [])
    if not isinstance(loaded, list) or not all(isinstance(each, str) for each in loaded):
        raise UserError(f"{path}: loaded must be a list of folders; restore the file")
    return ChainConfig.from_mapping(tree, str(path)), loaded


def run_chain(
    chain: ChainConfig,
    directory: Path,
    *,
    resume: bool = False,
    loaded: Sequence[Path] = (),
    data_root: Optional[Path] = None,
    workspaces: Optional[Workspaces] = None,
    watcher: Watcher = Watcher(),  # noqa: B008 (immutable)
) -> dict[str, Any]:
    """Train, distil and rank every stage of a chain.

    Args:
        chain: the settings.
        directory: receives ``chain.toml``, ``stages/``, ``results.json`` and ``zoo.toml``.
        resume: go on with the chain that is there; stages that are done stay as they are.
        loaded: trained models in place of the teachers to be trained; see ``load_teacher``.
        data_root: folder of pre-placed datasets.
        workspaces: the prepared data, when the caller shares it among chains.
        watcher: hears of progress.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: bad settings or data, or a directory in use.
        Interrupted: asked to stop; the chain can be resumed.
    """
    loaded = [path.resolve() for path in loaded]
    stages = plan(chain, [str(path) for path in loaded])
    for teacher in () if resume else loaded:
        check_teacher(teacher)
    names = [str(path) for path in loaded]
    with claimed(
        directory,
        Kind("chain", CHAIN_FILE, (CHAIN_FILE,), among(STAGES, *_OUTCOMES)),
        (tomli_w.dumps({"loaded": names}) if names else "") + chain.to_toml(),
        lambda: saved_chain(directory) == (chain, names),
        resume=resume,
        announce=watcher.announce,
    ):
        return _run_stages(
            chain, directory, stages, loaded, workspaces or Workspaces(data_root), watcher
        )


def _run_stages(
    chain: ChainConfig,
    directory: Path,
    stages: Sequence[Stage],
    loaded: Sequence[Path],
    workspaces: Workspaces,
    watcher: Watcher,
) -> dict[str, Any]:
    """Do what ``run_chain`` does in a directory that no other process writes to."""
    done: list[dict[str, Any]] = []
    budgeted = chain.control == "both" and any(stage.role == "student" for stage in stages)
    total = len(stages) + budgeted
    for number, stage in enumerate(stages):
        watcher.stage(stage, number, total)
        done.append(run_stage(stage, directory, workspaces, watcher))
    if budgeted:
        stage = _budget_stage(directory, stages[-1], done)
        watcher.stage(stage, len(stages), total)
        done.append(run_stage(stage, directory, workspaces, watcher))
    config, teacher = stages[-1].config, None
    if loaded:
        teacher = teacher_results(loaded[0], lambda: workspaces.of(config), config)
    results = {
        "schema": 1,
        "kind": "chain",
        "method": chain.method,
        "seed": stages[-1].config.training.seed,
        "dataset": done[-1]["results"]["dataset"],
        "chain": chain.model_dump(mode="json"),
        "stages": done,
        "summary": _summary(done, teacher),
        "provenance": runtime.provenance(),
    }
    atomic_write_text(directory / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    write_entries(directory, results)
    return results


def run_stage(
    stage: Stage, directory: Path, workspaces: Workspaces, watcher: Watcher
) -> dict[str, Any]:
    """Run a stage, go on with it, or read what it left, whichever is due.

    Args:
        stage: from a plan. directory: of the chain. workspaces: the data.
        watcher: hears of progress.

    Returns:
        The stage's entry in ``results.json``.
    """
    place = directory / STAGES / stage.name
    finished = place / pipeline.CHECKPOINT_DIRECTORY / checkpoint.RESULTS_FILE
    if finished.is_file():
        saved = place / pipeline.CONFIG_FILE
        if read_text(saved, MAX_TOML_BYTES) != stage.config.to_toml():
            raise UserError(f"{saved}: the stage was run with other settings; choose another --out")
        results = read_object(finished)
        watcher.announce(f"{stage.name}: done already")
    else:
        about: dict[str, Any] = {}
        setup: Optional[Setup] = None
        sizes: list[TeacherSize] = []
        if stage.teachers:
            about, setup = _taught(stage, directory)
            for teacher in about["distillation"]["teachers"]:
                known = teacher["model"] or {}
                sizes.append(TeacherSize(known.get("parameters", 0), known.get("dim", 0)))
        results = pipeline.train_run(
            stage.config,
            place,
            resume=(place / pipeline.RESUME_FILE).exists(),
            workspace=workspaces.of(stage.config),
            setup=setup,
            about=about,
            teachers=sizes,
            report=watcher.report,
            announce=watcher.announce,
        )
    for scratch in (pipeline.RESUME_FILE, pipeline.BEST_FILE):  # as large as the model, or larger
        (place / scratch).unlink(missing_ok=True)
    return {
        "name": stage.name,
        "role": stage.role,
        "teacher": stage.teachers[0] if stage.teachers else None,
        "teachers": list(stage.teachers),
        "directory": f"{STAGES}/{stage.name}",
        "results": results,
    }


def _taught(stage: Stage, directory: Path) -> tuple[dict[str, Any], Setup]:
    """Return what a student's results say of its teachers, and the setup that asks them."""
    assert stage.config.distillation is not None
    method = build_method(stage.config.distillation.method, stage.config.distillation.options)
    places = [_checkpoint_of(teacher, directory) for teacher in stage.teachers]

    def setup(config: Config, student: KGEModel, workspace: Workspace) -> Objective:
        models = [load_teacher(place, workspace.dataset) for place in places]
        return method.objective(config, student, models, workspace)

    described = [
        {"name": _name(teacher), **describe_teacher(place)}
        for teacher, place in zip(stage.teachers, places)
    ]
    return {"distillation": {"method": method.name, "teachers": described}}, setup


def _name(teacher: str) -> str:
    return teacher_name(Path(teacher)) if Path(teacher).is_absolute() else teacher


def _checkpoint_of(teacher: str, directory: Path) -> Path:
    if Path(teacher).is_absolute():  # a loaded one; stages go by their names
        return Path(teacher)
    return directory / STAGES / teacher / pipeline.CHECKPOINT_DIRECTORY


def chain_seconds(stages: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds that stages took, validation and preparation included."""
    keys = ("seconds", "validation_seconds", "setup_seconds")
    return float(sum(stage["results"]["training"][key] for stage in stages for key in keys))


def _budget_stage(directory: Path, direct: Stage, done: list[dict[str, Any]]) -> Stage:
    """Return the control once more, with as many epochs as the chain's seconds allow.

    Once it has begun its number of epochs stays, whatever the clock says after a resume.
    """
    name = f"{direct.name}-budget"
    saved = directory / STAGES / name / pipeline.CONFIG_FILE
    if saved.is_file():
        config = Config.from_mapping(read_toml(saved), str(saved))
        return Stage(name, "direct_budget", config, ())
    allowed = chain_seconds([s for s in done if s["role"] in ("teacher", "student")])
    (control,) = (s for s in done if s["role"] == "direct")
    epochs = control["results"]["training"]["epochs"]
    affordable = max(1, int(allowed / chain_seconds([control]) * epochs))
    training = direct.config.training.model_copy(update={"epochs": affordable})
    config = direct.config.model_copy(update={"training": training})
    return Stage(name, "direct_budget", config, ())


def _summary(
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
