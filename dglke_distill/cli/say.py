"""The one way in which commands print a line: whatever stands in it, it stays one line of text."""

# No `from __future__ import annotations`: as in all files that import typer.

from typing import Any, Optional

import typer

from dglke_distill.base.shown import json_text, visible


def say(line: str, *, err: bool = False) -> None:
    """Print a line; line ends, control characters and the like in it are shown escaped.

    Args:
        line: with names and paths as they are.
        err: on standard error.
    """
    typer.echo(visible(line), err=err)


def warn(line: str) -> None:
    """Print a warning on standard error; see ``say``."""
    say(line, err=True)


def say_text(text: str) -> None:
    """Print several lines of text; see ``say``."""
    typer.echo(visible(text, keep="\n\t"))


def say_json(value: Any, *, indent: Optional[int] = 2) -> None:
    """Print a value as JSON: exact, control characters in JSON's own escapes.

    Args:
        value: what to print.
        indent: None for a single line.
    """
    typer.echo(json_text(value, indent=indent))
