"""Text of others: shown as it is, but for what a terminal would obey, by every command."""

from __future__ import annotations

import ast
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from cli_fixtures import Outcome, called
from parsed import tree_of
from rich.progress import Progress, TextColumn
from rich.table import Table

import dglke_distill
from dglke_distill import cli
from dglke_distill.base.console import SafeConsole
from dglke_distill.base.shown import fenced, json_text, markdown_text, toml_text, visible
from dglke_distill.cli.app import app

PACKAGE = Path(dglke_distill.__file__).parent

NASTY = "[/r/a]:smile:[red]\x1b[2J\x9b5m\u202e\u2066x\u2028\x08\x7f"
SHOWN = r"[/r/a]:smile:[red]\x1b[2J\x9b5m\u202e\u2066x\u2028\x08\x7f"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: Any) -> Outcome:
        return called(capsys, *arguments)

    return call


# --- the helpers --------------------------------------------------------------------------------


def test_json_has_no_word_that_json_does_not_know() -> None:
    value = {"a": [float("nan"), 1.5], "b": {"c": (float("-inf"), "NaN")}, "d": float("inf")}

    def refused(word: str) -> None:
        raise AssertionError(word)

    read = json.loads(json_text(value), parse_constant=refused)
    assert read == {"a": [None, 1.5], "b": {"c": [None, "NaN"]}, "d": None}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("benzo[a]pyrene", "benzo[a]pyrene"),
        ("C:\\new", "C:\\new"),
        ("نمی\u200cدانم", "نمی\u200cدانم"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x1b]8;;http://x\x07", r"\x1b]8;;http://x\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_seen(text: str, seen: str) -> None:
    assert visible(text) == seen


@pytest.mark.parametrize("name", [NASTY, "\U000e0001", "é\n\t\"\\'", "[a]"])
def test_json_and_toml_stay_exact(name: str) -> None:
    import tomli_w

    text = json_text({name: [name, 1]})
    assert json.loads(text) == {name: [name, 1]}
    assert not RAW.search(text.replace("\n", ""))
    text = toml_text(tomli_w.dumps({name: {"key": name}}))
    assert tomllib.loads(text) == {name: {"key": name}}
    assert not RAW.search(text.replace("\n", ""))


def test_markdown_begins_nothing() -> None:
    assert markdown_text("a|b\n# [x](y) <script>") == r"a\|b # \[x\](y) \<script\>"
    said = "better by 5.2 % [4.1, -6.3] (of 2)"
    assert markdown_text(said) == said
    assert markdown_text("[4.1, 6.3](https://x)") == r"\[4.1, 6.3\](https://x)"
    assert markdown_text("[4.1, 6.3]: https://x") == r"\[4.1, 6.3\]: https://x"
    assert markdown_text("a_b *c* [d]", emphasis="") == r"a_b *c* \[d\]"
    assert fenced("one ``` two", "toml") == ["````toml", "one ``` two", "````"]


def test_cells_titles_headings_and_progress_are_text() -> None:
    console = SafeConsole()
    console.file = io.StringIO()
    table = Table(title=NASTY, caption=NASTY)
    table.add_column(NASTY, no_wrap=True)
    table.add_row(NASTY)
    console.width = 200
    console.print(table)
    console.print(NASTY, style="bold")
    bars = Progress(TextColumn("{task.description}", markup=False), console=console)
    with bars:
        bars.add_task(NASTY)
    text = console.file.getvalue()
    assert text.count(SHOWN) >= 5
    assert not RAW.search(text.replace("\n", ""))


