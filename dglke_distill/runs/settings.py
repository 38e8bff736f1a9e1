"""From what a command line or a call states to the settings of a run, and to its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, compose, merge, read_toml
from dglke_distill.config.flags import FLAGS, stated_flags
from dglke_distill.data.identity import label_of, located, located_data

Tree = Mapping[str, Any]
"""Settings by section, not all of them."""


def flag_trees(flags: Mapping[str, Any]) -> list[Tree]:
    """Return the partial trees that flags stand for.

    Args:
        flags: names in ``FLAGS`` to their values; None is not given.
    """
    trees: list[Tree] = []
    for flag, value in flags.items():
        if value is None:
            continue
        section, key = FLAGS[flag].split(".")
        trees.append({section: {key: located(value) if flag == "dataset" else value}})
    return trees


def stated_reading(arguments: Mapping[str, Any]) -> list[Tree]:
    """Return the partial trees that flags of how data are read stand for.

    Args:
        arguments: of a command or a call.
    """
    flags = stated_flags(arguments)
    return flag_trees(
        {n: v for n, v in flags.items() if FLAGS[n].startswith("data.") and n != "dataset"}
    )


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping with keys such as ``training.epochs``; see ``nested``.

    Args:
        tree: the mapping.
        prefix: of the keys.
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        deeper = isinstance(value, Mapping)
        found.update(flattened(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}": value})
    return found


def nested(settings: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Return settings as a nested mapping, whose top may also hold dotted names.

    Args:
        settings: ``{"training": {"epochs": 5}}`` and ``{"training.epochs": 5}`` are the same.

    Raises:
        UserError: a name is empty or no text.
    """
    tree: dict[str, Any] = {}
    for name, value in (settings or {}).items():
        parts = name.split(".") if isinstance(name, str) else [""]
        if not all(part.strip() for part in parts):
            raise UserError(f"settings: {name!r:.200} is no name such as 'training.epochs'")
        for part in reversed(parts):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def resolve(
    flags: Mapping[str, Any], changes: Sequence[Tree], *, file: Optional[Path], recipe: str
) -> Config:
    """Compose the configuration: defaults, recipe, file, flags, then changes in their order.

    Args:
        flags: see ``flag_trees``.
        changes: partial trees, the last one winning.
        file: the user's TOML file, if any.
        recipe: name of a shipped recipe, ``auto`` for the best fit, or ``none``.

    Raises:
        UserError: unknown recipe, unreadable file, unknown setting or bad value.
    """
    chosen = None if recipe.lower() == "none" else recipe
    config = compose([*flag_trees(flags), *changes], file=file, recipe=chosen)
    return config.model_copy(update={"data": located_data(config.data)})


def saved_settings(run_directory: Path, changes: Sequence[Tree]) -> Config:
    """Return the settings a run was started with, with changes merged over them.

    Raises:
        UserError: there is no run.
    """
    path = run_directory / "config.toml"
    if not path.is_file():
        raise UserError(
            f"{run_directory}: there is no run to resume (config.toml is missing); leave out "
            "--resume to begin one"
        )
    return Config.from_mapping(reduce(merge, changes, read_toml(path)), str(path))


def new_run_directory(config: Config, parent: Path = Path("runs")) -> Path:
    """Return a directory below ``parent``, named after the settings, that does not exist yet."""
    stem = f"{config.model.name}-{label_of(config.data.dataset)}-dim{config.model.dim}"
    return unused(parent / stem.lower())


def unused(path: Path) -> Path:
    """Return the path, or one with a number behind it that does not exist yet."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
