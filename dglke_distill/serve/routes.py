"""What may be asked, parameter by parameter: requests are checked by it and OpenAPI tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from dglke_distill.base.spelling import near_words
from dglke_distill.serve.projections import PROJECTIONS

PREFIX = "/api/"
MOST_ANSWERS = 1000
MOST_NAMES = 200

Query = Mapping[str, Sequence[str]]
"""Parameters as ``urllib.parse.parse_qs`` returns them."""


class Refused(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        message: one sentence.
        field: the parameter at fault, or empty.
        suggestions: values that it may have meant; or a function that finds them, since that may
            take a while.
    """

    def __init__(
        self,
        status: int,
        message: str,
        field: str = "",
        suggestions: Union[Iterable[str], Callable[[], Iterable[str]]] = (),
    ) -> None:
        """Keep what is to be said."""
        super().__init__(message)
        self.status = status
        self.field = field
        self._suggestions = suggestions

    def body(self) -> dict[str, Any]:
        """Return the answer, for JSON."""
        near = self._suggestions() if callable(self._suggestions) else self._suggestions
        return {"error": str(self), "field": self.field, "suggestions": list(near)}


class Parameter(NamedTuple):
    """A parameter of a question.

    Attributes:
        about: what it is, for OpenAPI.
        required: whether it must be given.
        most: of numbers, the greatest; 0 for text. The least is 1.
        default: of numbers, what counts where none is given.
        choices: of words, all that may be given; the first is the default.
    """

    about: str
    required: bool = False
    most: int = 0
    default: int = 0
    choices: tuple[str, ...] = ()

    def number(self, given: Mapping[str, str], name: str) -> int:
        """Return the number given under a name.

        Raises:
            Refused: it is none from 1 to ``most``.
        """
        text = given.get(name)
        if text is None:
            return self.default
        if not (
            text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= self.most
        ):
            message = f"{name} is {_short(text)}: give a number from 1 to {self.most}"
            raise Refused(400, message, name)
        return int(text)

    def choice(self, given: Mapping[str, str], name: str) -> str:
        """Return the word given under a name.

        Raises:
            Refused: it is none of ``choices``.
        """
        text = given.get(name, self.choices[0])
        if text not in self.choices:
            near = near_words(text, self.choices, 1)
            allowed = " or ".join(self.choices)
            raise Refused(400, f"{name} is {_short(text)}: give {allowed}", name, near)
        return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")


class Route(NamedTuple):
    """A question below ``/api/``.

    Attributes:
        about: what it asks, for OpenAPI.
        parameters: by name.
        result: JSON Schema of what each key of the answer holds; all keys are always there.
    """

    about: str
    parameters: dict[str, Parameter]
    result: dict[str, dict[str, Any]]


_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "number"}
_TEXTS = {"type": "array", "items": _TEXT}
_PLACE = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_PLACES = {"type": "array", "items": _PLACE}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


_MAYBE_TEXTS = {"type": "array", "items": _or_null(_TEXT)}


def _each(**keys: dict[str, Any]) -> dict[str, Any]:
    item = {"type": "object", "required": list(keys), "properties": keys}
    return {"type": "array", "items": item}


_FACTS = _each(head=_TEXT, relation=_TEXT, tail=_TEXT)

_MODEL = Parameter("one of those that /api/models lists; the first one where it is not given")
_SIDE = Parameter("the side that is asked for", choices=("tail", "head"))
_TYPED = Parameter("a part of the name, whatever the letter case and accents")
_PROJECTION = Parameter(
    "how a map is laid out: by principal components, or UMAP where umap-learn is installed",
    choices=tuple(PROJECTIONS),
)
_LIMIT = Parameter("most names to return", most=MOST_NAMES, default=10)

