"""What the settings use of pydantic, in plain Python, for machines that have torch and numpy alone.

Names and behaviour are pydantic's, for the kinds of fields that settings, registries and results
have; where pydantic turns one type into another, only whole numbers and floats, text and paths,
and lists and tuples are. Whatever it cannot check it refuses. See ``schema``.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, get_origin

from dglke_distill.base.plain_values import (
    REQUIRED,
    FieldInfo,
    ValidationError,
    passed,
    typed,
)

ConfigDict = dict


def Field(default: Any = REQUIRED, **about: Any) -> Any:
    """Describe a field: default, ``default_factory``, ``alias``, bounds, description."""
    return FieldInfo(default if default is not ... else REQUIRED, **about)


def model_validator(*, mode: str) -> Callable[[Any], Any]:
    """Mark a method that a whole tree passes, ``before`` or ``after`` its fields are read."""
    return lambda function: _Mark(function, mode, ())


def field_validator(*names: str, mode: str = "after") -> Callable[[Any], Any]:
    """Mark a class method that the fields of these names pass."""
    return lambda function: _Mark(function, mode, names)


class _Mark:
    def __init__(self, function: Any, mode: str, names: tuple[str, ...]) -> None:
        self.function, self.mode, self.names = function, mode, names

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.function.__get__(instance, owner)


class _Meta(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], **more: Any) -> Any:
        given = {
            key: space.pop(key)
            for key in space.get("__annotations__", {})
            if key in space and not key.startswith("_") and key != "model_config"
        }
        made: Any = super().__new__(mcs, name, bases, space, **more)
        made._given, made._fields = given, None
        made.model_config = {
            key: value
            for base in reversed(made.__mro__)
            for key, value in vars(base).get("model_config", {}).items()
        }
        return made

    @property
    def model_fields(cls) -> dict[str, FieldInfo]:
        """The fields by name, those of base classes first."""
        if vars(cls)["_fields"] is None:
            hints = typing.get_type_hints(cls, include_extras=True)
            found: dict[str, FieldInfo] = {}
            for owner in reversed(cls.__mro__):
                for name in vars(owner).get("__annotations__", {}):
                    plain = not name.startswith("_") and name != "model_config"
                    if owner is object or not plain or get_origin(hints[name]) is ClassVar:
                        continue
                    value = vars(owner)["_given"].get(name, REQUIRED)
                    info = value if isinstance(value, FieldInfo) else FieldInfo(value)
                    info.annotation = hints[name]
                    found[name] = info
            cls._fields = found
        return cls._fields

    def __getattr__(cls, name: str) -> Any:
        # Class variables with a default were taken out with the fields.
        for owner in cls.__mro__:
            given = vars(owner).get("_given", {})
            if name in given and not isinstance(given[name], FieldInfo):
                return given[name]
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


class BaseModel(metaclass=_Meta):
    """A typed tree: made of keywords or, by ``model_validate``, of a mapping."""

    model_config: ClassVar[dict[str, Any]] = {}
    _given: ClassVar[dict[str, Any]]
    _fields: ClassVar[dict[str, FieldInfo] | None]

    def __init__(self, **tree: Any) -> None:
        _fill(self, tree)

    @classmethod
    def model_validate(cls, tree: Any) -> Any:
        """Read a mapping, or take what is of this class already.

        Raises:
            ValidationError: a key is missing or unknown, or a value is not of its type.
        """
        if isinstance(tree, cls):
            return tree
        made = cls.__new__(cls)
        _fill(made, tree)
        return made

    @property
    def model_fields_set(self) -> set[str]:
        """The names of the fields that were given."""
        return set(self.__dict__["_set"])

    @property
    def model_extra(self) -> dict[str, Any]:
        """What was given beside the fields."""
        return dict(self.__dict__["_extra"])

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Any:
        """Return a copy with some fields changed, which are not checked."""
        made = type(self).__new__(type(self))
        values = {**self.__dict__, **(update or {})}
        values["_set"] = {*self.__dict__["_set"], *(update or {})}
        made.__dict__.update(values)
        return made

    def model_dump(
        self,
        *,
        mode: str = "python",
        by_alias: bool = False,
        exclude_none: bool = False,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
    ) -> dict[str, Any]:
        """Return the tree as mappings; with mode ``json`` as JSON can hold it."""
        options = {
            "mode": mode,
            "by_alias": by_alias,
            "exclude_none": exclude_none,
            "exclude_unset": exclude_unset,
            "exclude_defaults": exclude_defaults,
        }
        found: dict[str, Any] = {}
        for name, info in type(self).model_fields.items():
            value = self.__dict__[name]
            if (
                (exclude_none and value is None)
                or (exclude_unset and name not in self.__dict__["_set"])
                or (exclude_defaults and not info.is_required() and value == info.get_default())
            ):
                continue
            found[info.alias if by_alias and info.alias else name] = _dumped(value, options)
        return {**found, **_dumped(self.__dict__["_extra"], options)}

    def model_dump_json(self) -> str:
        """Return the tree as JSON without spaces."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False)

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("_extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if self.model_config.get("frozen") and name in type(self).model_fields:
            raise ValidationError("frozen_instance", "Instance is frozen", value, (name,))
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__[name] for name in type(self).model_fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in _values(self).items())})"


