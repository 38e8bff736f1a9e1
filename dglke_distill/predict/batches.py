"""The best answers to many questions in ids, candidates taken block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from dglke_distill.data.triples import Side
from dglke_distill.models.base import KGEModel
from dglke_distill.models.rows import EntityRows
from dglke_distill.predict.top_k import TopK, asked, search

if TYPE_CHECKING:
    from dglke_distill.data.known_answers import KnownAnswers

QUERIES_AT_ONCE = 256
_TRIPLES_AT_ONCE = 1 << 18  # of questions for a relation, each a triple for every one

Int64 = NDArray[np.int64]
Answer = Callable[[Tensor, Tensor], TopK]


def best_entities(
    model: KGEModel,
    entity: Tensor,
    relation: Tensor,
    side: Side,
    k: int,
    known: Optional[KnownAnswers] = None,
    among: Optional[Tensor] = None,
) -> TopK:
    """Return the best tails of (entity, relation, ?), or the best heads of (?, relation, entity).

    Args:
        model: the model.
        entity: (b,) int64 known entities.
        relation: (b,) int64 relation ids.
        side: the side asked for.
        k: how many.
        known: answers to leave out.
        among: (c,) int64 ascending ids of those who may answer; None: every entity.

    Raises:
        UserError: k is below 1.
        NonFiniteScores: a score is NaN or infinite.
    """
    k = asked(k, entity, relation)

    def answer(entity: Tensor, relation: Tensor) -> TopK:
        nodes, rows = torch.unique(entity, return_inverse=True)
        query = model.query(model.encode(nodes), rows, relation, side)
        row, left_out = known_places(known, entity, relation, side, among)

        def score(start: int, stop: int) -> Tensor:
            scores = model.score(query, encoded(model, among, start, stop), exact=True)
            check_scores(scores, entity, relation, side, start, among)
            leave_out(scores, row, left_out, start)
            return scores

        if among is None:
            return search(score, len(entity), model.num_entities, k, model.block_rows)
        found = search(score, len(entity), len(among), k, model.block_rows)
        return TopK(torch.where(found.ids < 0, found.ids, among[found.ids]), found.scores)

    among = None if among is None else among.to(model.device)
    return _in_batches(model, answer, entity, relation)


def best_relations(
    model: KGEModel, head: Tensor, tail: Tensor, k: int, known: Optional[KnownAnswers] = None
) -> TopK:
    """Return the best relations for (head, ?, tail): all of them are scored as triples.

    Args:
        model: the model.
        head: (b,) int64 entity ids.
        tail: (b,) int64 entity ids.
        k: how many.
        known: facts to leave out.

    Raises:
        UserError: k is below 1.
        NonFiniteScores: a score is NaN or infinite.
    """
    k, number = asked(k, head, tail), model.num_relations

    def answer(head: Tensor, tail: Tensor) -> TopK:
        heads, tails = head.repeat_interleave(number), tail.repeat_interleave(number)
        relations = torch.arange(number, device=head.device).repeat(len(head))
        scores = model.score_triples(heads, relations, tails)
        check_scores(scores[:, None], heads, relations, "tail", tails)
        if known is not None:
            entity, relation, answers = (c.cpu().numpy() for c in (heads, relations, tails))
            facts = known.contains(entity, relation, answers[:, None], "tail")[:, 0]
            scores = scores.masked_fill(torch.from_numpy(facts).to(scores.device), -torch.inf)
        table = scores.view(len(head), number)
        return search(lambda start, stop: table[:, start:stop], len(head), number, k, number)

    at_once = max(1, min(QUERIES_AT_ONCE, _TRIPLES_AT_ONCE // max(1, number)))
    return _in_batches(model, answer, head, tail, at_once)


def ranks_of(
    model: KGEModel,
    entity: Tensor,
    relation: Tensor,
    answer: Tensor,
    known: Optional[KnownAnswers] = None,
    among: Optional[Tensor] = None,
) -> Tensor:
    """Return where given tails stand among the answers to (entity, relation, ?).

    Args:
        model: the model.
        entity: (b,) int64 heads.
        relation: (b,) int64 relation ids.
        answer: (b,) int64 tails; each competes, be it known or none of ``among``.
        known: answers to leave out.
        among: (c,) int64 ascending ids of those who may answer; None: every entity.

    Returns:
        (b,) float64 from 1 on: 1 + those that score more, and half of those that score the same.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
    """
    among = None if among is None else among.to(model.device)
    count = model.num_entities if among is None else len(among)
    width = max(1, model.block_rows)

    def rank(entity: Tensor, relation: Tensor, answer: Tensor) -> Tensor:
        nodes, rows_of = torch.unique(entity, return_inverse=True)
        query = model.query(model.encode(nodes), rows_of, relation, "tail")
        places = answer.cpu().numpy()
        row, left_out = np.arange(len(places)), places  # each is no rival of its own
        if among is not None:
            row, left_out = places_among(row, left_out, among)
        more = known_places(known, entity, relation, "tail", among)
        row, left_out = np.concatenate([row, more[0]]), np.concatenate([left_out, more[1]])

        def scores_of(start: int) -> Tensor:
            rows = encoded(model, among, start, min(start + width, count))
            scores = model.score(query, rows, exact=True)
            check_scores(scores, entity, relation, "tail", start, among)
            return scores

        # An answer's score is read where it is compared: elsewhere its last digit could differ.
        place, target = answer, torch.zeros(len(answer), 1, device=answer.device)
        if among is not None:
            place = torch.searchsorted(among, answer.contiguous()).clamp(max=count - 1)
            own, column = torch.unique(answer, return_inverse=True)
            alone = model.score(query, model.encode(own), exact=True)
            check_scores(alone, entity, relation, "tail", 0, own)
            target = alone.gather(1, column[:, None])
            place = torch.where(among[place] == answer, place, -1)
        blocks = range(0, count, width)
        scores = None
        for start in blocks:
            here = torch.nonzero((place >= start) & (place < start + width)).squeeze(1)
            if len(here):
                scores = scores_of(start)
                target = target.to(scores.dtype)
                target[here, 0] = scores[here, place[here] - start]
        greater = torch.zeros(len(answer), dtype=torch.int64, device=answer.device)
        equal = torch.zeros_like(greater)
        for start in blocks:
            scores = scores_of(start) if scores is None or len(blocks) > 1 else scores
            leave_out(scores, row, left_out, start)
            greater += (scores > target).sum(1)
            equal += (scores == target).sum(1)
        return 1 + greater + equal.double() / 2

    with torch.no_grad():
        columns = (
            ids.to(model.device).split(QUERIES_AT_ONCE) for ids in (entity, relation, answer)
        )
        nothing = torch.zeros(0, dtype=torch.float64)
        return torch.cat([rank(*batch).cpu() for batch in zip(*columns)] or [nothing])


def nearest_entities(model: KGEModel, entity: Tensor, k: int) -> TopK:
    """Return the other entities whose vectors have the greatest cosine with each entity's.

    Args:
        model: the model.
        entity: (b,) int64 ids.
        k: how many.

    Raises:
        UserError: k is below 1, or the model has no vectors.
        NonFiniteScores: a score is NaN or infinite.
    """
    k = asked(k, entity, entity)
    model.require_vectors("a search for near entities")

    def answer(entity: Tensor, _: Tensor) -> TopK:
        nodes, rows = torch.unique(entity, return_inverse=True)
        vectors = normalize(model.encode(nodes).vectors, dim=1)[rows]

        def score(start: int, stop: int) -> Tensor:
            cosines = vectors @ normalize(model.encode_range(start, stop).vectors, dim=1).T
            check_scores(cosines, entity, None, "tail", start)
            here = torch.nonzero((entity >= start) & (entity < stop)).squeeze(1)
            cosines[here, entity[here] - start] = -torch.inf
            return cosines

        return search(score, len(entity), model.num_entities, k, model.block_rows)

    return _in_batches(model, answer, entity, entity, k)


def check_scores(
    scores: Tensor,
    entity: Tensor,
    relation: Optional[Tensor],
    side: Side,
    candidate: Union[int, Tensor],
    among: Optional[Tensor] = None,
) -> None:
    """Refuse scores that are NaN or infinite, as ranking does: no order of them means anything.

    Args:
        scores: (b, n).
        entity: (b,) known entities.
        relation: (b,) their relations, if any.
        side: the side asked for.
        candidate: id of the first of n consecutive candidates; or (b,) ids, of one a row.
        among: (c,) ids that consecutive candidates are places in; None: they are ids themselves.

    Raises:
        NonFiniteScores: a score is not finite.
    """
    # One pass where all is well: a sum of finite scores can overflow, but none hides a bad one.
    if bool(torch.isfinite(scores.sum())) or bool(torch.isfinite(scores).all()):
        return
    from dglke_distill.evaluate.ranking import NonFiniteScores

    row, column = torch.nonzero(~torch.isfinite(scores))[0].tolist()
    first = int(candidate[row]) if isinstance(candidate, Tensor) else candidate
    rest = -1 if relation is None else int(relation[row])
    found = first + column if among is None else int(among[first + column])
    raise NonFiniteScores(int(entity[row]), rest, side, float(scores[row, column]), found)


def encoded(model: KGEModel, among: Optional[Tensor], start: int, stop: int) -> EntityRows:
    """Return the vectors of consecutive candidates.

    Args:
        model: the model.
        among: (c,) ids that candidates are places in; None: they are ids themselves.
        start: the first.
        stop: behind the last.
    """
    return model.encode_range(start, stop) if among is None else model.encode(among[start:stop])


def leave_out(scores: Tensor, row: Int64, left_out: Int64, start: int) -> None:
    """Give those candidates of a block that are left out the lowest score, in place.

    Args:
        scores: (b, n) of consecutive candidates.
        row: (m,) row of each that is left out.
        left_out: (m,) its place among all candidates.
        start: place of the block's first.
    """
    if len(left_out):
        here = (left_out >= start) & (left_out < start + scores.shape[1])
        scores[row[here], left_out[here] - start] = -torch.inf


def by_relation(entity: Tensor, relation: Tensor, answer: Answer) -> TopK:
    """Answer questions relation by relation.

    Args:
        entity: (b,) int64 known entities.
        relation: (b,) int64 relation ids.
        answer: entities and relations of the questions of one relation to their best answers.

    Returns:
        The answers in the order of the questions, padded to the longest.
    """
    parts = []
    for one in torch.unique(relation).tolist():
        rows = torch.nonzero(relation == one).squeeze(1)
        parts.append((rows, answer(entity[rows], relation[rows])))
    width = max((found.ids.shape[1] for _, found in parts), default=0)
    ids = torch.full((len(entity), width), -1)
    scores = torch.full((len(entity), width), -torch.inf)
    for rows, found in parts:
        ids[rows, : found.ids.shape[1]] = found.ids.cpu()
        scores[rows, : found.ids.shape[1]] = found.scores.float().cpu()
    return TopK(ids, scores)


def known_places(
    known: Optional[KnownAnswers],
    entity: Tensor,
    relation: Tensor,
    side: Side,
    among: Optional[Tensor] = None,
) -> tuple[Int64, Int64]:
    """Return where known answers stand in a table of scores: rows and columns, both (n,)."""
    if known is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    offsets, found = known.gather(entity.cpu().numpy(), relation.cpu().numpy(), side)
    row = np.repeat(np.arange(len(entity)), np.diff(offsets))
    return (row, found) if among is None else places_among(row, found, among)


def places_among(row: Int64, left_out: Int64, among: Tensor) -> tuple[Int64, Int64]:
    """Return, of answers to leave out, those that are candidates, by their places among them.

    Args:
        row: (n,) the question of each answer.
        left_out: (n,) its id.
        among: (c,) ascending ids of the candidates.

    Returns:
        Questions and places, as many as are candidates.
    """
    ids = among.cpu().numpy()
    places = np.searchsorted(ids, left_out)
    there = np.append(ids, -1)[places] == left_out
    return row[there], places[there]


def _in_batches(
    model: KGEModel,
    answer: Answer,
    one: Tensor,
    other: Tensor,
    at_once: int = QUERIES_AT_ONCE,
) -> TopK:
    device = model.device
    at_once = min(at_once, max(1, len(one)))  # a number beyond torch's integers is none to it
    batches = zip(*(ids.to(device).split(at_once) for ids in (one, other)))
    with torch.no_grad():
        found: Sequence[TopK] = [answer(*batch) for batch in batches]
    return TopK(*(torch.cat(parts) for parts in zip(*found)))
