"""Questions to models, answered many at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import Side
from dglke_distill.models.base import KGEModel
from dglke_distill.predict.batches import best_entities, known_places
from dglke_distill.predict.choosing import per_relation
from dglke_distill.predict.top_k import TopK
from dglke_distill.serve.gallery import Shown
from dglke_distill.serve.projections import DEFAULT_PROJECTION
from dglke_distill.serve.routes import Refused

TOGETHER = 16
"""Most questions that are scored by one call."""

ALONE = 100_000
"""Entities up to which each is scored by a call of its own: the last bits of a matrix product hang
on its shape, and an answer should not hang on who else asks. Beyond, the time of scoring counts."""


class Question(NamedTuple):
    """A question that can be answered.

    Attributes:
        shown: the model.
        entity: id of the known entity.
        relation: id of the relation.
        side: the side asked for.
        k: most answers.
        hide: whether known facts are left out.
        candidates: who may answer: a word of ``predict.choosing``, names, or None for all.
        projection: of the map on which the answers' places are.
    """

    shown: Shown
    entity: int
    relation: int
    side: Side
    k: int
    hide: bool
    candidates: Union[str, tuple[str, ...], None] = None
    projection: str = DEFAULT_PROJECTION

    @property
    def alike(self) -> tuple[Any, ...]:
        """What two questions must have in common to be scored together."""
        relation = self.relation if per_relation(self.candidates) else -1
        how = self.side, self.k, self.hide, self.candidates, self.projection
        return id(self.shown), *how, relation


def answer_all(questions: Sequence[Question]) -> list[Union[bytes, Exception]]:
    """Answer questions; alike ones are scored together.

    Returns:
        For each, JSON in UTF-8 or what went wrong.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for number, question in enumerate(questions):
        alike.setdefault(question.alike, []).append(number)
    answers: list[Union[bytes, Exception]] = [b""] * len(questions)
    for numbers in alike.values():
        for start in range(0, len(numbers), TOGETHER):
            some = numbers[start : start + TOGETHER]
            found = _answered([questions[i] for i in some])
            for number, answer in zip(some, found):
                answers[number] = answer
    return answers


def _answered(questions: Sequence[Question]) -> Sequence[Union[bytes, Exception]]:
    """Answer questions that differ in entity and relation alone; nothing is raised."""
    try:
        return _block(questions)
    except FloatingPointError:  # scores of one of them cannot be ranked
        if len(questions) == 1:
            return [_cannot_be_ranked(questions[0])]
        return [_answered([question])[0] for question in questions]
    except UserError as error:
        return [Refused(400, str(error))] * len(questions)
    except Exception as error:  # told to those who asked; others may be answered
        return [error] * len(questions)


def _block(questions: Sequence[Question]) -> list[Union[bytes, Exception]]:
    shown, _, first, side, k, hide, who, by = questions[0]
    named, known = shown.named, shown.facts
    if known is not None and per_relation(who):
        named.use_ranges(known)
    among = named.candidate_ids(who, first, side)
    count = len(named.entities) if among is None else len(among)
    entity = np.array([question.entity for question in questions], np.int64)
    relation = np.array([question.relation for question in questions], np.int64)
    asked = torch.from_numpy(entity), torch.from_numpy(relation)
    find = _best_alone if count <= ALONE else best_entities
    some = None if among is None else torch.from_numpy(among)
    best = find(named.model, *asked, side, min(k, count), known if hide else None, some)
    ids: NDArray[np.int64] = best.ids.cpu().numpy()
    scores = best.scores.float().cpu().numpy()
    candidates = np.maximum(ids, 0)
    located = shown.map(by).locate(np.concatenate([entity, candidates.ravel()]))
    places = located[len(entity) :].reshape(*ids.shape, 2)
    facts = None
    if known is not None:
        facts = known.contains(entity, relation, candidates, side)
    labels = shown.labels.labels
    chances = named.answer_probabilities(best, side, asked[1])
    answers: list[Union[bytes, Exception]] = []
    for row, question in enumerate(questions):
        facts_of_it, hidden = None, 0
        if known is not None:
            answered = known.answers(question.entity, question.relation, side)
            facts_of_it = len(answered)
            hidden = len(answered if among is None else np.intersect1d(answered, among))
        there = ids[row] >= 0
        left = count - hidden if hide else count
        if there.sum() < min(k, left) or not np.isfinite(scores[row][there]).all():
            answers.append(_cannot_be_ranked(question))
            continue
        told: list[dict[str, Any]] = [
            {
                "name": named.entities[i],
                "label": labels.get(named.entities[i]),
                "score": score,
                "probability": None if chances is None else float(chances[row, column]),
                "known": None if facts is None else bool(facts[row, column]),
                "place": rounded(places[row, column]),
            }
            for column, (i, score) in enumerate(zip(ids[row].tolist(), scores[row].tolist()))
            if i >= 0
        ]
        body = {
            "model": shown.name,
            "entity": named.entities[question.entity],
            "label": labels.get(named.entities[question.entity]),
            "relation": named.relations[question.relation],
            "side": side,
            "place": rounded(located[row]),
            "known": facts_of_it,
            "candidates": count,
            "answers": told,
        }
        answers.append(json.dumps(body, ensure_ascii=False, allow_nan=False).encode())
    return answers


def _best_alone(
    model: KGEModel,
    entity: Tensor,
    relation: Tensor,
    side: Side,
    k: int,
    known: Optional[KnownAnswers] = None,
    among: Optional[Tensor] = None,
) -> TopK:
    """Return what ``best_entities`` does, each question scored as if it were the only one.

    A question with scores that are not finite, which could not be ranked, has no answers.
    """
    among = None if among is None else among.to(model.device)
    with torch.no_grad():
        count = model.num_entities
        entities = model.encode_range(0, count) if among is None else model.encode(among)
        zero = torch.zeros(1, dtype=torch.int64, device=model.device)
        rows = []
        for node, link in zip(entity.to(model.device).split(1), relation.to(model.device).split(1)):
            query = model.query(model.encode(node), zero, link, side)
            rows.append(model.score(query, entities, exact=True))
        scores = torch.cat(rows)
        # On the CPU numpy looks at them twenty times as fast as torch.
        broken = torch.from_numpy(~np.isfinite(scores.float().cpu().numpy()).all(axis=1))
        row, left_out = known_places(known, entity, relation, side, among)
        scores[torch.from_numpy(row), torch.from_numpy(left_out)] = -torch.inf
        best, ids = scores.topk(k)
        ids = ids if among is None else among[ids]
    return TopK(ids.masked_fill(broken[:, None].to(best.device) | (best == -torch.inf), -1), best)


def _cannot_be_ranked(question: Question) -> Refused:
    named = question.shown.named
    entity, relation = named.entities[question.entity], named.relations[question.relation]
    asked = (
        f"({entity}, {relation}, ?)" if question.side == "tail" else f"(?, {relation}, {entity})"
    )
    return Refused(
        500,
        f"{question.shown.name}: scores of {asked} are not finite; the model has diverged, or its "
        "weights are damaged: train it again or show another one",
    )


def rounded(place: NDArray[Any]) -> list[float]:
    """Return a place for JSON, six digits of each number; 0 where it is not finite."""
    return [float(f"{v:.6g}") if math.isfinite(v) else 0.0 for v in place.tolist()]
