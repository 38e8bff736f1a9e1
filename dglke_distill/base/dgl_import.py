"""The one door to DGL: what its import needs here, and one clear line where it does not load.

``import dgl`` always imports ``dgl.distributed``, which in dgl 2 asks for ``dgl.graphbolt``. That
needs ``torchdata.datapipes``, which torchdata 0.10 removed, and a library compiled for exactly the
installed torch; the published wheels have none for torch after 2.2.1. Nothing here uses GraphBolt,
so a GraphBolt that does not load is put aside, and the rest of dgl 2.1 then works with today's
torch. One that loads is left alone, and dgl 1.1, which has none, is not touched.

The tolerance is in place from ``import dglke_distill`` on, for ``import dgl`` in anyone's code
too. A program that imports dgl first meets dgl's own error: import dglke_distill before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dglke_distill.base.errors import UserError

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # only their types: importing them takes longer than all else that this package imports
    Loader = MetaPathFinder = object

# Without it dgl prints a notice and writes a file into the user's home when it is imported.
os.environ.setdefault("DGLBACKEND", "pytorch")

_GRAPHBOLT = "dgl.graphbolt"

_USED = {
    "dgl": (
        "DGLGraph",
        "EID",
        "ETYPE",
        "NID",
        "NTYPE",
        "compact_graphs",
        "create_block",
        "edge_type_subgraph",
        "graph",
        "heterograph",
        "in_subgraph",
        "to_block",
        "to_homogeneous",
    ),
    "dgl.dataloading": ("Sampler",),
    "dgl.dataloading.base": ("EdgePredictionSampler", "find_exclude_eids"),
    "dgl.dataloading.negative_sampler": ("_BaseNegativeSampler",),
    "dgl.function": ("sum", "u_mul_e"),
    "dgl.heterograph": ("DGLBlock",),
}
"""What is used of DGL, by module; asked for at once, so that a change shows in one line."""

_KNOWN = "dgl 1.1.3 and 2.1.0 are known to work"


class _Finder(MetaPathFinder):
    """Finds ``dgl.graphbolt`` alone, where it is, and has it loaded with tolerance."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _GRAPHBOLT:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs another loader; a module that does not load becomes one that says why."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._loader.exec_module(module)
        except Exception as error:
            reason = f"dgl's GraphBolt does not load with this torch: {error}"
        else:
            return

        def missing(name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            raise ImportError(reason)

        for part in [name for name in sys.modules if name.startswith(f"{_GRAPHBOLT}.")]:
            del sys.modules[part]
        for name in [name for name in vars(module) if not name.startswith("__")]:
            delattr(module, name)
        # dgl.distributed asks of every graph whether it is one of GraphBolt's; none is.
        module.__dict__["FusedCSCSamplingGraph"] = type("FusedCSCSamplingGraph", (), {})
        module.__dict__["__getattr__"] = missing


def tolerate_missing_graphbolt() -> None:
    """Have ``import dgl`` go on where its GraphBolt does not load; done once per process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@cache
def load_dgl() -> Any:
    """Return the module ``dgl``, imported when first asked for, with what is used of it.

    Raises:
        UserError: dgl is not installed, a package that it needs is not, it does not load, or it
            lacks a name that is used here.
    """
    tolerate_missing_graphbolt()
    try:
        dgl = import_module("dgl")
    except ModuleNotFoundError as error:
        if error.name == "dgl":
            raise UserError(
                f"this needs DGL, which is not installed: {_how_to_install()}"
            ) from None
        raise UserError(
            f"dgl needs the package {error.name!r}, which is not installed: "
            f"python -m pip install {error.name}"
        ) from None
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"dgl does not load on this machine ({type(error).__name__}: {said}); {_KNOWN}"
        ) from None
    version = getattr(dgl, "__version__", "of unknown version")
    for place, names in _USED.items():
        try:
            module = import_module(place)
        except ImportError:
            raise UserError(f"dgl {version} has no module {place}; {_KNOWN}") from None
        for name in names:
            if not hasattr(module, name):
                raise UserError(f"dgl {version} has no {place}.{name}; {_KNOWN}")
    return dgl


def _how_to_install() -> str:
    """Return the command that installs DGL for this interpreter."""
    if sys.version_info < (3, 13):
        return "python -m pip install 'dgl>=1.1.3'"
    # No wheel carries a later tag; that for 3.12 works, because dgl loads its library by ctypes.
    import sysconfig

    return (
        f"its newest wheel is tagged for Python 3.12 and works here too: {sys.executable} -m pip "
        f"install --no-deps --target {sysconfig.get_path('purelib')} --python-version 3.12 "
        "--only-binary=:all: dgl==2.1.0"
    )


tolerate_missing_graphbolt()
