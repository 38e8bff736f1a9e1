"""Flags of commands that stand for one setting, and how messages name a setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FLAGS = {
    "dataset": "data.dataset",
    "model": "model.name",
    "dim": "model.dim",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "optimizer.learning_rate",
    "negatives": "negatives.count",
    "loss": "loss.name",
    "seed": "training.seed",
    "device": "training.device",
    "threads": "training.threads",
    "dtype": "training.dtype",
    "processes": "training.processes",
    "memory": "training.memory_megabytes",
    "columns": "data.columns",
    "delimiter": "data.delimiter",
    "ignore_extra": "data.ignore_extra",
    "weight_column": "data.weight_column",
}
"""Which setting each flag, or keyword of the same name, stands for."""

_WRITTEN = {"learning_rate": "lr"}
"""Flags whose words are not those of the keyword."""
_ALONE = ("control", "dims", "methods", "seeds")
"""Settings of a chain whose flag has their name."""


def option_of(flag: str) -> str:
    """Return a flag of ``FLAGS`` as it is typed, e.g. ``--batch-size``."""
    return f"--{_WRITTEN.get(flag, flag).replace('_', '-')}"


def stated_flags(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags among the arguments of a command or a call: those that are not None."""
    return {n: value for n, value in arguments.items() if n in FLAGS and value is not None}


def named_setting(setting: str) -> str:
    """Return how a message names a setting that stands in no file: by its flag, if it has one.

    Args:
        setting: such as ``training.threads``.
    """
    for keyword, key in FLAGS.items():
        if key == setting:
            return f"{option_of(keyword)} ({setting})"
    top = setting.partition(".")[0]  # a number counts the items of a list
    return f"--{top}" if top in _ALONE else f"setting {setting!r}"
