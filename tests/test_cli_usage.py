"""What is wrong with the words of a command is one line, which names the option and the fix."""

from __future__ import annotations

from typing import Any

import pytest
from cli_fixtures import called

from dglke_distill.cli.app import app
from dglke_distill.cli.usage import usage_line

CASES = [
    ("predict x -k 0", "--count (-k) is 0; give a whole number of at least 1"),
    ("predict x -k two", "--count (-k) is 'two'; give a whole number of at least 1"),
    ("predict x -k 1.5", "--count (-k) is 1.5; give a whole number of at least 1"),
    ("tune --trials 0", "--trials is 0; give a whole number from 1 to 1,000,000"),
    ("tune --trials", "--trials needs a value; write it after --trials"),
    ("discover x --min-probability nan", "--min-probability is nan; give a number from 0 to 1"),
    ("train --json=3", "train has no option --json; see `dglke-distill train --help`"),
    ("evaluate m --offline=3", "--offline takes no value; write --offline alone"),
    ("predict x --hed y", "predict has no option --hed; did you mean --head?"),
    ("predict -z", "predict has no option -z; see `dglke-distill predict --help`"),
    ("zoo list --stor y", "zoo list has no option --stor; did you mean --store?"),
    ("--versoin", "dglke-distill has no option --versoin; did you mean --version?"),
    ("trian", "dglke-distill has no command 'trian'; did you mean train?"),
    ("config shw", "dglke-distill config has no command 'shw'; did you mean show?"),
    ("recipes x", "dglke-distill recipes has no command 'x'; known: "),
    ("data info", "data info needs NAME: a name from `data list`, or your own folder"),
    ("compress x", "compress needs --to: how to store the tables: float16, int8, pq or binary"),
    ("evaluate a b c", "evaluate takes NAME_OR_CHECKPOINT alone, not 'b c' as well; put a name"),
    ("formats a", "formats takes options alone, not 'a' as well"),
]


EMPTY = [
    ("predict", "x", "--file", ""),
    ("predict", "x", "--types="),
    ("calibrate", "x", "--plot", ""),
    ("train", "cldr", "--config", ""),
    ("train", "cldr", "--out", ""),
    ("dist", "partition", "cldr", "--parts", "2", "--out", ""),
]


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_an_empty_path_is_not_the_working_folder(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    said = called(capsys, *words)
    option = next(word for word in words if word.startswith("--") and word != "--parts")
    assert said.err == f"error: {option.rstrip('=')}: names nothing; give a path\n"
    assert said.code == 2


@pytest.mark.parametrize("words", ["predict", "serve", "data info", "data check", "data prepare"])
def test_an_empty_name_is_not_the_working_folder(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--head", "x", "--relation", "y"] if words == "predict" else []
    said = called(capsys, *words.split(), "", *more)
    kind = "dataset" if words.startswith("data") else "model"
    assert said.code == 2
    assert said.err.startswith(f"error: the name of the {kind} is empty; name one of the ")


@pytest.mark.parametrize(("words", "line"), CASES, ids=[words for words, _ in CASES])
def test_wrong_words_are_one_line(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = called(capsys, *words.split())
    assert said.code == 2 and said.out == ""
    assert said.err.startswith(f"error: {line}") and said.err.count("\n") == 1


def test_what_a_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["\x1b[31m"], ["train", "--\x1b[31m"], ["predict", "x", "-k", "\x1b[31m\n"]):
        said = called(capsys, *words)
        assert said.code == 2 and said.err.count("\n") == 1
        assert "\\x1b" in said.err and "\x1b" not in said.err


def every_command() -> list[tuple[str, Any]]:
    import typer.main

    root: Any = typer.main.get_command(app)
    waiting = [(name, root.commands[name]) for name in root.commands]
    found = []
    while waiting:
        name, command = waiting.pop()
        below = getattr(command, "commands", {})
        waiting += [(f"{name} {word}", below[word]) for word in below]
        found += [] if below else [(name, command)]
    return found


def test_every_command_names_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    commands = every_command()
    assert len(commands) > 30
    for name, command in commands:
        said = called(capsys, *name.split(), "--no-such-option-1")
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"error: {name} has no option --no-such-option-1; "), said.err
        if any(made.required for made in command.params):
            said = called(capsys, *name.split())
            assert said.code == 2 and said.err.startswith(f"error: {name} needs "), said.err
            assert ": " in said.err.removeprefix("error: ") and said.err.count("\n") == 1


def test_no_words_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["zoo"]):
        said = called(capsys, *words)
        assert "Usage:" in said.out + said.err and "error" not in said.err


class _Type:
    """As click has it, which older versions of typer use as it is."""

    def __init__(self, name: str, **bounds: Any) -> None:
        self.name = name
        vars(self).update(bounds)


class _Option:
    param_type_name = "option"
    opts = ("-k", "--count")
    secondary_opts = ()
    help = "How many."

    def __init__(self, kind: _Type) -> None:
        self.type = kind


class BadParameter(Exception):
    """As click has it."""

    def __init__(self, message: str, param: _Option) -> None:
        super().__init__(message)
        self.message, self.param, self.ctx = message, param, None


@pytest.mark.parametrize(
    ("message", "kind", "line"),
    [
        (
            "0 is not in the range x>=1.",
            _Type("integer range", min=1, max=None),
            "--count (-k) is 0; give a whole number of at least 1",
        ),
        (
            "'two' is not a valid integer.",
            _Type("integer"),
            "--count (-k) is 'two'; give a whole number",
        ),
        (
            "2 is not in the range x<=1.5.",
            _Type("float range", min=None, max=1.5),
            "--count (-k) is 2; give a number of at most 1.5",
        ),
        (
            "'c' is not one of 'a', 'b'.",
            _Type("choice", choices=["a", "b"]),
            "--count (-k) is 'c'; give one of a, b",
        ),
        ("No such thing.", _Type("text"), "--count (-k): No such thing"),
    ],
)
def test_the_words_of_click_are_understood(message: str, kind: _Type, line: str) -> None:
    assert usage_line(BadParameter(message, _Option(kind))) == line
