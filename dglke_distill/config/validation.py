"""Settings checked against their classes, with errors that say what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args

from dglke_distill.base.errors import UserError
from dglke_distill.base.faults import fault_words
from dglke_distill.base.plain_values import ValidationError as Untrue
from dglke_distill.base.schema import BaseModel, ValidationError
from dglke_distill.base.spelling import near_words
from dglke_distill.config.flags import named_setting
from dglke_distill.config.names import spell_choices

_MAX_DEPTH = 64
_LARGEST = 1e30
"""Larger numbers do not fit float32, or what is computed with them does not."""
_LARGEST_INTEGER = 1 << 63

_ASSIGNED = "--set"
_SPOKEN = ("command line", "configuration", "settings", "chain", "compare")
"""Sources that are no file: what is wrong there was a flag's or ``--set``'s."""

Tree = TypeVar("Tree", bound=BaseModel)


def validate_tree(kind: type[Tree], tree: Mapping[str, Any], source: str) -> Tree:
    """Validate a nested mapping against a settings class.

    Raises:
        UserError: an unknown key or a value out of range; ``source`` says where it stands.
    """
    _check_values(tree, source)
    try:
        _check_truths(kind, tree)
        return kind.model_validate(spell_choices(kind, tree))
    except (ValidationError, Untrue) as error:
        raise UserError(_explain(error, kind, source)) from None


def _check_truths(kind: Any, tree: Any, place: tuple[Union[str, int], ...] = ()) -> None:
    """Refuse a truth value where a number belongs, which pydantic takes for 0 or 1.

    Raises:
        Untrue: one stands there.
    """
    if not isinstance(tree, (bool, list, tuple, Mapping)):
        return
    kinds = _kinds(kind)
    if isinstance(tree, bool):
        numbers = [name for name, one in (("int", int), ("float", float)) if one in kinds]
        if numbers and bool not in kinds:
            raise Untrue(f"{numbers[0]}_type", "", tree, place)
    elif isinstance(tree, Mapping):
        for section in kinds:
            for key, field in getattr(section, "model_fields", {}).items():
                if key in tree:
                    _check_truths(field.annotation, tree[key], (*place, key))
    else:
        for i, value in enumerate(tree):
            _check_truths(kind, value, (*place, i))


def _kinds(annotation: Any) -> list[Any]:
    """Return the types that an annotation is made of."""
    return [annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))]


def _check_values(tree: Any, source: str) -> None:
    """Refuse what no setting of any component can be, wherever in a tree it stands."""
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(tree, ())]
    while waiting:
        node, path = waiting.pop()
        fault = ""
        if len(path) > _MAX_DEPTH:
            raise UserError(f"{source}: settings are nested more than {_MAX_DEPTH} deep")
        if isinstance(node, Mapping):
            waiting.extend((value, (*path, key)) for key, value in node.items())
            fault = "has a key with a NUL" * any("\0" in str(key) for key in node)
        elif isinstance(node, (list, tuple)):
            waiting.extend((value, (*path, i)) for i, value in enumerate(node))
        elif isinstance(node, str):
            fault = "has a NUL character; remove it" * ("\0" in node)
        elif isinstance(node, float) and not abs(node) <= _LARGEST:
            fault = f"is {node}: must be a finite number, at most {_LARGEST:g}"
        elif isinstance(node, int) and not -_LARGEST_INTEGER <= node < _LARGEST_INTEGER:
            fault = "has more than 64 bits; give a smaller number"
        if fault:
            raise UserError(f"{source}: setting {'.'.join(map(str, path))[:200]!r} {fault}")


def _explain(error: Union[ValidationError, Untrue], root: type[BaseModel], source: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        model: Any = root
        for part in first["loc"][:-1]:
            if isinstance(part, str):  # a number counts the items of a list
                model = model.model_fields[part].annotation
                model = next((kind for kind in get_args(model) if kind is not type(None)), model)
        written = [path[-1], *_way_down(first["input"])]
        near = near_words(path[-1], model.model_fields, 1)
        meant = [*map(repr, near), *_elsewhere(model, written)]
        known = f"known: {', '.join(model.model_fields)}"
        if not model.model_fields:
            known = "it has none"
        hint = f"did you mean {' or '.join(meant)}?" if meant else known
        return f"{source}: unknown setting {key!r}; {hint}"
    fault = fault_words(first)
    if not path:
        return f"{source}: {fault}"
    named = f"{source}: setting {key!r}"
    if source.partition(" ")[0] == _ASSIGNED:  # behind it, the part of a chain that is set
        named = f"{source}.{key}" if " " in source else f"{source} {key}"
    if source in _SPOKEN and named_setting(key).startswith("--"):
        named = named_setting(key)
    if first["type"] == "missing":
        return f"{named} {fault}"
    value = repr(first["input"])
    value = value if len(value) <= 200 else f"{value[:200]}..."
    return f"{named} is {value}; {'it ' * fault.startswith('must ')}{fault}"


def _way_down(value: Any) -> list[str]:
    """Return the keys that lead to the first value within mappings."""
    keys: list[str] = []
    while isinstance(value, Mapping) and value and len(keys) < _MAX_DEPTH:
        key = next(iter(value))
        keys.append(str(key))
        value = value[key]
    return keys


def _elsewhere(model: type[BaseModel], written: list[str]) -> list[str]:
    """Return the quoted settings that keys may mean which have no place where they were written."""
    find = getattr(model, "meant_by", None)
    return [] if find is None else [repr(".".join(keys)[:200]) for keys in find(written)]


def validate_options(schema: type[Tree], options: Mapping[str, Any], source: str) -> Tree:
    """Validate a component's own options against its pydantic schema.

    Raises:
        UserError: an unknown option or a bad value, named with ``source``.
    """
    return validate_tree(schema, dict(options), source)
