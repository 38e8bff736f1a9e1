"""A table that is both a candidate set and a source of queries: both gradients count once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dglke_distill.kernels import pairwise, take_rows
from dglke_distill.training.optim import OPTIMIZERS, clip_gradients


def gradients_of(weight: nn.Parameter, index: torch.Tensor) -> None:
    queries = take_rows(weight, index)
    (pairwise("dot", queries, weight).tanh().sum() + queries.square().sum()).backward()


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_row_and_dense_gradients_of_one_table_are_added(name: str, clip: float | None) -> None:
    start = torch.randn(7, 4, dtype=torch.float64)
    index = torch.tensor([1, 3, 1, 6])
    tables = []
    for row_sparse in (False, True):
        weight = nn.Parameter(start.clone())
        weight.row_sparse = row_sparse
        optimizer = OPTIMIZERS[name]([weight], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            gradients_of(weight, index)
            if clip is not None:
                clip_gradients([weight], clip)
            optimizer.step()
        tables.append(weight.detach())
    assert not torch.equal(tables[0], start)
    torch.testing.assert_close(tables[0], tables[1], rtol=1e-12, atol=1e-12)
