"""Names are shown whole, and what a card says to run does run."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner
from zoo_fixtures import NAME, home, store, trained

from dglke_distill import zoo
from dglke_distill.base.console import SafeConsole
from dglke_distill.cli.app import app
from dglke_distill.zoo.listing import HEADINGS

__all__ = ["home", "store", "trained"]


def test_a_pipe_is_as_wide_as_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    listed = CliRunner().invoke(app, ["zoo", "list", "--store", "shipped"])
    assert listed.exit_code == 0
    names = [line.split()[0] for line in listed.output.splitlines()[2:]]
    assert names == [entry.name for entry in zoo.list(store="shipped")]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_a_narrow_terminal_has_the_names_of_models_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    listed = CliRunner().invoke(app, ["zoo", "list", "--store", "shipped"])
    assert listed.exit_code == 0, listed.output
    place, heading, *rows = listed.output.splitlines()
    found = zoo.list(store="shipped")
    assert [row.split()[0] for row in rows[: len(found)]] == [entry.name for entry in found]
    assert place == found.places[0] and {"name", "B/entity", "MRR"} <= set(heading.split())
    lost = set(HEADINGS) - set(heading.split())
    assert [line.startswith("no room in ") for line in rows[len(found) :]] == [True] * bool(lost)
    assert all(heading in rows[-1] for heading in lost)
    longest = max(map(len, [heading, *rows[: len(found)]]))
    assert longest <= width or len(lost) == 6  # then nothing is left to be left out
    assert bool(lost) is (max(map(len, repr(found).splitlines())) > width)


def test_a_narrow_terminal_folds_what_it_cannot_show_at_once() -> None:
    console = SafeConsole()
    console.file = io.StringIO()
    console.width = 24
    table = Table("name", "MRR", box=None)
    table.add_row("rescal-fb15k237-dim32-int8", "0.3348")
    console.print(table)
    rows = console.file.getvalue().splitlines()[1:]
    assert len(rows) > 1 and all(len(row) <= 24 for row in rows)
    assert "".join(row.split()[0] for row in rows) == "rescal-fb15k237-dim32-int8"


@pytest.mark.parametrize("width", [20, 40, 59, 60, 79, 80])
def test_a_folded_name_can_be_read(width: int) -> None:
    """A dozen letters of it stand in a row, or all of them."""
    console = SafeConsole()
    console.file = io.StringIO()
    console.width = width
    figures = ("dim", "test MRR", "valid", "bytes", "time")
    table = Table("name", box=None)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    table.add_row("rescal-hidden-fb15k237-dim32-int8", *figures)
    console.print(table)
    rows = console.file.getvalue().splitlines()[1:]
    assert len(rows[0].split()[0]) >= 12 and console.width == width
    assert len(rows) == 1 or all(len(row) <= width for row in rows)


@pytest.mark.parametrize("published", [False, True])
def test_the_command_on_a_card_ranks_the_model_again(
    store: Path, trained: Path, published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if published:
        card = next(store.rglob("README.md")).read_text(encoding="utf-8")
        monkeypatch.chdir(store)
    else:
        card = CliRunner().invoke(app, ["zoo", "info", NAME, "--store", str(store)]).output
    command = re.search(r"```bash\n(.+)\n```", card)
    assert command is not None
    data = trained.parent.parent / "clock"
    words = [str(data) if word == "DATA" else word for word in shlex.split(command[1])]
    assert words[0] == "dglke-distill"
    ranked = CliRunner().invoke(app, words[1:])
    assert ranked.exit_code == 0, ranked.output
    assert ranked.output.startswith(f"ok {NAME}@1")
