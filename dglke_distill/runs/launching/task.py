"""What is to be done, as launcher, agents, servers and trainers tell each other."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Optional

from dglke_distill.training.distributed.engine import Job

MARK = "@dglke-distill "
"""Begins a line that is a message; whatever else is printed is a library's."""


@dataclass(frozen=True)
class Task:
    """What each process of a launch must know.

    Attributes:
        job: who takes part.
        partition: folder of the parts, on each host.
        partition_id: which one it must be.
        settings: of the run, as TOML.
        out: run directory, on the first host.
        resume: whether to go on with what it holds.
        drawn: where negatives come from.
        plugins: modules to import first.
        threads: of each trainer.
        teacher: folder of a student's teacher, on the first host; or nothing.
        teacher_weights: sha256 of its weights.
        teacher_name: what results call it; nothing: by its own results.
        shared: a file that launcher and first host must both see, and its sha256; or nothing.
        role: module that is run as a server or a trainer.
    """

    job: Job
    partition: str
    partition_id: str
    settings: str
    out: str
    resume: bool = False
    drawn: str = "joint"
    plugins: tuple[str, ...] = ()
    threads: int = 1
    teacher: str = ""
    teacher_weights: str = ""
    teacher_name: str = ""
    shared: tuple[str, ...] = ()
    role: str = "dglke_distill.runs.launching.role"

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        return asdict(self)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Task:
        """Return what ``to_dict`` took."""
        own: dict[str, Any] = {"job": Job.of(tree["job"])}
        own |= {name: tuple(tree[name]) for name in ("plugins", "shared")}
        return cls(**{**tree, **own})


def tell(**message: Any) -> None:
    """Send a message to whoever started this process."""
    with suppress(OSError, ValueError):  # gone: this process will be ended
        sys.__stdout__.write(MARK + json.dumps(message) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


def listen(lines: Iterable[str], tail: deque[str], hear: Callable[[dict[str, Any]], None]) -> None:
    """Hand on what a process tells until it ends.

    Args:
        lines: what it prints.
        tail: keeps the last lines that are no message.
        hear: is called with each message.
    """
    for line in lines:
        message = _heard(line)
        if message is None:
            tail.append(line.rstrip())
        else:
            hear(message)


def _heard(line: str) -> Optional[dict[str, Any]]:
    """Return the message that a line is, None for any other line."""
    if not line.startswith(MARK):
        return None
    try:
        found = json.loads(line[len(MARK) :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
