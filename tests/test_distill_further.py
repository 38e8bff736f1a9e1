"""Queries beyond those of train: what is drawn, and what a student learns from them."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from distill_fixtures import model_of, settings_of, workspace_of
from torch.nn.functional import kl_div

from dglke_distill.config import Config
from dglke_distill.distill.further import FurtherQueries
from dglke_distill.distill.methods import build_method
from dglke_distill.errors import UserError
from dglke_distill.objective import Moment
from dglke_distill.workspace import build_loader


def config_of(further: float, cache: int = 0, loss: str = "softmax") -> Config:
    return settings_of(
        model={"name": "ComplEx", "dim": 8},
        loss={"name": loss},
        training={"mode": "k_vs_all"},
        distillation={
            "method": "fan_out",
            "hard_weight": 0.5,
            "initialization": "random",
            "soft": {
                "name": "kl",
                "candidates": "all",
                "scale": "none",
                "further": further,
                "cache_megabytes": cache,
            },
        },
    )


def test_entities_are_asked_what_their_like_are_asked() -> None:
    workspace = workspace_of()
    relations = workspace.dataset.num_relations
    train = workspace.dataset.train
    asked = defaultdict(set)  # entity to (relation, side)
    for head, relation, tail in train.to_array().tolist():
        asked[head].add((relation, "tail"))
        asked[tail].add((relation, "head"))
    plausible = {
        (entity, kind)
        for entity, kinds in asked.items()
        for other in asked.values()
        if kinds & other
        for kind in other
    }
    source = FurtherQueries(workspace.graph, relations, seed=3)
    drawn = set()
    for step in range(200):
        batch = source.draw(16, Moment(step=step), torch.device("cpu"))
        assert sum(len(group.entity) for group in batch.queries) == 16
        for group in batch.queries:
            assert group.answers is not None and not len(group.answers.entities)
            pairs = zip(group.entity.tolist(), group.relation.tolist())
            drawn |= {(entity, (relation, group.side)) for entity, relation in pairs}
    assert drawn == plausible
    assert drawn - {(entity, kind) for entity, kinds in asked.items() for kind in kinds}


def test_draws_depend_on_seed_and_step() -> None:
    workspace = workspace_of()

    def first(seed: int, step: int) -> list[int]:
        source = FurtherQueries(workspace.graph, workspace.dataset.num_relations, seed=seed)
        batch = source.draw(20, Moment(step=step), torch.device("cpu"))
        return torch.cat([group.entity for group in batch.queries]).tolist()

    assert first(0, 5) == first(0, 5)
    assert first(0, 5) != first(0, 6)
    assert first(0, 5) != first(1, 5)


@pytest.mark.parametrize("cache", [0, 64])
@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_the_loss_is_the_divergence_over_all_entities(cache: int, loss: str) -> None:
    workspace = workspace_of()
    teacher, student = model_of("DistMult", 6, seed=1), model_of("ComplEx", seed=2)
    config = config_of(0.75, cache, loss)
    method = build_method("fan_out", {})
    objective = method.objective(config, student, [teacher], workspace)
    plain = method.objective(config_of(0.0, cache, loss), student, [teacher], workspace)
    batch = next(build_loader(config, workspace, student).epoch(0))
    moment = Moment(step=4, steps=10)
    count = round(0.75 * sum(len(group.entity) for group in batch.queries))
    source = FurtherQueries(workspace.graph, workspace.dataset.num_relations, seed=0)
    total = 0.0
    for group in source.draw(count, moment, torch.device("cpu")).queries:
        entities = student.encode(None)
        query = student.query(entities, group.entity, group.relation, group.side)
        ours = student.score(query, entities).log_softmax(dim=1)
        theirs = teacher.score_all(group.entity, group.relation, group.side).log_softmax(dim=1)
        total = total + kl_div(ours, theirs, log_target=True, reduction="sum")
    found = objective(student, batch, moment)
    assert float(found.parts["further"]) == pytest.approx(float(total) / count)
    assert float(found.parts["soft"]) == pytest.approx(
        float(plain(student, batch, moment).parts["soft"])
    )
    # Its gradient is that of the sum written out.
    tables = list(student.parameters())
    gradients = torch.autograd.grad(found.total, tables)
    before = torch.autograd.grad(plain(student, batch, moment).total, tables)
    further = torch.autograd.grad(total / count, tables)
    weight = float(found.parts["soft_weight"])
    soft_only = _soft_gradient(plain, student, batch, moment, tables)
    for got, whole, more, soft in zip(gradients, before, further, soft_only):
        expected = whole - weight * soft + weight * (soft + 0.75 * more) / 1.75
        torch.testing.assert_close(got, expected)


def _soft_gradient(objective, student, batch, moment, tables):  # type: ignore[no-untyped-def]
    from dglke_distill.objective import ask

    terms = objective.compare(student, batch, ask(student, batch), moment)
    return torch.autograd.grad(terms.soft, tables)


def test_settings_that_cannot_be() -> None:
    workspace = workspace_of()
    student, teacher = model_of("ComplEx"), model_of("ComplEx", seed=1)
    config = settings_of(
        model={"name": "ComplEx", "dim": 8},
        distillation={"soft": {"candidates": "batch", "further": 1.0}},
    )
    with pytest.raises(UserError, match=r"distillation\.soft\.further"):
        build_method("iterde", {}).objective(config, student, [teacher], workspace)
