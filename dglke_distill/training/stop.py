"""Signals that ask a training to stop between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

from dglke_distill.base.signals import signals_to, stop_numbers


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into an event that the loop reads between two steps.

    A SIGHUP that is ignored, as under ``nohup``, stays so.
    """
    asked = threading.Event()

    def ask(number: int, frame: Optional[FrameType]) -> None:
        # A second Ctrl-C does not wait for the step to end. The other signals come in twos by
        # themselves, as from a shell whose terminal is closed.
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    with signals_to(ask, stop_numbers()):
        yield asked
