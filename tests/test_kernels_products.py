"""Softmax losses over products that are never all multiplied out."""

from __future__ import annotations

from typing import Optional

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dglke_distill.config import Config, LossConfig, ModelConfig
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.kernels import (
    Products,
    cubed_magnitudes,
    pairwise,
    products,
    set_num_threads,
    softmax_cross_entropy,
)
from dglke_distill.kernels.rows import add_rows
from dglke_distill.models import build_model
from dglke_distill.models.complex_numbers import multiply
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective
from dglke_distill.training.regularizers import build_regularizer

TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-11}


def make(
    b: int, n: int, d: int, dtype: torch.dtype, spread: float, bias: bool
) -> tuple[Products, Tensor, Tensor, Tensor]:
    """Products, offsets, answers (0 to 3 of each query) and weights."""
    generator = torch.Generator().manual_seed(1000 * b + n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    query = (normal(b, d) * spread / d**0.5).requires_grad_()
    rows = normal(n, d).requires_grad_()
    added = (normal(n) * spread).requires_grad_() if bias else None
    counts = torch.randint(0, min(n, 3) + 1, (b,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    answers = [torch.randperm(n, generator=generator)[:count] for count in counts.tolist()]
    weight = torch.rand(b, generator=generator, dtype=dtype)
    joined = torch.cat([torch.zeros(0, dtype=torch.long), *answers])
    return Products(query, rows, added), offsets, joined, weight


def written_out(
    query: Tensor,
    rows: Tensor,
    bias: Optional[Tensor],
    offsets: Tensor,
    answers: Tensor,
    weight: Tensor,
    smoothing: float,
) -> Tensor:
    """The definition with dense targets."""
    scores = query @ rows.T + (0.0 if bias is None else bias)
    logs = scores - scores.logsumexp(1, keepdim=True)
    target = torch.zeros_like(scores)
    for i in range(len(query)):
        for answer in answers[offsets[i] : offsets[i + 1]].tolist():
            target[i] += smoothing / len(rows)
            target[i, answer] += 1.0 - smoothing
    return -(weight[:, None] * target * logs).sum()


def gradients(given: Products, *rest: Tensor, smoothing: float) -> list[Tensor]:
    loss = softmax_cross_entropy(given, *rest, smoothing=smoothing)
    wanted = [t for t in (given.query, given.rows, given.bias) if t is not None]
    return [loss.detach(), *torch.autograd.grad(3.0 * loss, wanted)]


@given(
    b=st.integers(1, 30),
    n=st.sampled_from([1, 5, 95, 96, 97, 500, 3200]),
    d=st.sampled_from([1, 7, 8, 16, 20, 32, 33, 48, 64, 100]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    smoothing=st.sampled_from([0.0, 0.1]),
    spread=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_loss_and_gradients_are_the_definition(
    b: int, n: int, d: int, dtype: torch.dtype, smoothing: float, spread: float, bias: bool
) -> None:
    made, offsets, answers, weight = make(b, n, d, dtype, spread, bias)
    exact = [
        None if t is None else t.detach().double().requires_grad_()
        for t in (made.query, made.rows, made.bias)
    ]
    loss = written_out(*exact, offsets, answers, weight.double(), smoothing)  # type: ignore[arg-type]
    wanted = [t for t in exact if t is not None]
    want = [loss.detach(), *torch.autograd.grad(3.0 * loss, wanted)]
    got = gradients(made, offsets, answers, weight, smoothing=smoothing)
    # Scores of 100 are known to 1e-5 in float32, and so are the logarithms of their powers.
    tolerance = TOLERANCE[dtype] * max(1.0, spread / 10)
    for ours, theirs in zip(got, want):
        torch.testing.assert_close(
            ours.double(), theirs, rtol=tolerance, atol=tolerance * (1 + float(theirs.abs().max()))
        )


@pytest.mark.parametrize("spread", [1.0, 200.0])
@pytest.mark.parametrize("d", [24, 32])
def test_bits_do_not_depend_on_threads(d: int, spread: float) -> None:
    made, offsets, answers, weight = make(250, 5000, d, torch.float32, spread, True)
    found = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            found.append(gradients(made, offsets, answers, weight, smoothing=0.1))
    finally:
        set_num_threads(1)
    for other in found[1:]:
        for ours, theirs in zip(found[0], other):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("level", [-1e4, -100.0, 100.0, 1e4])
def test_scores_of_any_level_have_a_softmax(level: float) -> None:
    made, offsets, answers, weight = make(20, 1000, 16, torch.float64, 3.0, True)
    assert made.bias is not None
    moved = Products(made.query, made.rows, (made.bias + level).detach().requires_grad_())
    plain = gradients(made, offsets, answers, weight, smoothing=0.0)
    for ours, theirs in zip(gradients(moved, offsets, answers, weight, smoothing=0.0), plain):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_a_candidate_far_above_the_others_takes_all() -> None:
    rows = torch.zeros(1000, 16)
    rows[777, 0] = 300.0
    made = Products(torch.ones(3, 16, requires_grad=True), rows.requires_grad_())
    answers = torch.tensor([777, 0, 5])
    loss = softmax_cross_entropy(made, torch.arange(4), answers)
    assert float(loss.detach()) == pytest.approx(600.0)
    loss.backward()
    assert made.query.grad is not None
    assert made.query.grad[:, 0].tolist() == pytest.approx([0.0, 300.0, 300.0], abs=1e-3)


@pytest.mark.parametrize("where", ["query", "rows", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(where: str, value: float) -> None:
    made, offsets, answers, weight = make(13, 300, 16, torch.float32, 1.0, True)
    broken = {name: getattr(made, name).detach().clone() for name in ("query", "rows", "bias")}
    broken[where].view(-1)[17 if where != "query" else 3] = value
    loss = softmax_cross_entropy(Products(**broken), offsets, answers, weight)
    assert not torch.isfinite(loss)


@pytest.mark.parametrize("answer", [-1, 300])
def test_an_answer_that_is_no_candidate(answer: int) -> None:
    made, *_ = make(4, 300, 16, torch.float32, 1.0, False)
    with pytest.raises(IndexError, match="answer lies outside the 300 candidates"):
        softmax_cross_entropy(made, torch.arange(5), torch.tensor([0, 1, answer, 3]))


def test_offsets_that_do_not_fit() -> None:
    made, *_ = make(2, 300, 16, torch.float32, 1.0, False)
    with pytest.raises(IndexError, match="offsets do not fit"):
        softmax_cross_entropy(made, torch.tensor([0, 1, 9]), torch.tensor([0, 1]))


@pytest.mark.parametrize("kernel", ["dot", "l2_squared"])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_the_kernels_scores(kernel: str, bias: bool) -> None:
    made, *_ = make(9, 50, 12, torch.float64, 2.0, bias)
    added = None if made.bias is None else made.bias[:, None]
    found = products(kernel, made.query, made.rows, added, 0.7)
    assert found is not None
    scores = pairwise(kernel, made.query, made.rows, exact=True) * 0.7  # type: ignore[arg-type]
    if made.bias is not None:
        scores = scores + made.bias
    torch.testing.assert_close(found.multiplied(), scores)
    torch.testing.assert_close((found * 3.0).multiplied(), 3.0 * scores)


@pytest.mark.parametrize("kernel", ["l1", "l2", "complex_modulus", "hyperbolic_squared"])
def test_other_scores_are_no_products(kernel: str) -> None:
    made, *_ = make(9, 50, 12, torch.float64, 2.0, False)
    assert products(kernel, made.query, made.rows) is None
    assert products("dot", made.query.half(), made.rows.half()) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 10, 34])
def test_complex_products_have_the_bits_of_torch(d: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(d)
    made = [torch.randn(70, d, generator=generator, dtype=dtype) for _ in range(3)]
    left, right = (side.clone().requires_grad_() for side in made[:2])
    real, imaginary = left[:, : d // 2], left[:, d // 2 :]
    other, turned = right[:, : d // 2], right[:, d // 2 :]
    want = torch.cat([real * other - imaginary * turned, real * turned + imaginary * other], dim=1)
    got = multiply(left, right)
    assert torch.equal(got, want)
    for ours, theirs in zip(
        torch.autograd.grad(got, (left, right), made[2]),
        torch.autograd.grad(want, (left, right), made[2]),
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("pairs", [False, True])
def test_cubed_magnitudes(pairs: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3000, 6, generator=generator, dtype=torch.float64)
    rows[5] = 0.0
    weight = torch.rand(3000, generator=generator, dtype=torch.float64)
    plain, ours = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    sizes = torch.complex(plain[:, :3], plain[:, 3:]).abs() if pairs else plain.abs()
    want = (weight[:, None] * sizes**3).sum()
    got = cubed_magnitudes(ours, weight, pairs)
    torch.testing.assert_close(got, want)
    (2.0 * want).backward()
    (2.0 * got).backward()
    assert plain.grad is not None and ours.grad is not None
    torch.testing.assert_close(ours.grad, plain.grad.nan_to_num())


def test_stashed_rows_are_added_as_torch_adds_them() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(50, 7, generator=generator)
    index = torch.randint(0, 50, (400,), generator=generator)
    source = torch.randn(400, 7, generator=generator)
    want = target.clone().index_add_(0, index, source)
    add_rows(target, index, source)
    assert torch.equal(target, want)
    with pytest.raises(IndexError, match="outside the 50 rows"):
        add_rows(target, torch.tensor([3, 50]), source[:2])


def train_step(model_name: str, mode: str, unmultiplied: bool, loss_name: str) -> list[Tensor]:
    """Losses and gradients of one batch of a small graph in float64."""
    columns = (torch.randint(0, high, (60,), generator=torch.Generator().manual_seed(high))
               for high in (40, 3, 40))  # fmt: skip
    triples = Triples(*(column.int().numpy() for column in columns))
    config = ModelConfig(name=model_name, dim=12, reciprocal=True, entity_bias=True)
    model = build_model(config, 40, 3, dtype=torch.float64)
    model.reset(0, 0.5)
    with torch.no_grad():
        model.bias_weight.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr]
    options = {"scale": 1.5, "smoothing": 0.1} if loss_name == "softmax" else {}
    loss = build_loss(LossConfig(name=loss_name, options=options))
    loss.takes_products = unmultiplied  # type: ignore[misc]
    penalty = build_regularizer(Config.from_mapping(
        {"regularizer": {"name": "n3", "weight": 0.05}}, "test").regularizer)  # fmt: skip
    loader = BatchLoader(build_graph(triples, 40), 3, batch_size=20, mode=mode)  # type: ignore[arg-type]
    losses = HardObjective(loss, penalty)(model, next(iter(loader.epoch(0))))
    losses.total.backward()  # type: ignore[no-untyped-call]
    found = [losses.total.detach(), *losses.parts.values()]
    return found + [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("loss", ["softmax", "bce"])
@pytest.mark.parametrize("mode", ["one_vs_all", "k_vs_all"])
@pytest.mark.parametrize("model", ["ComplEx", "DistMult", "SimplE", "RESCAL", "RotE", "TransE"])
def test_a_step_is_the_same_without_the_scores(model: str, mode: str, loss: str) -> None:
    found = train_step(model, mode, True, loss)
    wanted = train_step(model, mode, False, loss)
    assert len(found) == len(wanted) > 4
    for ours, theirs in zip(found, wanted):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
