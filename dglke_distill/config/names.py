"""Names of components as published, from names in any letter case.

Settings hold published names alone: what is compared, saved and shown then is one word, whoever
typed it. A name that is not known passes as it is; the component's own room refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from dglke_distill.base.schema import BaseModel

_FORMER_NAMES = {"soft": {"further": "extra", "further_pool": "extra_pool"}}
"""By section: what settings were called once, and are now."""


def fold(name: str) -> str:
    """Return what two spellings of a name share: letter case and hyphens do not count."""
    return name.lower().replace("-", "_")


def published(name: Any, known: Iterable[str]) -> Any:
    """Return the known name that a name spells, or what was given where there is none."""
    if not isinstance(name, str):
        return name
    known = list(known)
    return name if name in known else {fold(one): one for one in known}.get(fold(name), name)


def current_names(section: str, value: Any) -> Any:
    """Return a section with settings that had another name once under the one they have now.

    Where both stand there, the former one stays, to be refused as any other unknown name.
    """
    former = _FORMER_NAMES.get(section)
    if former is None or not isinstance(value, Mapping) or former.keys().isdisjoint(value):
        return value
    now = {key: former.get(key, key) for key in value}
    return {key if now[key] in value else now[key]: each for key, each in value.items()}


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
