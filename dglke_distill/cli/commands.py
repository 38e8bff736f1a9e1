"""The commands by name: where each lies and what it is for; imported when it is called.

The line of a command stands here too, so that ``--help`` and the tab key import none of them.
"""

# No `from __future__ import annotations`: as in all files that import typer.

from collections.abc import Callable, Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
import typer.core
import typer.main


class Command(NamedTuple):
    """Where a command lies.

    Attributes:
        module: below ``dglke_distill.cli``.
        attribute: a function, or a ``typer.Typer`` of several commands.
        line: what the list of commands says of it: the first paragraph of its own help.
    """

    module: str
    attribute: str
    line: str


COMMANDS = {
    "run": Command(
        "run", "run", "Train a teacher, distil it down a chain of sizes, and report every step."
    ),
    "compare": Command(
        "compare",
        "compare",
        "Compare methods: each a chain of its own, all with one teacher and the same seeds.",
    ),
    "train": Command(
        "train", "train", "Train a model, rank its test split and leave a checkpoint."
    ),
    "tune": Command(
        "tune",
        "tune",
        "Search for the settings with the best validation MRR; the test split is never ranked.",
    ),
    "evaluate": Command(
        "evaluate",
        "evaluate",
        "Rank a split with a trained model: every entity, both sides, known answers filtered.",
    ),
    "predict": Command(
        "predict",
        "predict",
        "Complete a triple: give two of head, relation and tail; or score it: give all three.",
    ),
    "discover": Command(
        "discover",
        "discover",
        "Find the best new facts: triples over all heads and tails that the dataset does not hold.",
    ),
    "calibrate": Command(
        "calibrate",
        "calibrate",
        "Fit probabilities to a model's scores, a curve per relation, and measure them.",
    ),
    "compress": Command(
        "compress",
        "compress",
        "Store a model's tables in fewer bytes; the new checkpoint loads, ranks and predicts "
        "alike.",
    ),
    "extend": Command(
        "extend",
        "extend",
        "Add entities to a trained model by their facts, in seconds, without training it again.",
    ),
    "export": Command("export", "export", "Write a model in another program's format."),
    "formats": Command(
        "export",
        "formats",
        "Print the formats of `export`, with their options and what these are if not given.",
    ),
    "import": Command(
        "importing",
        "import_model",
        "Save another library's model as a checkpoint: a teacher, or a model to use.",
    ),
    "serve": Command(
        "serve",
        "serve",
        "Look at models in the browser: ask them, compare two, see a map of their entities.",
    ),
    "report": Command(
        "report", "report", "Write the report of a finished run anew: page, figures and table."
    ),
    "data": Command(
        "data", "data_app", "The datasets: list them, look at one, get one ready."
    ),
    "zoo": Command(
        "zoo", "zoo_app", "Published models: list, load, publish, verify them."
    ),
    "ogb": Command(
        "ogb", "ogb_app", "Runs, figures and the submission sheet for the OGB leaderboard."
    ),
    "dist": Command(
        "dist",
        "dist_app",
        "Training on many machines, or by many processes, over DGL's own engine.",
    ),
    "config": Command("config", "config_app", "The settings of a run."),
    "recipes": Command("config", "recipes_app", "The recipes that ship with the package."),
}  # fmt: skip
"""In the order in which ``--help`` lists them."""


def command_of(name: str) -> Any:
    """Import a command and return it as ``typer`` has made it.

    Args:
        name: of ``COMMANDS``.
    """
    place = COMMANDS[name]
    found = getattr(import_module(f"dglke_distill.cli.{place.module}"), place.attribute)
    holder = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
        holder.callback()(lambda: None)  # makes it a group, so that the command keeps its name
    return typer.main.get_command(holder).commands[name]  # type: ignore[attr-defined]


class Commands(MutableMapping[str, Any]):
    """All commands by name; one is imported when it is asked for.

    Args:
        finish: is called with each command after it was imported.
    """

    def __init__(self, finish: Callable[[Any], None]) -> None:
        self._finish = finish
        self._made: dict[str, Any] = dict.fromkeys(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        made = self._made[name]
        if made is None:
            made = command_of(name)
            self._finish(made)
            self._made[name] = made
        return made

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __contains__(self, name: object) -> bool:  # without an import, unlike the mixin's
        return name in self._made

    def listed(self) -> dict[str, Any]:
        """Return the commands by name as a list shows them: name and line, nothing imported."""
        return {
            name: made or typer.core.TyperCommand(name, help=COMMANDS[name].line)
            for name, made in self._made.items()
        }
