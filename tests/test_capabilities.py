"""Classes that others make of ours: what they write is what is used, however it is asked for."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import pytest
import torch
from distill_fixtures import model_of, settings_of, workspace_of
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.config import LossConfig
from dglke_distill.distill.checks import check_settings
from dglke_distill.distill.method import OneShot
from dglke_distill.distill.methods import METHODS, build_method
from dglke_distill.distill.soft import Huber, KullbackLeibler, SoftLoss
from dglke_distill.distill.student_objective import DistillationObjective
from dglke_distill.models.complex import ComplEx
from dglke_distill.models.meim import MEIM
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.runs.workspace import build_loader
from dglke_distill.training.losses import LogisticLoss, Loss, SoftmaxLoss
from dglke_distill.training.scored import ScoredBatch

WORKSPACE = workspace_of()


def backwards(student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = student.softmax(1), teacher.softmax(1)
    return (ours * (ours.log() - theirs.log())).sum(1)


class Backwards:
    def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        return backwards(student, teacher)


class ReverseDivergence(KullbackLeibler):
    """KL(student || teacher), made of the ordinary one."""

    name = "reverse"
    rows = Backwards.rows  # type: ignore[assignment]


class MixedDivergence(Backwards, KullbackLeibler):
    """The same, by a mixin."""

    name = "reverse"


class OwnDivergence(SoftLoss):
    """The same, made of nothing."""

    name = "reverse"

    def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        return backwards(student, teacher)


class CalledDivergence(KullbackLeibler):
    """The same, for all queries at once."""

    name = "reverse"

    def __call__(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None) -> Tensor:
        rows = backwards(student, teacher)
        return rows.mean() if weight is None else (rows * weight).sum() / weight.sum()


def objective_of(
    method: str = "bkd",
    candidates: str = "all",
    mode: str = "k_vs_all",
    loss: str = "softmax",
    soft: str = "kl",
) -> Any:
    distillation = {
        "method": method,
        "soft": {"name": soft, "candidates": candidates},
        "weight": {"name": "constant"},
        "initialization": "random",
    }
    config = settings_of(training={"mode": mode}, loss={"name": loss}, distillation=distillation)
    student, teacher = model_of("ComplEx", 4), model_of("ComplEx", 8, seed=1)
    built = build_method(method, {}).objective(config, student, [teacher], WORKSPACE)
    assert isinstance(built, DistillationObjective)
    batch = next(iter(build_loader(config, WORKSPACE, student).epoch(0)))
    return built, student, batch


@pytest.mark.parametrize(
    "kind", [ReverseDivergence, MixedDivergence, OwnDivergence, CalledDivergence]
)
def test_a_soft_loss_of_others_is_the_one_that_they_wrote(kind: type[SoftLoss]) -> None:
    settings = kind.Options()
    value: Any = kind(settings)(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 3.0]]))
    first, second = 1 / (1 + torch.e), torch.e / (1 + torch.e)
    third = 1 / (1 + torch.e**3)
    expected = first * (torch.log(torch.tensor(first / third))) + second * torch.log(
        torch.tensor(second / (1 - third))
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    objective, student, batch = objective_of()
    ordinary = objective(student, batch).parts["soft"].item()
    labels = objective.labels._replace(loss=kind(settings))
    objective = DistillationObjective(objective, 1.0, objective.teacher, labels)
    found = objective(student, batch).parts["soft"].item()
    rows, weights = [], []
    for queries in batch.queries:
        ours = student.score_all(queries.entity, queries.relation, queries.side)
        theirs = objective.teacher.model.score_all(queries.entity, queries.relation, queries.side)
        rows.append(backwards(ours, theirs))
        weights.append(queries.answers.offsets.diff())
    weight = torch.cat(weights)
    wanted = float((torch.cat(rows) * weight).sum() / weight.sum())
    # What is kept of a teacher for the ordinary loss is in half precision.
    assert found == pytest.approx(wanted, rel=1e-2)
    assert abs(found - ordinary) > 0.05 * wanted


@pytest.mark.parametrize("kind", [ReverseDivergence, MixedDivergence, CalledDivergence])
def test_shortcuts_of_another_formula_are_lost(kind: type[SoftLoss]) -> None:
    assert kind.of_distributions and not kind.keepable and kind.fused_kernel is None
    assert KullbackLeibler.keepable and KullbackLeibler.fused_kernel == "softmax"


def test_a_hard_loss_of_others_is_the_one_that_they_wrote() -> None:
    class Doubled(SoftmaxLoss):
        def __call__(self, batch: ScoredBatch) -> Tensor:
            return 2 * super().__call__(batch)

    class Halved(LogisticLoss):
        def __call__(self, batch: ScoredBatch) -> Tensor:
            return super().__call__(batch) / 2

    objective, student, batch = objective_of()
    once = objective(student, batch).parts["hard"].item()
    objective.loss = Doubled(objective.loss.options)
    twice = DistillationObjective(objective, 1.0, objective.teacher, objective.labels)
    assert twice(student, batch).parts["hard"].item() == pytest.approx(2 * once, rel=1e-6)
    assert LogisticLoss.per_triple is not Loss.per_triple
    assert Halved.per_triple is Loss.per_triple


def test_a_class_that_writes_no_formula_keeps_the_shortcuts() -> None:
    class Renamed(KullbackLeibler):
        name = "renamed"

    class Declared(ReverseDivergence):
        keepable: ClassVar[bool] = True

    class Weighted(Huber):
        def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
            return 3 * super().rows(student, teacher)

    assert Renamed.keepable and Renamed.fused_kernel == "softmax"
    assert Declared.keepable and Declared.fused_kernel is None
    scores = torch.tensor([[0.5, 0.0]]), torch.zeros(1, 2)
    weighted = Weighted(Weighted.Options())
    assert weighted(*scores).item() == pytest.approx(3 * 0.125 / 2)
    assert weighted.per_candidate(*scores) is None


def test_score_functions_of_others_inherit_no_other_formula() -> None:
    class Other(ComplEx):
        def query(self, entity: Tensor, relation: Tensor, side: Any) -> Tensor:
            return entity

    class OtherCore(MEIM):
        def query(self, entity: Tensor, relation: Tensor, side: Any) -> Tensor:
            return entity

    assert Other.relation_query is ScoreFunction.relation_query
    assert Other.relation_of is ScoreFunction.relation_of
    assert OtherCore.query_rows is ScoreFunction.query_rows
    assert MEIM.query_rows is not ScoreFunction.query_rows


def test_methods_and_losses_refuse_a_mode_before_anything_is_trained() -> None:
    class Picky(OneShot):
        name = "picky"
        modes = ("negatives",)

    config = settings_of(
        training={"mode": "k_vs_all"}, loss={"name": "softmax"}, distillation={"method": "bkd"}
    )
    check_settings(config)
    METHODS.register(Picky)
    try:
        assert config.distillation is not None
        named = config.distillation.model_copy(update={"method": "picky"})
        words = "method 'picky' cannot train with training.mode k_vs_all: set student.training.mode"
        with pytest.raises(UserError, match=words):
            check_settings(config.model_copy(update={"distillation": named}))
    finally:
        METHODS.unregister("picky")
    for name in ("margin", "logistic", "self_adversarial"):
        bad = config.model_copy(update={"loss": LossConfig(name=name)})
        with pytest.raises(UserError, match=f"{name}' cannot train with training.mode k_vs_all"):
            check_settings(bad)


def test_dualde_refuses_a_soft_loss_that_compares_candidates() -> None:
    objective, *_ = objective_of("dualde", "batch", soft="huber")
    labels = objective.labels._replace(
        loss=OwnDivergence(OwnDivergence.Options()), structure=objective.lengths
    )
    with pytest.raises(UserError, match="'reverse': dualde weighs each"):
        type(objective)(objective, 1.0, objective.teacher, labels, 0.5, 0.1)
