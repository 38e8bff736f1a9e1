"""Values checked against the annotation and the bounds of their field; see ``plain_schema``."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

REQUIRED: Any = object()
"""The default of a field that a tree must have."""
Place = tuple[Union[str, int], ...]


class ValidationError(ValueError):
    """What is wrong with a tree: the first fault found, with its place."""

    def __init__(self, kind: str, words: str, value: Any, place: Place = (), **more: Any) -> None:
        super().__init__(words)
        self.kind, self.words, self.value, self.place, self.more = kind, words, value, place, more

    def within(self, part: str | int) -> ValidationError:
        """Return the fault as it is seen from outside of a field or an item."""
        place = (part, *self.place)
        return ValidationError(self.kind, self.words, self.value, place, **self.more)

    def errors(self, include_url: bool = True) -> list[dict[str, Any]]:
        """Return the fault as pydantic lists it."""
        about = {"type": self.kind, "loc": self.place, "msg": self.words, "input": self.value}
        return [{**about, **({"ctx": self.more} if self.more else {})}]


@dataclass(frozen=True)
class BeforeValidator:
    """A function that a value passes before its type is looked at."""

    func: Callable[[Any], Any]


@dataclass(frozen=True)
class AfterValidator:
    """A function that a value passes once its type is right."""

    func: Callable[[Any], Any]


class FieldInfo:
    """A field's default and bounds, and once its class is read its annotation."""

    def __init__(self, default: Any = REQUIRED, **about: Any) -> None:
        self.default = default
        self.default_factory = about.pop("default_factory", None)
        self.alias: str | None = about.pop("alias", None)
        self.description: str | None = about.pop("description", None)
        self.bounds = about
        self.annotation: Any = Any

    def is_required(self) -> bool:
        """Return whether a tree must have the field."""
        return self.default is REQUIRED and self.default_factory is None

    def get_default(self) -> Any:
        """Return the value of a field that a tree leaves out."""
        return self.default if self.default_factory is None else self.default_factory()


def passed(function: Callable[..., Any], value: Any) -> Any:
    """Return what a validator makes of a value; what it raises becomes the fault."""
    try:
        return function(value)
    except ValidationError:
        raise
    except ValueError as error:
        raise ValidationError("value_error", f"Value error, {error}", value, error=error) from None


def typed(wanted: Any, value: Any, config: Mapping[str, Any], bounds: Mapping[str, Any]) -> Any:
    """Return a value as an annotation wants it, within bounds."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        bounds = dict(bounds)
        for note in parts[1:]:
            if isinstance(note, BeforeValidator):
                value = passed(note.func, value)
            elif isinstance(note, FieldInfo):
                bounds.update(note.bounds)
        value = typed(parts[0], value, config, bounds)
        for note in parts[1:]:
            if isinstance(note, AfterValidator):
                value = passed(note.func, value)
        return value
    if origin in (Union, types.UnionType):
        return _one_of(parts, value, config, bounds)
    if origin is Literal:
        if not any(value == one and type(value) is type(one) for one in parts):
            names = [repr(one) for one in parts]
            listed = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            raise ValidationError(
                "literal_error", f"Input should be {listed}", value, expected=listed
            )
        return value
    if wanted is Any:
        return value
    if wanted is None or wanted is type(None):
        if value is not None:
            raise ValidationError("none_required", "Input should be None", value)
        return None
    if origin in (list, tuple, dict):
        return _collection(origin, parts, value, config, bounds)
    if hasattr(wanted, "model_validate"):
        return wanted.model_validate(value)
    return _bounded(_scalar(wanted, value, config), config, bounds)


def _one_of(
    kinds: tuple[Any, ...], value: Any, config: Mapping[str, Any], bounds: Mapping[str, Any]
) -> Any:
    """Return a value as the first kind that it is of, or else can be made of."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    exact = [kind for kind in kinds if kind is type(value)]
    first: ValidationError | None = None
    for kind in (*exact, *kinds):
        try:
            return typed(kind, value, config, bounds)
        except ValidationError as fault:
            first = first or fault
    assert first is not None
    raise first


