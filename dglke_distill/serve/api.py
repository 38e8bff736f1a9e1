"""What the page asks for, as JSON: models, names, answers, maps."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.spelling import likely_names, near_words
from dglke_distill.data.triples import SIDES, Side, Vocabulary
from dglke_distill.predict.choosing import OBSERVED, TYPED
from dglke_distill.serve.entity_map import EntityMap
from dglke_distill.serve.facts import Role, main_role, relation_counts
from dglke_distill.serve.gallery import Gallery, Shown
from dglke_distill.serve.projections import projection, projections
from dglke_distill.serve.questions import Question, answer_all, rounded
from dglke_distill.serve.routes import ROUTES, Query, Refused, checked

MOST_ROLES = 7
"""Roles that a map tells apart; other entities are of one colour."""


class Api:
    """Answers requests about the models of a gallery; any number of threads may ask.

    Args:
        gallery: the models.
    """

    def __init__(self, gallery: Gallery) -> None:
        """Keep the gallery."""
        self.gallery = gallery
        self._answers = {
            "models": self._models,
            "model": self._model,
            "entities": self._entities,
            "relations": self._relations,
            "explanation": self._explanation,
            "map": self._map,
        }

    def answer(self, path: str, query: Query) -> dict[str, Any]:
        """Answer a request.

        Args:
            path: what follows ``/api/``.
            query: its parameters.

        Returns:
            What JSON can hold.

        Raises:
            Refused: 404 for a path, model, entity or relation that does not exist; 400 for other
                mistakes; 500 for scores that cannot be ranked.
        """
        if path == "answers":
            question = self.question(query)
            wait([self.gallery.lay_out(question.shown, question.projection)])
            (body,) = self.gallery.in_turn(lambda: self.answer_all([question]))
            if isinstance(body, Exception):
                raise body
            found: dict[str, Any] = json.loads(body)
            return found
        given = checked(path, query)
        try:
            return self._answers[path](given)
        except UserError as error:
            raise Refused(400, str(error)) from None

    def at_hand(self, query: Query) -> bool:
        """Return whether the model that a question is for is loaded."""
        names = query.get("model") or self.gallery.given[:1]
        return len(names) == 1 and self.gallery.at_hand(names[0])

    def question(self, query: Query) -> Question:
        """Read a question to a model; quick where the model is ``at_hand``.

        Raises:
            Refused: as ``answer``.
        """
        given = checked("answers", query)
        try:
            shown = self._shown(given)
        except UserError as error:
            raise Refused(400, str(error)) from None
        side, parameters = _side(given), ROUTES["answers"].parameters
        entity = _entity(given, shown)
        relation = _id(given, "relation", shown.named.relations)
        k = parameters["k"].number(given, "k")
        hide = parameters["known"].choice(given, "known") == "hide"
        if hide and shown.facts is None:
            raise Refused(400, f"known facts cannot be hidden: {shown.no_facts}", "known")
        who, by = _candidates(given, shown), _projection("answers", given)
        return Question(shown, entity, relation, side, k, hide, who, by)

    def map_of(self, query: Query) -> Future[EntityMap]:
        """Have the map laid out that a request asks for.

        Raises:
            Refused: as ``answer``.
        """
        given = checked("map", query)
        try:
            return self.gallery.lay_out(self._shown(given), _projection("map", given))
        except UserError as error:
            raise Refused(400, str(error)) from None

    def answer_all(self, questions: Sequence[Question]) -> list[Union[bytes, Exception]]:
        """Answer questions, in the thread that scores; see ``questions.answer_all``."""
        return answer_all(questions)

    def warm_up(self) -> float:
        """Ask each model that is given once, so that whoever asks first does not wait for it.

        Returns:
            Seconds that it took.
        """
        begun = time.perf_counter()
        for name in self.gallery.given:
            shown = self.gallery.get(name)
            if len(shown.named.entities) and len(shown.named.relations):
                asked = [Question(shown, 0, 0, side, 10, False, None) for side in SIDES]
                self.gallery.in_turn(partial(self.answer_all, asked))
        return time.perf_counter() - begun

    # --- what else may be asked -----------------------------------------------------------------

    def _models(self, given: Mapping[str, str]) -> dict[str, Any]:
        gallery = self.gallery
        there = projections()
        return {"given": gallery.given, "offered": gallery.offered, "projections": there}

    def _model(self, given: Mapping[str, str]) -> dict[str, Any]:
        return self._shown(given).about()

    def _entities(self, given: Mapping[str, str]) -> dict[str, Any]:
        shown = self._shown(given)
        limit = ROUTES["entities"].parameters["limit"].number(given, "limit")
        found = shown.named.entity_names(shown.find_entities(given.get("text", ""), limit))
        labels = shown.labels
        return {
            "names": found,
            "labels": [labels.labels.get(name) for name in found],
            "descriptions": [labels.descriptions.get(name) for name in found],
        }

    def _relations(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Find relations; with an entity, those that it has facts of come first."""
        shown = self._shown(given)
        limit = ROUTES["relations"].parameters["limit"].number(given, "limit")
        names, known = shown.named.relations, shown.facts
        found = shown.relations.find(given.get("text", ""), len(names))
        counts: Optional[NDArray[np.int64]] = None
        if given.get("entity") in shown.named.entities and known is not None:
            entity = shown.named.entities.id(given["entity"])
            counts = relation_counts(known, entity, _side(given), len(names))
            found.sort(key=lambda relation: not counts[relation])
        found = found[:limit]
        return {
            "names": [names[i] for i in found],
            "known": None if counts is None else [int(counts[i]) for i in found],
        }

    def _explanation(self, given: Mapping[str, str]) -> dict[str, Any]:
        shown = self._shown(given)
        names = shown.named.entities
        head, tail = (_entity(given, shown, part) for part in ("head", "tail"))
        relation = shown.named.relations[_id(given, "relation", shown.named.relations)]
        k = ROUTES["explanation"].parameters["k"].number(given, "k")

        def explained() -> dict[str, Any]:
            assert shown.explains
            why = shown.named.explain(names[head], relation, names[tail], k)
            told = why.to_dict(shown.labels)
            labels = told.get("labels", {}).items()
            return {
                **told,
                "notes": why.kinds.notes(len(why.paths)),
                "labels": [{"name": name, "label": label} for name, label in labels],
            }

        found: dict[str, Any] = self.gallery.in_turn(explained)
        return found

    def _map(self, given: Mapping[str, str]) -> dict[str, Any]:
        shown = self._shown(given)
        by = _projection("map", given)
        if by not in shown.drawn:
            shown.drawn[by] = self._drawn(shown, by)
        return shown.drawn[by]

    def _drawn(self, shown: Shown, by: str) -> dict[str, Any]:
        drawn = self.gallery.lay_out(shown, by).result()
        named = shown.named
        roles: list[Optional[Role]] = [None] * len(drawn.ids)
        if shown.facts is not None:
            roles = [main_role(shown.facts, int(i), len(named.relations)) for i in drawn.ids]
        names = named.entity_names(drawn.ids)
        counts: dict[Role, int] = {}
        for role in roles:
            if role is not None:
                counts[role] = counts.get(role, 0) + 1
        common = sorted(counts, key=lambda role: (-counts[role], role))[:MOST_ROLES]
        number = {role: i for i, role in enumerate(common)}
        return {
            "model": shown.name,
            "entities": len(named.entities),
            "projection": by,
            "shares": None if drawn.shares is None else [float(share) for share in drawn.shares],
            "names": names,
            "labels": [shown.labels.labels.get(name) for name in names],
            "places": [rounded(place) for place in drawn.places],
            "role": [-1 if role is None else number.get(role, -1) for role in roles],
            "roles": [
                {"side": role.side, "relation": named.relations[role.relation]} for role in common
            ],
        }

    # --- parameters -----------------------------------------------------------------------------

    def _shown(self, given: Mapping[str, str]) -> Shown:
        gallery = self.gallery
        name = given.get("model", gallery.given[0])
        try:
            return gallery.get(name)
        except KeyError:
            there = [*gallery.given, *gallery.offered]
            near = near_words(name, there)
            raise Refused(404, f"no model {name!r} is shown here", "model", near) from None