def test_nobody_prints_around_the_helpers() -> None:
    """A plain console or echo would take the next name for markup, or for a command."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and path != PACKAGE / "cli" / "say.py":
                last = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if last not in ("Console", "print", "echo") and not last.endswith("TextColumn"):
                    continue
                called = ast.unparse(node.func)
                if called == "print" and ast.unparse(node).startswith("print(visible("):
                    continue
                assert called not in ("Console", "print", "typer.echo", "click.echo"), (
                    f"{path}:{node.lineno}: {called} shows text as it comes; use cli.say or "
                    "console.SafeConsole"
                )
                if called.endswith("TextColumn"):
                    text = ast.unparse(node)
                    assert "markup=False" in text or "percentage" in text, f"{path}:{node.lineno}"


# --- every command refuses a hostile argument in words ------------------------------------------


def commands(group: Any = None, above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command of the program, with the words that call it."""
    found = []
    for name, command in (group or typer.main.get_command(app)).commands.items():
        words = (*above, name)
        found += commands(command, words) if hasattr(command, "commands") else [(words, command)]
    return found


COMMANDS = commands()


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS], ids=" ".join)
def test_an_option_that_is_unknown(words: tuple[str, ...], run: Any) -> None:
    done = run(*words, f"--{NASTY}")
    assert done.code == 2
    assert not RAW.search((done.out + done.err).replace("\n", ""))
    assert r"\x1b[2J" in done.err


