"""A training that has learned next to nothing is warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from distill_fixtures import dataset_of, workspace_of, write_clock

import dglke_distill as kd
from dglke_distill.config import compose
from dglke_distill.evaluate import evaluate
from dglke_distill.evaluate.popularity import RelationPopularity
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.underfit import underfit_warnings


def test_popularity_is_the_bound() -> None:
    workspace = workspace_of(dataset_of(30, 3))
    data = workspace.dataset
    popular = RelationPopularity(data.train, data.num_entities, data.num_relations)
    scores = popular.score_all(torch.tensor([0, 0]), torch.tensor([1, 2]), "tail")
    for row, relation in zip(scores, (1, 2)):
        tails = data.train.tail[data.train.relation == relation]
        assert row.tolist() == np.bincount(tails, minlength=30).tolist()
    bound = evaluate(popular, data.valid, workspace.known).mrr
    assert underfit_warnings([], bound - 1e-6, workspace)
    assert underfit_warnings([], bound + 1e-6, workspace) == []
    assert underfit_warnings([], None, workspace) == []


def test_a_loss_that_has_not_moved() -> None:
    workspace = workspace_of()
    (line,) = underfit_warnings([{"loss": 2.0}, {"loss": 1.99}], None, workspace)
    assert line.startswith("underfitted: the loss has hardly moved, from 2 to 1.99")
    assert underfit_warnings([{"loss": 2.0}, {"loss": 1.5}], None, workspace) == []


@pytest.mark.parametrize(("rate", "warned"), [(1e-7, True), (0.3, False)])
def test_a_run_says_so(tmp_path: Path, rate: float, warned: bool) -> None:
    tree = {
        "data": {"dataset": str(write_clock(tmp_path / "clock"))},
        "model": {"name": "ComplEx", "dim": 16, "reciprocal": True},
        "loss": {"name": "softmax"},
        "optimizer": {"name": "adagrad", "learning_rate": rate},
        "training": {"mode": "k_vs_all", "epochs": 20, "batch_size": 16, "threads": 1},
    }
    lines: list[str] = []
    results = train_run(
        compose([tree], recipe=None), tmp_path / "run", announce=lines.append
    ).to_tree()
    assert any("hardly moved" in line for line in results.get("underfitted", [])) == warned
    assert any(line.startswith("warning: underfitted: the loss") for line in lines) == warned


def test_python_warns_of_a_stage_where_it_was_called(tmp_path: Path) -> None:
    options = {"shared.optimizer.learning_rate": 1e-7, "shared.evaluation.split": "valid"}
    with pytest.warns(UserWarning, match=r"dim8: underfitted: the loss has hardly") as heard:
        kd.distill(
            write_clock(tmp_path / "clock"), model="complex", dims=[8, 4], epochs=20, threads=1,
            recipe="none", control="none", search="none", settings=options, out=tmp_path / "run",
        )  # fmt: skip
    assert {Path(each.filename).name for each in heard} == {Path(__file__).name}