def _collection(
    origin: Any,
    parts: tuple[Any, ...],
    value: Any,
    config: Mapping[str, Any],
    bounds: Mapping[str, Any],
) -> Any:
    name = {list: "list", tuple: "tuple", dict: "dictionary"}[origin]
    right = Mapping if origin is dict else origin if config.get("strict") else (list, tuple)
    if not isinstance(value, right):
        kind = "dict" if origin is dict else origin.__name__
        raise ValidationError(f"{kind}_type", f"Input should be a valid {name}", value)
    made: Any = []
    each = parts[1] if origin is dict else parts[0]
    if origin is tuple and parts[-1] is not ...:
        raise TypeError("tuples of a fixed length are not read here")
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        try:
            if origin is dict:
                typed(parts[0], key, config, {})
            made.append((key, typed(each, item, config, {})))
        except ValidationError as fault:
            raise fault.within(key) from None
    _check_length(value, bounds)
    return dict(made) if origin is dict else origin(item for _, item in made)


_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "path"}


def _scalar(wanted: Any, value: Any, config: Mapping[str, Any]) -> Any:
    if wanted not in _NAMES:
        raise TypeError(f"no field of type {wanted!r} can be read without pydantic")
    if type(value) is wanted:
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is float and number:
        return float(value)
    if wanted is int and number and float(value).is_integer() and not config.get("strict"):
        return int(value)
    if wanted is Path and isinstance(value, (str, Path)):
        return Path(value)
    kind = {bool: "bool", int: "int", float: "float", str: "string", Path: "path"}[wanted]
    raise ValidationError(f"{kind}_type", f"Input should be a valid {_NAMES[wanted]}", value)


_BOUNDS = {
    "ge": (lambda value, bound: value >= bound, "greater than equal"),
    "gt": (lambda value, bound: value > bound, "greater than"),
    "le": (lambda value, bound: value <= bound, "less than equal"),
    "lt": (lambda value, bound: value < bound, "less than"),
}
_KNOWN = {*_BOUNDS, "min_length", "max_length", "pattern", "allow_inf_nan"}


def _bounded(value: Any, config: Mapping[str, Any], bounds: Mapping[str, Any]) -> Any:
    if not _KNOWN.issuperset(bounds):
        raise TypeError(f"no bounds {sorted(set(bounds) - _KNOWN)} can be checked without pydantic")
    infinite = bounds.get("allow_inf_nan", config.get("allow_inf_nan", True))
    if isinstance(value, float) and not infinite and not math.isfinite(value):
        raise ValidationError("finite_number", "Input should be a finite number", value)
    for name, (holds, words) in _BOUNDS.items():
        if name in bounds and not holds(value, bounds[name]):
            bound, kind = bounds[name], words.replace(" ", "_")
            raise ValidationError(kind, f"Input is not {words} {bound}", value, **{name: bound})
    if isinstance(value, str):
        _check_length(value, bounds)
        pattern = bounds.get("pattern")
        if pattern is not None and re.search(pattern.removesuffix("$") + r"\Z", value) is None:
            kind, words = "string_pattern_mismatch", f"String should match pattern '{pattern}'"
            raise ValidationError(kind, words, value, pattern=pattern)
    return value


def _check_length(value: Any, bounds: Mapping[str, Any]) -> None:
    least, most = bounds.get("min_length", 0), bounds.get("max_length", math.inf)
    if not least <= len(value) <= most:
        short, of_text = len(value) < least, "string_" * isinstance(value, str)
        kind = f"{of_text}too_short" if short else f"{of_text}too_long"
        words = f"at least {least}" if short else f"at most {most}"
        more = {"min_length": least} if short else {"max_length": most}
        raise ValidationError(kind, f"Input should have {words} parts", value, **more)
