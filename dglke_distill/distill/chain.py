"""The iterative distiller: a teacher, then ever smaller students, each the next one's teacher.

A chain is a directory of ordinary training runs, one per stage. A finished stage is never redone,
an interrupted one goes on where it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import tomli_w

from dglke_distill.artifacts.results import SCHEMA, ChainResults, StageResults, Verdict
from dglke_distill.artifacts.results_files import RESULTS_FILE, write_results
from dglke_distill.base import runtime
from dglke_distill.base.claims import Kind, among, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.config import read_toml
from dglke_distill.data.identity import located_data
from dglke_distill.data.table_options import IN_MEMORY
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.controls import (
    LONGER,
    SEARCHES,
    SEEDS,
    doubtful,
    extra_control,
    extra_name,
    extra_seeds,
    raced,
)
from dglke_distill.distill.entries import ENTRIES_FILE, write_entries
from dglke_distill.distill.finished import (
    STAGES,
    check_finished,
    data_warnings,
    summary,
)
from dglke_distill.distill.going_on import InitModel, check_init
from dglke_distill.distill.loading import teacher_results
from dglke_distill.distill.plan import Stage, loaded_in, plan, read_chain
from dglke_distill.distill.rehearsal import check_stages
from dglke_distill.distill.stages import ChainRun, StageTrainer
from dglke_distill.distill.teacher_data import check_teachers
from dglke_distill.distill.tuner import Searches, Tuned
from dglke_distill.distill.verdict import judge
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.workspace import Workspaces

CHAIN_FILE = "chain.toml"
_OUTCOMES = (RESULTS_FILE, ENTRIES_FILE, SEARCHES, "report")


def saved_chain(directory: Path) -> tuple[ChainConfig, list[str]]:
    """Return the settings that a chain was started with, and its loaded teachers.

    Raises:
        UserError: there is no chain, or its settings are damaged.
    """
    path = directory / CHAIN_FILE
    if not path.is_file():
        raise UserError(
            f"{directory}: there is no chain to resume ({CHAIN_FILE} is missing); leave out "
            "--resume to begin one"
        )
    return ChainConfig.from_mapping(read_chain(path), str(path)), loaded_in(path)


def run_chain(
    chain: ChainConfig,
    directory: Path,
    *,
    resume: bool = False,
    loaded: Sequence[Path] = (),
    workspaces: Optional[Workspaces] = None,
    watcher: Watcher = Watcher(),  # noqa: B008 (immutable)
    searches: Optional[Searches] = None,
    init: Optional[InitModel] = None,
    trainer: Optional[StageTrainer] = None,
) -> ChainResults:
    """Train, distil and rank every stage of a chain.

    Args:
        chain: the settings.
        directory: receives ``chain.toml``, ``stages/``, ``results.json`` and ``zoo.toml``.
        resume: go on with the chain that is there; stages that are done stay as they are.
        loaded: trained models in place of the teachers to be trained; see ``load_teacher``.
        workspaces: the prepared data; None: found by the settings.
        watcher: hears of progress.
        searches: for settings; a chain whose control is tuned, or that searches first, needs them.
        init: the model that it goes on from, loaded already; None: read by its settings.
        trainer: trains the stages; None: this process.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: bad settings or data, or a directory in use.
        Interrupted: asked to stop; the chain can be resumed.
    """
    loaded = [resolved(path) for path in loaded]
    begun = read_toml(directory / CHAIN_FILE) if (directory / CHAIN_FILE).is_file() else {}
    chain = chain.model_copy(update={"data": located_data(chain.data, begun)})
    stages = plan(chain, [str(path) for path in loaded])
    if searches is None and (chain.control == "tuned" or chain.search_seconds is not None):
        raise UserError(
            "control = 'tuned' and search_seconds need a search, as `dglke-distill run` has it: "
            "pass searches=, or set control to 'recipe' and leave search_seconds out"
        )
    workspaces = workspaces or Workspaces(saved=resume)
    init = init or InitModel.of(chain)
    if not resume and not begun:  # before anything is written
        _check_judged(workspaces.of(stages[0].config).dataset)
        if loaded and chain.init is not None:
            raise UserError("--init: is of a first stage that is trained; leave --teacher out")
        check_init(chain, init, workspaces.of(stages[0].config).dataset)
        allowed = bool(chain.allow_other_data)
        check_teachers(loaded, lambda: workspaces.of(stages[-1].config), allowed)
        if trainer is None:  # another looks at its own
            for line in check_stages(stages, workspaces, directory):
                watcher.announce(line)
    names = [str(path) for path in loaded]
    with claimed(
        directory,
        Kind("chain", CHAIN_FILE, (CHAIN_FILE,), among(STAGES, *_OUTCOMES)),
        (tomli_w.dumps({"loaded": names}) if names else "") + chain.to_toml(),
        lambda: saved_chain(directory) == (chain, names),
        resume=resume,
        announce=watcher.announce,
    ):
        run = ChainRun(chain, directory, workspaces, watcher, searches, init, trainer)
        return _run_stages(run, stages, loaded, resume=resume)


def _check_judged(dataset: Dataset) -> None:
    """Refuse data on which no model of a chain could be compared with another."""
    if not len(dataset.valid) and not len(dataset.test):
        raise UserError(
            f"{dataset.name}: valid and test have no triples, so teacher, student and control "
            "could not be compared; put held-out triples into valid and test, or give the file of "
            "train alone to have it split"
        )


def _run_stages(
    run: ChainRun, stages: Sequence[Stage], loaded: Sequence[Path], *, resume: bool
) -> ChainResults:
    """Do what ``run_chain`` does in a directory that no other process writes to."""
    chain, directory = run.chain, run.directory
    controls = [s for s in stages if s.role == "direct"] if chain.control in LONGER else []
    if not any(stage.role == "student" for stage in stages):
        controls = []
    if resume:
        names = [extra_name(directory, stage, chain.control) for stage in controls]
        check_finished(stages, directory, run.workspaces, names)
    done: list[StageResults] = []
    total = len(stages) + len(controls)
    searched: dict[str, Tuned] = {}
    for number in range(len(stages)):
        stages = raced(run, stages, number, searched)
        done.append(run.stage(stages[number], number, total))
    for number, direct in enumerate(controls, start=len(stages)):
        more = extra_control(run, direct, done, searched)
        if more is not None:
            done.append(run.stage(more, number, total))
    repeats = _repeats(run, stages, done, searched)
    config, teacher = stages[-1].config, None
    if loaded:
        teacher = teacher_results(loaded[0], lambda: run.workspaces.of(config), config)
    settings = resolved(directory / CHAIN_FILE)
    seed = config.training.seed
    command = "dglke-distill run" if run.trainer is None else run.trainer.command
    tree = {
        "schema": SCHEMA,
        "kind": "chain",
        "method": chain.method,
        "seed": seed,
        "dataset": done[-1].results.dataset,
        "chain": chain.model_dump(mode="json"),
        "stages": done,
        "repeats": repeats,
        "data_warnings": data_warnings(done),
        "summary": summary(done, teacher),
        "verdict": _verdict(run, stages, done, searched, repeats),
        "command": None
        if chain.data.format == IN_MEMORY  # no command has the table
        else f"{command} --recipe none --config {shlex.quote(str(settings))}",
        "provenance": runtime.provenance(),
    }
    results = ChainResults.of(tree, directory / RESULTS_FILE)
    write_results(directory / RESULTS_FILE, results)
    write_entries(directory, results)
    return results


def _repeats(
    run: ChainRun,
    stages: Sequence[Stage],
    done: Sequence[StageResults],
    searched: Mapping[str, Tuned],
) -> list[StageResults]:
    """Train by further seeds: as many as were asked for, or what a verdict on own data needs."""
    if run.chain.seeds is not None or run.chain.search_seconds is None:
        return extra_seeds(run, stages, done, run.chain.seeds or 1)
    students = doubtful(_verdict(run, stages, done, searched, []))
    if students:
        run.watcher.announce(
            f"the test split is small: {SEEDS - 1} further seeds show whether the difference stays"
        )
    return extra_seeds(run, stages, done, SEEDS, students)


def _verdict(
    run: ChainRun,
    stages: Sequence[Stage],
    done: Sequence[StageResults],
    searched: Mapping[str, Tuned],
    repeats: Sequence[StageResults],
) -> Verdict:
    return judge(
        run.directory,
        done,
        searched=searched,
        repeats=repeats,
        seed=stages[-1].config.training.seed,
        tuned=run.chain.control == "tuned",
        limit=run.chain.control_seconds if run.chain.control == "tuned" else None,
    )
