"""The contracts of losses, hard and soft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from dglke_distill.distill.soft import SOFT_LOSSES, SoftLoss
from dglke_distill.testing.common import check_component, check_gradient, close, options_of
from dglke_distill.training.losses import LOSSES, Loss
from dglke_distill.training.scored import ScoredBatch

Formula = Callable[..., float]
_WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)


def check_loss(
    kind: type[Loss],
    formula: Optional[Formula] = None,
    *,
    over_all: Optional[Formula] = None,
    options: Optional[Mapping[str, Any]] = None,
    detached: bool = False,
) -> None:
    """Check a loss against its formulas.

    With sampled negatives it is the weighted mean over positives, known facts do not count, and
    it stays finite where all negatives are known; over all entities it is the weighted sum over
    true triples, divided by their weight. Gradients are those of finite differences.

    Args:
        kind: the class.
        formula: takes a positive's score, the list of its negatives' and the options given by
            keyword; None if it works over all entities alone.
        over_all: takes the list of all scores of a query, the list of its true answers and the
            options given by keyword; None if it works with sampled negatives alone.
        options: options of the loss.
        detached: whether it weighs negatives by their scores without a gradient of the weights, so
            that its gradients are not those of finite differences.
    """
    check_component(LOSSES, kind)
    assert formula or over_all, f"{kind.name}: give its formula"
    loss, given = kind(options_of(kind, options)), dict(options or {})
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 7, dtype=torch.float64, generator=generator)
    if formula is not None:
        assert "negatives" in loss.modes, f"{kind.name}: its modes leave negatives out"
        _check_sampled(loss, formula, given, scores, detached)
    if over_all is not None:
        assert {"one_vs_all", "k_vs_all"} & set(loss.modes), f"{kind.name}: modes leave them out"
        _check_over_all(loss, over_all, given, scores)


def _check_sampled(
    loss: Loss, formula: Formula, given: dict[str, Any], scores: Tensor, detached: bool
) -> None:
    positive, negative = scores[:, 0], scores[:, 1:]
    known = torch.zeros_like(negative, dtype=torch.bool)
    known[0, 2] = known[2, :3] = True
    for hidden in (None, known):
        for weight in (None, _WEIGHT):
            rows = [
                formula(p, [n for n, hide in zip(ns, hides) if not hide], **given)
                for p, ns, hides in zip(
                    positive.tolist(),
                    negative.tolist(),
                    (torch.zeros_like(known) if hidden is None else hidden).tolist(),
                )
            ]
            expected = _mean(torch.tensor(rows).double(), weight)
            found = loss(_beside(positive.clone(), negative.clone(), hidden, weight))
            told = "known facts among the negatives" if hidden is not None else "sampled negatives"
            close(found, expected, f"{loss.name}, {told}{', weighted' * (weight is not None)}")
    if not detached:

        def value_of(both: Tensor) -> Tensor:
            return loss(_beside(both[:, 0].clone(), both[:, 1:].clone(), known, _WEIGHT))

        check_gradient(value_of, scores, f"{loss.name}: gradient with sampled negatives")
    idle = negative.clone().requires_grad_()
    value = loss(_beside(positive.clone().requires_grad_(), idle, torch.ones_like(known)))
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value), f"{loss.name}: not finite where all negatives are known facts"
    assert idle.grad is None or not idle.grad.any(), f"{loss.name}: known facts are pushed away"


def _beside(
    positive: Tensor, negative: Tensor, known: Optional[Tensor] = None, weight: Any = None
) -> ScoredBatch:
    answers = torch.arange(len(positive))
    offsets = torch.arange(len(positive) + 1)
    return ScoredBatch(negative, offsets, answers, positive, known, weight)


def _check_over_all(loss: Loss, formula: Formula, given: dict[str, Any], scores: Tensor) -> None:
    answers = [[1, 4], [0], [2, 3, 6], [5]]
    offsets = torch.tensor([0, 2, 3, 6, 7])
    ids = torch.tensor([answer for row in answers for answer in row])
    for weight in (None, _WEIGHT):
        factors = torch.ones(4, dtype=torch.float64) if weight is None else weight
        rows = [formula(row, true, **given) for row, true in zip(scores.tolist(), answers)]
        triples = (factors * offsets.diff()).sum()
        expected = (torch.tensor(rows).double() * factors).sum() / triples
        found = loss(ScoredBatch(scores.clone(), offsets, ids, weight=weight))
        close(found, expected, f"{loss.name}, all entities{', weighted' * (weight is not None)}")

    def value_of(table: Tensor) -> Tensor:
        return loss(ScoredBatch(table * 1.0, offsets, ids, weight=_WEIGHT))

    check_gradient(value_of, scores, f"{loss.name}: gradient over all entities")


def check_soft_loss(
    kind: type[SoftLoss],
    formula: Formula,
    *,
    options: Optional[Mapping[str, Any]] = None,
) -> None:
    """Check a soft loss against its formula, query by query, with weights and gradients.

    Args:
        kind: the class.
        formula: takes the student's scores of a query's candidates and the teacher's, as lists,
            and the options given by keyword.
        options: options of the loss.
    """
    check_component(SOFT_LOSSES, kind)
    loss, given = kind(options_of(kind, options)), dict(options or {})
    assert loss.default_scale in ("none", "standardize", "calibrate"), f"{kind.name}: default_scale"
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64, generator=generator)
    rows = [formula(s, t, **given) for s, t in zip(student.tolist(), teacher.tolist())]
    close(loss.rows(student, teacher), torch.tensor(rows).double(), f"{kind.name}: rows")
    for weight in (None, _WEIGHT):
        expected = _mean(torch.tensor(rows).double(), weight)
        close(loss(student, teacher, weight), expected, f"{kind.name}: mean over queries")
    check_gradient(lambda scores: loss(scores, teacher), student, f"{kind.name}: gradient")
    alike = student.clone().requires_grad_()
    loss(alike, student).backward()  # type: ignore[no-untyped-call]
    assert alike.grad is not None and torch.isfinite(alike.grad).all(), (
        f"{kind.name}: the gradient is not finite where student and teacher agree"
    )


def _mean(rows: Tensor, weight: Optional[Tensor]) -> Tensor:
    return rows.mean() if weight is None else (rows * weight).sum() / weight.sum()
