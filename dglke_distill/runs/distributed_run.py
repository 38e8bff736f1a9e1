"""One trainer's part of a training by many: from settings and parts to a ranked model on disk.

The first trainer alone reads and writes files; what it writes are an ordinary run's files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Optional, cast

import torch.distributed as together
from torch import Tensor, nn

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base import runtime
from dglke_distill.base.claims import Claim, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.base.parsing import MAX_TOML_BYTES
from dglke_distill.base.regular_files import read_text
from dglke_distill.base.tensor_files import SavedState, save_state
from dglke_distill.config import Config
from dglke_distill.data.graph import build_graph
from dglke_distill.data.partitions import Partition
from dglke_distill.data.triples import Dataset
from dglke_distill.kernels import set_num_threads
from dglke_distill.models.coded import build_configured
from dglke_distill.runs.distributed_state import (
    DistributedRun,
    Said,
    check_saved,
    identity_of,
    restore_run,
    save_run,
)
from dglke_distill.runs.ranks import RANKS_FILE, save_ranks
from dglke_distill.runs.run_files import (
    BEST_FILE,
    CHECKPOINT_DIRECTORY,
    CONFIG_FILE,
    HISTORY_FILE,
    LATEST_DIRECTORY,
    RESUME_FILE,
    begun_or_gone,
    history_csv,
    run_kind,
)
from dglke_distill.runs.train_run import REPORTED_SPLITS
from dglke_distill.runs.training_results import split_figures, training_results
from dglke_distill.runs.workspace import build_objective, build_optimizer
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.sampling.negatives import configured_sampler
from dglke_distill.training.distributed.engine import Member
from dglke_distill.training.distributed.optimizer import (
    DistributedOptimizer,
    check_sparse,
    sparse_optimizer,
)
from dglke_distill.training.distributed.rows import relation_bytes, relations_are_dealt
from dglke_distill.training.distributed.steps import (
    Drawn,
    agree,
    distributed_loader,
    distributed_steps,
)
from dglke_distill.training.loop import TrainState, train
from dglke_distill.training.objective import Objective

DistributedSetup = Callable[[Config, DistributedRun], Objective]
"""Called by all trainers, before a run that goes on is laid over what it leaves."""


def check_settings(config: Config, dataset: Dataset, parts: int, part: str = "") -> None:
    """Refuse settings that cannot be trained by many machines, before any process is started.

    Args:
        config: the settings.
        dataset: what was cut.
        parts: into how many.
        part: what stands before the name of a setting of a chain, such as ``shared.``.

    Raises:
        UserError: there are some.
    """
    training = config.training
    for setting, value, wanted in (
        ("training.mode", training.mode, "negatives"),
        ("model.encoder", config.model.encoder.lower(), "lookup"),
        ("training.dtype", training.dtype, "float32"),
        ("training.storage", training.storage, None),
        ("training.processes", training.processes or 1, 1),
        ("training.tables", training.tables or "memory", "memory"),
        ("optimizer.clip_norm", config.optimizer.clip_norm, None),
    ):
        if value != wanted:
            fix = f"leave {part}{setting} out"
            if wanted is not None:
                fix = f"give --set {part}{setting}={wanted}"
            raise UserError(f"dist launch: {setting} {value} is for one machine; {fix}")
    if training.device not in ("auto", "cpu"):
        raise UserError(
            f"--device {training.device}: DGL's servers move tables on the CPU; use cpu"
        )
    check_sparse(config.optimizer)
    size = relation_bytes(config.model, dataset.num_relations)
    rows = dataset.num_relations * (1 + config.model.reciprocal)
    if config.loss.relation_weight and relations_are_dealt(size, rows, parts):
        raise UserError(
            f"dist launch: {part}loss.relation_weight compares all relations, whose table of "
            f"{size >> 20:,} MiB lies in parts here; give --set {part}loss.relation_weight=0"
        )
    # The rest is refused by what the trainers build: built here for two entities and one fact.
    model = build_configured(config, 2, dataset.num_relations)
    build_optimizer(config.optimizer, nn.ModuleDict({"model": model}))
    build_objective(config, model)
    first, count = dataset.train[:1], dataset.num_entities
    graph = build_graph(first, count, num_relations=dataset.num_relations)
    sampler = configured_sampler(
        config.negatives, graph, dataset.num_relations, entity_type=dataset.entity_type,
        seed=training.seed,
    )  # fmt: skip
    BatchLoader(
        graph, dataset.num_relations, batch_size=training.batch_size, sampler=sampler,
        weighting=training.weighting or "loss",
    )  # fmt: skip


def check_run(
    config: Config,
    directory: Path,
    partition: Partition,
    trainers: int,
    resume: bool,
    teacher: str = "",
) -> None:
    """Refuse a run directory in which a run cannot begin, or go on; nothing is left there.

    Args:
        config: the settings.
        directory: of the run, on this host.
        partition: what was cut.
        trainers: how many there are in all.
        resume: whether to go on.
        teacher: see ``identity_of``.

    Raises:
        UserError: see ``claim_run`` and ``check_saved``.
    """
    with ExitStack() as stack:
        claim_run(config, directory, resume, stack)
        if resume:
            saved = SavedState(directory / RESUME_FILE)
            check_saved(saved, identity_of(config, partition, trainers, teacher))


def claim_run(config: Config, directory: Path, resume: bool, stack: ExitStack) -> Claim:
    """Claim the run directory, as ``train_run`` does.

    Args:
        config: the settings.
        directory: of the run.
        resume: whether to go on.
        stack: holds the claim.

    Raises:
        UserError: it is in use, holds something else, or nothing to go on with.
    """
    resolved = config.to_toml()

    def same() -> bool:
        return read_text(directory / CONFIG_FILE, MAX_TOML_BYTES) == resolved

    checkpoint.check_place(directory / CHECKPOINT_DIRECTORY)
    checkpoint.check_place(directory / LATEST_DIRECTORY)
    claim = stack.enter_context(claimed(directory, run_kind(same), None, same, resume=resume))
    stack.enter_context(begun_or_gone(directory))
    return claim


def train_part(
    config: Config,
    member: Member,
    partition: Partition,
    claim: Optional[Claim],
    *,
    resume: bool,
    drawn: Drawn,
    said: Said,
    setup: Optional[DistributedSetup] = None,
    teacher: str = "",
) -> Optional[TrainingResults]:
    """Train with all others, rank together, and have the first trainer leave a checkpoint.

    Args:
        config: the resolved settings.
        member: who this trainer is.
        partition: what was cut.
        claim: of the run directory; the first trainer's alone.
        resume: go on from what the run has saved.
        drawn: where negatives come from.
        said: hears how it goes.
        setup: gives the model its start and returns what to minimise; None: the hard objective.
        teacher: see ``identity_of``.

    Returns:
        What ``results.json`` holds; None for all but the first trainer.

    Raises:
        UserError: bad settings, or nothing to go on with.
        Interrupted: asked to stop; the run can be resumed.
    """
    runtime.tune_allocator()
    set_num_threads(config.training.threads or 1)
    run = DistributedRun(config, member, partition, claim, said, teacher)
    loader = distributed_loader(config, member, partition, run.dataset, drawn)
    begun = time.perf_counter()
    wanted = build_objective(config, run.model) if setup is None else setup(config, run)
    for parameter in wanted.parameters():  # drawn by each trainer
        together.broadcast(parameter.data, 0)
    setup_seconds = time.perf_counter() - begun
    run.model.set_row_sparse(entities=False, relations=False)
    learned = nn.ModuleDict({"model": run.model, "objective": wanted})
    dense = build_optimizer(config.optimizer, learned)
    tables = list(run.model.tables.values())
    optimizer = DistributedOptimizer(
        sparse_optimizer(config.optimizer, tables), dense, learned, [run.model.relation_weight]
    )
    state = TrainState()
    if resume:
        state = restore_run(run, learned, optimizer, len(loader))
    elif member.leads:
        (run.directory / BEST_FILE).unlink(missing_ok=True)
        atomic_write_text(run.directory / CONFIG_FILE, config.to_toml())
    ranked = bool(len(run.dataset.valid)) and not partition.given_candidates

    def save(now: TrainState) -> None:
        save_run(run, learned, optimizer, now, setup_seconds)

    def validate() -> float:
        mrr = run.rank("valid", config.training.validation_limit).mrr
        said.validated(state.epoch, mrr)
        return mrr

    def keep_best() -> None:
        tensors = run.collect()
        if member.leads:
            run.files.check(run.directory / BEST_FILE)
            reached = {"mrr": state.best, "epoch": state.epoch}
            save_state(run.directory / BEST_FILE, tensors, {**run.identity, **reached})

    rates = [group["lr"] for group in optimizer.param_groups]
    settings = config.optimizer, config.training
    given = (run.model, loader, wanted, cast(Any, optimizer), *settings, rates)
    train(
        run.model,
        loader,
        wanted,
        cast(Any, optimizer),
        *settings,
        state=state,
        steps=distributed_steps(given, len(loader)),
        validate=validate if ranked else None,
        keep_best=keep_best,
        save=save,
        report=said.progress,
        agree=agree,
    )
    return _finish(run, state, wanted, setup_seconds)


def _finish(
    run: DistributedRun, state: TrainState, objective: nn.Module, setup_seconds: float
) -> Optional[TrainingResults]:
    """Rank the best model together; the first trainer writes the checkpoint."""
    config, leads = run.config, run.member.leads
    best: Optional[Mapping[str, Tensor]] = None
    if leads:
        run.files.check(run.directory / BEST_FILE)
        saved = SavedState(run.directory / BEST_FILE)
        assert run.ordinary is not None
        checkpoint.restore_weights(saved, saved, run.ordinary, saved.path)
        best = dict(run.ordinary.state_dict())
    run.spread(best)
    measured = {}
    for split in REPORTED_SPLITS[config.evaluation.split]:
        if len(run.dataset.split(split)) and not run.partition.given_candidates:
            result = run.rank(split)
            measured[split] = result.to_dict()
            if split == "test" and leads:
                save_ranks(run.directory / RANKS_FILE, result)
    if not leads:
        return None
    assert run.ordinary is not None
    results = training_results(
        config, run.workspace, run.ordinary, state, setup_seconds, run.others, run.about,
        run.identity["run"], objective, trainers=run.member.job.world,
        machines=run.member.job.machines,
    )  # fmt: skip
    results = results.model_copy(update={"metrics": split_figures(measured)})
    atomic_write_text(run.directory / HISTORY_FILE, history_csv(state.history))
    run.files.check_checkpoint()
    place = run.directory / CHECKPOINT_DIRECTORY
    names = run.dataset.entities, run.dataset.relations
    checkpoint.save_model(place, run.ordinary, config, *names, results, run.workspace.labels)
    return results
