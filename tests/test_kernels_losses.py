from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dglke_distill.kernels import (
    pairwise,
    set_num_threads,
    softmax_cross_entropy,
)


def make(
    b: int, n: int, dtype: torch.dtype, seed: int = 0, spread: float = 5.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, offsets, answers (0 to 3 of each query) and weights."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(b, n, generator=generator, dtype=dtype) * spread
    counts = torch.randint(0, min(n, 3) + 1, (b,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    answers = [torch.randperm(n, generator=generator)[:count] for count in counts.tolist()]
    weight = torch.rand(b, generator=generator, dtype=dtype)
    return scores, offsets, torch.cat([torch.zeros(0, dtype=torch.long), *answers]), weight


def written_out(
    scores: Tensor, offsets: Tensor, answers: Tensor, weight: Tensor, smoothing: float
) -> Tensor:
    """The definitions with dense targets, in float64."""
    total = scores.new_zeros((), dtype=torch.float64)
    for i, row in enumerate(scores.double()):
        found = answers[offsets[i] : offsets[i + 1]]
        logs = row - row.logsumexp(0)
        for answer in found.tolist():
            target = torch.full_like(row, smoothing / len(row))
            target[answer] += 1.0 - smoothing
            total = total - weight[i] * (target * logs).sum()
    return total


def ours(
    scores: Tensor,
    offsets: Tensor,
    answers: Tensor,
    weight: Tensor,
    smoothing: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    return softmax_cross_entropy(
        scores, offsets, answers, weight, smoothing=smoothing, inplace=inplace
    )


@given(
    b=st.integers(0, 9),
    n=st.integers(1, 1500),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    smoothing=st.sampled_from([0.0, 0.1]),
    inplace=st.booleans(),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
)
@settings(max_examples=60, deadline=None)
def test_loss_and_gradient_are_the_definition(
    b: int, n: int, dtype: torch.dtype, smoothing: float, inplace: bool, spread: float
) -> None:
    scores, offsets, answers, weight = make(b, n, dtype, seed=n, spread=spread)
    expected_scores = scores.clone().double().requires_grad_()
    expected = (
        written_out(expected_scores, offsets, answers, weight, smoothing)
        + 0 * expected_scores.sum()
    )
    (3 * expected).backward()
    kept, leaf = scores.clone(), scores.clone().requires_grad_()
    before = leaf * 1  # a tensor that may be overwritten
    found = ours(before, offsets, answers, weight, smoothing, inplace)
    assert found.dtype == dtype and found.shape == ()
    if not inplace:
        assert torch.equal(before, kept)
    (3 * found).backward()
    bound = 5e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.double(), expected.detach(), rtol=bound, atol=bound)
    assert leaf.grad is not None and expected_scores.grad is not None
    torch.testing.assert_close(leaf.grad.double(), expected_scores.grad, rtol=bound, atol=bound)


def test_gradcheck() -> None:
    scores, offsets, answers, weight = make(4, 19, torch.float64, spread=1.0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ours(x, offsets, answers, weight, 0.2), (scores,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_scores(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [80.0, -80.0, -200.0]])
    scores = torch.cat([scores, torch.full((3, 20), -torch.inf)], 1).to(dtype).requires_grad_()
    offsets, answers = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1])
    value = ours(scores, offsets, answers, torch.ones(3, dtype=dtype))
    finite = scores.detach()[:, :3].double()
    expected = written_out(finite, offsets, answers, torch.ones(3), 0.0)
    torch.testing.assert_close(value.detach().double(), expected, rtol=1e-6, atol=1e-6)
    value.backward()
    assert scores.grad is not None and scores.grad.isfinite().all()
    assert torch.equal(scores.grad[:, 3:], torch.zeros(3, 20, dtype=dtype))


def test_exponential_is_accurate_to_two_units() -> None:
    # With the highest score 0, the gradient is the exponential over a sum that both share.
    scores = torch.linspace(-80.0, 0.0, 100_001)[None].requires_grad_()
    offsets, answers = torch.tensor([0, 1]), torch.tensor([100_000])
    softmax_cross_entropy(scores, offsets, answers).backward()
    assert scores.grad is not None
    exact = scores.detach().double().softmax(1)
    error = (scores.grad.double() - exact).abs()[0, :-1] / exact[0, :-1]
    assert error.max() < 8 * 2**-24  # the sum and the product add their own roundings


def test_nan_is_seen() -> None:
    for column in (0, 33):
        scores, offsets, answers, weight = make(3, 34, torch.float32)
        scores[1, column] = torch.nan
        assert ours(scores, offsets, answers, weight).isnan()


def test_the_number_of_threads_does_not_matter() -> None:
    scores, offsets, answers, weight = make(50, 3000, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            set_num_threads(count)
            leaf = scores.clone().requires_grad_()
            value = ours(leaf, offsets, answers, weight)
            value.backward()
            results.append((value.detach(), leaf.grad))
    finally:
        set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] is not None and results[1][1] is not None
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("kernel", ["dot", "l1", "l2", "complex_modulus"])
def test_overwritten_scores_do_no_harm_upstream(kernel: str) -> None:
    generator = torch.Generator().manual_seed(0)
    query, rows = (torch.randn(n, 12, generator=generator) for n in (9, 40))
    _, offsets, answers, weight = make(9, 40, torch.float32)
    grads = []
    for inplace in (False, True):
        leaf = rows.clone().requires_grad_()
        scores = pairwise(kernel, query, leaf)
        ours(scores, offsets, answers, weight, inplace=inplace).backward()
        grads.append(leaf.grad)
    assert grads[0] is not None and grads[1] is not None
    assert torch.equal(grads[0], grads[1])


def test_overwriting_what_another_gradient_needs_is_an_error() -> None:
    scores, offsets, answers, weight = make(3, 8, torch.float32)
    leaf = scores.requires_grad_()
    powers = leaf.exp()  # its gradient needs its value
    value = ours(powers, offsets, answers, weight, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_mistakes_are_named() -> None:
    scores, offsets, answers, weight = make(3, 8, torch.float32)
    with pytest.raises(ValueError, match=r"offsets \(4,\)"):
        ours(scores, offsets[:-1], answers, weight)
    with pytest.raises(IndexError, match="outside the 8 candidates"):
        ours(scores, torch.tensor([0, 1, 1, 1]), torch.tensor([8]), weight)
    with pytest.raises(IndexError, match="outside the 8 candidates"):
        ours(scores, torch.tensor([0, 1, 1, 2]), torch.tensor([1]), weight)


def test_a_second_gradient_is_the_same_or_an_error() -> None:
    scores, offsets, answers, weight = make(3, 8, torch.float32)
    leaf = scores.requires_grad_()
    value = ours(leaf, offsets, answers, weight)
    first, second = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    value = ours(leaf * 1, offsets, answers, weight, inplace=True)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="overwrote the scores"):
        value.backward()


def test_half_precision_takes_the_torch_path() -> None:
    scores, offsets, answers, weight = make(4, 30, torch.float32)
    half = ours(scores.bfloat16(), offsets, answers, weight.bfloat16(), 0.1)
    assert half.dtype == torch.bfloat16
    expected = ours(scores, offsets, answers, weight, 0.1)
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.1)
