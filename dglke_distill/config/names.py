"""Names of components as published, from names in any letter case.

Settings hold published names alone: what is compared, saved and shown then is one word, whoever
typed it. A name that is not known passes as it is; the component's own room refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from dglke_distill.base.schema import BaseModel

__all__ = ["fold", "published", "spell_choices"]


def fold(name: str) -> str:
    """Return what two spellings of a name share: letter case and hyphens do not count."""
    return name.lower().replace("-", "_")


def published(name: Any, known: Iterable[str]) -> Any:
    """Return the known name that a name spells, or what was given where there is none."""
    if not isinstance(name, str):
        return name
    known = list(known)
    return name if name in known else {fold(one): one for one in known}.get(fold(name), name)


def spell_choices(kind: type[BaseModel], tree: Any) -> Any:
    """Return a mapping with every choice (``Literal``) of a settings class as it is published."""
    if not isinstance(tree, Mapping):
        return tree
    spelt = dict(tree)
    for key in spelt.keys() & kind.model_fields.keys():
        choices = _choices(kind.model_fields[key].annotation)
        if choices:
            spelt[key] = published(spelt[key], choices)
    return spelt


def _choices(annotation: Optional[Any]) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if get_origin(annotation) in (Union, Annotated):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []
