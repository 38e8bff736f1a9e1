"""Teachers: frozen, calibrated, and several with one voice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from distill_fixtures import ENTITIES, RELATIONS, dataset_of, model_of, settings_of, workspace_of
from torch import Tensor

from dglke_distill.data.triples import SIDES, Side, Triples
from dglke_distill.distill.teacher import Ensemble, Teacher, TeacherScores, freeze, score_factor
from dglke_distill.distill.teacher import mean_distribution as mean_of
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import build_loader

DATASET = dataset_of()
WORKSPACE = workspace_of(DATASET)
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("TransE", {"options": {"norm": "l2", "normalize": True}}),
    ("RotatE", {"entity_bias": True}),
    ("ComplEx", {"reciprocal": True, "entity_bias": True}),
    ("PairRE", {}),
    ("RESCAL", {}),
]


def everything(model: KGEModel, side: Side) -> Tensor:
    """Scores of all entities for all queries of a side."""
    entity = torch.arange(ENTITIES).repeat_interleave(RELATIONS)
    return model.score_all(entity, torch.arange(RELATIONS).repeat(ENTITIES), side)


@pytest.mark.parametrize("encoder", ["lookup", "neighbor"])
@pytest.mark.parametrize(("name", "settings"), MODELS)
def test_a_frozen_model_scores_as_before(name: str, settings: Any, encoder: str) -> None:
    graph = workspace_of(DATASET, inverse=True).graph if encoder == "neighbor" else None
    model = model_of(name, seed=4, encoder=encoder, graph=graph, **settings)
    if encoder == "neighbor":
        model.eval()
        model.encoder.store_encoded()
    frozen = freeze(model)
    for side in SIDES:
        torch.testing.assert_close(everything(frozen, side), everything(model, side))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert frozen.floats_per_entity == model.floats_per_entity
    assert frozen.reciprocal == model.reciprocal
    if encoder == "lookup" and not settings.get("options"):
        mine = model.encoder.weight if name != "PairRE" else None
        assert mine is None or frozen.encoder.weight.data_ptr() == mine.data_ptr()


def test_freezing_leaves_a_training_model_in_training() -> None:
    model = model_of("ComplEx").train()
    freeze(model)
    assert model.training and model.encoder.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def scored(model: KGEModel, triples: Triples) -> list[tuple[torch.Tensor, int]]:
    """Scores of all answers to both questions of each triple, beside the true answer."""
    found = []
    rows = zip(triples.head.tolist(), triples.relation.tolist(), triples.tail.tolist())
    for head, relation, tail in rows:
        for side, known, answer in (("tail", head, tail), ("head", tail, head)):
            ids = torch.tensor([known]), torch.tensor([relation])
            found.append((model.score_all(*ids, side)[0], answer))  # type: ignore[arg-type]
    return found


def cost(answers: list[tuple[torch.Tensor, int]], factor: float) -> float:
    """Negative log-likelihood of both sides, triple by triple, of scores times a factor."""
    total = 0.0
    for scores, answer in answers:
        total += ((factor * scores).logsumexp(0) - factor * scores[answer]).item()
    return total


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("name", ["ComplEx", "DistMult"])
def test_calibration_is_the_best_factor_of_a_scan(name: str, scale: float) -> None:
    model = informed(name, scale)
    found = score_factor(model, DATASET)
    scan = [10 ** (power / 50) for power in range(-150, 151)]
    with torch.no_grad():
        answers = scored(model, DATASET.valid)
    best = min(scan, key=lambda factor: cost(answers, factor))
    assert 1e-3 < best < 1e3
    assert found == pytest.approx(best, rel=0.06)
    assert cost(answers, found) <= cost(answers, best) * 1.001


def informed(name: str, scale: float) -> KGEModel:
    """A model that has seen half of the validation answers, its scores times a factor."""
    model = model_of(name, dim=16, seed=5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    triples = torch.from_numpy(DATASET.valid.to_array()[::2].T.astype(np.int64))
    head, relation, tail = triples
    for _ in range(15):
        optimizer.zero_grad()
        entities = model.encode(None)
        scores = model.score(model.query(entities, head, relation, "tail"), entities)
        F.cross_entropy(scores, tail).backward()
        optimizer.step()
    with torch.no_grad():
        model.relation_weight.mul_(scale)
    return model


def test_calibration_makes_up_for_a_known_factor() -> None:
    base = score_factor(informed("ComplEx", 1.0), DATASET)
    for scale in (0.02, 0.5, 7.0):
        assert score_factor(informed("ComplEx", scale), DATASET) * scale == pytest.approx(
            base, rel=0.03
        )


def test_calibration_without_validation_or_with_little_memory() -> None:
    model = informed("ComplEx", 1.0)
    empty = Triples(*(np.zeros(0, dtype=np.int32) for _ in range(3)))
    bare = replace(DATASET, train=DATASET.valid, valid=empty)
    assert score_factor(model, bare) == score_factor(model, DATASET)
    assert math.isfinite(score_factor(model, DATASET, memory=1))  # a single triple


def batch_of(mode: str, name: str = "ComplEx") -> Any:
    config = settings_of(training={"mode": mode})
    return next(iter(build_loader(config, WORKSPACE, model_of(name)).epoch(0)))


def replies(mode: str, teacher: Any) -> list[Tensor]:
    batch = batch_of(mode)
    reply = teacher.ask(batch)
    if mode == "negatives":
        ids = torch.arange(3).expand(len(batch.queries[0].entity), 3)
        return [reply([0]), reply([0], [ids])]
    numbers = range(len(batch.queries))
    ids = [torch.arange(3).expand(len(queries.entity), 3) for queries in batch.queries]
    alone = [reply([number], [ids[number]]) for number in numbers]
    return [*alone, *(reply([number]) for number in numbers), reply(numbers), reply(numbers, ids)]


@pytest.mark.parametrize("mode", ["negatives", "one_vs_all", "k_vs_all"])
def test_several_teachers_are_the_mean_of_their_distributions(mode: str) -> None:
    models = [model_of("ComplEx", seed=1), model_of("PairRE", seed=2), model_of("RotatE", seed=3)]
    teachers = [Teacher(model, factor) for model, factor in zip(models, (1.0, 0.3, 2.0))]
    whole = replies(mode, Ensemble(teachers))
    apart = [replies(mode, Teacher(teacher.model)) for teacher in teachers]
    for number, found in enumerate(whole):
        mean = sum(
            (teacher.factor * scores[number]).softmax(1) for teacher, scores in zip(teachers, apart)
        )
        torch.testing.assert_close(found.exp(), mean / 3)
        torch.testing.assert_close(found.exp().sum(1), torch.ones(len(found), dtype=found.dtype))


@pytest.mark.parametrize("name", ["ComplEx", "PairRE", "TransR"])
def test_groups_of_a_batch_are_answered_alone_and_together(name: str) -> None:
    batch = batch_of("k_vs_all")
    assert len(batch.queries) == 2
    teacher = Teacher(model_of(name, seed=2))
    reply = teacher.ask(batch)
    assert isinstance(reply, TeacherScores)
    alone = [reply([number]) for number in (0, 1)]
    torch.testing.assert_close(reply((0, 1)), torch.cat(alone))
    for number, queries in enumerate(batch.queries):
        wanted = teacher.model.score_all(queries.entity, queries.relation, queries.side)
        torch.testing.assert_close(alone[number], wanted)


def test_what_a_reply_returns_may_be_overwritten() -> None:
    for teacher in (Teacher(model_of("PairRE")), Teacher(model_of("ComplEx", entity_bias=True))):
        reply = teacher.ask(batch_of("k_vs_all"))
        first = reply((0, 1)).clone()
        reply((0, 1)).zero_()
        assert torch.equal(reply((0, 1)), first)


def test_teachers_give_no_gradients() -> None:
    teacher = Teacher(model_of("ComplEx"))
    for mode in ("negatives", "k_vs_all"):
        for scores in replies(mode, teacher) + replies(mode, Ensemble([teacher, teacher])):
            assert not scores.requires_grad


def test_the_impossible_stays_finite() -> None:
    scores = torch.tensor([[0.0, -2000.0], [1.0, 1.0]], dtype=torch.float64)
    found = mean_of([scores, scores])
    assert torch.isfinite(found).all()
    assert found[1].exp().tolist() == pytest.approx([0.5, 0.5])
