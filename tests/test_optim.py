from __future__ import annotations

import copy
import io
from typing import Any, Callable, Optional

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dglke_distill.kernels import set_num_threads, table_rows, updates
from dglke_distill.training.optim import OPTIMIZERS, SGD, Adagrad, Adam, clip_gradients

Stash = list[tuple[Tensor, Tensor]]


def table(rows: int, d: int, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(rows, d, generator=generator, dtype=dtype))
    parameter.row_sparse = True  # type: ignore[attr-defined]
    return parameter


def random_stash(
    rows: int, d: int, seed: int, sizes: tuple[int, ...] = (9, 4), dtype: Any = torch.float64
) -> Stash:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(rows, (size,), generator=generator),
            torch.randn(size, d, generator=generator, dtype=dtype),
        )
        for size in sizes
    ]


def dense(stash: Stash, rows: int) -> Tensor:
    """The gradient as a whole: rows of equal ids summed, one by one."""
    total = stash[0][1].new_zeros(rows, stash[0][1].shape[1])
    for ids, gradient in stash:
        for row, value in zip(ids.tolist(), gradient):
            total[row] += value
    return total


def run(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, stash: Stash) -> None:
    parameter.row_gradients = list(stash)  # type: ignore[attr-defined]
    optimizer.step()
    assert parameter.row_gradients == []


PEERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "adagrad": (
        lambda p: Adagrad(p, 0.1, initial_accumulator=0.01),
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.01),
    ),
    "sgd": (lambda p: SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "adam": (
        lambda p: Adam(p, 0.1, (0.8, 0.95), 1e-6),
        lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.95), 1e-6),
    ),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("shape", [(7, 5), (40, 130), (11,), (3, 4, 2), ()], ids=str)
def test_dense_steps_are_those_of_torch(name: str, shape: tuple[int, ...]) -> None:
    ours = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    theirs = nn.Parameter(ours.detach().clone())
    mine, peer = (make([p]) for make, p in zip(PEERS[name], (ours, theirs)))
    for _ in range(5):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        mine.step()
        peer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["adagrad", "sgd"])
