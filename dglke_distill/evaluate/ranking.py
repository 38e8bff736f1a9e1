"""Filtered ranking: where do the true answers stand among all entities?

For each triple both (?, relation, tail) and (head, relation, ?) are asked, every entity is a
candidate, and all other known answers are left out (Bordes, Usunier, Garcia-Duran, Weston,
Yakhnenko 2013, "Translating embeddings for modeling multi-relational data"). Ties share the mean of
the ranks that they span: ``(optimistic + pessimistic) / 2`` with ``optimistic = 1 + #greater`` and
``pessimistic = #greater or equal``, called "realistic" by Berrendorf, Faerman, Vermue, Tresp 2020,
"On the ambiguity of rank-based evaluation of entity alignment or link prediction methods". Without
that, a model that scores everything alike would be perfect.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Optional, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import SIDES, Side, Triples
from dglke_distill.evaluate.categories import relation_categories
from dglke_distill.evaluate.counting import count
from dglke_distill.evaluate.metrics import RankingResult, summarise

QUERY_BLOCK_BYTES = 256 * 2**20
"""Default size of the largest score matrix."""


class ScoresAll(Protocol):
    """Anything that can be ranked; ``models.base.KGEModel`` is one."""

    def score_all(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Score every entity: ids (b,) int64 to floats (b, num_entities), higher is better."""
        ...


class NonFiniteScores(FloatingPointError):
    """A model produced NaN or infinite scores, which have no rank.

    Attributes:
        entity: the known entity of the first such query.
        relation: its relation.
        side: the side that was asked for.
    """

    def __init__(self, entity: int, relation: int, side: Side, value: float, candidate: int):
        query = f"(?, {relation}, {entity})" if side == "head" else f"({entity}, {relation}, ?)"
        super().__init__(
            f"the score of candidate {candidate} for the query {query} is {value}: "
            "the model has diverged and cannot be ranked"
        )
        self.entity, self.relation, self.side = entity, relation, side


class QueryGroups(NamedTuple):
    """A split by distinct query: row ``rows[offsets[i]:offsets[i + 1]]`` ask query i."""

    entity: NDArray[np.int64]
    relation: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    answer: NDArray[np.int64]


def group_queries(split: Triples, side: Side) -> QueryGroups:
    """Group the triples by query, ordered by relation and then by entity."""
    known, answer = (split.head, split.tail) if side == "tail" else (split.tail, split.head)
    rows = np.lexsort((known, split.relation))
    entity, relation = known[rows].astype(np.int64), split.relation[rows].astype(np.int64)
    starts = np.ones(len(rows), np.bool_)
    starts[1:] = (entity[1:] != entity[:-1]) | (relation[1:] != relation[:-1])
    offsets = np.append(np.flatnonzero(starts), len(rows)).astype(np.int64)
    return QueryGroups(
        entity[starts], relation[starts], offsets, rows, answer[rows].astype(np.int64)
    )


