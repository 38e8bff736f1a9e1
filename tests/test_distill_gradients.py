"""The teacher reaches the student: in every epoch where its weight is above zero, and only there.

The released code of IterDE lets the gradient flow through the weight, which cancels the teacher in
the first half of the training. Here a student is trained, and before every step its gradient is
taken twice: under its teacher, and under one that says something else.
"""

from __future__ import annotations

from typing import Any, Optional

import pytest
import torch
from distill_fixtures import gradients, model_of, settings_of, workspace_of
from torch import Tensor, nn

from dglke_distill.config import Config
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.schedules import SCHEDULES, build_schedule
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import build_loader, build_optimizer
from dglke_distill.training.loop import step
from dglke_distill.training.objective import Moment, Objective

WORKSPACE = workspace_of()
EPOCHS = 4


def objective_of(config: Config, student: KGEModel, teacher: int) -> Objective:
    assert config.distillation is not None
    method = build_method(config.distillation.method, config.distillation.options)
    return method.objective(config, student, [model_of("ComplEx", 12, teacher)], WORKSPACE)


def gradient_under(
    objective: Objective, student: KGEModel, batch: Any, moment: Moment
) -> dict[str, Tensor]:
    student.zero_grad()
    objective(student, batch, moment).total.backward()
    return {name: gradient.clone() for name, gradient in gradients(student).items()}


def differences(config: Config) -> list[tuple[float, float]]:
    """Train; return each step's weight and how far apart two teachers' gradients are."""
    student = model_of("ComplEx", 8, seed=1)
    taught = objective_of(config, student, teacher=2)
    other = objective_of(config, student, teacher=3)
    other.load_state_dict(taught.state_dict())
    optimizer = build_optimizer(config.optimizer, nn.ModuleDict({"m": student, "o": taught}))
    loader = build_loader(config, WORKSPACE, student)
    found, done = [], 0
    for epoch in range(EPOCHS):
        for batch in loader.epoch(epoch):
            moment = Moment(epoch, EPOCHS, done, EPOCHS * len(loader))
            ours = gradient_under(taught, student, batch, moment)
            others = gradient_under(other, student, batch, moment)
            apart = max(float((ours[name] - others[name]).abs().max()) for name in ours)
            parts = step(student, batch, taught, optimizer, moment=moment).parts
            other.load_state_dict(taught.state_dict())  # a learned map is not the difference
            found.append((epoch, float(parts["soft_weight"]), apart))
            done += 1
    assert [epoch for epoch, _, _ in found] == sorted(epoch for epoch, _, _ in found)
    return [(weight, apart) for _, weight, apart in found]


def settings(name: str, value: float, mode: str, loss: str, soft: str, **more: Any) -> Config:
    weight = {"name": name, "value": value, **more}
    return settings_of(
        loss={"name": loss},
        training={"mode": mode, "batch_size": 12},
        optimizer={"name": "adagrad", "learning_rate": 0.05},
        distillation={
            "weight": weight,
            "soft": {"name": soft, "scale": "none"},
            "initialization": "random",
        },
    )


@pytest.mark.parametrize("soft", ["huber", "kl"])
@pytest.mark.parametrize(
    ("mode", "loss"), [("negatives", "self_adversarial"), ("k_vs_all", "softmax")]
)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_teacher_counts_in_every_epoch(name: str, mode: str, loss: str, soft: str) -> None:
    found = differences(settings(name, 0.7, mode, loss, soft))
    if name == "linear":
        assert found[0] == (0.0, 0.0)  # it begins at nothing
        found = found[1:]
    if name == "fading":
        assert any(each == (0.0, 0.0) for each in found)  # it ends at nothing
        found = [each for each in found if each[0] > 0]
    for weight, apart in found:
        assert weight > 0
        assert apart > 1e-4 * weight


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_without_weight_the_teacher_does_not_count(name: str) -> None:
    for weight, apart in differences(settings(name, 0.0, "k_vs_all", "softmax", "kl")):
        assert (weight, apart) == (0.0, 0.0)


def test_a_teacher_that_has_faded_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings("fading", 1.0, "k_vs_all", "softmax", "kl")
    student = model_of("ComplEx", 8, seed=1)
    objective = objective_of(config, student, teacher=2)
    (batch, *_) = build_loader(config, WORKSPACE, student).epoch(0)
    monkeypatch.setattr(objective.teacher, "ask", None)
    alone = objective(student, batch, Moment(2, 4, 6, 12))
    assert set(alone.parts) == {"hard", "soft_weight"}
    with pytest.raises(TypeError):
        objective(student, batch, Moment(1, 4, 3, 12))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize(("mode", "loss"), [("negatives", "softmax"), ("one_vs_all", "softmax")])
def test_the_weight_is_a_number_and_the_gradient_that_of_the_sum(
    name: str, mode: str, loss: str
) -> None:
    """The gradient is hard_weight * d hard + weight * d soft, each taken alone."""
    config = settings(name, 3.0, mode, loss, "huber")
    student = model_of("ComplEx", 8, seed=1)
    (batch, *_) = build_loader(config, WORKSPACE, student).epoch(0)

    def under(moment: Moment, hard: float, value: Optional[float]) -> dict[str, Tensor]:
        assert config.distillation is not None
        weight = config.distillation.weight
        if value is not None:
            weight = weight.model_copy(update={"name": "constant", "value": value, "options": {}})
        changes = {"hard_weight": hard, "weight": weight}
        distillation = config.distillation.model_copy(update=changes)
        of = objective_of(
            config.model_copy(update={"distillation": distillation}), student, teacher=2
        )
        return gradient_under(of, student, batch, moment)

    for epoch in range(EPOCHS):
        moment = Moment(epoch, EPOCHS, 3 * epoch + 1, 3 * EPOCHS)
        whole = under(moment, 0.8, None)
        hard, soft = under(moment, 1.0, 0.0), under(moment, 0.0, 1.0)
        objective = objective_of(config, student, teacher=2)
        parts = objective(student, batch, moment).parts
        assert config.distillation is not None
        weight = build_schedule(config.distillation.weight).weight(
            moment, float(parts["hard"]), float(parts.get("soft", 0.0))
        )
        assert weight > 0 or name == "fading"
        for key, gradient in whole.items():
            torch.testing.assert_close(gradient, 0.8 * hard[key] + weight * soft[key])


@pytest.mark.parametrize("name", ["iterde", "dgkd", "bkd", "ta", "rkd", "fitnet"])
def test_every_method_hears_its_teacher_in_every_epoch(name: str) -> None:
    config = settings_of(
        training={"batch_size": 12},
        optimizer={"name": "adagrad", "learning_rate": 0.05},
        distillation={"method": name, "soft": {"scale": "none"}, "initialization": "random"},
    )
    found = differences(config)
    if name == "fitnet":
        assert found[0][1] == 0  # the map begins at zero
        found = found[1:]
    assert all(weight > 0 and apart > 1e-6 for weight, apart in found)
