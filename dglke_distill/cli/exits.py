"""How commands and scripts end when they are stopped, or are given what they cannot work with."""

# No `from __future__ import annotations`: as in all files that import typer.

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import typer

from dglke_distill.cli.say import say
from dglke_distill.errors import UserError

__all__ = ["mendable", "resumable", "script"]

STOPPED = 130
"""Exit code of a process that was asked to stop, as shells have it for Ctrl-C."""


@contextmanager
def resumable(command: str, begun: Optional[Path] = None) -> Iterator[None]:
    """Within it, Ctrl-C or SIGTERM ends with exit code 130 and says how to go on.

    Args:
        command: goes on with what was stopped.
        begun: exists as soon as there is something to go on with; None: there always is.
    """
    from dglke_distill.train import Interrupted  # torch is loaded by the training anyway

    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        say("", err=True)
        say("interrupted", err=True)
        if begun is None or begun.exists():
            say(f"go on with: {command}", err=True)
        raise typer.Exit(STOPPED) from None


def mendable(call: Callable[[], object]) -> None:
    """Call; what the user can mend becomes one line on stderr and exit code 2."""
    try:
        call()
    except (UserError, FloatingPointError) as error:  # the latter: scores that cannot be ranked
        message = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
    else:
        return
    say(f"error: {message}", err=True)
    sys.exit(2)


def script(main: Callable[[], object]) -> None:
    """Run a script that trains: it ends as commands do, and goes on when it is called again."""
    try:
        with resumable("the same command"):
            mendable(main)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
