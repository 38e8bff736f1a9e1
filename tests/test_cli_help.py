"""What every command says of itself: each option a sentence, flags as flags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from dglke_distill.cli.app import app
from dglke_distill.config.flags import FLAGS

ADDED_BY_TYPER = ("--install-completion", "--show-completion", "--help")


def all_commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, (*names, name))
        else:
            yield (*names, name), command


COMMANDS = dict(all_commands(typer.main.get_command(app)))
WITH_MODEL = [
    names
    for names, command in COMMANDS.items()
    if any(one.metavar == "NAME_OR_CHECKPOINT" for one in command.params)
]


def own_parameters(names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for one in COMMANDS[names].params:
        label = one.opts[0] if one.param_type_name == "option" else one.name
        if label not in ADDED_BY_TYPER:
            yield label, one


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_each_says_what_it_is(names: tuple[str, ...]) -> None:
    for label, one in own_parameters(names):
        text = one.help or ""
        assert len(text.split()) >= 3, f"{label}: {text!r}"
        assert text.endswith("."), f"{label}: {text!r} is no sentence"
        assert text[0].isupper() or re.match(r"[a-z0-9-]+[,:]? ", text), f"{label}: {text!r}"
        assert text.rstrip(".") not in FLAGS.values(), f"{label}: {text!r}"
        assert not re.match(r"[a-z_]+\.[a-z_]+\b", text), f"{label}: begins with a setting's name"


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_each_value_has_a_default_or_says_what_happens_without(names: tuple[str, ...]) -> None:
    for label, one in own_parameters(names):
        flag = getattr(one, "is_flag", False)
        if one.param_type_name != "option" or one.required or flag or one.default is not None:
            continue
        shown = isinstance(one.show_default, str)
        text = (one.help or "").lower()
        said = ("if not given", "without it", "may be repeated")
        assert shown or any(words in text for words in said), f"{label}: {text!r}"


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_a_flag_is_shown_as_one(names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert "bool" not in shown.output.lower()
    assert "--help" in shown.output


@pytest.mark.parametrize("names", WITH_MODEL, ids=" ".join)
def test_whoever_takes_a_name_of_the_zoo_takes_its_store(names: tuple[str, ...]) -> None:
    options = {option for one in COMMANDS[names].params for option in one.opts}
    assert {"--store", "--offline"} <= options


def test_there_are_such_commands() -> None:
    assert {("evaluate",), ("predict",), ("export",), ("compress",), ("serve",)} <= set(WITH_MODEL)
