"""Soft losses against their formulas in plain floats; schedules against values by hand."""

from __future__ import annotations

import math
from typing import Any, Optional

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.config import SoftLabelConfig, SoftWeightConfig
from dglke_distill.distill.schedules import SCHEDULES, Schedule, build_schedule, leading
from dglke_distill.distill.soft import SOFT_LOSSES, SoftLoss, build_soft_loss
from dglke_distill.training.objective import Moment

STUDENT = [[0.3, -1.2, 2.5, 0.0], [4.0, 0.1, -0.7, 0.2], [-3.0, -3.5, 1.0, 6.0]]
TEACHER = [[0.1, -1.0, 0.5, 0.0], [1.0, 1.1, -0.7, 0.9], [2.0, -3.5, -1.0, 5.0]]
WEIGHT = [0.5, 2.0, 1.0]
SCORES = st.lists(st.floats(-30, 30), min_size=2, max_size=6)


def soft_loss(name: str, **options: Any) -> SoftLoss:
    return build_soft_loss(SoftLabelConfig(name=name, options=options))


def huber(
    student: list[float], teacher: list[float], delta: float = 1.0, reduction: str = "mean"
) -> float:
    total = 0.0
    for s, t in zip(student, teacher):
        off = abs(s - t)
        total += 0.5 * off * off if off <= delta else delta * (off - delta / 2)
    return total if reduction == "sum" else total / len(student)


def divergence(student: list[float], teacher: list[float], temperature: float = 1.0) -> float:
    def softmax(scores: list[float]) -> list[float]:
        total = sum(math.exp(score / temperature) for score in scores)
        return [math.exp(score / temperature) / total for score in scores]

    ours, theirs = softmax(student), softmax(teacher)
    each = [p * (math.log(p) - math.log(q)) for p, q in zip(theirs, ours) if p > 0]
    return temperature**2 * sum(each)


CASES = [
    ("huber", {}, huber),
    ("huber", {"delta": 0.3}, huber),
    ("huber", {"delta": 2.0, "reduction": "sum"}, huber),
    ("kl", {}, divergence),
    ("kl", {"temperature": 2.5}, divergence),
    ("kl", {"temperature": 0.4}, divergence),
]


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_soft_losses_are_their_formulas(
    name: str, options: dict[str, Any], formula: Any, weight: Optional[list[float]]
) -> None:
    loss = soft_loss(name, **options)
    student, teacher = (torch.tensor(s, dtype=torch.float64) for s in (STUDENT, TEACHER))
    rows = [formula(s, t, **options) for s, t in zip(STUDENT, TEACHER)]
    assert loss.rows(student, teacher).tolist() == pytest.approx(rows, rel=1e-12)
    shares = weight or [1.0] * len(rows)
    mean = sum(r * w for r, w in zip(rows, shares)) / sum(shares)
    given_weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    assert loss(student, teacher, given_weight).item() == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_gradients_of_soft_losses(name: str, options: dict[str, Any], formula: Any) -> None:
    loss, weight = soft_loss(name, **options), torch.tensor(WEIGHT, dtype=torch.float64)
    student = torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(TEACHER, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda scores: loss(scores, teacher, weight), student)


@given(scores=SCORES, shift=st.floats(-20, 20), temperature=st.floats(0.2, 5))
def test_divergence_from_the_same_distribution_is_zero(
    scores: list[float], shift: float, temperature: float
) -> None:
    loss = soft_loss("kl", temperature=temperature)
    student = torch.tensor([scores], dtype=torch.float64)
    assert loss(student, student).item() == 0
    assert loss(student + shift, student).item() == pytest.approx(0, abs=1e-9)


@given(data=st.data(), temperature=st.floats(0.2, 5), name=st.sampled_from(["kl", "huber"]))
def test_soft_losses_are_never_negative(data: Any, temperature: float, name: str) -> None:
    student = data.draw(SCORES)
    teacher = data.draw(st.lists(st.floats(-30, 30), min_size=len(student), max_size=len(student)))
    options = {"temperature": temperature} if name == "kl" else {"delta": temperature}
    loss = soft_loss(name, **options)
    value = loss(*(torch.tensor([s], dtype=torch.float64) for s in (student, teacher))).item()
    assert value >= -1e-12
    if name == "huber":
        assert value == pytest.approx(huber(student, teacher, temperature), rel=1e-9)


