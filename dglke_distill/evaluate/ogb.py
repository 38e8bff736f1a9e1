"""Ranking among the given candidates of the Open Graph Benchmark, by its official Evaluator.

Each true answer meets the negatives that ship with its triple, 500 a side, and the Evaluator of the
``ogb`` package says where it stands; ties count half. Its official figure is the mean over the head
and the tail questions together (Hu et al. 2020, "Open Graph Benchmark: datasets for machine
learning on graphs", and the package's own example).

The Evaluator takes scores that are not numbers for the worst ones, and would call a diverged model
perfect; so scores are checked before it sees them. It gets torch tensors, because its numpy branch
does not run.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any, Optional, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.ogb import GivenCandidates
from dglke_distill.data.ogb_package import official_package
from dglke_distill.data.triples import SIDES, Dataset, Side, Triples
from dglke_distill.evaluate.categories import relation_categories
from dglke_distill.evaluate.metrics import RankingResult, summarise
from dglke_distill.evaluate.popularity import RelationPopularity
from dglke_distill.evaluate.ranking import NonFiniteScores, device_of, evaluation_mode, sample_rows
from dglke_distill.models.base import KGEModel

_QUERIES = 256
"""Queries scored at once; more of them do not fit the second-level cache."""

_JUDGED = 4096
"""Queries that the Evaluator sees at once: each of its steps wakes all threads."""


class ScoresCandidates(Protocol):
    """Anything that can be ranked among given candidates."""

    @property
    def relation_order(self) -> bool:
        """Whether queries of one relation should come together."""
        ...

    def score_candidates(
        self, entity: Tensor, relation: Tensor, candidates: Tensor, side: Side
    ) -> Tensor:
        """Score candidates (b, n) of queries (b,), all ids int64; higher is better."""
        ...


class ModelCandidates:
    """Lets a model score candidates that belong to one query each, through its own ``score``.

    Rows of the entity table are gathered inside the kernel, so that no (b, n, dim) copy is made. A
    model whose table is not to be encoded whole (a compressed one) encodes those of each block.

    Args:
        model: the model, in evaluation mode.
    """

    def __init__(self, model: KGEModel) -> None:
        """Encode all entities if the model can hold them."""
        self.model = model
        function = model.score_function
        self.relation_order = function.by_relation or function.transforms_candidates
        self.whole = model.block_rows >= model.num_entities
        self.entities = model.encode(None) if self.whole else None

    def block(self, candidates: int, limit_bytes: int) -> int:
        """Return how many queries of so many candidates to score at once, within a limit."""
        each = 16 * candidates  # ids and scores
        if not self.whole or self.model.score_function.transforms_candidates:
            each += 3 * 4 * candidates * self.model.score_function.dim
        return max(1, min(_QUERIES, limit_bytes // each))

    def score_candidates(
        self, entity: Tensor, relation: Tensor, candidates: Tensor, side: Side
    ) -> Tensor:
        """Score candidates (b, n) of queries (b,); returns (b, n)."""
        model, entities = self.model, self.entities
        if entities is None:
            nodes, rows = torch.unique(
                torch.cat([entity[:, None], candidates], dim=1), return_inverse=True
            )
            entities = model.encode(nodes, model.encoder.blocks_for(nodes))
            entity, candidates = rows[:, 0].contiguous(), rows[:, 1:].contiguous()
        query = model.query(entities, entity, relation, side)
        return model.score(query, entities, candidates, exact=True)


def evaluate_given(
    model: KGEModel | ScoresCandidates,
    dataset: Dataset,
    split: str,
    *,
    limit: Optional[int] = None,
    seed: int = 0,
    by_category: bool = False,
    block_bytes: int = 256 << 20,
) -> RankingResult:
    """Rank the true head and tail of every triple of a split among its given candidates.

    Args:
        model: a model, or anything else that scores candidates.
        dataset: whose train split, splits and given negatives to use.
        split: ``valid`` or ``test``.
        limit: number of triples, sampled once by the seed; None: the whole split. Figures of a
            sample are estimates, marked as such.
        seed: of the sample.
        by_category: report by relation category too.
        block_bytes: memory that the work on a block of queries may take.

    Returns:
        The ranks that the official Evaluator gave, and the figures that follow from them.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
        UserError: the split has no given negatives.
        ValueError: the split is empty.
    """
    triples, given = dataset.split(split), dataset.candidates(split)
    if len(triples) == 0:
        raise ValueError("there are no triples to rank")
    started = time.perf_counter()
    sampled = sample_rows(len(triples), limit, seed)
    chosen: NDArray[np.int64] = np.arange(len(triples)) if sampled is None else sampled
    evaluator = official_package().Evaluator(name=dataset.name)
    ranks = {side: np.empty(len(chosen), np.float64) for side in SIDES}
    is_model = isinstance(model, KGEModel)
    with torch.no_grad(), evaluation_mode(model) if is_model else nullcontext():
        scorer = ModelCandidates(model) if isinstance(model, KGEModel) else model
        order = np.arange(len(chosen))
        if scorer.relation_order:
            order = np.argsort(triples.relation[chosen], kind="stable")
        work = _Work(
            scorer, device_of(model), given.head.shape[1], dataset.num_entities, block_bytes
        )
        for side in SIDES:
            for first in range(0, len(chosen), work.queries):
                at = order[first : first + work.queries]
                scores = work.scores(triples, given, chosen[at], side)
                ranks[side][at] = _official_ranks(evaluator, scores)
    return summarise(
        triples[chosen],
        ranks["head"],
        ranks["tail"],
        num_entities=dataset.num_entities,
        num_queries=2 * len(chosen),
        seconds=time.perf_counter() - started,
        categories=_categories(dataset) if by_category else None,
        sampled_from=None if sampled is None else len(triples),
        negatives=given.head.shape[1],
    )


class _Work:
    """Scores some queries after others in the same memory."""

    def __init__(
        self,
        scorer: ScoresCandidates,
        device: torch.device,
        negatives: int,
        entities: int,
        limit_bytes: int,
    ) -> None:
        """Decide on the numbers of queries and take the memory."""
        self.scorer, self.device, self.entities = scorer, device, entities
        self.step, held = _QUERIES, 4
        if isinstance(scorer, ModelCandidates):
            self.step = scorer.block(negatives + 1, limit_bytes)
            held = scorer.model.relation_embeddings.element_size()
        bounded = limit_bytes // (2 * (8 + held) * (negatives + 1))
        self.queries = max(1, self.step, min(_JUDGED, bounded))
        self._ids = torch.empty(self.queries, negatives + 1, dtype=torch.int64)

    def scores(
        self, triples: Triples, given: GivenCandidates, rows: NDArray[np.int64], side: Side
    ) -> Tensor:
        """Return the scores (rows, 1 + negatives) of the true answers, then of their negatives.

        Raises:
            NonFiniteScores: one of them is NaN or infinite.
            UserError: a given negative is no entity.
        """
        known = triples.head if side == "tail" else triples.tail
        candidates = self._ids[: len(rows)]
        numbers = candidates.numpy()  # filled by one thread, which is not waited for
        numbers[:, 0] = getattr(triples, side)[rows]
        numbers[:, 1:] = _rows_of(given.of(side), rows)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < self.entities:
            raise UserError(
                f"a given negative is outside 0..{self.entities - 1}: delete the folder of the "
                "converted dataset, processed/dglke_distill, to have it written anew"
            )
        entity, relation = (
            torch.from_numpy(column[rows].astype(np.int64)) for column in (known, triples.relation)
        )
        blocks = zip(*(ids.split(self.step) for ids in (entity, relation, candidates)))
        parts = [
            self.scorer.score_candidates(
                e.to(self.device), r.to(self.device), c.to(self.device), side
            )
            for e, r, c in blocks
        ]
        scores = parts[0] if len(parts) == 1 else torch.cat(parts)
        # The sum of finite scores may overflow, and then each is looked at.
        if not bool(torch.isfinite(scores.sum())):
            _check_finite(scores, entity, relation, candidates, side)
        return scores


def _rows_of(given: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return rows of a memory-mapped matrix; those that follow each other are not copied."""
    if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return given[rows[0] : rows[-1] + 1]
    return given[rows]


