"""Published models: ``zoo.load("transe-fb15k237-dim32")``, and how to publish one."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dglke_distill.zoo.fetch import load, load_checkpoint
    from dglke_distill.zoo.index import info
    from dglke_distill.zoo.index import list_models as list
    from dglke_distill.zoo.publish import publish
    from dglke_distill.zoo.push import push
    from dglke_distill.zoo.schema import Entry
    from dglke_distill.zoo.verify import Verification, verify

__all__ = [
    "Entry",
    "Verification",
    "info",
    "list",
    "load",
    "load_checkpoint",
    "publish",
    "push",
    "verify",
]

_PLACES = {
    "Entry": "schema:Entry",
    "Verification": "verify:Verification",
    "info": "index:info",
    "list": "index:list_models",
    "load": "fetch:load",
    "load_checkpoint": "fetch:load_checkpoint",
    "publish": "publish:publish",
    "push": "push:push",
    "verify": "verify:verify",
}
"""What is offered, and where it lies; imported when first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, place = _PLACES[name].partition(":")
    found = getattr(import_module(f"{__name__}.{module}"), place)
    globals()[name] = found
    return found


def __dir__() -> Any:
    return sorted({*globals(), *__all__})


class _Room(ModuleType):
    """This package; its ``publish`` and ``verify`` are calls, not the files of those names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _PLACES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
