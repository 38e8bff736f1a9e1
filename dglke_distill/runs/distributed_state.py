"""A trainer's run: its model on the servers, collected, spread, ranked, saved and restored.

The first trainer alone reads and writes files; tables stand in them in the dataset's own order, so
that they are those of an ordinary run.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, cast

import torch
import torch.distributed as together
from torch import Tensor, nn

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.results_node import ResultsNode
from dglke_distill.base.claims import Claim
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import SavedState, flatten_state, restore_state, save_state
from dglke_distill.config import Config
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.identity import OtherData
from dglke_distill.data.labels import labels_in
from dglke_distill.data.partitions import Partition
from dglke_distill.data.triples import Dataset
from dglke_distill.evaluate import RankingResult
from dglke_distill.evaluate.sharded import evaluate_sharded
from dglke_distill.models import build_score_function
from dglke_distill.models.base import KGEModel
from dglke_distill.models.coded import build_configured
from dglke_distill.runs.resume import read_state
from dglke_distill.runs.run_files import LATEST_DIRECTORY, RESUME_FILE, RunFiles
from dglke_distill.runs.training_results import training_results
from dglke_distill.runs.workspace import Workspace
from dglke_distill.training.distributed.engine import Member
from dglke_distill.training.distributed.optimizer import DistributedOptimizer
from dglke_distill.training.distributed.rows import even_ranges
from dglke_distill.training.distributed.steps import renumbered
from dglke_distill.training.distributed.tables import (
    DistributedModel,
    fill_table,
    gather_table,
    new_relations,
    new_table,
    rows_of,
)
from dglke_distill.training.loop import Progress, TrainState


class Said:
    """What the first trainer tells the user; the others are silent."""

    def line(self, text: str) -> None:
        """Say a line."""

    def progress(self, progress: Progress) -> None:
        """Say how far it is."""

    def validated(self, epoch: int, mrr: float) -> None:
        """Say a validation's figure."""


class DistributedRun:
    """A trainer at work; all trainers make it together.

    Args:
        config: the settings.
        member: who it is.
        partition: what was cut.
        claim: of the run directory; the first trainer's alone.
        said: hears how it goes.
        teacher: sha256 of the weights of a student's teacher, or nothing.
    """

    def __init__(
        self,
        config: Config,
        member: Member,
        partition: Partition,
        claim: Optional[Claim],
        said: Said,
        teacher: str = "",
    ) -> None:
        self.config, self.member, self.partition = config, member, partition
        self.claim, self.said = claim, said
        self.about: dict[str, ResultsNode] = {}
        self.others: tuple[OtherData, ...] = ()
        self.dataset: Dataset = partition.dataset()
        self.labels = labels_in(partition.directory, self.dataset.entities)
        self.own = partition.own_ids
        self.share = member.share(partition.entity_ranges)
        entities, relations = self.dataset.num_entities, self.dataset.num_relations
        function = build_score_function(config.model)
        table = new_table(member, "entity", entities, function.dim)
        bias = new_table(member, "bias", entities, 1) if config.model.entity_bias else None
        rows = relations * (1 + config.model.reciprocal)
        self.model = DistributedModel(
            function, relations, table, bias, reciprocal=config.model.reciprocal,
            relations=new_relations(member, "relation", function, rows),
        )  # fmt: skip
        shares = self.share, member.share(even_ranges(rows, partition.parts))
        self.model.reset_rows(*shares, config.training.seed, config.model.init_scale)
        self.ordinary: Optional[KGEModel] = None
        if member.leads:
            self.ordinary = build_configured(config, entities, relations)
        self.identity: dict[str, Any] = {
            **identity_of(config, partition, member.job.world, teacher),
            "run": secrets.token_hex(8),
        }

    @property
    def files(self) -> RunFiles:
        """What keeps this run's files apart from those of others."""
        assert self.claim is not None
        return RunFiles(self.claim, str(self.identity["run"]))

    @property
    def directory(self) -> Path:
        """The run directory."""
        assert self.claim is not None
        return self.claim.directory

    @cached_property
    def workspace(self) -> Workspace:
        """The data, as results describe it."""
        return Workspace(self.dataset, None, torch.device("cpu"), self.labels)

    @cached_property
    def known(self) -> KnownAnswers:
        """The answers of all splits, by DGL's ids."""
        ids = self.partition.dgl_ids()
        splits = [renumbered(self.dataset.split(name), ids) for name in ("train", "valid", "test")]
        return KnownAnswers.build(splits, self.dataset.num_entities)

    def rank(self, split: str, limit: Optional[int] = None) -> RankingResult:
        """Rank a split together with all trainers."""
        return evaluate_sharded(
            self.model,
            self.share,
            renumbered(self.dataset.split(split), self.partition.dgl_ids()),
            self.known,
            train=self.dataset.train,
            query_block_bytes=self.config.evaluation.query_block_megabytes << 20,
            limit=limit,
            seed=self.config.training.seed,
        )

    def collect(self) -> dict[str, Tensor]:
        """Have the first trainer copy the model from the servers; return its ordinary state."""
        ordinary, tables = self.ordinary, self.model.tables
        for name, table in tables.items():
            into = None if ordinary is None else ordinary.get_parameter(name).data
            gather_table(table.weight, rows_of(table.weight, self.own), into)
        if ordinary is None:
            return {}
        ours = dict(self.model.named_parameters())
        for name, parameter in ordinary.named_parameters():
            if name in ours and name not in tables:
                parameter.data.copy_(ours[name].data)
        for name, buffer in self.model.named_buffers():
            ordinary.get_buffer(name).copy_(buffer)
        return dict(ordinary.state_dict())

    def spread(self, state: Optional[Mapping[str, Tensor]]) -> None:
        """Give all trainers and servers the model whose ordinary state the first one has."""
        spread_model(self.model, self.own, state)


