from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Optional

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dglke_distill import kernels
from dglke_distill.kernels import pairwise, reference, threads

DISTANCES = ("l1", "l2", "complex_modulus")  # from differences, always
KERNELS = ("dot", "l2_squared", "hyperbolic_squared", *DISTANCES)
BOUND = {torch.float32: 3e-6, torch.float64: 1e-13}


def brute_force(
    kernel: str, query: np.ndarray, rows: np.ndarray, index: Optional[np.ndarray]
) -> np.ndarray:
    """The definitions, one pair at a time."""
    b, d = query.shape
    if index is None:
        index = np.arange(len(rows))[None]
    group = b // len(index)
    out = np.empty((b, index.shape[1]))
    for i, j in itertools.product(range(b), range(index.shape[1])):
        q, c = query[i].astype(np.float64), rows[index[i // group, j]].astype(np.float64)
        if kernel == "dot":
            out[i, j] = sum(q * c)
        elif kernel == "l1":
            out[i, j] = -sum(abs(q - c))
        elif kernel == "l2":
            out[i, j] = -(sum((q - c) ** 2) ** 0.5)
        elif kernel == "l2_squared":
            out[i, j] = -sum((q - c) ** 2)
        elif kernel == "hyperbolic_squared":
            far, away = (np.linalg.norm(v) for v in (q, c))
            cosine = sum(q * c) / np.linalg.norm(q) / np.linalg.norm(c)
            cosh = np.cosh(far) * np.cosh(away) - np.sinh(far) * np.sinh(away) * cosine
            out[i, j] = -(np.arccosh(cosh) ** 2)
        else:
            q, c = q[: d // 2] + 1j * q[d // 2 :], c[: d // 2] + 1j * c[d // 2 :]
            out[i, j] = -sum(abs(q - c))
    return out


def make(
    b: int, u: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(b, d, generator=generator, dtype=dtype),
        torch.randn(u, d, generator=generator, dtype=dtype),
    )


def make_index(c: Optional[int], n: int, u: int, seed: int = 0) -> Optional[Tensor]:
    if c is None:
        return None
    return torch.randint(u, (c, n), generator=torch.Generator().manual_seed(seed))


def gradients(
    kernel: str, query: Tensor, rows: Tensor, index: Optional[Tensor], weight: Tensor
) -> tuple[Tensor, Tensor]:
    query, rows = query.clone().requires_grad_(), rows.clone().requires_grad_()
    (pairwise(kernel, query, rows, index) * weight).sum().backward()
    assert query.grad is not None and rows.grad is not None
    return query.grad, rows.grad


@pytest.fixture
def thread_count() -> Iterator[None]:
    """Give the thread count back afterwards."""
    before = torch.get_num_threads()
    yield
    kernels.set_num_threads(before)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("c", [None, 1, 2, 18])
def test_scores_are_the_definition(kernel: str, dtype: torch.dtype, c: Optional[int]) -> None:
    for d, n in ((2, 3), (32, 16), (38, 21)):
        query, rows = make(18, 11, d, dtype=dtype)
        index = make_index(c, n, 11)
        expected = brute_force(
            kernel, query.numpy(), rows.numpy(), None if index is None else index.numpy()
        )
        scores = pairwise(kernel, query, rows, index)
        assert scores.dtype == dtype
        np.testing.assert_allclose(scores, expected, rtol=BOUND[dtype], atol=10 * BOUND[dtype])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("c", [None, 1, 2, 18])
def test_gradients_are_those_of_finite_differences(kernel: str, c: Optional[int]) -> None:
    for d, n in ((6, 5), (38, 4)):
        query, rows = make(18, 7, d, dtype=torch.float64)
        index = make_index(c, n, 7)
        if index is not None:
            index[0, :2] = index[0, 2]  # one row twice and thrice in a chunk
        query.requires_grad_()
        rows.requires_grad_()

        def scores(q: Tensor, r: Tensor, index: Optional[Tensor] = index) -> Tensor:
            return pairwise(kernel, q, r, index)

        assert torch.autograd.gradcheck(scores, (query, rows), fast_mode=d > 6)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_shape_agrees_with_the_reference(data: st.DataObject) -> None:
    kernel = data.draw(st.sampled_from(KERNELS))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    c = data.draw(st.sampled_from([None, 1, 2, 3, 9]))
    b = (c or 1) * data.draw(st.integers(0, 40))
    n, u = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 30))
    d = data.draw(st.integers(1, 90))
    d += d % 2 if kernel == "complex_modulus" else 0
    query, rows = make(b, u, d, seed=b, dtype=dtype)
    index = make_index(c, n, u, seed=n)
    weight = torch.randn(b, u if index is None else n, dtype=dtype)
    found = (pairwise(kernel, query, rows, index), *gradients(kernel, query, rows, index, weight))
    query, rows = query.double().requires_grad_(), rows.double().requires_grad_()
    scores = reference.pairwise(kernel, query, rows, index)
    (scores * weight).sum().backward()
    for ours, expected in zip(found, (scores, query.grad, rows.grad)):
        assert expected is not None
        # Gradients are sums over up to 40 * 40 pairs.
        bound = 30 * BOUND[dtype]
        torch.testing.assert_close(ours.double(), expected, rtol=bound, atol=bound * 10)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kernel", DISTANCES)
def test_bits_of_a_score_depend_on_its_pair_alone(
    kernel: str, exact: bool, thread_count: None
) -> None:
    for d in (8, 100, 256):
        query, rows = make(36, 150, d)
        rows[100:] = rows[:50]
        whole = pairwise(kernel, query, rows, exact=exact)
        assert torch.equal(whole[:, 100:], whole[:, :50])
        for threads_now, c, n in itertools.product((1, 3), (1, 2, 12, 36), (1, 7, 70)):
            kernels.set_num_threads(threads_now)
            index = make_index(c, n, 150, seed=n)
            assert index is not None
            expected = whole.gather(1, index.repeat_interleave(36 // c, 0))
            assert torch.equal(pairwise(kernel, query, rows, index, exact=exact), expected)
        assert torch.equal(pairwise(kernel, query[5:7], rows[3:], exact=exact), whole[5:7, 3:])


@pytest.mark.parametrize("kernel", DISTANCES)
@pytest.mark.parametrize("c", [None, 1, 4, 64])
def test_gradients_do_not_depend_on_the_number_of_threads(
    kernel: str, c: Optional[int], thread_count: None
) -> None:
    query, rows = make(64, 300, 64)
    index = make_index(c, 90, 300)
    weight = torch.randn(64, 300 if index is None else 90)
    kernels.set_num_threads(1)
    expected = gradients(kernel, query, rows, index, weight)
    for count in (2, 3):
        kernels.set_num_threads(count)
        for ours, single in zip(gradients(kernel, query, rows, index, weight), expected):
            assert torch.equal(ours, single)


@pytest.mark.parametrize("c", [None, 16])
@pytest.mark.parametrize("kernel", DISTANCES)
def test_a_distance_of_zero_has_no_slope(kernel: str, c: Optional[int]) -> None:
    query, rows = make(16, 5, 34)
    query[:] = rows[3]
    index = None if c is None else torch.full((c, 2), 3)
    scores = pairwise(kernel, query, rows, index)
    assert torch.equal(scores[:, 1 if c else 3], torch.zeros(16))
    weight = torch.zeros_like(scores)
    weight[:, 1 if c else 3] = 1.0
    for gradient in gradients(kernel, query, rows, index, weight):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("c", [None, 9])
def test_l1_has_no_slope_in_equal_coordinates(c: Optional[int]) -> None:
    query, rows = make(9, 1, 20)
    query[:, :7] = rows[0, :7]
    index = None if c is None else torch.zeros(c, 1, dtype=torch.long)
    of_query, of_rows = gradients("l1", query, rows, index, torch.ones(9, 1))
    assert torch.equal(of_query[:, :7], torch.zeros(9, 7))
    assert torch.equal(of_query[:, 7:], -(query - rows)[:, 7:].sign())
    assert torch.equal(of_rows[0], -of_query.sum(0))


def test_nearly_equal_vectors_keep_their_l2_distance() -> None:
    # |a|^2 + |b|^2 - 2ab would lose all of these digits.
    rows = torch.full((2, 64), 100.0)
    rows[1, 0] += 0.125
    assert pairwise("l2", rows[:1], rows, exact=True).tolist() == [[0.0, -0.125]]
    assert pairwise("l2", rows[:1], rows).tolist() == [[0.0, -0.125]]


@pytest.mark.parametrize("c", [None, 3, 9])
def test_squared_distances_are_differences_where_exact_and_one_product_where_not(
    c: Optional[int],
) -> None:
    query, rows = make(9, 8, 16)
    query[2] = 100.0
    rows[:2] = 100.0
    rows[1, 3] += 0.125
    index = make_index(c, 5, 8)
    if index is not None:
        index[:, :2] = torch.arange(2)
    exact = pairwise("l2_squared", query, rows, index, exact=True)
    assert exact[2, :2].tolist() == [0.0, -(0.125**2)]
    assert torch.equal(exact, -pairwise("l2", query, rows, index).square())
    wide = pairwise("l2_squared", query.double(), rows.double(), index)
    torch.testing.assert_close(exact.double(), wide, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("c", [None, 3, 9])
def test_nan_reaches_exactly_its_own_scores(kernel: str, c: Optional[int]) -> None:
    query, rows = make(9, 8, 24)
    index = make_index(c, 5, 8)
    if index is not None:
        index[:, 2] = 6
    clean = pairwise(kernel, query, rows, index)
    query[4, 3] = rows[6, 20] = torch.nan
    scores = pairwise(kernel, query, rows, index)
    touched = torch.arange(8) == 6 if index is None else index.repeat_interleave(9 // c, 0) == 6
    touched = touched | (torch.arange(9) == 4)[:, None]
    assert torch.equal(scores.isnan(), touched)
    assert torch.equal(scores[~touched], clean[~touched])
    if kernel != "dot":
        of_query, of_rows = gradients(kernel, query, rows, index, torch.ones_like(scores))
        assert of_query[4, 3].isnan() and of_rows[6, 20].isnan()


def test_infinite_l1_and_l2_distances_are_infinite() -> None:
    query, rows = make(4, 3, 16)
    rows[1, 0] = torch.inf
    for kernel in ("l1", "l2"):
        scores = pairwise(kernel, query, rows)
        assert scores[:, 1].isneginf().all() and scores[:, [0, 2]].isfinite().all()


def test_private_candidates_are_never_gathered() -> None:
    b, n, d = 1024, 512, 1024
    query, rows = make(b, 64, d)
    index = make_index(b, n, 64)
    weight = torch.ones(b, n)
    for kernel in KERNELS:  # compile first
        gradients(kernel, query[:64], rows, make_index(64, 300, 64), weight[:64, :300])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kernel in KERNELS:
        gradients(kernel, query, rows, index, weight)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < b * n * d * 4 / 8


@pytest.mark.parametrize("kernel", KERNELS)
def test_transposed_and_one_sided_inputs(kernel: str) -> None:
    query, rows = make(6, 10, 10)
    turned = rows.T.contiguous().T
    assert not turned.is_contiguous()
    torch.testing.assert_close(
        pairwise(kernel, query.T.contiguous().T, turned), pairwise(kernel, query, rows)
    )
    index = torch.arange(10)[None].T.contiguous().T[:, ::2]
    expected = pairwise(kernel, query, rows)[:, ::2]
    torch.testing.assert_close(pairwise(kernel, query, turned, index), expected)
    query.requires_grad_()
    pairwise(kernel, query, rows).T.contiguous().T.sum().backward()
    assert query.grad is not None and rows.grad is None


def test_mistakes_are_named() -> None:
    query, rows = make(6, 10, 9)
    with pytest.raises(ValueError, match="unknown kernel 'l3'"):
        pairwise("l3", query, rows)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="even dimension, got 9"):
        pairwise("complex_modulus", query, rows)
    with pytest.raises(ValueError, match=r"\(6, 9\) and \(10, 8\)"):
        pairwise("l1", query, rows[:, :8])
    with pytest.raises(ValueError, match="c dividing the 6 queries"):
        pairwise("l1", query, rows, torch.zeros(4, 2, dtype=torch.long))
    for wrong in (-1, 10):
        for c in (1, 6):
            index = torch.zeros(c, 3, dtype=torch.long)
            index[-1, -1] = wrong
            with pytest.raises(IndexError, match="outside the 10 rows"):
                pairwise("l2", query, rows, index)


@pytest.mark.parametrize("kernel", KERNELS)
def test_half_precision_takes_the_reference_path(kernel: str) -> None:
    query, rows = make(4, 6, 8)
    index = make_index(2, 3, 6)
    half = pairwise(kernel, query.bfloat16(), rows.bfloat16(), index)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), pairwise(kernel, query, rows, index), rtol=0.1, atol=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kernel", KERNELS)
def test_cuda_agrees_with_the_cpu(kernel: str) -> None:
    query, rows = make(12, 20, 32)
    for c, exact in itertools.product((None, 1, 3, 12), (False, True)):
        index = make_index(c, 7, 20)
        ours = pairwise(kernel, query, rows, index, exact=exact)
        there = None if index is None else index.cuda()
        scores = pairwise(kernel, query.cuda(), rows.cuda(), there, exact=exact)
        torch.testing.assert_close(scores.cpu(), ours, rtol=1e-4, atol=1e-3)


def test_a_run_uses_as_many_threads_as_it_is_told_to() -> None:
    program = """
import torch
from dglke_distill.config import compose
from dglke_distill.runs.workspace import prepare
prepare(compose([{"data": {"dataset": "cldr"}, "training": {"threads": 1}}]))
print(torch.get_num_threads())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert found.stdout.strip() == b"1", found.stderr.decode()


def test_python_threads_stand_in_for_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    query, rows = make(200, 300, 64)
    expected = pairwise("l1", query, rows)
    monkeypatch.setattr(threads, "_openmp_parallel", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(pairwise("l1", query, rows), expected)


def test_kernels_may_run_in_several_threads_at_once() -> None:
    query, rows = make(200, 300, 64)
    expected = pairwise("l2", query, rows)
    failures: list[str] = []

    def run() -> None:
        for _ in range(20):
            if not torch.equal(pairwise("l2", query, rows), expected):
                failures.append("differs")

    workers = [threading.Thread(target=run) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


OTHER_MACHINE = """
import sys, torch
from dglke_distill.kernels import pairwise
from dglke_distill.kernels.simd import Simd
assert not Simd.avx512
generator = torch.Generator().manual_seed(0)
query, rows = (torch.randn(n, 40, generator=generator) for n in (9, 6))
rows[2, :20] = query[0, :20]
for kernel in ("l1", "complex_modulus"):
    q, r = query.clone().requires_grad_(), rows.clone().requires_grad_()
    scores = pairwise(kernel, q, r)
    scores.sum().backward()
    for value in (scores, q.grad, r.grad):
        print(value.double().flatten().tolist())
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names an x86 processor")
def test_a_machine_without_long_vectors_computes_the_same() -> None:
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2",
    }
    done = subprocess.run(
        [sys.executable, "-c", OTHER_MACHINE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    printed = [torch.tensor(eval(line)) for line in done.stdout.splitlines()]
    query, rows = make(9, 6, 40)
    rows[2, :20] = query[0, :20]
    for place, kernel in enumerate(("l1", "complex_modulus")):
        scores = pairwise(kernel, query, rows)
        ours = (scores, *gradients(kernel, query, rows, None, torch.ones(9, 6)))
        for mine, theirs in zip(ours, printed[3 * place :]):
            if kernel == "l1":
                assert torch.equal(mine.flatten(), theirs)
            torch.testing.assert_close(mine.flatten(), theirs, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("kernel", ["l1", "l2", "l2_squared"])
def test_scores_without_gradients_are_allocated_once(kernel):
    """A block of a ranking takes hundreds of MiB; its copies would make it the peak of a run."""
    query, rows = torch.randn(64, 16), torch.randn(4096, 16, requires_grad=True)
    block = 4 * 64 * 4096
    pairwise(kernel, query, rows, exact=True)  # compiled, and its numbers in order made
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as told:
        pairwise(kernel, query, rows, exact=True)
    sizes = [event.self_cpu_memory_usage for event in told.key_averages()]
    assert block <= sum(size for size in sizes if size > 0) < 1.5 * block
