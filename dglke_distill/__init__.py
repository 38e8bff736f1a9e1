"""Small knowledge-graph embeddings over DGL graphs: trained, distilled, measured, published.

``import dglke_distill as kd``: ``kd.train``, ``kd.distill``, ``kd.evaluate``, ``kd.tune``,
``kd.load_dataset``, ``kd.check_data``, ``kd.load``, ``kd.from_dgl``, ``kd.to_dgl`` and ``kd.zoo``.
What they need is imported when first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dglke_distill.base import interrupts as _interrupts  # noqa: F401 (Ctrl-C during imports)

__version__ = "0.1.0"

from dglke_distill.base import dgl_import as _dgl_import  # noqa: F401 (lets DGL be imported)
from dglke_distill.base import runtime as _runtime  # noqa: F401 (environment that torch reads)
from dglke_distill.base.collector import without_collector as _without_collector

if TYPE_CHECKING:
    from inspect import Signature

    from dglke_distill import zoo as zoo
    from dglke_distill.api.datasets import check_data, load_dataset
    from dglke_distill.api.distilling import distill
    from dglke_distill.api.models import evaluate, load
    from dglke_distill.api.outcomes import DistillationRun, Study, TrainingRun
    from dglke_distill.api.training import train, tune
    from dglke_distill.base.errors import UserError
    from dglke_distill.data.from_dgl import from_dgl
    from dglke_distill.data.to_dgl import to_dgl
    from dglke_distill.data.triples import Dataset
    from dglke_distill.predict import NamedModel

__all__ = [
    "Dataset",
    "DistillationRun",
    "NamedModel",
    "Study",
    "TrainingRun",
    "UserError",
    "__version__",
    "check_data",
    "distill",
    "evaluate",
    "from_dgl",
    "load",
    "load_dataset",
    "to_dgl",
    "train",
    "tune",
    "zoo",
]

_PLACES = {
    "DistillationRun": "api.outcomes",
    "Dataset": "data.triples",
    "NamedModel": "predict",
    "Study": "api.outcomes",
    "TrainingRun": "api.outcomes",
    "UserError": "base.errors",
    "check_data": "api.datasets",
    "from_dgl": "data.from_dgl",
    "load": "api.models",
    "load_dataset": "api.datasets",
    "to_dgl": "data.to_dgl",
    "train": "api.training",
    "tune": "api.training",
}
_CALLS = {"distill": "api.distilling", "evaluate": "api.models"}
"""Names that a room and a call share: ``kd.distill(...)`` and ``dglke_distill.distill.chain``."""


def __getattr__(name: str) -> Any:
    if name in (*_CALLS, "zoo"):
        return import_module(f"{__name__}.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _without_collector():
        found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Call(ModuleType):
    """A room that can be called, too, by the function of its name below ``api``."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)

    @property
    def _function(self) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"dglke_distill.{_CALLS[name]}"), name)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return str(self._function.__doc__)

    @property
    def __signature__(self) -> Signature:
        import inspect

        return inspect.signature(self._function)


class _Package(ModuleType):
    """This package: whoever imports a room, one that is also a call becomes one."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLS and type(value) is ModuleType:
            value.__class__ = _Call
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
