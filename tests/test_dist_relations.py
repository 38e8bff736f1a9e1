"""Tables of relations that are too large for each trainer to have its own."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from documents import ROOT

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, DataConfig
from dglke_distill.data import catalog
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.partitioning import partition
from dglke_distill.evaluate import evaluate
from dglke_distill.runs.distributed_memory import distributed_need
from dglke_distill.runs.distributed_run import check_settings
from dglke_distill.training.distributed.rows import (
    SHARDED_BYTES,
    even_ranges,
    policy_of_rows,
    relation_bytes,
    relations_are_dealt,
)


@pytest.mark.parametrize(("rows", "machines"), [(7, 3), (2000, 2), (3, 3), (48000, 7)])
def test_rows_are_dealt_evenly_and_each_to_one_machine(rows: int, machines: int) -> None:
    load_dgl()
    ids = torch.arange(rows)
    sizes = []
    for machine in range(machines):
        policy = policy_of_rows(machine, machines, rows)
        owner = policy.to_partid(ids).numpy()
        assert (np.diff(owner) >= 0).all()
        own = ids[owner == machine]
        assert policy.to_local(own).tolist() == list(range(len(own)))
        assert policy.get_part_size() == len(own) and policy.get_size() == rows
        sizes.append(len(own))
    assert sum(sizes) == rows and max(sizes) - min(sizes) <= 1
    assert [last - first for first, last in even_ranges(rows, machines)] == sizes


def test_the_size_decides() -> None:
    rescal = Config.from_mapping({"model": {"name": "RESCAL", "dim": 32}}, "test").model
    assert relation_bytes(rescal, 48_000) == 48_000 * 32 * 32 * 4
    assert relations_are_dealt(SHARDED_BYTES, 2, 2)
    assert not relations_are_dealt(SHARDED_BYTES - 1, 2, 2)
    assert not relations_are_dealt(1 << 40, 1, 2)  # one row cannot be dealt to two


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return parts of 200 entities on a ring and 1,100 relations that lead a few steps on."""
    home, chance = tmp_path_factory.mktemp("relations"), random.Random(0)
    pairs = {(chance.randrange(200), chance.randrange(1100)) for _ in range(3000)}
    pairs |= {(relation % 200, relation) for relation in range(1100)}
    lines = [f"e{h}\tr{r}\te{(h + 7 * (r % 20) + 1) % 200}\n" for h, r in sorted(pairs)]
    (home / "ring.tsv").write_text("".join(lines))
    dataset = catalog.load(str(home / "ring.tsv"))
    partition(dataset, DataConfig(dataset=str(home / "ring.tsv")), home / "parts", 2, "random")
    return home / "parts"


def test_memory_counts_relations_once_where_they_are_dealt(parts: Path) -> None:
    from dglke_distill.data.partitions import read_partition

    found = read_partition(parts)
    assert found.relations == 1100

    def need(dim: int) -> list[int]:
        tree = {"model": {"name": "RESCAL", "dim": dim}, "optimizer": {"name": "adagrad"}}
        wanted = distributed_need(Config.from_mapping(tree, "test"), found, 2)
        return [wanted.shared[0], wanted.host[0]]

    size = 1100 * 4 * 64**2
    assert size > SHARDED_BYTES
    shared = need(64)[0] - need(32)[0]
    # A half of the relations and of their sums of squares, beside the entities' wider rows.
    assert size <= shared <= size + 2 * 200 * 64 * 4


def test_relations_that_are_all_compared_cannot_be_dealt() -> None:
    dataset = catalog.load("cldr")
    tree = {
        "model": {"name": "ComplEx", "dim": 1 << 17, "reciprocal": True},
        "loss": {"name": "softmax"},
    }
    config = Config.from_mapping({**tree, "optimizer": {"name": "adagrad"}}, "test")
    weighty = config.model_copy(
        update={"loss": config.loss.model_copy(update={"relation_weight": 0.5})}
    )
    with pytest.raises(UserError, match=r"compares all relations, .* give --set loss.relation_wei"):
        check_settings(weighty, dataset, 2)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="DGL's engine needs /dev/shm")
def test_two_trainers_learn_relations_that_lie_in_parts(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["dist", "launch", "--local", 2, "--", "train", parts, "--recipe", "none", "--model",
             "rescal", "--dim", 64, "--epochs", 3, "--batch-size", 256, "--negatives", 16,
             "--threads", 1, "--lr", 0.1, "--out", out]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "dglke_distill", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"of which 8\.[0-9]+ MiB in /dev/shm", done.stdout)
    losses = [float(row.split(",")[1]) for row in (out / "history.csv").read_text().split()[1:]]
    assert losses[-1] < losses[0]
    model = load_model(out / "checkpoint").model
    assert model.relation_embeddings.shape == (1100, 64 * 64)
    assert (model.relation_embeddings.std(1) > 0).all()  # each row was drawn
    dataset = catalog.load(str(parts.parent / "ring.tsv"))
    known = KnownAnswers.build([dataset.train, dataset.valid, dataset.test], dataset.num_entities)
    alone = evaluate(model, dataset.test, known, train=dataset.train)
    told = json.loads((out / "checkpoint" / "results.json").read_text())
    assert alone.mrr == told["metrics"]["test"]["mrr"]
