"""What may be hostile, given to every command in every place where it takes something.

Commands and their parameters come from the app itself: a new one is tried at once, or fails
`test_every_parameter_is_known_here` until it is said below what it takes.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from cli_fixtures import called
from distill_fixtures import write_clock
from zoo_fixtures import NAME, home, trained

from dglke_distill.cli.app import app
from dglke_distill.data import download, web
from dglke_distill.serve import PageServer

__all__ = ["home", "trained"]

PLACES = {
    "dataset", "--dataset", "model", "other", "folder", "directory", "name", "name_or_path",
    "names", "run_dir", "--teacher", "--more-teachers", "--config", "--space", "--about", "--store",
    "--types", "--init", "facts", "--file", "--hosts",
}  # fmt: skip
"""Parameters that lead to files of others, or to a server."""
OWN_PLACES = {"--out", "--data-out", "--data-root", "--plot"}
"""Folders that the user chooses."""
VALUES = {
    "--model", "--student-model", "--dim", "--dims", "--from", "--to", "--ratio", "--method",
    "--methods", "--columns", "--delimiter", "--weight-column",
    "--recipe", "--set", "--epochs", "--seed", "--seeds", "--device", "--threads",
    "--processes", "--memory", "--batch-size", "--lr", "--negatives", "--loss", "--dtype",
    "--trials", "--time", "--split", "-k", "--head", "--relation", "--tail", "--relations",
    "--format", "--out-format", "--fractions", "--parts", "--port", "--host", "--max-dim",
    "--max-bytes", "pattern", "--name", "--control", "--plugin", "--search", "--candidates",
    "--protocol", "--hub", "--track", "--negatives-per-positive", "--drawn", "--fewest",
    "--min-probability", "command", "--local", "--trainers", "--negatives-from", "--master-port",
    "--rsh", "--python", "--timeout", "--threshold", "--top", "--fail-on", "--against",
}  # fmt: skip
"""Words and numbers."""
FLAGS = {
    "--allow-other-data", "--resume", "--dry-run", "--json", "--exclude-known", "--evaluate",
    "--ignore-extra", "--no-loops",
    "--offline", "--yes", "--with-known", "--all", "--metrics", "--all-versions", "--refresh",
    "--private", "--show-processes", "--torchrun", "--explain", "--overwrite",
}  # fmt: skip

DATA, MODEL, STORE, OUT, FACTS = "DATA", "MODEL", "STORE", "OUT", "FACTS"
TINY = {"--recipe": "none", "--epochs": "1", "--threads": "1"}
GIVEN: dict[str, dict[str, str]] = {
    "run": {"dataset": DATA, "--dims": "4,2", "--out": OUT, **TINY},
    "compare": {"dataset": DATA, "--dims": "4,2", "--methods": "direct", "--out": OUT, **TINY},
    "train": {"dataset": DATA, "--dim": "4", "--out": OUT, **TINY},
    "tune": {"dataset": DATA, "--model": "distmult", "--dim": "4", "--trials": "1",
             "--epochs": "1", "--threads": "1", "--out": OUT},
    "evaluate": {"model": MODEL, "--dataset": DATA},
    "predict": {"model": MODEL, "--head": "hour0", "--relation": "next", "--dataset": DATA,
                "--exclude-known": "", "--explain": ""},
    "discover": {"model": MODEL, "--relation": "plus2", "-k": "3", "--dataset": DATA},
    "calibrate": {"model": MODEL, "--out": OUT, "--dataset": DATA},
    "extend": {"model": MODEL, "facts": FACTS, "--out": OUT, "--dataset": DATA},
    "compress": {"model": MODEL, "--to": "int8", "--out": OUT, "--evaluate": "",
                 "--dataset": DATA},
    "export": {"model": MODEL, "--format": "npz", "--out": OUT},
    "formats": {},
    "import": {"folder": MODEL, "--out": OUT, "--dataset": DATA},
    "serve": {"model": MODEL, "--port": "0", "--dataset": DATA},
    "report": {"directory": OUT},
    "data list": {},
    "data info": {"name": DATA},
    "data check": {"name_or_path": DATA, "--threshold": "0.9", "--top": "3"},
    "data prepare": {"name_or_path": DATA, "--out": OUT},
    "dist launch": {"command": "train", "--hosts": FACTS},
    "dist partition": {"dataset": DATA, "--parts": "2", "--out": OUT},
    "zoo list": {"--store": STORE},
    "zoo info": {"name": NAME, "--store": STORE},
    "zoo load": {"name": NAME, "--store": STORE},
    "zoo pull": {"name": NAME, "--store": STORE},
    "zoo rm": {"name": NAME, "--store": STORE},
    "zoo publish": {"run_dir": MODEL, "--name": NAME, "--store": STORE},
    "zoo push": {"name": NAME, "--hub": "someone/model", "--store": STORE},
    "zoo verify": {"names": NAME, "--store": STORE},
    "ogb run": {"dataset": DATA, "--dims": "4", "--seeds": "1", "--out": OUT, **TINY},
    "ogb evaluate": {"model": MODEL, "--dataset": DATA},
    "ogb sheet": {"directory": OUT},
    "config show": {"dataset": DATA},
    "recipes list": {},
    "recipes show": {"name": "transe"},
}  # fmt: skip
"""Arguments of each command, in which one after the other is replaced."""


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each command, and what it takes."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield (
                prefix + name,
                [
                    one.opts[-1] if one.param_type_name == "option" else one.name
                    for one in command.params
                    if one.name != "help"
                ],
            )


COMMANDS = dict(commands(typer.main.get_command(app)))


def cases(kinds: set[str]) -> list[Any]:
    return [
        pytest.param(command, taken, id=f"{command} {taken}")
        for command, all_taken in COMMANDS.items()
        for taken in all_taken
        if taken in kinds
    ]


def test_every_parameter_is_known_here() -> None:
    assert COMMANDS.keys() == GIVEN.keys()
    known = PLACES | OWN_PLACES | VALUES | FLAGS
    unknown = {(name, taken) for name, all_taken in COMMANDS.items() for taken in all_taken}
    assert {one for one in unknown if one[1] not in known} == set()


# --- what is tried ------------------------------------------------------------------------------

DEEP = "[" * 100_000
FILES = [
    "config.json", "results.json", "zoo.toml", "chain.toml", "compare.toml", "comparison.toml",
    "config.toml", "import.toml", "study.toml", "journal.jsonl", "ogb.toml", "leaderboard.toml",
    "about.toml", "sheet.json", "entry.toml", "model.safetensors", "resume.safetensors",
    "entities.tsv", "relations.tsv", "known.npz", "train.txt", "valid.txt", "test.txt",
    "entities.dict", "relations.dict", "train2id.txt", "entity2id.txt", "metadata.json",
    "trained_model.pkl", "model_entity.npy", "model_relation.npy",
]  # fmt: skip
CONTENT: dict[str, bytes] = {
    "nested": b'{"a":' * 100_000,
    "digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "a long key": b"a." * 50_000 + b"a = 1",
    "zeros": bytes(5000),
    "no UTF-8": b"\xff\xfe\x00" * 100,
    "a list": b"[]",
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
    "a table of texts": b'{"dataset": [], "config": "x", "model": 5, "schema": 1}',
}


def hostile_places(folder: Path) -> Iterator[str]:
    """Yield places that are not what a command takes them for."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    yield str(pipe)
    yield "/dev/zero"
    holes = folder / "file of holes"
    with holes.open("wb") as stream:
        stream.truncate(64 << 30)
    yield str(holes)
    (folder / "loop").symlink_to(folder / "loop")
    yield str(folder / "loop")
    yield "x\0y"
    yield "x" * 5000
    yield "\x1b[31m[/x]\n"
    yield ""
    for name, content in CONTENT.items():
        place = folder / f"file of {name}"
        place.write_bytes(content)
        yield str(place)
        place = folder / f"folder of {name}"
        place.mkdir()
        for file in FILES:
            (place / file).write_bytes(content)
        yield str(place)
    for kind in ("pipes", "holes", "folders"):
        place = folder / f"folder of {kind}"
        place.mkdir()
        for file in FILES:
            if kind == "pipes":
                os.mkfifo(place / file)
            elif kind == "folders":
                (place / file).mkdir()
            else:
                with (place / file).open("wb") as stream:
                    stream.truncate(64 << 30)
        yield str(place)


