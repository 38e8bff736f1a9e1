"""Ranking by several trainers, each with its share of the entities, against one that has them all.

Threads stand for the trainers, and what they reduce together is added up here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, Union
from unittest import mock

import numpy as np
import torch
from distill_fixtures import model_of
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Triples
from dglke_distill.evaluate import NonFiniteScores, evaluate_subset, sharded
from dglke_distill.evaluate.metrics import RankingResult
from dglke_distill.models import KGEModel

Outcome = Union[RankingResult, NonFiniteScores]
MODELS = ("TransE", "DistMult", "RotatE", "TransR", "PairRE")


class Together:
    """What trainers reduce, in threads."""

    ReduceOp = torch.distributed.ReduceOp

    def __init__(self, trainers: int) -> None:
        self.barrier = threading.Barrier(trainers, timeout=60)
        self.given: dict[int, torch.Tensor] = {}
        self.number = threading.local()

    def all_reduce(self, tensor: torch.Tensor, how: Any = ReduceOp.SUM) -> None:
        self.given[self.number.here] = tensor.clone()
        self.barrier.wait()
        every = torch.stack([self.given[i] for i in range(self.barrier.parties)])
        reduced = {self.ReduceOp.SUM: every.sum, self.ReduceOp.MAX: every.amax,
                   self.ReduceOp.MIN: every.amin}[how](0)  # fmt: skip
        self.barrier.wait()
        tensor.copy_(reduced)


def by_trainers(
    shares: list[tuple[int, int]], rank: Callable[[tuple[int, int]], RankingResult]
) -> list[Outcome]:
    """Return what each trainer finds, or its error."""
    team = Together(len(shares))

    def one(number: int) -> Outcome:
        team.number.here = number
        try:
            return rank(shares[number])
        except NonFiniteScores as error:
            return error

    with mock.patch.object(sharded, "together", team), ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(one, range(len(shares))))


@given(
    name=st.sampled_from(MODELS),
    entities=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 8), max_size=4),
    seed=st.integers(0, 2**31),
    block=st.sampled_from([1, 64, 1 << 20]),
    limit=st.none() | st.integers(1, 5),
    broken=st.none() | st.sampled_from([float("nan"), float("inf")]),
)
def test_ranks_and_errors_are_those_of_one(
    name: str,
    entities: int,
    cuts: list[int],
    seed: int,
    block: int,
    limit: Optional[int],
    broken: Optional[float],
) -> None:
    """Shares may be empty, scores tie, triples repeat, and train may hold some of them."""
    rng = np.random.default_rng(seed)
    model: KGEModel = model_of(name, 4, dtype=torch.float32, entities=entities, relations=2)
    with torch.no_grad():
        for table in model.parameters():
            table.copy_(torch.from_numpy(rng.integers(-1, 2, table.shape)).to(table))
        if broken is not None:
            model.encoder.weight[rng.integers(entities)] = broken
    train, split = (
        Triples.from_array(rng.integers(0, [entities, 2, entities], (rng.integers(least, 9), 3)))
        for least in (0, 1)
    )
    known = KnownAnswers.build([train, split], entities)
    borders = [0, *sorted(min(cut, entities) for cut in cuts), entities]
    shares = list(zip(borders[:-1], borders[1:]))
    options: dict[str, Any] = {"train": train, "query_block_bytes": block, "limit": limit}
    found = by_trainers(
        shares,
        lambda share: sharded.evaluate_sharded(model, share, split, known, **options),
    )
    # As many queries at a time as the trainers take, so that the same bad score is met first.
    widest = max(1, max(last - first for first, last in shares))
    options["query_block_bytes"] = max(1, block // (4 * widest)) * 4 * entities
    try:
        alone = evaluate_subset(model, split, known, **options)
    except NonFiniteScores as error:
        assert [str(one) for one in found] == [str(error)] * len(shares)
        return
    for one in found:
        assert isinstance(one, RankingResult)
        assert {**one.to_dict(), "seconds": 0} == {**alone.to_dict(), "seconds": 0}
        np.testing.assert_array_equal(one.head_ranks, alone.head_ranks)
        np.testing.assert_array_equal(one.tail_ranks, alone.tail_ranks)
