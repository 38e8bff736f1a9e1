from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.groups import group, group_tensor

KEYS = st.lists(st.integers(0, 6), max_size=30)


@given(KEYS)
def test_rows_stand_by_their_keys(keys: list[int]) -> None:
    expected = {key: [i for i, k in enumerate(keys) if k == key] for key in sorted(set(keys))}
    array = torch.tensor(keys, dtype=torch.int64)
    groups = group(array.numpy(), 9)
    assert {key: rows.tolist() for key, rows in groups.present()} == expected
    assert list(expected) == [key for key, _ in groups.present()]
    assert len(groups.offsets) == 10
    for key in range(9):
        first, last = groups.offsets[key : key + 2]
        assert groups.order[first:last].tolist() == expected.get(key, [])
    order, offsets = group_tensor(array, 9)
    assert order.tolist() == groups.order.tolist()
    assert offsets.tolist() == groups.offsets.tolist()


@given(KEYS.filter(bool))
def test_keys_end_at_the_highest(keys: list[int]) -> None:
    assert len(group(torch.tensor(keys).numpy()).offsets) == max(keys) + 2
