"""ComplEx-RP: the relation is predicted too, in sampled training on graphs in OGB's layouts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ogb_fixtures import write_biokg, write_wikikg2

from dglke_distill.config import Config, compose
from dglke_distill.models import build_model
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import build_loader, build_objective, prepare

WRITERS = {"ogbl-wikikg2": write_wikikg2, "ogbl-biokg": write_biokg}
every_layout = pytest.mark.parametrize("dataset", WRITERS)


@pytest.fixture
def folder(dataset: str, tmp_path: Path) -> Path:
    """A small dataset in the layout of the one named."""
    WRITERS[dataset](tmp_path)
    return tmp_path / dataset.replace("-", "_")


def config_of(folder: Path, name: str = "ComplEx", **training: Any) -> Config:
    tree = {
        "data": {"dataset": str(folder)},
        "model": {"name": name, "dim": 8},
        "negatives": {"count": 4, "sampler": "typed" if "bio" in folder.name else "uniform"},
        "regularizer": {"weight": 0.001},
        "training": {"threads": 1, "batch_size": 16, **training},
    }
    return compose([tree], recipe="complex-rp")


@pytest.mark.parametrize("sharing", ["chunk", "private"])
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", ["ComplEx", "DistMult", "AutoSF"])
@every_layout
def test_a_sampled_batch_costs_the_cross_entropy_of_its_relations(
    folder: Path, name: str, reciprocal: bool, sharing: str
) -> None:
    """Against the scores of the batch's triples with every relation in turn."""
    tree = config_of(folder, name, dtype="float64").model_dump()
    tree["model"]["reciprocal"], tree["negatives"]["sharing"] = reciprocal, sharing
    config = Config.from_mapping(tree, "test")
    workspace = prepare(config)
    sizes = workspace.dataset.num_entities, workspace.dataset.num_relations
    model = build_model(config.model, *sizes, torch.float64)
    model.reset(0, 0.8)
    loader, objective = build_loader(config, workspace, model), build_objective(config, model)
    for batch in loader.epoch(0):
        rows = sizes[1] * (2 if reciprocal else 1)
        losses = []
        for side in ("tail", "head"):
            for head, relation, tail in zip(
                batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist()
            ):
                if reciprocal and side == "head":
                    head, relation, tail = tail, relation + sizes[1], head
                scores = model.score_triples(
                    torch.full((rows,), head), torch.arange(rows), torch.full((rows,), tail)
                ).tolist()
                total = sum(math.exp(score) for score in scores)
                losses.append(math.log(total) - scores[relation])
        found = objective(model, batch)
        assert found.parts["relation"].item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
        others = found.parts["hard"] + found.parts["penalty"]
        weighted = config.loss.relation_weight * found.parts["relation"]
        assert found.total.item() == pytest.approx((others + weighted).item(), rel=1e-9)


@every_layout
def test_relations_are_learned_in_a_run(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, epochs=40, evaluate_every=20)
    assert config.loss.relation_weight > 0 and config.training.mode == "negatives"
    results = train_run(config, tmp_path / "run").to_tree()
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("relation")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    # The scores all start near 0: every relation, inverse ones too, is as likely as any other.
    relations = results["dataset"]["relations"]
    assert losses[0] < 1.1 * math.log(2 * relations)
    assert losses[-1] < 0.5 * losses[0]
    assert math.isfinite(results["metrics"]["test"]["mrr"])