ROUTES = {
    "models": Route(
        "The models that are shown, and those that may be picked to compare.",
        {},
        {"given": _TEXTS, "offered": _TEXTS, "projections": _TEXTS},
    ),
    "model": Route(
        "What a model is, and how good.",
        {"model": _MODEL},
        {
            "name": _TEXT,
            "model": _TEXT,
            "dataset": _TEXT,
            "dim": _WHOLE,
            "bytes_per_entity": _NUMBER,
            "entities": _WHOLE,
            "relations": _WHOLE,
            "split": _or_null(_TEXT),
            "mrr": _or_null(_NUMBER),
            "facts": _or_null(_WHOLE),
            "no_facts": _TEXT,
            "fact_notes": _TEXTS,
            "labels": _WHOLE,
            "sentences": _TEXTS,
            "examples": _each(entity=_TEXT, label=_or_null(_TEXT), relation=_TEXT, side=_TEXT),
        },
    ),
    "entities": Route(
        "Entities by a part of their label or name, best first.",
        {"model": _MODEL, "text": _TYPED, "limit": _LIMIT},
        {"names": _TEXTS, "labels": _MAYBE_TEXTS, "descriptions": _MAYBE_TEXTS},
    ),
    "relations": Route(
        "Relations by a part of their name; those that an entity has facts of come first.",
        {
            "model": _MODEL,
            "text": _TYPED,
            "limit": _LIMIT,
            "entity": Parameter("an entity whose facts are counted"),
            "side": _SIDE,
        },
        {"names": _TEXTS, "known": _or_null({"type": "array", "items": _WHOLE})},
    ),
    "answers": Route(
        "The best answers to (entity, relation, ?), or with side=head to (?, relation, entity).",
        {
            "model": _MODEL,
            "entity": Parameter("the known entity, by its name or label", required=True),
            "relation": Parameter("the relation, by its name", required=True),
            "side": _SIDE,
            "k": Parameter("most answers to return", most=MOST_ANSWERS, default=10),
            "known": Parameter("whether known facts are shown", choices=("show", "hide")),
            "candidates": Parameter(
                "who may answer: observed (entities that facts of the relation have there), typed "
                "(those, and others of their types), type:NAME, or a JSON list of names; every "
                "entity where it is not given"
            ),
            "projection": _PROJECTION._replace(about="of the map on which the places are told"),
        },
        {
            "model": _TEXT,
            "entity": _TEXT,
            "label": _or_null(_TEXT),
            "relation": _TEXT,
            "side": {"type": "string", "enum": list(_SIDE.choices)},
            "place": _PLACE,
            "known": _or_null(_WHOLE),
            "candidates": _WHOLE,
            "answers": _each(
                name=_TEXT,
                label=_or_null(_TEXT),
                score=_NUMBER,
                probability=_or_null(_NUMBER),
                known=_or_null({"type": "boolean"}),
                place=_PLACE,
            ),
        },
    ),
    "explanation": Route(
        "The train facts that support a triple: analogous facts, and paths from head to tail.",
        {
            "model": _MODEL,
            "head": Parameter("the head, by its name or label", required=True),
            "relation": Parameter("the relation, by its name", required=True),
            "tail": Parameter("the tail, by its name or label", required=True),
            "k": Parameter("most analogous facts, and most paths", most=100, default=5),
        },
        {
            "head": _TEXT,
            "relation": _TEXT,
            "tail": _TEXT,
            "score": _NUMBER,
            "in_train": {"type": "boolean"},
            "facts": _each(
                fact=_FACTS["items"],
                similarity=_NUMBER,
                head_similarity=_NUMBER,
                tail_similarity=_NUMBER,
            ),
            "paths": _each(
                facts=_FACTS,
                rule=_TEXT,
                confidence=_NUMBER,
                pairs=_WHOLE,
                hits=_WHOLE,
                sampled={"type": "boolean"},
                count=_WHOLE,
            ),
            "kinds": {
                "type": "object",
                "required": ["found", "judged", "telling"],
                "properties": {"found": _WHOLE, "judged": _WHOLE, "telling": _WHOLE},
            },
            "notes": _TEXTS,
            "whole": {"type": "boolean"},
            "warnings": _TEXTS,
            "labels": _each(name=_TEXT, label=_TEXT),
        },
    ),
    "map": Route(
        "A map of the entities; of many, a sample.",
        {"model": _MODEL, "projection": _PROJECTION},
        {
            "model": _TEXT,
            "entities": _WHOLE,
            "projection": _TEXT,
            "shares": _or_null(_PLACE),
            "names": _TEXTS,
            "labels": _MAYBE_TEXTS,
            "places": _PLACES,
            "role": {"type": "array", "items": {"type": "integer", "minimum": -1}},
            "roles": _each(side=_TEXT, relation=_TEXT),
        },
    ),
}


def checked(path: str, query: Query) -> dict[str, str]:
    """Return the parameters of a question, each given once.

    Args:
        path: what follows ``/api/``.
        query: its parameters.

    Raises:
        Refused: there is no such question, it has no such parameter, or one is given twice.
    """
    route = ROUTES.get(path)
    if route is None:
        near = near_words(path, ROUTES)
        raise Refused(404, f"there is no {PREFIX}{path}", "", [PREFIX + name for name in near])
    given: dict[str, str] = {}
    for name, values in query.items():
        if name not in route.parameters:
            near = near_words(name, route.parameters)
            raise Refused(400, f"{PREFIX}{path} has no parameter {_short(name)}", name, near)
        if len(values) > 1:
            raise Refused(400, f"{name} is given {len(values)} times; give it once", name)
        given[name] = values[0]
    return given