def spread_model(
    model: DistributedModel, own: Tensor, state: Optional[Mapping[str, Tensor]]
) -> None:
    """Give all trainers and servers a model; all trainers call it.

    Args:
        model: receives it.
        own: the dataset's id of each row.
        state: of an ordinary model, which the first trainer has; None for the others.
    """
    for name, table in model.tables.items():
        fill_table(table.weight, rows_of(table.weight, own), None if state is None else state[name])
    for name, tensor in model.state_dict().items():
        if name in model.tables:  # an empty parameter stands for it
            continue
        if state is not None:
            tensor.copy_(state[name])
        together.broadcast(tensor, 0)


def save_run(
    run: DistributedRun,
    learned: nn.Module,
    optimizer: DistributedOptimizer,
    now: TrainState,
    setup: float,
) -> None:
    """Write what a resume needs, and the model as any checkpoint is; all trainers call it.

    Args:
        run: the trainer's.
        learned: model and objective.
        optimizer: of both.
        now: where the run stands.
        setup: seconds that the objective's preparation took.
    """
    model = run.collect()
    states: dict[str, Tensor] = {}
    for name, table in optimizer.states():
        into = torch.empty(tuple(table.shape), dtype=table.dtype) if run.member.leads else None
        gather_table(table, rows_of(table, run.own), into)
        if into is not None:
            states[name] = into
    if not run.member.leads:
        return
    path = run.directory / RESUME_FILE
    run.files.check(path)
    tensors = {f"model.{name}": tensor for name, tensor in model.items()}
    own = learned.state_dict().items()
    tensors |= {name: tensor for name, tensor in own if name.startswith("objective.")}
    tensors.update(flatten_state(optimizer.dense.state_dict(), "optimizer"))
    about = {**run.identity, "state": now.to_dict()}
    save_state(path, {**tensors, **states}, about)
    assert run.ordinary is not None
    results = training_results(
        run.config, run.workspace, run.ordinary, now, setup, run.others, run.about,
        run.identity["run"],
    )  # fmt: skip
    place, names = run.directory / LATEST_DIRECTORY, (run.dataset.entities, run.dataset.relations)
    checkpoint.save_model(place, run.ordinary, run.config, *names, results, run.workspace.labels)


