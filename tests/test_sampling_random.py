"""Counter-based random numbers, the epoch permutation, relabelling and alias tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from dglke_distill.kernels.random import bits_at, epoch_position, stream_key, uniform_at
from dglke_distill.sampling.draw import alias_table, coins
from dglke_distill.sampling.order import visit
from dglke_distill.sampling.unique import Relabeler


def test_bits_are_splitmix64() -> None:
    """The first outputs of Vigna's reference splitmix64.c with state 0, and with 1234567."""
    assert [int(bits_at(np.uint64(0), i)) for i in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    assert int(bits_at(np.uint64(1234567), 0)) == 6457827717110365317


def test_keys_depend_on_every_part_and_on_order() -> None:
    keys = {int(stream_key(*parts)) for parts in [(0,), (1,), (0, 0), (0, 1), (1, 0), (-1,)]}
    assert len(keys) == 6
    assert stream_key(3, 4) == stream_key(3, 4)


def test_uniform_numbers_are_uniform() -> None:
    key = stream_key(7)
    numbers = np.array([uniform_at(key, i) for i in range(20_000)])
    assert numbers.min() >= 0 and numbers.max() < 1
    assert kstest(numbers, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


@given(st.integers(1, 700), st.integers(0, 2**40))
def test_an_epoch_is_a_permutation(size: int, seed: int) -> None:
    out = np.empty(size, np.int64)
    visit(stream_key(seed), size, 0, out)
    assert sorted(out.tolist()) == list(range(size))
    assert epoch_position(stream_key(seed), size, size - 1) == out[-1]


@pytest.mark.parametrize("size", [4096, 5000, 100_003])
def test_permutation_looks_random(size: int) -> None:
    out = np.empty(size, np.int64)
    visit(stream_key(1, size), size, 0, out)
    # Where the first tenth of the steps goes is spread evenly over ten equal parts ...
    counts = np.bincount(out[: size // 10] * 10 // size, minlength=10)
    assert chisquare(counts).pvalue > 1e-3
    # ... positions do not follow steps, and neighbours do not stay together.
    assert abs(np.corrcoef(np.arange(size), out)[0, 1]) < 4 / np.sqrt(size)
    assert (np.abs(np.diff(out)) == 1).mean() < 10 / size + 4 * np.sqrt(2 / size / size)
    again = np.empty(size, np.int64)
    visit(stream_key(2, size), size, 0, again)
    assert (out == again).sum() < 12  # Poisson with mean 1


def test_every_place_is_equally_likely() -> None:
    counts = np.zeros((5, 5))
    for seed in range(4000):
        for step in range(5):
            counts[step, epoch_position(stream_key(seed), 5, step)] += 1
    assert chisquare(counts, axis=1).pvalue.min() > 1e-3


@given(st.lists(st.lists(st.integers(0, 19), max_size=30), min_size=1, max_size=4))
def test_relabelling_keeps_ids_in_order_of_appearance(parts: list[list[int]]) -> None:
    relabel = Relabeler(20)
    arrays = [np.array(part, np.int64) for part in parts]
    for _ in range(2):  # the second call must not see the first one's slots
        nodes, rows = relabel(arrays)
        flat = [i for part in parts for i in part]
        assert nodes.tolist() == list(dict.fromkeys(flat))
        for array, row in zip(arrays, rows):
            assert np.array_equal(nodes[row], array)


def test_relabelling_keeps_shapes_and_shares_no_memory() -> None:
    relabel = Relabeler(100)
    first, (rows,) = relabel([np.array([[7, 3], [3, 9]])])
    kept = first.copy(), rows.copy()
    relabel([np.arange(100)])
    assert rows.tolist() == [[0, 1], [1, 2]]
    assert np.array_equal(first, kept[0]) and np.array_equal(rows, kept[1])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).filter(lambda w: sum(w) > 1e-6))
def test_alias_table_holds_exactly_the_weights(weights: list[float]) -> None:
    probability, alias = alias_table(np.array(weights))
    chance = probability.astype(np.float64).copy()
    np.add.at(chance, alias, 1.0 - probability.astype(np.float64))
    assert chance / len(weights) == pytest.approx(np.array(weights) / sum(weights), abs=1e-6)


def test_alias_table_refuses_impossible_weights() -> None:
    for weights in ([], [0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="non-negative"):
            alias_table(np.array(weights))


def test_coins_fall_as_they_should() -> None:
    tosses = coins(stream_key(3), np.repeat([0.0, 0.3, 1.0], 10_000)).reshape(3, -1)
    assert not tosses[0].any() and tosses[2].all()
    assert abs(tosses[1].mean() - 0.3) < 4 * np.sqrt(0.21 / 10_000)