def _check_finite(
    scores: Tensor, entity: Tensor, relation: Tensor, candidates: Tensor, side: Side
) -> None:
    bad = torch.nonzero(~torch.isfinite(scores))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        value, candidate = float(scores[row, column]), int(candidates[row, column])
        raise NonFiniteScores(int(entity[row]), int(relation[row]), side, value, candidate)


def _official_ranks(evaluator: Any, scores: Tensor) -> NDArray[np.float64]:
    """Return the ranks of the first column among the others, as the Evaluator sees them.

    It gives float32 reciprocals; ranks are multiples of a half, so nothing is lost.
    """
    judged = evaluator.eval({"y_pred_pos": scores[:, 0], "y_pred_neg": scores[:, 1:]})
    halves = torch.round(2.0 / judged["mrr_list"].double())
    return np.asarray((halves / 2.0).cpu().numpy())


# What takes train as a whole is worked out once per dataset in memory.
_controls: WeakKeyDictionary[Dataset, dict[str, RankingResult]] = WeakKeyDictionary()
_categorised: WeakKeyDictionary[Dataset, NDArray[np.int8]] = WeakKeyDictionary()


def _categories(dataset: Dataset) -> NDArray[np.int8]:
    if dataset not in _categorised:
        _categorised[dataset] = relation_categories(dataset.train, dataset.num_relations)
    return _categorised[dataset]


def popularity_control(dataset: Dataset, split: str) -> RankingResult:
    """Rank a split by ``RelationPopularity``, once per dataset that is in memory.

    Args:
        dataset: the dataset.
        split: ``valid`` or ``test``.

    Raises:
        UserError: the split has no given negatives.
    """
    found = _controls.setdefault(dataset, {})
    if split not in found:
        popularity = RelationPopularity(dataset.train, dataset.num_entities, dataset.num_relations)
        found[split] = evaluate_given(popularity, dataset, split)
    return found[split]