def _id(given: Mapping[str, str], parameter: str, names: Vocabulary) -> int:
    name = given.get(parameter)
    if not name:
        raise Refused(400, f"{parameter} is missing", parameter)
    if name not in names:
        raise Refused(
            404,
            f"the model has no {parameter} {name!r:.200}",
            parameter,
            lambda: likely_names(name, names if names.named else ()),
        )
    return names.id(name)


def _entity(given: Mapping[str, str], shown: Shown, parameter: str = "entity") -> int:
    """Return the entity that is named, by its name or by its label."""
    text = given.get(parameter)
    if not text:
        raise Refused(400, f"{parameter} is missing", parameter)
    return _entity_named(text, shown, parameter)


def _entity_named(text: str, shown: Shown, parameter: str) -> int:
    names = shown.named.entities
    message = f"the model has no entity {text!r:.200}"
    try:
        text = shown.labels.name_of(text, names)
    except UserError as error:  # a label of several, or almost one
        message = str(error)
    if text in names:
        return names.id(text)
    raise Refused(404, message, parameter, lambda: names_of(shown, text))


def names_of(shown: Shown, text: str) -> list[str]:
    """Return names of entities that a text may mean, at most six."""
    names = shown.named.entities
    found = shown.named.entity_names(shown.find_entities(text, 6))
    if not found:
        found = shown.labels.likely(text, names, 6)
    if len(found) < 6 and names.named:
        found += [name for name in likely_names(text, names, 6) if name not in found]
    return found[:6]


def _projection(path: str, given: Mapping[str, str]) -> str:
    """Return the projection asked for."""
    found = ROUTES[path].parameters["projection"].choice(given, "projection")
    try:
        projection(found)
    except UserError as error:
        raise Refused(400, str(error), "projection", projections()) from None
    return found


def _candidates(given: Mapping[str, str], shown: Shown) -> Union[str, tuple[str, ...], None]:
    """Return who may answer. Files are no choice here: whoever asks would read them."""
    text = given.get("candidates")
    if text is None or text.startswith("type:") or text in (OBSERVED, TYPED):
        if text in (OBSERVED, TYPED) and shown.facts is None:
            raise Refused(400, f"ranges cannot be observed: {shown.no_facts}", "candidates")
        return text
    names: Any = None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        pass
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise Refused(
            400,
            f"candidates is {text[:100]!r}: give {OBSERVED}, {TYPED}, type:NAME, or a JSON list of "
            "names",
            "candidates",
        )
    ids = [_entity_named(name, shown, "candidates") for name in names]
    return tuple(dict.fromkeys(shown.named.entities[i] for i in ids))


def _side(given: Mapping[str, str]) -> Side:
    chosen = ROUTES["answers"].parameters["side"].choice(given, "side")
    return next(side for side in SIDES if side == chosen)
