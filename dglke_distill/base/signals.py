"""Signals that ask a process to stop, and who hears them for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Optional


def stop_numbers() -> list[int]:
    """Return SIGINT, SIGTERM and SIGHUP, without a SIGHUP that is ignored, as under ``nohup``."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


@contextmanager
def signals_to(
    handler: Callable[[int, Optional[FrameType]], Any], numbers: Iterable[int]
) -> Iterator[None]:
    """Let a handler hear signals within; only in the main thread, as Python has it."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers} if main else {}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
