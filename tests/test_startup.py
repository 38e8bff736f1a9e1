"""What a start imports: the list of commands needs none of them."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys

import pytest
import typer.main

from dglke_distill.base.collector import without_collector
from dglke_distill.cli.app import app
from dglke_distill.cli.commands import COMMANDS

HEAVY = ("torch", "dgl", "numpy", "numba", "pandas", "pydantic", "scipy", "jinja2", "starlette")
SHOWN = f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
OWN = "print([m for m in sys.modules if m.startswith('dglke_distill.data')], file=sys.stderr)"


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_the_list_of_commands_imports_none(arguments: list[str]) -> None:
    code = (
        "import sys; from dglke_distill.cli import main\n"
        f"sys.argv = ['dglke-distill', *{arguments!r}]\n"
        f"try: main()\nexcept SystemExit: {SHOWN}"
    )
    assert python(code).splitlines()[-1] == "[]"


def test_the_tab_key_lists_commands_without_importing_them() -> None:
    code = (
        "import sys; sys.argv = ['dglke-distill']; from dglke_distill.cli import app\n"
        f"try: app(prog_name='dglke-distill')\nexcept SystemExit: {OWN}"
    )
    more = {"COMP_WORDS": "dglke-distill com", "COMP_CWORD": "1"}
    told = python(code, _DGLKE_DISTILL_COMPLETE="complete_bash", **more)
    assert told.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_the_list_says(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.name == name
    paragraph = inspect.cleandoc(command.help).split("\n\n")[0]
    assert COMMANDS[name].line == " ".join(paragraph.split())


def test_a_start_with_a_plugin_of_the_environment_imports_it(tmp_path) -> None:
    (tmp_path / "of_the_environment.py").write_text("raise ValueError('was imported')")
    told = python(
        "from dglke_distill.cli import main; main(['formats'])",
        DGLKE_DISTILL_PLUGINS=str(tmp_path / "of_the_environment.py"),
    )
    assert "was imported" in told and "Traceback" not in told


def test_the_collector_rests_and_is_as_before() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError), without_collector():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
