"""How commands and scripts end when they are stopped, or are given what they cannot work with."""

# No `from __future__ import annotations`: as in all files that import typer.

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Optional, TextIO, cast

import typer

from dglke_distill.base.disk import NotWritten, writing, wrong
from dglke_distill.base.errors import UserError
from dglke_distill.base.signals import signals_to
from dglke_distill.cli.say import say

STOPPED = 130
"""Exit code of a process that was asked to stop, as shells have it for Ctrl-C."""


@contextmanager
def resumable(
    command: str, begun: Optional[Path] = None, unfinished: Callable[[Path], bool] = Path.exists
) -> Iterator[None]:
    """Within it, Ctrl-C, SIGTERM or SIGHUP ends with exit code 130 and says how to go on.

    So does a disk that is full, with the exit code of an error.

    Args:
        command: goes on with what was stopped; with ``begun``, that does so by --resume.
        begun: file in --out that exists as soon as there is something to go on with; None: there
            always is.
        unfinished: whether something is left, given the folder of ``begun``.
    """
    from dglke_distill.training.loop import Interrupted  # torch is loaded by the training anyway

    if begun is not None:
        command = f"{command} --resume --out {shlex.quote(str(begun.parent))}"

    def going_on() -> bool:
        return begun is None or (begun.exists() and unfinished(begun.parent))

    with stop_signals():
        try:
            # What a library writes there fails without a name.
            with writing(Path() if begun is None else begun.parent):
                yield
        except (Interrupted, KeyboardInterrupt):
            _say("")
            _say("interrupted")
            if going_on():
                _say(f"go on with: {with_plugins(command)}")
            raise typer.Exit(STOPPED) from None
        except NotWritten as error:
            if not going_on():
                raise
            raise NotWritten(f"{error}. Then go on with: {with_plugins(command)}") from error


def with_plugins(command: str) -> str:
    """Return a command with the plug-ins that this process was told to import."""
    from dglke_distill.config.plugins import named_plugins

    named = (f" --plugin {shlex.quote(plugin)}" for plugin in named_plugins())
    return command + "".join(named)


def fixable(call: Callable[[], object]) -> None:
    """Call; what the user can fix becomes one line on stderr and exit code 2."""
    try:
        with _named_output():
            call()
    except (UserError, FloatingPointError) as error:  # the latter: scores that cannot be ranked
        message = str(error)
    except BrokenPipeError:  # whoever reads what is printed has enough
        drop_output()
        sys.exit(1)
    except OSError as error:
        if error.filename == _Output.NAME:
            drop_output()
        message = wrong(error)
    else:
        return
    _say(f"error: {message}")
    sys.exit(2)


class _Output:
    """Standard output, whose errors say that they are of it."""

    NAME = "standard output"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._named():
            return self._stream.write(text)
        raise AssertionError

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.NAME) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _named_output() -> Iterator[None]:
    """Within it errors of standard output are named; all of it is written at the end."""
    before = sys.stdout
    if before is None or before.closed:
        yield
        return
    sys.stdout = cast(TextIO, _Output(before))
    try:
        try:
            yield
        except SystemExit:  # so do commands end that went well
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    finally:
        sys.stdout = before


def drop_output() -> None:
    """Let what is still to be printed go nowhere: Python's own exit would complain of it."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal is gone: the exit code says the same
        say(line, err=True)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP do what Ctrl-C does, so that nothing half-done is left.

    A SIGHUP that is ignored, as under ``nohup``, stays so.
    """

    def stop(number: int, frame: Optional[FrameType]) -> None:
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    with signals_to(stop, [n for n in numbers if signal.getsignal(n) == signal.SIG_DFL]):
        yield


def standard_streams() -> None:
    """Open what is closed of the standard streams, lest a model's file gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def script(main: Callable[[], object]) -> None:
    """Run a script that trains: it ends as commands do, and goes on when it is called again."""
    try:
        with resumable("the same command"):
            fixable(main)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
