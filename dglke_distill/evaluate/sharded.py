"""Filtered ranking by several trainers, each with its own share of the entities.

Every trainer asks all questions of the entities that it has, and counts how many of them beat the
true answer; counts are added up. No trainer ever holds the whole table, and the ranks are those of
``ranking.evaluate``.
"""

from __future__ import annotations

import time
from typing import Any, Optional

import numpy as np
import torch
import torch.distributed as together
from numpy.typing import NDArray

from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Side, Triples
from dglke_distill.evaluate.counting import count_share
from dglke_distill.evaluate.metrics import RankingResult, summarise
from dglke_distill.evaluate.ranking import (
    NonFiniteScores,
    QueryGroups,
    categories_of,
    rank_in_blocks,
    sample_rows,
)
from dglke_distill.models.base import KGEModel
from dglke_distill.models.rows import EntityRows


def evaluate_sharded(
    model: KGEModel,
    share: tuple[int, int],
    split: Triples,
    known: KnownAnswers,
    *,
    train: Triples,
    query_block_bytes: int,
    limit: Optional[int] = None,
    seed: int = 0,
) -> RankingResult:
    """Rank the true head and tail of every triple among all entities, filtered; all trainers call.

    Args:
        model: pulls rows of any entity.
        share: first and one past the last entity that this trainer scores.
        split: the triples to rank, at least one; ids are the model's.
        known: the answers to leave out, by the same ids.
        train: the train split, to report by relation category too; entity ids do not matter.
        query_block_bytes: size that a block of scores must not exceed.
        limit: rank a sample of so many; the rows are those of ``ranking.evaluate_subset``.
        seed: of the sample.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
    """
    started, sampled = time.perf_counter(), None
    rows = sample_rows(len(split), limit, seed)
    if rows is not None:
        sampled, split = len(split), split[rows]
    widest = torch.tensor([share[1] - share[0]])
    together.all_reduce(widest, together.ReduceOp.MAX)
    block = max(1, query_block_bytes // (4 * max(1, int(widest))))
    training = model.training
    model.eval()
    with torch.no_grad():
        entities = model.encode_range(*share)

        def rank_block(
            groups: QueryGroups, first: int, last: int, side: Side
        ) -> NDArray[np.float64]:
            return _rank_block(model, entities, share, groups, first, last, known, side)

        ranks, queries = rank_in_blocks(split, block, rank_block)
    model.train(training)
    return summarise(
        split,
        ranks["head"],
        ranks["tail"],
        num_entities=known.num_entities,
        num_queries=queries,
        seconds=time.perf_counter() - started,
        categories=categories_of(train, split),
        sampled_from=sampled,
    )


def _rank_block(
    model: KGEModel,
    entities: EntityRows,
    share: tuple[int, int],
    groups: QueryGroups,
    first: int,
    last: int,
    known: KnownAnswers,
    side: Side,
) -> NDArray[np.float64]:
    """Return the realistic ranks of all answers to the queries ``first`` to ``last``."""
    entity, relation = groups.entity[first:last], groups.relation[first:last]
    offsets = groups.offsets[first : last + 1] - groups.offsets[first]
    targets = groups.answer[groups.offsets[first] : groups.offsets[last]] - share[0]
    nodes, places = torch.unique(torch.from_numpy(entity), return_inverse=True)
    query = model.query(model.encode(nodes), places, torch.from_numpy(relation), side)
    scores = model.score(query, entities, exact=True).contiguous().numpy()
    mine = (targets >= 0) & (targets < share[1] - share[0])
    asked = np.repeat(np.arange(last - first), np.diff(offsets))
    values = torch.zeros(len(targets))
    values[torch.from_numpy(mine)] = torch.from_numpy(scores[asked[mine], targets[mine]])
    # Whoever has the answer says what it scores; all others add 0.
    together.all_reduce(values)
    greater, equal, bad = count_share(
        scores,
        offsets,
        np.where(mine, targets, -1),
        values.numpy(),
        *_within(*known.gather(entity, relation, side), share),
    )
    counts = torch.from_numpy(np.concatenate([greater, equal, [bad >= 0]]).astype(np.int64))
    together.all_reduce(counts)
    if int(counts[-1]):
        raise _first_bad(scores, bad, groups, first, share, known.num_entities, side)
    greater, equal = counts[: len(targets)].numpy(), counts[len(targets) : -1].numpy()
    found: NDArray[np.float64] = 1.0 + greater + 0.5 * equal
    return found


def _first_bad(
    scores: NDArray[np.float32],
    bad: int,
    groups: QueryGroups,
    first: int,
    share: tuple[int, int],
    num_entities: int,
    side: Side,
) -> NonFiniteScores:
    """Return the same error to all trainers, whoever of them has the score that is none."""
    place = torch.tensor([torch.iinfo(torch.int64).max])
    if bad >= 0:
        place[0] = bad * num_entities + share[0] + int((~np.isfinite(scores[bad])).argmax())
    together.all_reduce(place, together.ReduceOp.MIN)
    row, candidate = divmod(int(place), num_entities)
    value = torch.zeros(1)
    if share[0] <= candidate < share[1]:
        value[0] = float(scores[row, candidate - share[0]])
    together.all_reduce(value)
    entity, relation = int(groups.entity[first + row]), int(groups.relation[first + row])
    return NonFiniteScores(entity, relation, side, float(value), candidate)


def _within(
    offsets: NDArray[np.int64], answers: NDArray[np.int64], share: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the known answers of each query that lie in a share, as its columns."""
    inside = (answers >= share[0]) & (answers < share[1])
    counted: Any = np.append(0, np.cumsum(inside))
    return counted[offsets].astype(np.int64), answers[inside] - share[0]