@pytest.mark.parametrize(
    "words",
    [words for words, command in COMMANDS if any(p.param_type_name == "argument" for p in
                                                 command.params)],
    ids=" ".join,
)  # fmt: skip
def test_arguments_that_name_nothing(
    words: tuple[str, ...], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = dict(COMMANDS)[words]
    arguments: list[str] = list(words)
    for parameter in command.params:
        if parameter.param_type_name == "argument" and parameter.nargs == 1:
            arguments.append(NASTY)
        elif parameter.param_type_name == "argument":
            arguments.append(NASTY)
        elif parameter.required:
            arguments += [parameter.opts[0], str(tmp_path / "out")]
    if words == ("predict",):
        arguments += ["--head", "a", "--relation", "b"]
    done = run(*arguments)
    text = done.out + done.err
    assert "Traceback" not in text
    assert not RAW.search(text.replace("\n", "")), text
    if words == ("zoo", "list"):  # a pattern that fits nothing
        assert done.out == "no such model\n"
    elif words not in (("config", "show"), ("zoo", "verify")):
        assert done.code == 2, text
        assert done.err.startswith("error: ")
        assert len(done.err.splitlines()) == 1, done.err


# --- every command shows names as they are ------------------------------------------------------

ENTITIES = [
    "benzo[a]pyrene",
    "[/r/IsA/,/c/en/dog/]",
    ":smile:",
    "[bold]x",
    "e\x1b[2J",
    "rtl\u202e",
]
RELATIONS = ["[/r]", "binds\x9b5m"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose folder and names would all be obeyed, and a short run on it."""
    place = tmp_path_factory.mktemp("shown") / "d[/a]:smile:\x1b[2J"
    place.mkdir(parents=True)
    facts = [
        (ENTITIES[i], RELATIONS[r], ENTITIES[(i + r + 1) % len(ENTITIES)])
        for i in range(len(ENTITIES))
        for r in range(len(RELATIONS))
    ]
    parts = {"train": facts[:9] + facts[9:][::-1], "valid": facts[9:10], "test": facts[10:11]}
    for split, rows in parts.items():
        text = "".join("\t".join(row) + "\n" for row in rows)
        (place / f"{split}.txt").write_text(text, encoding="utf-8")
    return place


SMALL = ["--epochs", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def chain(folder: Path) -> Path:
    out = folder.parent / "run[/b]\x1b[2J"
    cli.app(
        ["run", str(folder), "--model", "DistMult", "--dims", "8,4", *SMALL, "--out", str(out)],
        standalone_mode=False,
    )
    return out


def names_of(result: Outcome) -> str:
    text = result.out + result.err
    assert result.code == 0, text
    assert not RAW.search(text.replace("\n", "").replace("\t", "")), text
    return text


@pytest.mark.slow
def test_predictions(run: Any, chain: Path) -> None:
    model = chain / "stages" / "1-distmult-dim4" / "checkpoint"
    shown = names_of(run("predict", model, "--head", ENTITIES[0], "--relation", RELATIONS[0]))
    for name in ENTITIES:
        assert visible(name) in shown
    shown = names_of(run("predict", model, "--head", ENTITIES[1], "--tail", ENTITIES[2]))
    assert "([/r/IsA/,/c/en/dog/], ?, :smile:)" in shown
    for name in RELATIONS:
        assert visible(name) in shown
    for question in (["--head", ENTITIES[4]], ["--tail", ENTITIES[5]]):
        arguments = ["predict", model, *question, "--relation", RELATIONS[1]]
        names_of(run(*arguments))
        answers = json.loads(names_of(run(*arguments, "--json")))["predictions"]
        assert {answer["name"] for answer in answers} == set(ENTITIES)


@pytest.mark.parametrize(
    "command",
    [
        "train --dim 4 --dry-run",
        pytest.param("train --dim 4 --epochs 1 --threads 1 --out OUT", marks=pytest.mark.slow),
        "run --dims 8,4 --epochs 1 --threads 1 --dry-run", "data prepare", "config show",
        "data prepare --out OUT",
    ],
)  # fmt: skip
def test_commands_on_data(
    run: Any, folder: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = command.replace("OUT", str(tmp_path / "out[/x]\x1b[2J")).split(" ")
    at = 2 if words[0] in ("data", "config") else 1
    names_of(run(*words[:at], folder, *words[at:]))


@pytest.mark.slow
def test_commands_on_models(run: Any, folder: Path, chain: Path, tmp_path: Path) -> None:
    model = chain / "stages" / "1-distmult-dim4" / "checkpoint"
    out = tmp_path / "o[/x]\x1b[2J"
    store, small = tmp_path / "store[/y]:smile:", "distmult-x-dim4-int8"
    names_of(run("evaluate", model, "--dataset", folder))
    names_of(
        run(
            "compress", model, "--to", "int8", "--out", f"{out}c", "--evaluate", "--dataset", folder
        )
    )
    assert r"o[/x]\x1b[2Je" in names_of(
        run("export", model, "--format", "dglke", "--out", f"{out}e")
    )
    names_of(run("import", f"{out}e", "--out", f"{out}i"))
    shown = names_of(run("report", chain))
    assert r"run[/b]\x1b[2J" in shown
    for page in (chain / "report").rglob("*.*"):
        if page.suffix in (".html", ".md", ".svg"):
            assert not RAW.search(page.read_text(encoding="utf-8").replace("\n", ""))
    assert names_of(run("zoo", "publish", f"{out}c", "--name", small, "--store", store))
    assert "store[/y]:smile:" in names_of(run("zoo", "list", "--store", store))
    assert "store[/y]:smile:" in names_of(run("zoo", "info", small, "--store", store))
    names_of(run("zoo", "verify", small, "--store", store))
    names_of(run("zoo", "load", small, "--store", store))
    names_of(run("zoo", "pull", small, "--store", store))


@pytest.mark.slow
def test_a_bidi_override_in_a_registry_is_seen(
    run: Any, chain: Path, tmp_path: Path, folder: Path
) -> None:
    store = tmp_path / "store"
    model = chain / "stages" / "1-distmult-dim4" / "checkpoint"
    names_of(run("zoo", "publish", model, "--name", "distmult-x-dim4", "--store", store))
    index = store / "zoo.toml"
    text = index.read_text(encoding="utf-8")
    text = re.sub(r'(?m)^dataset = ".*"$', r'dataset = "a\\u202eb|c [link](x) <b>"', text)
    index.write_text(text, encoding="utf-8")
    shown = names_of(run("zoo", "info", "distmult-x-dim4", "--store", store))
    assert r"a\u202eb\|c \[link\](x) \<b\>" in shown
    names_of(run("zoo", "info", "distmult-x-dim4", "--store", store, "--json"))


def test_every_parameter_is_known_to_this_test() -> None:
    """The tests above would pass if no command was found."""
    assert len(COMMANDS) > 20
