"""Losses against their formulas, written out in plain Python floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.config import LossConfig
from dglke_distill.training.losses import LOSSES, build_loss
from dglke_distill.training.scored import ScoredBatch

torch.manual_seed(0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def margin(
    positive: float, negatives: list[float], gamma: float = 5.0, alpha: float = 1.0
) -> float:
    share = softmax([alpha * n for n in negatives])
    return sum(p * max(0.0, gamma - positive + n) for p, n in zip(share, negatives))


def plain_margin(positive: float, negatives: list[float], gamma: float = 1.0) -> float:
    return sum(max(0.0, gamma - positive + n) for n in negatives) / len(negatives)


def logistic(positive: float, negatives: list[float]) -> float:
    false = sum(-math.log(sigmoid(-n)) for n in negatives) / len(negatives)
    return 0.5 * (-math.log(sigmoid(positive)) + false)


def self_adversarial(positive: float, negatives: list[float]) -> float:
    share = softmax([0.5 * n for n in negatives])
    false = sum(-p * math.log(sigmoid(-3.0 - n)) for p, n in zip(share, negatives))
    return 0.5 * (-math.log(sigmoid(3.0 + positive)) + false)


def cross_entropy(positive: float, negatives: list[float]) -> float:
    return -math.log(softmax([2 * v for v in [positive, *negatives]])[0])


def binary(positive: float, negatives: list[float]) -> float:
    return -math.log(sigmoid(positive)) - sum(math.log(sigmoid(-n)) for n in negatives)


CASES = [
    ("margin", {"margin": 5.0, "temperature": 1.0}, margin),
    ("margin", {}, plain_margin),
    ("logistic", {}, logistic),
    ("self_adversarial", {"margin": 3.0, "temperature": 0.5}, self_adversarial),
    ("softmax", {"scale": 2.0}, cross_entropy),
    ("bce", {}, binary),
]


def sampled(positive: Any, negative: Any, known: Any = None, weight: Any = None) -> ScoredBatch:
    answers = torch.arange(len(positive))
    return ScoredBatch(negative, torch.arange(len(positive) + 1), answers, positive, known, weight)


def test_a_row_for_each_triple_is_what_a_loss_over_them_needs() -> None:
    scores = torch.randn(3, 5, dtype=torch.float64)
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    whole = ScoredBatch(
        scores, torch.tensor([0, 2, 3, 5]), torch.tensor([1, 4, 0, 2, 3]), weight=weight
    )
    each = whole.by_triple()
    costs, total = 0.0, 0.0
    answers = [[1, 4], [0], [2, 3]]
    for row, true, w in zip(scores.tolist(), answers, weight.tolist()):
        for answer in true:
            false = [score for i, score in enumerate(row) if i not in true]
            costs += w * sum(max(0.0, 1 - row[answer] + score) for score in false) / len(false)
            total += w
    margin = build_loss(LossConfig(name="margin"))
    assert margin(each).item() == pytest.approx(costs / total, rel=1e-9)
    assert each.by_triple() is each
    assert whole.rows.tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(("name", "options", "formula"), CASES)
@given(
    scores=st.lists(
        st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4), min_size=1, max_size=5
    ),
    weighted=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_sampled_follows_its_formula(name, options, formula, scores, weighted) -> None:
    table = torch.tensor(scores, dtype=torch.float64)
    weight = torch.arange(1, len(scores) + 1, dtype=torch.float64) if weighted else None
    loss = build_loss(LossConfig(name=name, options=options))
    value = loss(sampled(table[:, 0], table[:, 1:], weight=weight))
    rows = [formula(row[0], row[1:]) for row in table.tolist()]
    factors = weight.tolist() if weight is not None else [1.0] * len(rows)
    expected = sum(w * r for w, r in zip(factors, rows)) / sum(factors)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_known_facts_do_not_count_as_negatives(name, options, formula) -> None:
    positive = torch.tensor([0.5, -1.0], dtype=torch.float64)
    negative = torch.randn(2, 5, dtype=torch.float64)
    known = torch.tensor([[False, True, False, True, False], [True, False, False, False, True]])
    loss = build_loss(LossConfig(name=name, options=options))
    value = loss(sampled(positive, negative, known))
    rows = [
        formula(p, [n for n, k in zip(ns, ks) if not k])
        for p, ns, ks in zip(positive.tolist(), negative.tolist(), known.tolist())
    ]
    assert value.item() == pytest.approx(sum(rows) / 2, rel=1e-9)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_all_negatives_known_stays_finite(name) -> None:
    positive = torch.zeros(2, requires_grad=True)
    negative = torch.randn(2, 3, requires_grad=True)
    loss = build_loss(LossConfig(name=name))
    value = loss(sampled(positive, negative, torch.ones(2, 3, dtype=torch.bool)))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(positive.grad).all()
    assert torch.equal(negative.grad, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("name", "options"), [("softmax", {}), ("softmax", {"scale": 3.0}), ("bce", {})]
)
def test_over_all_is_the_sum_over_true_triples(name, options) -> None:
    scores = torch.randn(3, 7, dtype=torch.float64)
    answers = [[1, 4], [0], [2, 3, 6]]
    offsets = torch.tensor([0, 2, 3, 6])
    ids = torch.tensor([a for row in answers for a in row])
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    loss = build_loss(LossConfig(name=name, options=options))
    value = loss(ScoredBatch(scores.clone(), offsets, ids, weight=weight))
    total = 0.0
    for row, true, w in zip(scores.tolist(), answers, weight.tolist()):
        if name == "softmax":
            scale = options.get("scale", 1.0)
            probability = softmax([scale * s for s in row])
            total -= w * sum(math.log(probability[a]) for a in true)
        else:
            total -= w * sum(math.log(sigmoid(s if i in true else -s)) for i, s in enumerate(row))
    triples = sum(w * len(true) for w, true in zip(weight.tolist(), answers))
    assert value.item() == pytest.approx(total / triples, rel=1e-9)


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_balance_weighs_a_query_by_a_power_of_its_answers(balance) -> None:
    scores = torch.randn(2, 6, dtype=torch.float64)
    answers = [[1, 4, 5], [0]]
    loss = build_loss(LossConfig(name="softmax", options={"balance": balance}))
    offsets, ids = torch.tensor([0, 3, 4]), torch.tensor([1, 4, 5, 0])
    value = loss(ScoredBatch(scores.clone(), offsets, ids))
    total, weights = 0.0, 0.0
    for row, true in zip(scores.tolist(), answers):
        probability = softmax(row)
        weight = len(true) ** -balance
        total -= weight * sum(math.log(probability[a]) for a in true)
        weights += weight * len(true)
    assert value.item() == pytest.approx(total / weights, rel=1e-9)


def test_sampled_softmax_over_every_other_entity_equals_over_all() -> None:
    scores = torch.randn(4, 9, dtype=torch.float64)
    answer = torch.tensor([2, 0, 8, 5])
    loss = build_loss(LossConfig(name="softmax"))
    others = torch.stack([torch.cat([r[:a], r[a + 1 :]]) for r, a in zip(scores, answer)])
    apart = loss(sampled(scores[torch.arange(4), answer], others))
    whole = loss(ScoredBatch(scores.clone(), torch.arange(5), answer))
    assert apart.item() == pytest.approx(whole.item(), rel=1e-9)


def test_unknown_names_and_options_are_explained() -> None:
    with pytest.raises(UserError, match="did you mean 'softmax'"):
        build_loss(LossConfig(name="sofmax"))
    with pytest.raises(UserError, match="unknown setting 'margn'; did you mean 'margin'"):
        build_loss(LossConfig(name="margin", options={"margn": 2.0}))
    words = "cannot train with training.mode k_vs_all: set training.mode to negatives, or choose"
    with pytest.raises(UserError, match=words):
        build_loss(LossConfig(name="margin")).check_mode("k_vs_all")
