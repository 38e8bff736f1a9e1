"""Calls of the command line inside the test's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from dglke_distill import cli


class Outcome(NamedTuple):
    """Exit code and both streams of one call."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def exit_code(*arguments: Any) -> int:
    """Call the command line; whatever else it raises is an error."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def called(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Outcome:
    """Call the command line, and take what it printed."""
    capsys.readouterr()
    return Outcome(exit_code(*arguments), *capsys.readouterr())
