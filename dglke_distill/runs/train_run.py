"""From a configuration to a ranked model on disk: the wiring of a training run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import nn

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.artifacts.results import EvaluationResults, TrainingResults
from dglke_distill.base.claims import Claim, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.base.parsing import MAX_TOML_BYTES
from dglke_distill.base.regular_files import read_text
from dglke_distill.base.tensor_files import SavedState, save_state
from dglke_distill.config import Config, merge, read_toml
from dglke_distill.data.datasets_made import of_the_data
from dglke_distill.data.identity import Lookup, located_data, short
from dglke_distill.data.triples import Dataset
from dglke_distill.evaluate import RankingResult, classify
from dglke_distill.models import ENCODERS
from dglke_distill.models.coded import build_configured
from dglke_distill.models.tables import FileTables, Place, SharedTables, tables_in
from dglke_distill.runs.measure import measure, validation_mrr
from dglke_distill.runs.memory import check_memory, memory_need
from dglke_distill.runs.memory_parts import DataSize
from dglke_distill.runs.ranks import RANKS_FILE, save_ranks
from dglke_distill.runs.resume import best_reached, restore_run
from dglke_distill.runs.run_files import (
    BEST_FILE,
    CHECKPOINT_DIRECTORY,
    CONFIG_FILE,
    HISTORY_FILE,
    RESUME_FILE,
    RunFiles,
    begun_or_gone,
    history_csv,
    run_kind,
)
from dglke_distill.runs.start import Start
from dglke_distill.runs.training_results import split_figures, training_results
from dglke_distill.runs.underfit import underfit_warnings
from dglke_distill.runs.workspace import (
    Workspace,
    build_loader,
    build_objective,
    build_optimizer,
    keep_threads,
    prepare,
)
from dglke_distill.training.hogwild import Workers
from dglke_distill.training.loop import Progress, Steps, TrainState, train

REPORTED_SPLITS = {"none": (), "valid": ("valid",), "test": ("valid", "test")}


def rank_loaded(
    loaded: LoadedModel,
    split: str,
    *,
    name: str,
    settings: Sequence[Mapping[str, Any]] = (),
    data_root: Optional[Path] = None,
    allow_other_data: Optional[bool] = False,
    dataset: Optional[Dataset] = None,
    protocol: str = "all",
    ranked: Callable[[RankingResult], None] = lambda result: None,
) -> tuple[EvaluationResults, Dataset]:
    """Rank a split of the dataset that a model was trained on.

    Args:
        loaded: the model.
        split: ``train``, ``valid`` or ``test``.
        name: what to call it in messages.
        settings: partial trees merged over its settings: where the dataset lies, device, threads.
        data_root: folder that holds datasets already.
        allow_other_data: whether to go on with other triples than the model was trained on; None:
            never.
        dataset: the dataset, when the caller has loaded it already.
        protocol: a name of ``evaluate.PROTOCOLS``.
        ranked: called with the ranking itself, whose single ranks the figures do not hold.

    Returns:
        The figures, those of false triples among them for a test split that has some; and the
        dataset, with the model's ids.

    Raises:
        UserError: no dataset, other triples than the model's, no triple, or no such protocol.
    """
    tree = loaded.config.model_dump(exclude_none=True)
    named = None
    for change in settings:
        Config.from_mapping(change, "command line")  # so that the model is not blamed
        named = change.get("data", {}).get("dataset", named)
        tree = merge(tree, change)
    config = Config.from_mapping(tree, name)
    if dataset is None:
        dataset, warnings = loaded.find_dataset(
            name, Lookup(named, data_root, allow_other_data=allow_other_data)
        )
    else:
        dataset, warnings = loaded.check_dataset(
            dataset, name, fix="give its own", allow_other_data=allow_other_data
        )
    workspace = prepare(config, dataset=dataset)
    if not len(dataset.split(split)):
        raise UserError(f"--split {split}: {dataset.name} has no triples there")
    model = loaded.model.to(workspace.device)
    figures = measure(
        model, workspace, split, config, dataset.relations, ranked=ranked, protocol=protocol
    )
    figures["dataset"] = {"name": dataset.name, "fingerprint": dataset.fingerprint}
    figures["warnings"] = [*warnings, *of_the_data(dataset.warnings)]
    false_triples = (dataset.valid_negatives, dataset.test_negatives)
    if split == "test" and None not in false_triples:
        figures["classification"] = classify(model, dataset).to_dict()
    return EvaluationResults.of(figures, name), dataset


def train_run(
    config: Config,
    run_directory: Path,
    *,
    resume: bool = False,
    data_root: Optional[Path] = None,
    workspace: Optional[Workspace] = None,
    start: Start = Start(),  # noqa: B008 (immutable)
    report: Callable[[Progress], None] = lambda progress: None,
    validated: Callable[[int, float], None] = lambda epoch, mrr: None,
    announce: Callable[[str], None] = lambda line: None,
) -> TrainingResults:
    """Train a model, rank it, and leave a checkpoint in the run directory.

    Args:
        config: the resolved settings.
        run_directory: receives ``config.toml``, ``resume.safetensors``, ``best.safetensors``,
            ``history.csv``, ``test-ranks.safetensors`` and ``checkpoint/``.
        resume: go on from ``resume.safetensors``; the result is that of an undisturbed run.
        data_root: folder of pre-placed datasets.
        workspace: the prepared data, when the caller has it already.
        start: how it begins, if not at random.
        report: progress of the training.
        validated: called with the epochs done and the MRR of each validation; what it raises ends
            the training.
        announce: lines for the user.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: bad settings or data, a run directory in use, nothing to resume, or more memory
            needed than there is.
        Interrupted: asked to stop; the run can be resumed.
    """
    settings_file = run_directory / CONFIG_FILE
    stated = read_toml(settings_file) if resume and settings_file.is_file() else {}
    config = config.model_copy(update={"data": located_data(config.data, stated)})
    resolved = config.to_toml()

    def same() -> bool:
        return read_text(run_directory / CONFIG_FILE, MAX_TOML_BYTES) == resolved

    checkpoint.check_place(run_directory / CHECKPOINT_DIRECTORY)
    with (
        claimed(
            run_directory, run_kind(same), None, same, resume=resume, announce=announce
        ) as claim,
        begun_or_gone(run_directory),
    ):
        return _train_alone(
            config,
            claim,
            resume=resume,
            data_root=data_root,
            workspace=workspace,
            start=start,
            report=report,
            validated=validated,
            announce=announce,
        )


def _train_alone(
    config: Config,
    claim: Claim,
    *,
    resume: bool,
    data_root: Optional[Path],
    workspace: Optional[Workspace],
    start: Start,
    report: Callable[[Progress], None],
    validated: Callable[[int, float], None],
    announce: Callable[[str], None],
) -> TrainingResults:
    """Do what ``train_run`` does in a directory that no other process writes to."""
    run_directory = claim.directory
    resume_path = run_directory / RESUME_FILE
    resolved = config.to_toml()
    published = None if workspace else DataSize.published(config.data.dataset, saved=resume)
    if published is not None:  # before its data is loaded
        check_memory(config, memory_need(config, published, start.teachers), run_directory)
    workspace = workspace or prepare(config, data_root=data_root, saved=resume)
    dataset = workspace.dataset
    need = memory_need(config, DataSize.of(dataset), start.teachers)
    check_memory(config, need, run_directory)
    announce(f"needs about {need}")
    told = [other.line(dataset.name, dataset.fingerprint) for other in start.others]
    for warning in (*told, *dataset.warnings):
        announce(f"warning: {warning}")
    if not (resume or start.setup) and ENCODERS.find(config.model.encoder).wants_vectors:
        announce(
            f"warning: encoder {config.model.encoder}: with no model to start from, codes are "
            "drawn at random, which is worse by far; start from one by `train --init MODEL`"
        )
    with tables_in(_place(config, run_directory)):
        model = build_configured(
            config, dataset.num_entities, dataset.num_relations, graph=workspace.graph
        )
    model.set_row_sparse(entities=True, relations=True)
    model.reset(config.training.seed, config.model.init_scale)
    model.to(workspace.device)
    loader = build_loader(config, workspace, model)
    begun = time.perf_counter()
    objective = (start.setup or build_objective)(config, model, workspace).to(workspace.device)
    setup_seconds = time.perf_counter() - begun
    learned = nn.ModuleDict({"model": model, "objective": objective})
    optimizer = build_optimizer(config.optimizer, learned)

    state = TrainState()
    identity = {"config": resolved, "dataset": dataset.fingerprint}
    identity["run"] = secrets.token_hex(8)
    if resume:
        tensors = SavedState(resume_path)
        begun_with = str(tensors.metadata.get("dataset"))
        if not dataset.has_fingerprint(begun_with):
            raise UserError(
                f"{resume_path}: written for other triples ({short(begun_with)}) than "
                f"{dataset.name} now has ({short(dataset.fingerprint)}); put its data back as they "
                "were, or train anew with another --out"
            )
        state = restore_run(tensors, learned, optimizer, config.training, len(loader), identity)
        identity["run"] = tensors.metadata.get("run", "")
        keep_threads(config, tensors.metadata.get("threads"), announce)
        announce(f"resuming after epoch {state.epoch}, batch {state.batch}")
    else:
        (run_directory / BEST_FILE).unlink(missing_ok=True)  # of one that was killed too early
        atomic_write_text(run_directory / CONFIG_FILE, resolved)
    ours = RunFiles(claim, identity["run"])
    threads = {"threads": torch.get_num_threads()}

    def save(now: TrainState) -> None:
        ours.check(resume_path)
        tensors = checkpoint.training_tensors(learned, optimizer)
        save_state(resume_path, tensors, {**identity, **threads, "state": now.to_dict()})

    def validate() -> float:
        mrr = validation_mrr(model, workspace, config)
        measured = time.perf_counter()
        validated(state.epoch, mrr)
        state.validation_seconds -= time.perf_counter() - measured  # it is no validation
        return mrr

    def keep_best() -> None:
        model.encoder.store_encoded()
        ours.check(run_directory / BEST_FILE)
        reached = {"mrr": state.best, "epoch": state.epoch}
        save_state(run_directory / BEST_FILE, dict(model.state_dict()), {**identity, **reached})

    settings = config.optimizer, config.training
    with ExitStack() as stack:
        steps: Optional[Steps] = None
        if (config.training.processes or 1) > 1:
            count = config.training.processes or 1
            workers = Workers(count, learned, loader, optimizer, *settings)
            steps = stack.enter_context(workers).steps
        train(
            model,
            loader,
            objective,
            optimizer,
            *settings,
            state=state,
            steps=steps,
            validate=validate if len(dataset.valid) else None,
            keep_best=keep_best,
            save=save,
            report=report,
        )
    ours.check(run_directory / BEST_FILE)
    best = SavedState(run_directory / BEST_FILE)
    best_reached(best, state)
    checkpoint.restore_weights(best, best, model, best.path)
    results = training_results(
        config, workspace, model, state, setup_seconds, start.others, start.about, identity["run"],
        objective,
    )  # fmt: skip
    more: dict[str, Any] = {"data_warnings": told} if told else {}
    measured = {}
    for split in REPORTED_SPLITS[config.evaluation.split]:
        if not len(dataset.split(split)):
            continue
        keep = partial(save_ranks, run_directory / RANKS_FILE) if split == "test" else _forget
        measured[split] = measure(model, workspace, split, config, ranked=keep)
    more["metrics"] = split_figures(measured)
    if config.evaluation.split != "none":  # else it is a trial, which is compared with others
        more["underfitted"] = underfit_warnings(state.history, state.best, workspace)
        for line in more["underfitted"]:
            announce(f"warning: {line}")
    results = results.model_copy(update=more)
    atomic_write_text(run_directory / HISTORY_FILE, history_csv(state.history))
    ours.check_checkpoint()
    # Last: a checkpoint says that the run is complete.
    place, names = run_directory / CHECKPOINT_DIRECTORY, (dataset.entities, dataset.relations)
    checkpoint.save_model(place, model, config, *names, results, workspace.labels)
    return results


def _forget(result: RankingResult) -> None:
    """Keep nothing of a ranking but its figures."""


def _place(config: Config, run_directory: Path) -> Place:
    """Return where the tables of a run lie, and the state of their optimiser."""
    if config.training.tables == "file":
        return FileTables(run_directory)
    return SharedTables() if (config.training.processes or 1) > 1 else Place()