@given(
    rows=st.integers(1, 30),
    d=st.integers(1, 40),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=3).filter(any),
)
@settings(max_examples=25, deadline=None)
def test_row_steps_are_those_of_torch_on_the_summed_gradient(
    name: str, rows: int, d: int, sizes: list[int]
) -> None:
    ours = table(rows, d)
    theirs = nn.Parameter(ours.detach().clone())
    mine, peer = (make([p]) for make, p in zip(PEERS[name], (ours, theirs)))
    for seed in range(3):
        stash = random_stash(rows, d, seed, tuple(sizes))
        theirs.grad = dense(stash, rows)
        run(mine, ours, stash)
        peer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_lazy_adam_is_the_formula_on_touched_rows() -> None:
    ours = table(12, 5)
    weight = ours.detach().clone()
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    optimizer = Adam([ours], 0.1, (0.8, 0.95), 1e-6)
    for step in range(1, 6):
        stash = random_stash(12, 5, step)
        gradient = dense(stash, 12)
        run(optimizer, ours, stash)
        for row in {i for ids, _ in stash for i in ids.tolist()}:
            mean[row] = 0.8 * mean[row] + 0.2 * gradient[row]
            square[row] = 0.95 * square[row] + 0.05 * gradient[row] ** 2
            corrected = (square[row] / (1 - 0.95**step)) ** 0.5
            weight[row] -= 0.1 * mean[row] / (1 - 0.8**step) / (corrected + 1e-6)
    torch.testing.assert_close(ours.detach(), weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sparse", [True, False])
def test_row_wise_adagrad_is_the_formula(sparse: bool) -> None:
    ours = table(9, 33)
    weight, total = ours.detach().clone(), torch.full((9,), 0.5, dtype=torch.float64)
    optimizer = Adagrad([ours], 0.3, row_wise=True, eps=1e-3, initial_accumulator=0.5)
    for seed in range(4):
        stash = random_stash(9, 33, seed)
        gradient = dense(stash, 9)
        if sparse:
            run(optimizer, ours, stash)
        else:
            ours.grad = gradient
            optimizer.step()
        for row in range(9):
            total[row] += (gradient[row] ** 2).mean()
            weight[row] -= 0.3 * gradient[row] / (total[row] ** 0.5 + 1e-3)
    torch.testing.assert_close(ours.detach(), weight, rtol=1e-12, atol=1e-12)
    assert optimizer.state[ours]["sum"].shape == (9, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_without_gradient_are_neither_read_nor_written(name: str) -> None:
    parameter = table(500, 4, torch.float32)
    optimizer = OPTIMIZERS[name]([parameter], lr=0.1)
    run(optimizer, parameter, random_stash(500, 4, 0, (3,), torch.float32))
    states = [value for value in optimizer.state[parameter].values()]
    touched = [3, 77, 499]
    others = [i for i in range(500) if i not in touched]
    for tensor in (parameter.data, *states):
        tensor[others] = torch.nan  # would spread to whatever reads it
    ids = torch.tensor([77, 3, 499, 3])
    run(optimizer, parameter, [(ids, torch.randn(4, 4))])
    for tensor in (parameter.data, *states):
        assert tensor[touched].isfinite().all()
        assert tensor[others].isnan().all()


def test_number_of_rows_moved_is_that_of_distinct_ids() -> None:
    for rows in (10, 1_000_000):
        weight, slots = torch.zeros(rows, 2), updates.RowSlots(rows)
        stash = [(torch.tensor([9, 2, 9]), torch.ones(3, 2)), (torch.tensor([2]), torch.ones(1, 2))]
        moved = updates.update(updates.SGD, weight, None, None, None, stash, slots, 1.0)
        assert moved == 2
        assert torch.equal(weight.nonzero()[:, 0].unique(), torch.tensor([2, 9]))
        assert weight[9].tolist() == [-2, -2] and weight[2].tolist() == [-2, -2]
        assert not slots.slots.any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_goes_round_bit_for_bit(name: str) -> None:
    first = table(20, 6, torch.float32)
    bias = nn.Parameter(torch.randn(3))
    optimizer = OPTIMIZERS[name]([first, bias], lr=0.1)

    def train(parameter: nn.Parameter, other: nn.Parameter, which: Any, seeds: range) -> None:
        for seed in seeds:
            other.grad = torch.full((3,), float(seed + 1))
            run(which, parameter, random_stash(20, 6, seed, dtype=torch.float32))

    train(first, bias, optimizer, range(3))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    second, again = (nn.Parameter(p.detach().clone()) for p in (first, bias))
    resumed = OPTIMIZERS[name]([second, again], lr=99.0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    train(first, bias, optimizer, range(3, 6))
    train(second, again, resumed, range(3, 6))
    assert torch.equal(first, second) and torch.equal(bias, again)
    ours, theirs = optimizer.state_dict(), resumed.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for key, values in ours["state"].items():
        for label, value in values.items():
            assert torch.equal(value, theirs["state"][key][label])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_and_the_kernel_take_the_same_steps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for native in (True, False):
        if not native:
            for module in ("optim", "row_gradients"):
                place = f"dglke_distill.training.{module}.native"
                monkeypatch.setattr(place, lambda parameter: False)
        parameter = table(10, 7)
        optimizer = OPTIMIZERS[name]([parameter], lr=0.2)
        for seed in range(4):
            run(optimizer, parameter, random_stash(10, 7, seed))
            parameter.grad = torch.full((10, 7), float(seed), dtype=torch.float64)
            optimizer.step()
            optimizer.zero_grad()
        results.append(parameter.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_number_of_threads_does_not_matter(name: str) -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            set_num_threads(count)
            parameter = table(3000, 64, torch.float32)
            optimizer = OPTIMIZERS[name]([parameter], lr=0.2)
            for seed in range(2):
                stash = random_stash(3000, 64, seed, (2000, 1000), torch.float32)
                run(optimizer, parameter, stash)
            results.append(parameter.detach())
    finally:
        set_num_threads(before)
    assert torch.equal(results[0], results[1])


def test_learning_rate_schedulers_apply() -> None:
    parameter = table(4, 2)
    start = parameter.detach().clone()
    optimizer = SGD([parameter], 1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        run(optimizer, parameter, [(torch.tensor([1]), torch.ones(1, 2, dtype=torch.float64))])
        scheduler.step()
    torch.testing.assert_close(start[1] - parameter.detach()[1], torch.full_like(start[1], 1.75))


def test_zero_grad_forgets_rows_and_closures_run() -> None:
    parameter = table(4, 2)
    optimizer = Adagrad([parameter], 0.1)
    table_rows(parameter, torch.tensor([1])).sum().backward()
    assert len(parameter.row_gradients) == 1
    optimizer.zero_grad()
    assert parameter.row_gradients == []
    before = parameter.detach().clone()

    def closure() -> Tensor:
        loss = table_rows(parameter, torch.tensor([2])).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == before[2].sum()
    assert (parameter.detach() != before).any(1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clipping_sees_summed_rows_and_dense_gradients(max_norm: float) -> None:
    parameter, other = table(8, 3), nn.Parameter(torch.zeros(5, dtype=torch.float64))
    stash = random_stash(8, 3, 0)
    copied = copy.deepcopy(stash)
    other.grad = torch.arange(5, dtype=torch.float64)
    whole = dense(stash, 8)
    parameter.row_gradients = stash
    norm = clip_gradients([parameter, other, nn.Parameter(torch.zeros(2))], max_norm)
    expected = torch.cat([whole.flatten(), torch.arange(5, dtype=torch.float64)]).norm()
    torch.testing.assert_close(norm, expected)
    factor = min(1.0, max_norm / expected.item())
    clipped = dense(parameter.row_gradients, 8)
    torch.testing.assert_close(clipped, whole * factor, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(other.grad, torch.arange(5).double() * factor, rtol=1e-5, atol=1e-9)
    for (_, ours), (_, kept) in zip(stash, copied):
        assert torch.equal(ours, kept)  # the stashed tensors belong to autograd


def test_clipping_shows_nan_and_nothing_to_clip() -> None:
    assert clip_gradients([nn.Parameter(torch.zeros(2))], 1.0) == 0
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, torch.nan])
    assert clip_gradients([parameter], 1.0).isnan()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Adagrad(p, -1.0), "lr must not be negative, got -1.0"),
        (lambda p: Adagrad(p, 1.0, initial_accumulator=-0.5), "initial_accumulator"),
        (lambda p: Adam(p, 1.0, eps=-1.0), "eps"),
        (lambda p: Adam(p, 1.0, betas=(0.9, 1.0)), r"betas must lie in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make([table(2, 2)])


@pytest.mark.parametrize("wrong", [-1, 4])
def test_an_id_outside_the_table_is_an_error(wrong: int) -> None:
    parameter = table(4, 2)
    parameter.row_gradients = [(torch.tensor([wrong]), torch.ones(1, 2, dtype=torch.float64))]
    with pytest.raises(IndexError, match="outside the 4 rows"):
        SGD([parameter], 0.1).step()


def train_once(device: Optional[str] = None) -> Tensor:
    parameter = nn.Parameter(table(6, 4, torch.float32).detach().to(device or "cpu"))
    parameter.row_sparse = True  # type: ignore[attr-defined]
    optimizer = Adagrad([parameter], 0.1)
    for ids in ([0, 3], [3, 3, 5]):
        taken = table_rows(parameter, torch.tensor(ids, device=device))
        (taken.square().sum() / 2).backward()
        clip_gradients([parameter], 0.7)
        optimizer.step()
    return parameter.detach().cpu()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_takes_the_same_steps() -> None:
    torch.testing.assert_close(train_once("cuda"), train_once())


def test_stash_clip_and_step_together() -> None:
    weight = table(6, 4, torch.float32).detach().clone()
    total = torch.zeros_like(weight)
    for counts in ({0: 1, 3: 1}, {3: 2, 5: 1}):
        gradient = torch.zeros_like(weight)
        for row, count in counts.items():
            gradient[row] = count * weight[row]
        gradient *= min(1.0, 0.7 / gradient.norm().item())
        total += gradient**2
        rows = list(counts)
        weight[rows] -= 0.1 * gradient[rows] / (total[rows] ** 0.5 + 1e-10)
    torch.testing.assert_close(train_once(), weight, rtol=1e-4, atol=1e-5)
