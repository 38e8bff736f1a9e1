"""Blocks of code in README and docs: what they are, and how each is run.

A block runs unless ``<!-- skip: REASON -->`` stands on the line before it. With ``<!-- quick:
FLAGS -->`` each of its commands gets more flags, so that a training takes seconds; what it prints
is not compared then. ``...`` in an output stands for anything.
"""

from __future__ import annotations

import doctest
import io
import re
import shlex
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, Optional

from dglke_distill import cli

ROOT = Path(__file__).resolve().parent.parent
RUN = ("python", "bash", "console")
"""Languages whose blocks run."""

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>skip|quick):(?P<said>[^\n]*?)-->\n)?```(?P<language>\w*)\n"
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = "dglke-distill"
_SHELL = {"|", "||", "&&", ">", "<"}


class Block(NamedTuple):
    """One block: where it stands, in which language, its text and its mark with what it says."""

    line: int
    language: str
    code: str
    mark: Optional[str]
    said: str


def pages() -> list[Path]:
    """Every page that people read, README first; notebooks are run by themselves."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Every block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["code"],
            found["mark"],
            (found["said"] or "").strip(),
        )
        for found in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a block of bash or console, each with the output that is shown."""
    code = block.code.replace("\\\n", " ")
    if block.language == "bash":
        lines = [line.strip() for line in code.splitlines()]
        return [(line, "") for line in lines if line and not line.startswith("#")]
    parts = re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def run_command(line: str, more: str = "") -> str:
    """Run one line of a shell and return what it prints.

    A command of ours runs in this process, where it starts sooner; other lines go to bash.
    """
    words = shlex.split(line, comments=True)
    if words[:1] != [_COMMAND] or _SHELL & set(words):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            cli.main([*words[1:], *shlex.split(more)])
        except SystemExit as end:
            assert not end.code, said.getvalue()
    return said.getvalue()


def run_block(block: Block, names: dict[str, Any]) -> None:
    """Run a block; a failure is an ``AssertionError`` or whatever the code raises.

    Args:
        block: the block.
        names: what earlier Python blocks of the page defined, and later ones see.
    """
    if block.language == "python" and block.code.startswith(">>>"):
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        test = doctest.DocTestParser().get_doctest(block.code, names, "block", None, block.line)
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=flags)
        runner.run(test, out=said.append, clear_globs=False)
        names.update(test.globs)
        assert runner.summarize(verbose=False).failed == 0, "".join(said)
    elif block.language == "python":
        exec(compile(block.code, f"<block at line {block.line}>", "exec"), names)
    else:
        for line, shown in commands(block):
            found = run_command(line, block.said if block.mark == "quick" else "")
            if shown and block.mark != "quick":
                flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                matches = doctest.OutputChecker().check_output(shown, found, flags)
                assert matches, f"{line}\n--- shown\n{shown}\n--- found\n{found}"
