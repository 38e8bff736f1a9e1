"""What a checkpoint needs beside this package: the plug-ins that bring its components.

What it names is shown to the user, never imported: a checkpoint may come from anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.compression import Storage
from dglke_distill.config import ModelConfig, Section, components, validate_tree
from dglke_distill.config.names import fold
from dglke_distill.config.registry import Registry

REQUIRES = "requires"
"""The section of a checkpoint's ``config.json``; absent where nothing more is needed."""
_MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"


class _Requirement(Section):
    """One component that does not ship with this package."""

    kind: str = Field(max_length=64)
    name: str = Field(max_length=64)
    package: Optional[str] = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    version: Optional[str] = Field(pattern=r"^[A-Za-z0-9.!+_-]+$", max_length=100)
    module: str = Field(pattern=_MODULE, max_length=200)


class _Requirements(Section):
    """The section as a whole."""

    requires: list[_Requirement] = Field(default_factory=list, max_length=8)


def requirements(model: ModelConfig, storage: Optional[Storage] = None) -> list[dict[str, Any]]:
    """Return what plug-ins bring of a model, for its ``config.json``.

    Args:
        model: the settings it was built from.
        storage: how its tables are stored, if it is compressed.
    """
    found = []
    for registry, name in _used(model, storage):
        origin = registry.origin(name)
        if origin is not None:
            about = {"package": origin.package, "version": origin.version, "module": origin.module}
            found.append({"kind": registry.kind, "name": registry.spell(name), **about})
    return found


def check_requirements(
    about: Mapping[str, Any], model: ModelConfig, storage: Optional[Storage], source: str
) -> None:
    """Look whether what a checkpoint needs is here.

    Args:
        about: what its ``config.json`` holds.
        model: the settings in it.
        storage: how its tables are stored, if it is compressed.
        source: the file, for messages.

    Raises:
        UserError: something is not, or a component of that name is another package's.
    """
    tree = {REQUIRES: about[REQUIRES]} if REQUIRES in about else {}
    stated = {
        (one.kind, fold(one.name)): one
        for one in validate_tree(_Requirements, tree, source).requires
    }
    for registry, name in _used(model, storage):
        need = stated.get((registry.kind, fold(name)))
        if need is None:
            continue
        told = f"{source}: the model needs the {registry.kind} {need.name!r}"
        bring = f"the module {need.module!r}"
        if need.package is not None:
            bring = f"the package {' '.join(filter(None, (need.package, need.version)))}"
        if not registry.knows(name):
            fix = "pass --plugin with that module or its .py file"
            if need.package is not None:
                fix = "install it, if you trust it"
            raise UserError(f"{told} of {bring}, which is not here; {fix}")
        origin = registry.origin(name)
        here = "this package" if origin is None else str(origin)
        theirs, ours = need.package, None if origin is None else origin.package
        if origin is None or (theirs and ours and fold(theirs) != fold(ours)):
            raise UserError(f"{told} of {bring}, but the one here is of {here}; load it elsewhere")


def _used(model: ModelConfig, storage: Optional[Storage]) -> Iterator[tuple[Registry[Any], str]]:
    yield components.SCORE_FUNCTIONS, model.name
    if storage is not None:
        for kind in {storage.entities.kind: None, storage.relations.kind: None}:
            yield components.STORAGES, kind
