"""The self-adversarial loss in one pass."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dglke_distill.kernels import adversarial_costs, set_num_threads


@given(
    b=st.integers(1, 40),
    n=st.sampled_from([1, 2, 7, 16, 17, 64, 255, 256]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    margin=st.sampled_from([-3.0, 0.0, 9.0]),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    spread=st.sampled_from([0.0, 1.0, 10.0, 300.0]),
)
@settings(max_examples=60, deadline=None)
def test_costs_and_gradient_are_the_definition(
    b: int, n: int, dtype: torch.dtype, margin: float, temperature: float, spread: float
) -> None:
    generator = torch.Generator().manual_seed(100 * b + n)
    scores = (torch.randn(b, n, generator=generator, dtype=dtype) - 1) * spread
    outer = torch.rand(b, generator=generator, dtype=dtype)
    ours, exact = scores.clone().requires_grad_(), scores.double().requires_grad_()
    share = (exact.detach() * temperature).softmax(1)
    want = (share * torch.logaddexp(exact + margin, exact.new_zeros(()))).sum(1)
    got = adversarial_costs(ours, margin, temperature)
    want.backward(outer.double())
    got.backward(outer)
    assert ours.grad is not None and exact.grad is not None
    # Powers of float32 scores of hundreds are known to 1e-5.
    tolerance = {torch.float32: 3e-6, torch.float64: 1e-12}[dtype] * max(1.0, spread)
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=tolerance, atol=tolerance)


def test_bits_do_not_depend_on_threads() -> None:
    scores = torch.randn(500, 256, generator=torch.Generator().manual_seed(0)) * 5
    try:
        found = []
        for threads in (1, 2, 3):
            set_num_threads(threads)
            found.append(adversarial_costs(scores, 6.0, 1.0))
    finally:
        set_num_threads(1)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 5, 18])
def test_what_is_not_finite_is_not_hidden(value: float, place: int) -> None:
    scores = torch.zeros(1, 19)
    scores[0, place] = value
    assert not torch.isfinite(adversarial_costs(scores, 1.0, 1.0)).any()