def restore_run(
    run: DistributedRun, learned: nn.Module, optimizer: DistributedOptimizer, batches: int
) -> TrainState:
    """Put everything back where it was saved; return where the run stands.

    Args:
        run: the trainer's.
        learned: model and objective.
        optimizer: of both.
        batches: of an epoch.

    Raises:
        UserError: what was saved is damaged, or of another run.
    """
    found: list[Any] = [None, None]
    saved: Optional[SavedState] = None
    if run.member.leads:
        try:
            saved = _checked(run)
            state = read_state(saved.metadata["state"], run.config.training, batches, saved.path)
            tree = restore_state(saved, "optimizer")
            found = [None, (state.to_dict(), tree, saved.metadata["run"])]
        except UserError as error:
            found = [str(error), None]
        except (ValueError, TypeError, KeyError) as error:
            found = [f"{RESUME_FILE}: is damaged ({error}); begin anew in another --out", None]
    together.broadcast_object_list(found, 0)
    if found[0] is not None:
        raise UserError(found[0])
    tree, dense, run.identity["run"] = found[1]
    model = None
    if saved is not None:
        model = {name[6:]: saved[name] for name in saved if name.startswith("model.")}
    run.spread(model)
    for name, tensor in learned.state_dict().items():
        if name.startswith("objective."):
            if saved is not None:
                tensor.copy_(saved[name])
            together.broadcast(tensor, 0)
    for name, table in optimizer.states():
        fill_table(table, rows_of(table, run.own), None if saved is None else saved[name])
    rates = [group["lr"] for group in optimizer.dense.param_groups]
    optimizer.dense.load_state_dict(dense)
    for group, rate in zip(optimizer.dense.param_groups, rates):
        group["lr"] = rate
    state = TrainState(**tree)
    run.said.line(f"resuming after epoch {state.epoch}, batch {state.batch}")
    return state


def identity_of(
    config: Config, partition: Partition, trainers: int, teacher: str
) -> dict[str, Any]:
    """Return what must be the same where a run goes on.

    Args:
        config: the settings.
        partition: what was cut.
        trainers: how many there are in all.
        teacher: sha256 of the weights of a student's teacher, or nothing.
    """
    return {
        "config": config.to_toml(),
        "dataset": partition.fingerprint,
        "trainers": trainers,
        "partition": partition.id,
        "teacher": teacher,
    }


def check_saved(saved: SavedState, identity: Mapping[str, Any]) -> None:
    """Check that a file to go on from is of this very run.

    Args:
        saved: the file.
        identity: see ``identity_of``.

    Raises:
        UserError: it was written with other settings, triples, trainers or parts.
    """
    for key, word in (
        ("config", "other settings"),
        ("dataset", "other triples"),
        (
            "trainers",
            f"{saved.metadata.get('trainers', 'no')} trainers, not {identity['trainers']}",
        ),
        ("partition", "another partition"),
        ("teacher", "another teacher, or none (--teacher)"),
    ):
        if saved.metadata.get(key, "" if key == "teacher" else None) != identity[key]:
            raise UserError(
                f"{saved.path}: written with {word}; go on as the run was begun, or train anew in "
                "another --out"
            )


def _checked(run: DistributedRun) -> SavedState:
    """Return the file to go on from, if it is this run's."""
    saved = SavedState(run.directory / RESUME_FILE)
    check_saved(saved, run.identity)
    expected = {f"model.{n}": t for n, t in cast(Any, run.ordinary).state_dict().items()}
    for name, want in expected.items():
        if name not in saved or saved[name].shape != want.shape:
            raise UserError(f"{saved.path}: weight {name!r} is missing or of another shape")
    return saved
