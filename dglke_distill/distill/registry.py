"""Components that are chosen by name, with options of their own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from dglke_distill.base.errors import UserError
from dglke_distill.config import validate_options
from dglke_distill.config.names import published

__all__ = ["Component", "NoOptions", "build", "find", "nearest"]


class NoOptions(BaseModel):
    """The options of a component that has none; base of those that have."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Component:
    """Base of what is chosen by name: ``options`` is a validated instance of ``Options``."""

    name: ClassVar[str] = ""
    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: Any) -> None:
        """Keep the validated options."""
        self.options = options


Kind = TypeVar("Kind", bound=Component)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for who wrote an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"


def find(registry: Mapping[str, type[Kind]], name: str, setting: str) -> type[Kind]:
    """Return the class registered under a name.

    Raises:
        UserError: there is none; near spellings, or all names, are given.
    """
    name = published(name, registry)
    if name not in registry:
        raise UserError(f"{setting}: unknown name {name!r}; {nearest(name, registry)}")
    return registry[name]


def build(
    registry: Mapping[str, type[Kind]], name: str, options: Mapping[str, Any], setting: str
) -> Kind:
    """Build the component registered under a name.

    Args:
        registry: name to class. name: the one wanted.
        options: its options, not validated yet. setting: where the name stands, for messages.

    Raises:
        UserError: unknown name, unknown option or bad value.
    """
    kind = find(registry, name, setting)
    return kind(validate_options(kind.Options, options, f"{setting} {name}: options"))
