"""What the page asks for, as JSON: models, names, answers, maps."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.spelling import near_spellings
from dglke_distill.data.triples import SIDES, Side, Vocabulary
from dglke_distill.errors import UserError
from dglke_distill.predict import Prediction
from dglke_distill.serve.facts import Role, main_role, relation_counts
from dglke_distill.serve.gallery import Gallery, Shown

__all__ = ["PREFIX", "Api", "Refused"]

PREFIX = "/api/"
MOST_ANSWERS = 1000
MOST_NAMES = 200
MOST_ROLES = 7
"""Roles that a map tells apart; other entities are of one colour."""

Query = Mapping[str, Sequence[str]]
"""Parameters as ``urllib.parse.parse_qs`` returns them."""


class Refused(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP. message: one sentence.
        field: the parameter at fault, or empty. suggestions: values that it may have meant.
    """

    def __init__(
        self, status: int, message: str, field: str = "", suggestions: Iterable[str] = ()
    ) -> None:
        """Keep what is to be said."""
        super().__init__(message)
        self.status = status
        self.field = field
        self.suggestions = list(suggestions)

    def body(self) -> dict[str, Any]:
        """Return the answer, for JSON."""
        return {"error": str(self), "field": self.field, "suggestions": self.suggestions}


class _Route(NamedTuple):
    answer: Callable[[Mapping[str, str]], dict[str, Any]]
    parameters: tuple[str, ...]


