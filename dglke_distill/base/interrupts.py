"""Ctrl-C while the command is still being imported ends it quietly, with exit code 130.

Nothing has been begun then that could be left half-done, and a traceback of imports tells nobody
anything. The package imports this before all that takes time. Only a process that was started as
the command is changed, no program that imports the package.
"""

from __future__ import annotations

import os
import signal
import sys

_CODE = 130
"""As shells have it for Ctrl-C."""


def started() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` again: the command takes care of it from now on."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_the_command(words: list[str]) -> bool:
    """Return whether a process was started so; not what a child of it inherits of its words."""
    script = os.path.basename(words[1]) if len(words) > 1 else ""
    return script in ("dglke-distill", "dglke-distill.exe") or words[1:3] == ["-m", "dglke_distill"]


def _end(number: int, frame: object) -> None:
    os._exit(_CODE)


if _is_the_command(sys.orig_argv):
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in jobs
        signal.signal(signal.SIGINT, _end)
