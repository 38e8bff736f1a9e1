"""Tables of pydantic fields, in Markdown."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def type_text(annotation: Any) -> str:
    """Return a type as a reader writes its values: ``int``, ``"l1" or "l2"``, ``list of int``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin is Literal:
        return " or ".join(json.dumps(value) for value in arguments)
    if origin is Union or origin is types.UnionType:
        shown = [type_text(each) for each in arguments if each is not type(None)]
        return " or ".join(dict.fromkeys(shown))
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return "table" if arguments[1] is Any else f"table of {type_text(arguments[1])}"
    if isinstance(annotation, type):
        return annotation.__name__.lower() if annotation is dict else annotation.__name__
    return str(annotation).replace("typing.", "")


def default_text(field: FieldInfo) -> str:
    """Return a default as TOML has it; empty where a value must be given."""
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return ""
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        return ""
    return f"`{json.dumps(default, default=str, ensure_ascii=False)}`"


def bounds(field: FieldInfo) -> str:
    """Return the limits of a number, such as ``≥ 1, ≤ 256``; empty where there are none."""
    found = []
    for limit in field.metadata:
        for name, sign in _BOUNDS.items():
            value = getattr(limit, name, None)
            if value is not None:
                found.append(f"{sign} {value:,}")
    return ", ".join(found)


def cell(text: str) -> str:
    """Return text that a cell of a table can hold."""
    return " ".join(text.split()).replace("|", "\\|")


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    headings = list(headings)
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(cell(each) for each in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def fields_table(of: type[BaseModel], prefix: str = "", skip: Iterable[str] = ()) -> str:
    """Return a row per field: its key, values, default and meaning."""
    rows = []
    for name, field in of.model_fields.items():
        if name in skip:
            continue
        values, limits = type_text(field.annotation), bounds(field)
        shown = f"{values}, {limits}" if limits else values
        key = f"`{prefix}{field.alias or name}`"
        rows.append((key, shown, default_text(field), field.description or ""))
    return table(("key", "values", "default", "meaning"), rows)


def prose(thing: Any) -> str:
    """Return what a docstring says before its ``Args:`` and the like."""
    lines: list[str] = []
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line.strip() in {"Args:", "Attributes:", "Returns:", "Raises:", "Yields:"}:
            break
        lines.append(line)
    return "\n".join(lines).strip()
