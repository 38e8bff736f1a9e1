"""The best triples of a relation over all heads and tails, found without keeping all scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.arguments import plain, whole
from dglke_distill.base.errors import UserError
from dglke_distill.models.base import KGEModel
from dglke_distill.predict.answers import labelled
from dglke_distill.predict.batches import check_scores, encoded, leave_out, places_among
from dglke_distill.predict.choosing import OBSERVED, TYPED, Candidates, Choosing, per_relation
from dglke_distill.predict.knowing import Facts, Knowing
from dglke_distill.predict.names import Name, ids_of

if TYPE_CHECKING:
    from dglke_distill.base.table_frames import TableFrame
    from dglke_distill.data.known_answers import KnownAnswers

Int64 = NDArray[np.int64]

MOST = 1_000_000
"""Triples of a relation that may be asked for: their ids and scores are kept while others pass."""

HEADS_AT_ONCE = 256
SCORES_AT_ONCE = 1 << 20
"""Scores of a block: 4 MiB, so that memory does not grow with the number of entities."""

_SAME = 1e-5  # relative; the two directions of a triple are summed in another order


class BestTriples(NamedTuple):
    """Triples of one relation, best first.

    Attributes:
        head: (n,) int64 entity ids.
        tail: (n,) int64 entity ids.
        score: (n,) floats, as answers to (head, relation, ?).
    """

    head: Int64
    tail: Int64
    score: NDArray[np.float64]


def best_triples(
    model: KGEModel,
    relation: int,
    k: int,
    *,
    known: Optional[KnownAnswers] = None,
    heads: Optional[Int64] = None,
    tails: Optional[Int64] = None,
    loops: bool = True,
) -> BestTriples:
    """Return the best triples of a relation.

    All pairs are scored, block by block. What is kept are the best so far; of a block only what is
    no worse than the last of them is looked at. Memory: a block of 2**20 scores, and 24 bytes for
    each of some ``4 k`` triples.

    A triple and its reverse with the same score (to 1e-5 of it, as rounding has it) say one thing
    twice, as all do in a symmetric model: the one that comes first stands for both.

    Args:
        model: the model.
        relation: id of the relation.
        k: how many.
        known: facts to leave out.
        heads: (n,) ascending ids of those who may be heads; None: every entity.
        tails: (n,) the same of the tails.
        loops: whether head and tail may be the same entity.

    Returns:
        At most k; equal scores are ordered by the ids of head and tail.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
    """
    entities = model.num_entities
    head_ids = np.arange(entities) if heads is None else heads
    width = min(
        max(1, model.block_rows),
        max(1024, SCORES_AT_ONCE // max(1, min(HEADS_AT_ONCE, len(head_ids)))),
    )
    best = _Best(2 * k)  # as many as there are if each has its reverse
    among = None if tails is None else torch.from_numpy(tails).to(model.device)
    count = entities if among is None else len(among)
    with torch.no_grad():
        for first in range(0, len(head_ids), HEADS_AT_ONCE):
            some = head_ids[first : first + HEADS_AT_ONCE]
            entity = torch.from_numpy(some).to(model.device)
            asked = torch.full_like(entity, relation)
            rows = torch.arange(len(some), device=model.device)
            query = model.query(model.encode(entity), rows, asked, "tail")
            row, left_out = _left_out(some, relation, known, tails, loops)
            for start in range(0, count, width):
                stop = min(start + width, count)
                scores = model.score(query, encoded(model, among, start, stop), exact=True)
                check_scores(scores, entity, asked, "tail", start, among)
                leave_out(scores, row, left_out, start)
                where, found = best.worth_a_look(scores)
                columns = where % scores.shape[1] + start
                best.add(
                    some[where // scores.shape[1]],
                    columns if tails is None else tails[columns],
                    found,
                )
    return _one_direction(best.sorted(), entities, k)


def _left_out(
    heads: Int64, relation: int, known: Optional[KnownAnswers], tails: Optional[Int64], loops: bool
) -> tuple[Int64, Int64]:
    """Return rows of heads, and places of tails, that are known or loops."""
    row = answer = np.zeros(0, np.int64)
    if known is not None:
        offsets, answer = known.gather(heads, np.full_like(heads, relation), "tail")
        row = np.repeat(np.arange(len(heads)), np.diff(offsets))
    if not loops:
        row = np.concatenate([row, np.arange(len(heads))])
        answer = np.concatenate([answer, heads])
    return (row, answer) if tails is None else places_among(row, answer, torch.from_numpy(tails))


class _Best:
    """The best triples so far."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.least = -np.inf  # what the last of k has, once there are as many
        self._parts: list[BestTriples] = []
        self._held = 0

    def worth_a_look(self, scores: Tensor) -> tuple[Int64, NDArray[np.float64]]:
        """Return places in the flat block, and scores, of all that may be among the best."""
        flat = scores.reshape(-1)
        chosen = torch.nonzero((flat >= self.least) & (flat > -torch.inf)).squeeze(1)
        values = flat[chosen]
        if len(values) > 2 * self.k:
            last = values.topk(self.k).values[-1]
            chosen = chosen[values >= last]  # equal ones too: their ids decide later
            values = flat[chosen]
        return chosen.cpu().numpy(), values.double().cpu().numpy()

    def add(self, head: Int64, tail: Int64, score: NDArray[np.float64]) -> None:
        """Take triples in, and let go of the worst once there are many."""
        if not len(head):
            return
        self._parts.append(BestTriples(head, tail, score))
        self._held += len(head)
        if self._held > 2 * self.k + 1024:
            self._parts = [self.sorted()]
            self._held = len(self._parts[0].head)
            if self._held == self.k:
                self.least = float(self._parts[0].score[-1])

    def sorted(self) -> BestTriples:
        """Return the best k, best first."""
        if not self._parts:
            return BestTriples(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        head, tail, score = (np.concatenate(column) for column in zip(*self._parts))
        order = np.lexsort((tail, head, -score))[: self.k]
        return BestTriples(head[order], tail[order], score[order])


def _one_direction(found: BestTriples, entities: int, k: int) -> BestTriples:
    """Return the first k, a reverse with the same score as a triple before it left out."""
    place = {h * entities + t: i for i, (h, t) in enumerate(zip(*map(_list, found[:2])))}
    kept: list[int] = []
    for i, (h, t, score) in enumerate(zip(*map(_list, found))):
        if len(kept) == k:
            break
        j = place.get(t * entities + h, i)
        if j < i and abs(found.score[j] - score) <= _SAME * max(abs(score), 1e-30):
            continue
        kept.append(i)
    return BestTriples(found.head[kept], found.tail[kept], found.score[kept])


def _list(column: NDArray[Any]) -> list[Any]:
    return column.tolist()  # type: ignore[no-any-return]


class Discovering(Choosing, Knowing):
    """What makes a model find new facts."""

    def discover(
        self,
        relations: Optional[Iterable[Name]] = None,
        k: int = 100,
        *,
        known: Facts = True,
        candidates: Candidates = None,
        loops: bool = True,
        min_probability: Optional[float] = None,
    ) -> TableFrame:
        """Return the best unknown triples over all heads and tails, of each relation by itself.

        All pairs are scored, in blocks: memory does not grow with the number of entities, time
        does with its square. A reverse with the same score as a triple is left out.

        Args:
            relations: names or ids, or a single one; None: all. Scores of two relations do not
                compare, so each has its own list.
            k: how many triples of each relation, 1 to a million.
            known: facts that are no news, see ``Facts``; False: every triple competes.
            candidates: ``observed`` or ``typed``, for heads and for tails; None: every entity.
            loops: whether head and tail may be the same entity.
            min_probability: the probability below which triples are left out, of a calibrated
                model.

        Returns:
            A pandas frame, which has ``to_arrow`` too. A row per triple, relations in their order:
            ``rank`` (from 1), ``head``, ``relation``, ``tail`` (names), ``score``, as an answer to
            (head, relation, ?), and, where the model is calibrated, ``probability``; last
            ``head_label`` and ``tail_label``, where the model has labels.

        Raises:
            UserError: an unknown relation, k out of range, other candidates, or no facts at hand.
            NonFiniteScores: a score is NaN or infinite.
        """
        self.checked_probability(min_probability)  # type: ignore[attr-defined]
        found = _discovered(self, relations, k, self._index(known), candidates, loops)
        found = labelled(found, self.labels)
        if min_probability is None:
            return found
        return found[found["probability"] >= min_probability].reset_index(drop=True)


def _discovered(
    named: Any,
    relations: Optional[Iterable[Name]],
    k: int,
    known: Optional[KnownAnswers],
    candidates: Candidates,
    loops: bool,
) -> TableFrame:
    """Find the best triples of relations; see ``Discovering.discover``."""
    import pandas

    from dglke_distill.base.table_frames import table_frame

    k = whole(k, "k")
    if not 1 <= k <= MOST:
        raise UserError(f"k is {k}: ask for 1 to {MOST} triples of each relation")
    if candidates is not None and not per_relation(candidates):
        raise UserError(
            f"candidates {candidates!r:.100}: heads and tails are both asked for; give "
            f"{OBSERVED} or {TYPED}, which say who may be which"
        )
    relations = plain(relations)
    if isinstance(relations, (str, int)):
        relations = [relations]
    if relations is None:
        asked = list(range(len(named.relations)))
        if candidates is not None:  # of a relation without facts, nobody is a candidate
            ranges = named.load_ranges()
            asked = [relation for relation in asked if len(ranges.observed(relation, "tail"))]
    else:
        asked = list(dict.fromkeys(ids_of(named.relations, relations).tolist()))
    frames = []
    for relation in asked:
        heads, tails = (
            named.candidate_ids(candidates, relation, side) for side in ("head", "tail")
        )
        found = best_triples(
            named.model, relation, k, known=known, heads=heads, tails=tails, loops=loops
        )
        chance = {}
        if named.calibration is not None:
            scores = torch.from_numpy(found.score)
            of = torch.full((len(scores),), relation)
            chance["probability"] = named.calibration.probability(scores, of).numpy()
        frames.append(
            table_frame(
                {
                    "rank": np.arange(1, len(found.head) + 1),
                    "head": named.entity_names(found.head),
                    "relation": [named.relations[relation]] * len(found.head),
                    "tail": named.entity_names(found.tail),
                    "score": found.score,
                    **chance,
                }
            )
        )
    full = [frame for frame in frames if len(frame)] or frames[:1]
    if not full:
        columns = ["rank", "head", "relation", "tail", "score"]
        more = [] if named.calibration is None else ["probability"]
        return table_frame({name: [] for name in (*columns, *more)})
    return pandas.concat(full, ignore_index=True)