def test_every_soft_loss_says_how_foreign_scores_are_laid_beside() -> None:
    assert {name: kind.default_scale for name, kind in SOFT_LOSSES.items()} == {
        "huber": "standardize",
        "kl": "calibrate",
    }


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SoftLabelConfig(name="hubber"), "distillation.soft.name: unknown.*did you mean 'huber'"),
        (SoftLabelConfig(name="mse"), "unknown soft loss 'mse'; known: huber, kl"),
        (SoftLabelConfig(options={"temperature": 2.0}), "soft.name huber: options.*'temperature'"),
        (SoftLabelConfig(options={"delta": 0.0}), "'delta' is 0.0"),
        (SoftLabelConfig(options={"reduction": "max"}), "'reduction' is 'max'"),
    ],
)
def test_mistakes_in_the_soft_loss_are_explained(config: SoftLabelConfig, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_soft_loss(config)


def schedule(name: str, value: float = 2.0, **options: Any) -> Schedule:
    return build_schedule(SoftWeightConfig(name=name, value=value, options=options))


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("constant", {}, [2.0, 2.0, 2.0, 2.0]),
        ("power", {}, [0.5, 1.0, 1.5, 2.0]),
        ("power", {"power": 2.0}, [0.125, 0.5, 1.125, 2.0]),
        ("power", {"power": 0.0}, [2.0, 2.0, 2.0, 2.0]),
        ("linear", {}, [0.0, 0.5, 1.0, 1.5]),
        ("linear", {"start": 1.0, "end": 0.0}, [2.0, 1.5, 1.0, 0.5]),
        ("fading", {}, [2.0, 1.0, 0.0, 0.0]),
        ("fading", {"until": 1.0}, [2.0, 1.5, 1.0, 0.5]),
        # hard * soft = 0.04 counts as 4
        ("two_phase", {}, [0.5, 0.5, 2.0, 2.0]),
    ],
)
def test_schedules_by_hand(name: str, options: dict[str, Any], weights: list[float]) -> None:
    made = schedule(name, **options)
    found = [
        made.weight(Moment(epoch, 4, 10 * epoch, 40), hard=0.4, soft=0.1) for epoch in range(4)
    ]
    assert found == pytest.approx(weights)
    assert all(type(weight) is float for weight in found)


def test_a_fading_weight_is_over_when_it_has_come_to_nothing() -> None:
    made = schedule("fading", until=0.6)
    for epoch in range(10):
        moment = Moment(epoch, 10, epoch, 10)
        assert made.over(moment) is (epoch >= 6)
        assert (made.weight(moment, 1.0, 1.0) == 0) is made.over(moment)


def test_two_phases_of_an_odd_number_of_epochs() -> None:
    made = schedule("two_phase", value=3.0)
    found = [made.weight(Moment(epoch, 5), 1.0, 6.0) for epoch in range(5)]
    assert found == [0.5, 0.5, 0.5, 3.0, 3.0]  # epoch 2 begins before half of the epochs are over


@pytest.mark.parametrize(
    ("number", "scaled"),
    [
        (0.0, 1.0),
        (-0.0, 1.0),
        (1.0, 1.0),
        (9.5, 9.5),
        (10.0, 1.0),
        (-1234.0, 1.234),
        (0.05, 5.0),
        (1000.0, 1.0),
        (1e-300, 1.0),
        (5e-324, 4.9406564584124654),
        (1.7e308, 1.7),
        (math.inf, 1.0),
        (-math.inf, 1.0),
        (math.nan, 1.0),
    ],
)
def test_leading_figures(number: float, scaled: float) -> None:
    assert leading(number) == pytest.approx(scaled, rel=1e-12)


@given(st.floats())
def test_leading_figures_stay_between_one_and_ten(number: float) -> None:
    found = leading(number)
    assert 1 <= found < 10
    if number != 0 and math.isfinite(number):
        power = math.log10(abs(number)) - math.log10(found)
        assert power == pytest.approx(round(power), abs=1e-9)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    epochs=st.integers(1, 50),
    data=st.data(),
    hard=st.floats(),
    soft=st.floats(),
)
def test_weights_are_finite_numbers(
    name: str, epochs: int, data: Any, hard: float, soft: float
) -> None:
    step = data.draw(st.integers(0, 3 * epochs - 1))
    weight = schedule(name).weight(Moment(step // 3, epochs, step, 3 * epochs), hard, soft)
    assert type(weight) is float
    assert 0 <= weight <= 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SoftWeightConfig(name="twophase"), "distillation.weight.name.*did you mean 'two_phase'"),
        (SoftWeightConfig(name="power", options={"p": 2.0}), "power: options: unknown.*'p'"),
        (SoftWeightConfig(name="power", options={"power": -1.0}), "'power' is -1.0"),
        (SoftWeightConfig(name="constant", options={"start": 1.0}), "'start'"),
    ],
)
def test_mistakes_in_the_schedule_are_explained(config: SoftWeightConfig, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_schedule(config)
