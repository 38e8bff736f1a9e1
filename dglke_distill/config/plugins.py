"""Plug-ins: what installed packages offer by entry points, and modules that the user names.

An entry point is loaded when its component is asked for; a module that the user names by
``--plugin`` registers its own. No other module is ever imported: what a checkpoint names is text.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home
from dglke_distill.config.names import fold

PLUGINS = "DGLKE_DISTILL_PLUGINS"
"""The environment variable that names plug-ins, separated by commas."""
_named: list[str] = []
_loading: list[str] = []

registered: set[str] = set()
"""Modules that have registered a component, and plug-ins that were being imported meanwhile."""


@dataclass(frozen=True)
class Origin:
    """Who brings a component.

    Attributes:
        package: the distribution that offers it; None where a module named by ``--plugin`` does.
        version: of the distribution.
        module: where it lies, or the plug-in's module.
    """

    package: Optional[str]
    version: Optional[str]
    module: str

    def __str__(self) -> str:
        """Return how messages call it."""
        if self.package is None:
            return f"the module {self.module!r}"
        return f"the package {self.package} {self.version or ''}".rstrip()


@dataclass(frozen=True)
class Offer:
    """A component that a package or a module offers."""

    name: str
    origin: Origin
    load: Callable[[], Any]


@functools.cache
def offered() -> Mapping[str, tuple[Offer, ...]]:
    """Return what installed packages offer, by group of entry points; nothing is imported.

    ``offered.cache_clear()`` has it looked up anew.
    """
    found: dict[str, dict[tuple[str, str, str], Offer]] = {}
    for distribution in metadata.distributions():
        points = distribution.entry_points
        ours = [point for point in points if point.group.startswith("dglke_distill.")]
        if not ours:
            continue
        package = str(distribution.metadata["Name"])
        for point in ours:
            origin = Origin(package, distribution.version, point.value.partition(":")[0].strip())
            group = found.setdefault(point.group, {})
            # A package may lie in two places of the path; the first is the one imported.
            group.setdefault(
                (fold(package), point.name, point.value), Offer(point.name, origin, point.load)
            )
    return {group: tuple(offers.values()) for group, offers in found.items()}


def load_plugin(plugin: str, said: str = "--plugin") -> None:
    """Import a module that registers components, once; processes begun from here on do so too.

    Args:
        plugin: a module's name, or the path of its file, which ends in ``.py``.
        said: the option or variable that names it, for messages.

    Raises:
        UserError: it cannot be imported.
    """
    plugin = plugin.strip()
    if plugin.endswith(".py"):
        plugin = str(in_home(plugin).absolute())
    if plugin in _named:
        return
    if not plugin or not plugin.isprintable() or "," in plugin:
        raise UserError(f"{said} {plugin!r}: give a module's name or the path of its .py file")
    _named.append(plugin)
    _loading.append(Path(plugin).stem if plugin.endswith(".py") else plugin)
    try:
        with plugin_errors(f"{said} {plugin}"):
            _import(plugin)
    except BaseException:
        _named.remove(plugin)
        raise
    finally:
        _loading.pop()
    listed = _environment()
    if plugin not in listed:
        os.environ[PLUGINS] = ",".join([*listed, plugin])


def load_plugins(plugins: Iterable[str]) -> None:
    """Import the plug-ins that ``DGLKE_DISTILL_PLUGINS`` names, then those given.

    Args:
        plugins: modules, or paths of files; see ``load_plugin``.

    Raises:
        UserError: one cannot be imported.
    """
    load_environment()
    for plugin in plugins:
        load_plugin(plugin)


def load_environment() -> None:
    """Import the plug-ins that ``DGLKE_DISTILL_PLUGINS`` names.

    Raises:
        UserError: one cannot be imported.
    """
    for plugin in _environment():
        if plugin not in _named:
            load_plugin(plugin, PLUGINS)


def loading() -> Optional[str]:
    """Return the plug-in's module that is being imported; None where none is."""
    return _loading[-1] if _loading else None


def named_plugins() -> list[str]:
    """Return the plug-ins that this process was told to import, by the user or the environment."""
    return list(_named)


def _environment() -> list[str]:
    if not os.environ.get(PLUGINS):
        return []
    from dglke_distill.base.environment import Environment

    return list(Environment().plugins)


def _import(plugin: str) -> None:
    if not plugin.endswith(".py"):
        if all(part.isidentifier() for part in plugin.split(".")):
            try:
                importlib.import_module(plugin)
            except ModuleNotFoundError as error:
                if f"{plugin}.".startswith(f"{error.name}."):
                    raise UserError(
                        f"there is no module {error.name!r}; install its package, or give the path "
                        "of its .py file"
                    ) from error
                raise
            return
        raise UserError("give a module's name or the path of its .py file")
    path, name = Path(plugin), Path(plugin).stem
    if not path.is_file():
        raise UserError("there is no such file")
    there = sys.modules.get(name)
    if there is not None or not name.isidentifier():
        place = getattr(there, "__file__", None)
    else:
        found = importlib.util.find_spec(name)
        place = plugin if found is None else found.origin
    if place is None or Path(place).resolve() != path.resolve():
        raise UserError(f"{name!r} is another module's name, or none; rename the file")
    if there is not None:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


@contextmanager
def plugin_errors(who: str) -> Iterator[None]:
    """Within it, whatever a plug-in raises is an error that names it."""
    try:
        yield
    except UserError as error:
        if who in str(error):
            raise
        raise UserError(f"{who}: {error}") from error
    except (Exception, SystemExit) as error:
        told = " ".join(str(error).split())[:500]
        raise UserError(
            f"{who} cannot be imported: {type(error).__name__}: {told}; fix or reinstall it"
        ) from error
