"""Penalties against sums over triples written out one by one."""

from __future__ import annotations

import pytest
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig, RegularizerConfig
from dglke_distill.models import build_model
from dglke_distill.sampling.batch import Answers, Queries
from dglke_distill.training.regularizers import build_regularizer

TRIPLES = [(0, 1, 3), (0, 1, 2), (4, 0, 4), (2, 2, 3)]


def model_of(name: str):
    model = build_model(ModelConfig(name=name, dim=6), 5, 3, torch.float64)
    model.reset(3, 1.0)
    return model


def queries_of(triples, side="tail", grouped=False):
    known = torch.tensor([t[0] if side == "tail" else t[2] for t in triples])
    relation = torch.tensor([t[1] for t in triples])
    answer = torch.tensor([t[2] if side == "tail" else t[0] for t in triples])
    if not grouped:
        return Queries(side, known, relation, answer, None, None, None, None)
    pairs = sorted(set(zip(known.tolist(), relation.tolist())))
    lists = [
        [a for k, r, a in zip(known.tolist(), relation.tolist(), answer.tolist()) if (k, r) == pair]
        for pair in pairs
    ]
    offsets = torch.tensor([0, *torch.tensor([len(x) for x in lists]).cumsum(0).tolist()])
    answers = Answers(offsets, torch.tensor([a for x in lists for a in x]))
    return Queries(
        side,
        torch.tensor([k for k, _ in pairs]),
        torch.tensor([r for _, r in pairs]),
        None,
        answers,
        None,
        None,
        None,
    )


def penalty(model, name, queries, weight=0.3, relation_weight=None):
    regularizer = build_regularizer(
        RegularizerConfig(name=name, weight=weight, relation_weight=relation_weight)
    )
    entities = model.encode(None)
    query = model.query(entities, queries.entity, queries.relation, queries.side)
    return regularizer(model, entities, query, queries)


def moduli(vector: list[float]) -> list[float]:
    half = len(vector) // 2
    return [(a * a + b * b) ** 0.5 for a, b in zip(vector[:half], vector[half:])]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("side", ["head", "tail"])
@pytest.mark.parametrize("name", ["DistMult", "ComplEx"])
def test_n3_is_the_mean_over_triples_of_cubed_magnitudes(name, side, grouped) -> None:
    model = model_of(name)
    magnitudes = moduli if name == "ComplEx" else lambda v: [abs(x) for x in v]
    entity, relation = model.entity_embeddings.tolist(), model.relation_embeddings.tolist()
    total = 0.0
    for head, rel, tail in TRIPLES:
        for vector, weight in ((entity[head], 0.3), (entity[tail], 0.3), (relation[rel], 0.1)):
            total += weight * sum(m**3 for m in magnitudes(vector))
    value = penalty(model, "n3", queries_of(TRIPLES, side, grouped), 0.3, 0.1)
    assert value.item() == pytest.approx(total / len(TRIPLES), rel=1e-10)


@pytest.mark.parametrize("grouped", [False, True])
def test_l2_is_the_mean_over_triples_of_squares(grouped) -> None:
    model = model_of("ComplEx")
    entity, relation = model.entity_embeddings, model.relation_embeddings
    total = sum(
        (entity[h].square().sum() + entity[t].square().sum() + relation[r].square().sum()).item()
        for h, r, t in TRIPLES
    )
    value = penalty(model, "l2", queries_of(TRIPLES, "tail", grouped))
    assert value.item() == pytest.approx(0.3 * total / len(TRIPLES), rel=1e-10)


@pytest.mark.parametrize("grouped", [False, True])
def test_both_sides_of_dura_make_its_four_terms(grouped) -> None:
    model = model_of("DistMult")
    entity, relation = model.entity_embeddings, model.relation_embeddings
    total = 0.0
    for h, r, t in TRIPLES:
        head, rel, tail = entity[h], relation[r], entity[t]
        total += (
            (head * rel).square().sum()
            + tail.square().sum()
            + (tail * rel).square().sum()
            + head.square().sum()
        ).item()
    value = sum(
        penalty(model, "dura", queries_of(TRIPLES, side, grouped)) for side in ("head", "tail")
    )
    assert value.item() == pytest.approx(0.3 * total / len(TRIPLES), rel=1e-10)


@pytest.mark.parametrize("name", ["l2", "n3", "dura"])
def test_gradients_are_finite_at_zero(name) -> None:
    model = build_model(ModelConfig(name="ComplEx", dim=6), 5, 3)
    value = penalty(model, name, queries_of(TRIPLES))
    value.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_none_and_weight_zero_cost_nothing_and_typos_are_explained() -> None:
    assert build_regularizer(RegularizerConfig()) is None
    assert build_regularizer(RegularizerConfig(name="n3", weight=0.0)) is None
    with pytest.raises(UserError, match="did you mean 'dura'"):
        build_regularizer(RegularizerConfig(name="duar", weight=1.0))
