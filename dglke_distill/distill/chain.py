"""The iterative distiller: a teacher, then ever smaller students, each the next one's teacher.

A chain is a directory of ordinary training runs, one per stage. A finished stage is never redone,
an interrupted one goes on where it was.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import tomli_w

from dglke_distill.base import runtime
from dglke_distill.base.claims import Kind, among, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.base.parsing import MAX_TOML_BYTES, read_object
from dglke_distill.base.regular_files import read_text
from dglke_distill.config import Config, read_toml
from dglke_distill.data.identity import OtherData, located_data
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.entries import ENTRIES_FILE, write_entries
from dglke_distill.distill.finished import (
    STAGES,
    chain_seconds,
    check_finished,
    data_warnings,
    finished,
    summary,
)
from dglke_distill.distill.loading import (
    check_teachers,
    describe_teacher,
    load_teacher,
    teacher_data,
    teacher_name,
    teacher_results,
)
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import ChainConfig, Stage, plan
from dglke_distill.models.base import KGEModel
from dglke_distill.runs import train_run as pipeline
from dglke_distill.runs.memory import TeacherSize
from dglke_distill.runs.workspace import Setup, Workspace, Workspaces
from dglke_distill.training.loop import Progress
from dglke_distill.training.objective import Objective

__all__ = [
    "CHAIN_FILE",
    "RESULTS_FILE",
    "Watcher",
    "run_chain",
    "run_stage",
    "saved_chain",
]

CHAIN_FILE = "chain.toml"
RESULTS_FILE = "results.json"
_OUTCOMES = (RESULTS_FILE, ENTRIES_FILE, "report")


class Watcher(NamedTuple):
    """What hears of a chain under way.

    Attributes:
        stage: called with (stage, number from 0, stages in all) when a stage begins.
        report: progress of its training.
        announce: lines for the user.
        validated: called after each validation with the epochs done and the MRR.
    """

    stage: Callable[[Stage, int, int], None] = lambda stage, number, total: None
    report: Callable[[Progress], None] = lambda progress: None
    announce: Callable[[str], None] = lambda line: None
    validated: Callable[[int, float], None] = lambda epoch, mrr: None


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
    begun = read_toml(directory / CHAIN_FILE) if (directory / CHAIN_FILE).is_file() else {}
    chain = chain.model_copy(update={"data": located_data(chain.data, begun)})
    stages = plan(chain, [str(path) for path in loaded])
    workspaces = workspaces or Workspaces(data_root, saved=resume)
    if not resume and not begun:  # before anything is written
        allowed = bool(chain.allow_other_data)
        check_teachers(loaded, lambda: workspaces.of(stages[-1].config), allowed)
    names = [str(path) for path in loaded]
    with claimed(
        directory,
        Kind("chain", CHAIN_FILE, (CHAIN_FILE,), among(STAGES, *_OUTCOMES)),
        (tomli_w.dumps({"loaded": names}) if names else "") + chain.to_toml(),
        lambda: saved_chain(directory) == (chain, names),
        resume=resume,
        announce=watcher.announce,
    ):
        return _run_stages(chain, directory, stages, loaded, workspaces, watcher, resume=resume)


def _run_stages(
    chain: ChainConfig,
    directory: Path,
    stages: Sequence[Stage],
    loaded: Sequence[Path],
    workspaces: Workspaces,
    watcher: Watcher,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Do what ``run_chain`` does in a directory that no other process writes to."""
    allowed = bool(chain.allow_other_data)
    budgeted = chain.control == "both" and any(stage.role == "student" for stage in stages)
    if resume:
        more = [_budget_name(stages[-1])] if budgeted else []
        check_finished(stages, directory, workspaces, more)
    done: list[dict[str, Any]] = []
    total = len(stages) + budgeted
    for number, stage in enumerate(stages):
        watcher.stage(stage, number, total)
        done.append(run_stage(stage, directory, workspaces, watcher, allow_other_data=allowed))
    if budgeted:
        stage = _budget_stage(directory, stages[-1], done)
        watcher.stage(stage, len(stages), total)
        done.append(run_stage(stage, directory, workspaces, watcher, allow_other_data=allowed))
    config, teacher = stages[-1].config, None
    if loaded:
        teacher = teacher_results(loaded[0], lambda: workspaces.of(config), config)
    settings = (directory / CHAIN_FILE).resolve()
    results = {
        "schema": 1,
        "kind": "chain",
        "method": chain.method,
        "seed": stages[-1].config.training.seed,
        "dataset": done[-1]["results"]["dataset"],
        "chain": chain.model_dump(mode="json"),
        "stages": done,
        "data_warnings": data_warnings(done),
        "summary": summary(done, teacher),
        "command": f"dglke-distill run --recipe none --config {shlex.quote(str(settings))}",
        "provenance": runtime.provenance(),
    }
    atomic_write_text(directory / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    write_entries(directory, results)
    return results


def run_stage(
    stage: Stage,
    directory: Path,
    workspaces: Workspaces,
    watcher: Watcher,
    *,
    allow_other_data: bool = False,
) -> dict[str, Any]:
    """Run a stage, go on with it, or read what it left, whichever is due.

    Args:
        stage: from a plan.
        directory: of the chain.
        workspaces: the data.
        watcher: hears of progress.
        allow_other_data: whether its teachers may have been trained on other triples.

    Returns:
        The stage's entry in ``results.json``.
    """
    place = directory / STAGES / stage.name
    last = finished(stage.name, directory)
    if last.is_file():
        saved = place / pipeline.CONFIG_FILE
        if read_text(saved, MAX_TOML_BYTES) != stage.config.to_toml():
            raise UserError(f"{saved}: the stage was run with other settings; choose another --out")
        results = read_object(last)
        watcher.announce(f"{stage.name}: done already")
    else:
        about: dict[str, Any] = {}
        setup: Optional[Setup] = None
        sizes: list[TeacherSize] = []
        others: list[OtherData] = []
        if stage.teachers:
            dataset = workspaces.of(stage.config).dataset
            about, others, setup = _taught(stage, directory, dataset, allow_other_data)
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
            others=others,
            report=watcher.report,
            validated=watcher.validated,
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


def _taught(
    stage: Stage, directory: Path, dataset: Dataset, allow_other_data: bool
) -> tuple[dict[str, Any], list[OtherData], Setup]:
    """Return what results say of teachers, what else these know, and the setup that asks them."""
    assert stage.config.distillation is not None
    method = build_method(stage.config.distillation.method, stage.config.distillation.options)
    places = [_checkpoint_of(teacher, directory) for teacher in stage.teachers]

    def setup(config: Config, student: KGEModel, workspace: Workspace) -> Objective:
        models = [
            load_teacher(place, workspace.dataset, allow_other_data=allow_other_data)
            for place in places
        ]
        return method.objective(config, student, models, workspace)

    described = [
        {"name": _name(teacher), **describe_teacher(place)}
        for teacher, place in zip(stage.teachers, places)
    ]
    others = [
        other
        for teacher, place in zip(described, places)
        for other in teacher_data(
            place, dataset, allow_other_data=allow_other_data, name=teacher["name"]
        )
    ]
    about = {"distillation": {"method": method.name, "teachers": described}}
    return about, list(dict.fromkeys(others)), setup


def _name(teacher: str) -> str:
    return teacher_name(Path(teacher)) if Path(teacher).is_absolute() else teacher


def _checkpoint_of(teacher: str, directory: Path) -> Path:
    if Path(teacher).is_absolute():  # a loaded one; stages go by their names
        return Path(teacher)
    return directory / STAGES / teacher / pipeline.CHECKPOINT_DIRECTORY


def _budget_name(direct: Stage) -> str:
    return f"{direct.name}-budget"


def _budget_stage(directory: Path, direct: Stage, done: list[dict[str, Any]]) -> Stage:
    """Return the control once more, with as many epochs as the chain's seconds allow.

    Once it has begun its number of epochs stays, whatever the clock says after a resume.
    """
    name = _budget_name(direct)
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