def _values(model: Any) -> dict[str, Any]:
    own = {name: model.__dict__[name] for name in type(model).model_fields}
    return {**own, **model.__dict__["_extra"]}


def _dumped(value: Any, options: dict[str, Any]) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(**options)
    if isinstance(value, Mapping):
        return {key: _dumped(item, options) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_dumped(item, options) for item in value]
        return items if options["mode"] == "json" or isinstance(value, list) else tuple(items)
    return str(value) if options["mode"] == "json" and isinstance(value, Path) else value


def _marks(kind: Any, mode: str) -> list[_Mark]:
    found = {}
    for owner in reversed(kind.__mro__):
        found.update({k: v for k, v in vars(owner).items() if isinstance(v, _Mark)})
    return [mark for mark in found.values() if mark.mode == mode]


def _fill(made: BaseModel, tree: Any) -> None:
    kind: Any = type(made)
    config = kind.model_config
    for mark in _marks(kind, "before"):
        if not mark.names:
            tree = passed(mark.__get__(None, kind), tree)
    if not isinstance(tree, Mapping):
        raise ValidationError(
            "model_type", f"Input should be a valid dictionary or instance of {kind.__name__}", tree
        )
    rest, given, values = dict(tree), set[str](), dict[str, Any]()
    by_name = config.get("populate_by_name")
    for name, info in kind.model_fields.items():
        keys = [key for key in (info.alias, name if by_name or not info.alias else None) if key]
        key = next((key for key in keys if key in rest), None)
        if key is None:
            if info.is_required():
                raise ValidationError("missing", "Field required", tree, (keys[0],))
            values[name] = info.get_default()
            continue
        try:
            values[name] = _field(kind, name, info, rest.pop(key))
        except ValidationError as fault:
            raise fault.within(key) from None
        given.add(name)
    if rest and config.get("extra") == "forbid":
        key = next(iter(rest))
        words = "Extra inputs are not permitted"
        raise ValidationError("extra_forbidden", words, rest[key], (str(key),))
    extra = rest if config.get("extra") == "allow" else {}
    made.__dict__.update(values, _set=given | set(extra), _extra=extra)
    for mark in _marks(kind, "after"):
        if not mark.names:
            passed(mark.function, made)


def _field(kind: Any, name: str, info: FieldInfo, value: Any) -> Any:
    for mark in _marks(kind, "before"):
        if name in mark.names:
            value = passed(mark.__get__(None, kind), value)
    value = typed(info.annotation, value, kind.model_config, info.bounds)
    for mark in _marks(kind, "after"):
        if name in mark.names:
            value = passed(mark.__get__(None, kind), value)
    return value