def evaluate(
    model: ScoresAll,
    split: Triples,
    known: KnownAnswers,
    *,
    train: Optional[Triples] = None,
    mask_known: bool = False,
    query_block_bytes: int = QUERY_BLOCK_BYTES,
) -> RankingResult:
    """Rank the true head and the true tail of every triple among all entities, filtered.

    Each distinct query is scored once, whatever the number of its answers. Queries are ordered by
    relation, which suits models whose candidates depend on it. A module is put into evaluation
    mode for the duration.

    Args:
        model: scores all entities; its true answers are read out of the same scores.
        split: the triples to rank, at least one.
        known: the answers to leave out: of train, valid and test, for figures that compare with
            published ones.
        train: the train split, to report by relation category too (see ``categories``).
        mask_known: leave out the known entity of each question too, unless it is the true answer;
            figures are then not the standard ones (see ``protocols``).
        query_block_bytes: size that a block of scores must not exceed (a block has at least one
            query); this bounds memory. A model on a GPU takes three times as much there.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
        ValueError: the split is empty, or the model scores another number of entities.
    """
    if len(split) == 0:
        raise ValueError("there are no triples to rank")
    started = time.perf_counter()
    device = device_of(model)
    block = max(1, query_block_bytes // (_score_bytes(model) * known.num_entities))

    def rank_block(groups: QueryGroups, first: int, last: int, side: Side) -> NDArray[np.float64]:
        return _rank_block(model, groups, first, last, known, side, device, mask_known)

    with torch.no_grad(), evaluation_mode(model):
        ranks, num_queries = rank_in_blocks(split, block, rank_block)
    return summarise(
        split,
        ranks["head"],
        ranks["tail"],
        num_entities=known.num_entities,
        num_queries=num_queries,
        seconds=time.perf_counter() - started,
        categories=None if train is None else categories_of(train, split),
    )


def rank_in_blocks(
    split: Triples,
    block: int,
    rank_block: Callable[[QueryGroups, int, int, Side], NDArray[np.float64]],
) -> tuple[dict[Side, NDArray[np.float64]], int]:
    """Rank a split, so many queries at a time.

    Args:
        split: the triples.
        block: queries at a time.
        rank_block: takes the queries, the first and one past the last of a block, and the side;
            returns the ranks (n,) of their answers in the order of the queries.

    Returns:
        The ranks (triples,) of each side in the split's order, and the number of queries.
    """
    ranks = {side: np.empty(len(split), np.float64) for side in SIDES}
    num_queries = 0
    for side in SIDES:
        groups = group_queries(split, side)
        num_queries += len(groups.entity)
        for first in range(0, len(groups.entity), block):
            last = min(first + block, len(groups.entity))
            start, stop = groups.offsets[first], groups.offsets[last]
            ranks[side][groups.rows[start:stop]] = rank_block(groups, first, last, side)
    return ranks, num_queries


def sample_rows(rows: int, limit: Optional[int], seed: int) -> Optional[NDArray[np.int64]]:
    """Return the rows of a split that ``limit`` leaves, ascending; None: all of them."""
    if limit is None or limit >= rows:
        return None
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def evaluate_subset(
    model: ScoresAll,
    split: Triples,
    known: KnownAnswers,
    *,
    limit: Optional[int],
    seed: int = 0,
    **options: Any,
) -> RankingResult:
    """Rank a fixed random sample of a split: a quick estimate to steer training by.

    The sample depends on the seed, the limit and the split's size alone, so that successive
    validations compare. Its figures are estimates, marked as such, and never the ones to report.

    Args:
        limit: number of triples; None, or a number beyond the split's size, ranks the whole split.
        seed: of the sample.
        options: as for ``evaluate``, which see for the other arguments and errors too.
    """
    rows = sample_rows(len(split), limit, seed)
    if rows is None:
        return evaluate(model, split, known, **options)
    return replace(evaluate(model, split[rows], known, **options), sampled_from=len(split))


def _rank_block(
    model: ScoresAll,
    groups: QueryGroups,
    first: int,
    last: int,
    known: KnownAnswers,
    side: Side,
    device: torch.device,
    mask_known: bool,
) -> NDArray[np.float64]:
    """Return the realistic ranks of all answers to the queries ``first`` to ``last``."""
    entity, relation = groups.entity[first:last], groups.relation[first:last]
    scores = model.score_all(
        torch.from_numpy(entity).to(device), torch.from_numpy(relation).to(device), side
    )
    if scores.shape != (last - first, known.num_entities):
        raise ValueError(
            f"the model gave scores of shape {tuple(scores.shape)} for {last - first} queries "
            f"over {known.num_entities} entities"
        )
    offsets = groups.offsets[first : last + 1]
    left_out = known.gather(entity, relation, side)
    greater, equal, bad = count(
        scores,
        offsets - offsets[0],
        groups.answer[offsets[0] : offsets[-1]],
        *(_with_known(*left_out, entity, known.num_entities) if mask_known else left_out),
    )
    if bad >= 0:
        candidate = int((~torch.isfinite(scores[bad])).int().argmax())
        value = float(scores[bad, candidate])
        raise NonFiniteScores(int(entity[bad]), int(relation[bad]), side, value, candidate)
    # optimistic = 1 + greater, pessimistic = 1 + greater + equal
    return 1.0 + greater + 0.5 * equal


def _with_known(
    offsets: NDArray[np.int64],
    answers: NDArray[np.int64],
    entity: NDArray[np.int64],
    num_entities: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the answers of each query, as ``KnownAnswers.gather`` has them, and its own entity."""
    queries = np.arange(len(entity))
    rows = np.concatenate([np.repeat(queries, np.diff(offsets)), queries])
    keys = np.unique(rows * num_entities + np.concatenate([answers, entity]))
    rows, answers = np.divmod(keys, num_entities)
    return np.searchsorted(rows, np.arange(len(entity) + 1)).astype(np.int64), answers


def categories_of(train: Triples, split: Triples) -> NDArray[np.int8]:
    """Return the category of each relation of both; see ``relation_categories``."""
    highest = max(int(part.relation.max(initial=-1)) for part in (train, split))
    return relation_categories(train, 1 + highest)


def device_of(model: object) -> torch.device:
    """Return where a model's tables live; the CPU for one without tables."""
    if not isinstance(model, nn.Module):
        return torch.device("cpu")
    table = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if table is None else table.device


def _score_bytes(model: object) -> int:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return 4 if parameter is None else max(4, parameter.element_size())


@contextmanager
def evaluation_mode(model: object) -> Iterator[None]:
    """Put a module into evaluation mode and encode all its entities once, while inside."""
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with getattr(model, "frozen", nullcontext)():
            yield
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