HARMLESS = {
    ("config show", "dataset"),
    ("serve", "--dataset"),  # then facts are not marked, and a note says why
    ("serve", "--store"),  # the model is a checkpoint; others are offered on the page
    ("zoo list", "--dataset"),
    ("zoo list", "--store"),  # one that is not there yet has no models
    ("zoo publish", "--store"),  # a new one may have any name
}
"""Where such a place is only shown, or only its name counts."""

HOSTILE_VALUES = [
    "9" * 5000, "-" + "9" * 30, str(2**63), "1e999", "nan", DEEP, "\0", "a\nb", "\x1b[2J[/x]", "",
    ",", ".".join(["a"] * 50_000) + "=1", "training.seed=" + "9" * 5000, "4," * 10_000,
]  # fmt: skip


@pytest.fixture
def arguments(home: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes the arguments of a command, one of them replaced."""
    data, count = write_clock(home / "clock"), iter(range(10**6))
    facts = home / "facts.tsv"
    facts.write_text("noon\tnext\thour1\n")
    monkeypatch.chdir(home)
    monkeypatch.setattr(PageServer, "serve_forever", lambda server: None)
    monkeypatch.setattr(os, "_exit", lambda code: (_ for _ in ()).throw(SystemExit(code)))

    def make(command: str, taken: str = "", value: str = "") -> list[str]:
        places = {
            FACTS: facts,
            DATA: data,
            MODEL: trained,
            STORE: home / "store",
            OUT: home / f"{next(count)}",
        }
        given = dict(GIVEN[command])
        if taken:
            given[taken] = value
        options, operands = [], []
        for name in COMMANDS[command]:
            if name not in given:
                continue
            text = given[name]
            text = str(places.get(text, text)) if name != taken else text
            if name in FLAGS:
                options.append(name)
            elif name.startswith("-"):
                options += [name, text]
            else:
                operands.append(text)
        return [*command.split(), *options, "--", *operands]

    return make


def outcome(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return exit code and standard error of a command; whatever else it raises is an error."""
    begun = time.monotonic()
    said = called(capsys, *arguments)
    assert time.monotonic() - begun < 20, arguments
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", said.out + said.err), arguments
    assert "Traceback" not in said.err
    return said.code, said.err


def refused(code: int, error: str, given: str) -> None:
    """Check that an error is one line of ours."""
    assert code in (1, 2), error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == (0 if code == 1 else 1), error
    if code == 2:
        assert error.splitlines()[-1] == lines[0], error
        assert len(lines[0]) < 2000 + 3 * len(given), error[:4000]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Within it, what believes a stated size of many gigabytes is told that there is no room."""
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("command", "taken"), cases(PLACES))
def test_hostile_places(
    command: str, taken: str, arguments: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hostile").mkdir()
    for place in hostile_places(tmp_path / "hostile"):
        made = arguments(command, taken, place)
        code, error = outcome(made, capsys)
        if code:
            refused(code, error, place)
        else:
            assert (command, taken) in HARMLESS, (place, error)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("command", "taken"), cases(VALUES))
def test_hostile_values(
    command: str, taken: str, arguments: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in HOSTILE_VALUES:
        code, error = outcome(arguments(command, taken, value), capsys)
        if code:
            refused(code, error, value)


# --- servers ------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and says nothing; every name leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        real = socket.getaddrinfo

        def look_up(host: Any, wanted: Any, *more: Any, **others: Any) -> Any:
            own = host in (None, "127.0.0.1", "localhost") or others.get("flags")
            return real(host, wanted, *more, **others) if own else found

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(web, "GRACE_SECONDS", 0.6)
        monkeypatch.setattr(web, "READ_SECONDS", 0.3)
        monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("command", "taken"), cases(PLACES))
def test_a_silent_server(
    command: str,
    taken: str,
    arguments: Any,
    slow: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a store, as the only place of a model's name, and as the place of a dataset."""
    monkeypatch.setenv("DGLKE_DISTILL_STORES", slow)
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    for place in (slow, "https://models.invalid/zoo", NAME, "wn18rr", "ogbl-biokg"):
        made = arguments(command, taken, place)
        if "--yes" in COMMANDS[command]:
            made.insert(len(command.split()), "--yes")
        code, error = outcome(made, capsys)
        if code:
            refused(code, error, place)