class Api:
    """Answers requests about the models of a gallery; any number of threads may ask.

    Args:
        gallery: the models.
    """

    def __init__(self, gallery: Gallery) -> None:
        """Keep the gallery."""
        self._gallery = gallery
        self._routes = {
            "models": _Route(self._models, ()),
            "model": _Route(self._model, ("model",)),
            "entities": _Route(self._entities, ("model", "text", "limit")),
            "relations": _Route(self._relations, ("model", "text", "limit", "entity", "side")),
            "answers": _Route(self._answers, ("model", "entity", "relation", "side", "k", "known")),
            "map": _Route(self._map, ("model",)),
        }

    def answer(self, path: str, query: Query) -> dict[str, Any]:
        """Answer a request.

        Args:
            path: what follows ``/api/``. query: its parameters.

        Returns:
            What JSON can hold.

        Raises:
            Refused: 404 for a path, model, entity or relation that does not exist; 400 for other
                mistakes.
        """
        route = self._routes.get(path)
        if route is None:
            near = difflib.get_close_matches(path, self._routes, n=3)
            raise Refused(404, f"there is no {PREFIX}{path}", "", [PREFIX + name for name in near])
        given: dict[str, str] = {}
        for name, values in query.items():
            if name not in route.parameters:
                near = difflib.get_close_matches(name, route.parameters, n=3)
                raise Refused(400, f"{PREFIX}{path} has no parameter {name!r}", name, near)
            if len(values) > 1:
                raise Refused(400, f"{name} is given {len(values)} times; give it once", name)
            given[name] = values[0]
        try:
            return route.answer(given)
        except UserError as error:
            raise Refused(400, str(error)) from None

    # --- what may be asked ----------------------------------------------------------------------

    def _models(self, given: Mapping[str, str]) -> dict[str, Any]:
        return {"given": self._gallery.given, "offered": self._gallery.offered}

    def _model(self, given: Mapping[str, str]) -> dict[str, Any]:
        return self._shown(given).about()

    def _entities(self, given: Mapping[str, str]) -> dict[str, Any]:
        shown = self._shown(given)
        limit = _number(given, "limit", 10, MOST_NAMES)
        return {
            "names": shown.named.entity_names(shown.entities.find(given.get("text", ""), limit))
        }

    def _relations(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Find relations; with an entity, those that it has facts of come first."""
        shown = self._shown(given)
        limit = _number(given, "limit", 10, MOST_NAMES)
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

    def _answers(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Answer (entity, relation, ?) or, with side=head, (?, relation, entity)."""
        shown, side = self._shown(given), _side(given)
        named, known = shown.named, shown.facts
        entity = _id(given, "entity", named.entities)
        relation = _id(given, "relation", named.relations)
        k = _number(given, "k", 10, MOST_ANSWERS)
        hide = _choice(given, "known", ("show", "hide")) == "hide"
        if hide and known is None:
            raise Refused(400, f"known facts cannot be hidden: {shown.no_facts}", "known")
        leave_out = known if hide and known is not None else False

        def ask() -> tuple[list[Prediction], NDArray[Any]]:
            if side == "tail":
                found = named.predict_tails(entity, relation, k, exclude_known=leave_out)
            else:
                found = named.predict_heads(relation, entity, k, exclude_known=leave_out)
            ids = np.array([entity, *(answer.id for answer in found)], np.int64)
            return found, shown.map.locate(ids)

        found, places = self._gallery.in_turn(ask)
        facts: Optional[set[int]] = None
        if known is not None:
            facts = set(known.answers(entity, relation, side).tolist())
        return {
            "model": shown.name,
            "entity": named.entities[entity],
            "relation": named.relations[relation],
            "side": side,
            "place": _rounded(places[0]),
            "known": None if facts is None else len(facts),
            "answers": [
                {
                    "name": answer.name,
                    "score": answer.score,
                    "known": None if facts is None else answer.id in facts,
                    "place": _rounded(place),
                }
                for answer, place in zip(found, places[1:])
            ],
        }

    def _map(self, given: Mapping[str, str]) -> dict[str, Any]:
        shown = self._shown(given)
        drawn = self._gallery.in_turn(lambda: shown.map)
        named = shown.named
        roles: list[Optional[Role]] = [None] * len(drawn.ids)
        if shown.facts is not None:
            roles = [main_role(shown.facts, int(i), len(named.relations)) for i in drawn.ids]
        counts: dict[Role, int] = {}
        for role in roles:
            if role is not None:
                counts[role] = counts.get(role, 0) + 1
        common = sorted(counts, key=lambda role: (-counts[role], role))[:MOST_ROLES]
        number = {role: i for i, role in enumerate(common)}
        return {
            "model": shown.name,
            "entities": len(named.entities),
            "shares": [float(share) for share in drawn.shares],
            "names": named.entity_names(drawn.ids),
            "places": [_rounded(place) for place in drawn.places],
            "role": [-1 if role is None else number.get(role, -1) for role in roles],
            "roles": [
                {"side": role.side, "relation": named.relations[role.relation]} for role in common
            ],
        }

    # --- parameters -----------------------------------------------------------------------------

    def _shown(self, given: Mapping[str, str]) -> Shown:
        gallery = self._gallery
        name = given.get("model", gallery.given[0])
        try:
            return gallery.get(name)
        except KeyError:
            there = [*gallery.given, *gallery.offered]
            near = difflib.get_close_matches(name, there, n=3)
            raise Refused(404, f"no model {name!r} is shown here", "model", near) from None


def _id(given: Mapping[str, str], parameter: str, names: Vocabulary) -> int:
    if not given.get(parameter):
        raise Refused(400, f"{parameter} is missing", parameter)
    name = given[parameter]
    if name not in names:
        near = near_spellings(name, names if names.named else ())
        raise Refused(404, f"the model has no {parameter} {name!r}", parameter, near)
    return names.id(name)


def _number(given: Mapping[str, str], parameter: str, default: int, most: int) -> int:
    text = given.get(parameter, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise Refused(400, f"{parameter} is {text!r}: give a number from 1 to {most}", parameter)
    return int(text)


def _choice(given: Mapping[str, str], parameter: str, choices: Sequence[str]) -> str:
    text = given.get(parameter, choices[0])
    if text not in choices:
        near = difflib.get_close_matches(text, choices, n=1)
        allowed = " or ".join(choices)
        raise Refused(400, f"{parameter} is {text!r}: give {allowed}", parameter, near)
    return text


def _side(given: Mapping[str, str]) -> Side:
    chosen = _choice(given, "side", ("tail", "head"))
    return next(side for side in SIDES if side == chosen)


def _rounded(place: NDArray[Any]) -> list[float]:
    return [float(f"{value:.6g}") for value in place]
