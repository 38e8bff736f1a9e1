"""What messages advise can be done: each command and option that they name is there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from parsed import tree_of

import dglke_distill
from dglke_distill.cli.app import app
from dglke_distill.config import recipe_names
from dglke_distill.distill.chain_recipes import chain_recipe_names

PACKAGE = Path(dglke_distill.__file__).parent
GAP = "\x00"
FOREIGN = {
    "--no-deps", "--target", "--python-version", "--only-binary", "--shm-size", "--nnodes",
    "--nproc-per-node", "--porcelain", "--untracked-files", "--suffix", "--figure-",
}  # fmt: skip
"""Options of pip, docker, torchrun, git and mktemp that are written about, and a CSS name."""


@cache
def texts() -> list[tuple[str, str]]:
    """Return where each text of the package stands, and it with gaps for what is put in."""
    return list(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(tree_of(path)))
        inner = {
            id(value)
            for node in nodes
            if isinstance(node, ast.JoinedStr)
            for value in ast.walk(node)
            if value is not node
        }
        documented = {
            id(node.body[0].value)
            for node in nodes
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        name = path.relative_to(PACKAGE)
        for node in nodes:
            if id(node) in inner or id(node) in documented:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else GAP for v in node.values]
                yield f"{name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{name}:{node.lineno}", node.value


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command with its options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            options = {word for one in command.params for word in (*one.opts, *one.secondary_opts)}
            yield prefix + name, options | {"--help", "--plugin", "--version"}


KNOWN = dict(commands(typer.main.get_command(app)))


def meant(words: list[str]) -> str | None:
    """Return the command that words begin with."""
    for count in (2, 1):
        if " ".join(words[:count]) in KNOWN:
            return " ".join(words[:count])
    return None


def test_commands_in_messages_are_there_and_take_their_options() -> None:
    found = 0
    for where, text in texts():
        for quoted in re.findall(r"`([^`\n]+)`", text):
            words = shlex.split(quoted.removeprefix("dglke-distill "))
            command = meant(words)
            if command is None:
                assert not quoted.startswith("dglke-distill ") or GAP in words[0], (where, quoted)
                continue
            found += 1
            if command.startswith("dist launch"):  # whose words behind -- are another command's
                continue
            strange = [
                w for w in words if w.startswith("--") and w.split("=")[0] not in KNOWN[command]
            ]
            assert not strange, (where, quoted)
    assert found > 20


def test_options_in_messages_are_options_of_some_command() -> None:
    known = {option for options in KNOWN.values() for option in options}
    strange = {
        (where, option)
        for where, text in texts()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+(?![\w-]*_)", text)
        if option not in known and option not in FOREIGN
    }
    assert strange == set()


def test_recipes_in_messages_are_there() -> None:
    recipes = {*recipe_names(), *chain_recipe_names(), "none", "auto", "best", "paper"}
    for where, text in texts():
        for name in re.findall(r"--recipe ([a-z][\w-]*)", text):
            assert name in recipes, (where, name)
