from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dglke_distill.kernels import set_num_threads, table_rows, take_rows
from dglke_distill.kernels.rows import invert


@given(
    u=st.integers(1, 40),
    k=st.integers(0, 60),
    d=st.integers(1, 150),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=50, deadline=None)
def test_take_rows_gathers_and_sums_back(u: int, k: int, d: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(k)
    rows = torch.randn(u, d, generator=generator).to(dtype).requires_grad_()
    index = torch.randint(u, (k,), generator=generator)
    weight = torch.randint(-8, 9, (k, d), generator=generator).to(dtype)
    taken = take_rows(rows, index)
    assert torch.equal(taken, rows.detach()[index])
    taken.backward(weight)
    expected = torch.zeros(u, d, dtype=dtype)
    for position, row in enumerate(index.tolist()):
        expected[row] += weight[position]
    # Whole numbers: the sums are exact in any order.
    assert rows.grad is not None and torch.equal(rows.grad, expected)


def test_take_rows_gradcheck() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 4, 4, 4, 2])
    assert torch.autograd.gradcheck(lambda r: take_rows(r, index), (rows,))


def test_sums_of_rows_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    rows, index = torch.randn(50, 200, requires_grad=True), torch.randint(50, (3000,))
    weight = torch.randn(3000, 200)
    grads = []
    try:
        for count in (1, 2, 3):
            set_num_threads(count)
            grads += torch.autograd.grad(take_rows(rows, index), rows, weight)
    finally:
        set_num_threads(before)
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[0], grads[2])


def test_take_rows_of_another_layout() -> None:
    rows = torch.randn(6, 4).T.requires_grad_()
    index = torch.tensor([3, 0, 3, 3, 1, 2])[::2]
    taken = take_rows(rows, index)
    assert torch.equal(taken, rows.detach()[index])
    (taken.T.contiguous().T * 2).sum().backward()
    assert rows.grad is not None and rows.grad.sum(1).tolist() == [0.0, 12.0, 0.0, 24.0]


def test_an_index_outside_the_rows_is_an_error() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    for wrong in (3, -1):
        with pytest.raises(IndexError):
            take_rows(rows, torch.tensor([wrong]))


@given(
    c=st.integers(1, 4),
    group=st.integers(1, 5),
    n=st.integers(0, 9),
    u=st.integers(1, 12),
    parts=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_inverted_index_lists_every_meeting(c: int, group: int, n: int, u: int, parts: int) -> None:
    index, weight = torch.randint(u, (c, n)), torch.randn(c * group, n)
    offsets, queries, values = invert(index, weight, u, parts)
    for row in range(u):
        met = [
            (i, weight[i, j].item())
            for i in range(c * group)
            for j in range(n)
            if index[i // group, j] == row
        ]
        found = slice(int(offsets[row]), int(offsets[row + 1]))
        assert list(zip(queries[found].tolist(), values[found].tolist())) == met
    assert int(offsets[-1]) == len(queries) == weight.numel()


def test_table_rows_of_a_row_sparse_table_stashes_its_gradient() -> None:
    weight = nn.Parameter(torch.randn(1000, 3))
    weight.row_sparse = True  # type: ignore[attr-defined]
    first, second = torch.tensor([7, 2, 7]), torch.tensor([5])
    taken, other = table_rows(weight, first), table_rows(weight, second)
    assert torch.equal(taken, weight.detach()[first])
    ((taken * 2).sum() + (other * 3).sum()).backward()
    assert weight.grad is None
    stash = {ids.tolist()[0]: (ids, rows) for ids, rows in weight.row_gradients}
    assert stash.keys() == {7, 5}
    assert torch.equal(stash[7][0], first) and torch.equal(stash[7][1], torch.full((3, 3), 2.0))
    assert torch.equal(stash[5][0], second) and torch.equal(stash[5][1], torch.full((1, 3), 3.0))


def test_table_rows_without_gradient_stashes_nothing() -> None:
    weight = nn.Parameter(torch.randn(9, 3))
    weight.row_sparse = True  # type: ignore[attr-defined]
    with torch.no_grad():
        assert not table_rows(weight, torch.tensor([1])).requires_grad
    frozen = nn.Parameter(torch.randn(9, 3), requires_grad=False)
    frozen.row_sparse = True  # type: ignore[attr-defined]
    assert not table_rows(frozen, torch.tensor([1])).requires_grad
    assert not getattr(weight, "row_gradients", [])


def test_table_rows_of_an_ordinary_table_has_a_dense_gradient() -> None:
    weight = nn.Parameter(torch.randn(6, 2))
    table_rows(weight, torch.tensor([4, 4, 0])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1, 1], [0, 0], [0, 0], [0, 0], [2, 2], [0, 0]]
    assert not hasattr(weight, "row_gradients")
