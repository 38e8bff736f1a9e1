"""How much a connection may take, and how long; and who keeps an eye on it."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional, Protocol

RESERVED = 32
"""Descriptors that are left for files: models that are picked later, datasets."""


def most_connections(wanted: int) -> int:
    """Return how many connections the process's limit of descriptors leaves room for, at least 4.

    Args:
        wanted: the most to return.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(4, min(wanted, soft - min(RESERVED, soft // 2) - 16))


@dataclass(frozen=True)
class Limits:
    """What a connection may take.

    Attributes:
        connections: at once; another one is told 503, or takes the place of one that is idle.
        url: bytes of an address.
        head: bytes of a request's first line and headers.
        headers: how many.
        body: bytes that a request may announce; none are read.
        arriving: seconds from the first byte of a request to the last of its headers.
        idle: seconds between requests, and before the first.
        answering: seconds for an answer to be found and taken.
        closing: seconds that a client may go on sending after it has been refused.
        settled: seconds after which an idle connection may have to give way to another one.
    """

    connections: int = 1000
    url: int = 8192
    head: int = 32_768
    headers: int = 100
    body: int = 65_536
    arriving: float = 10
    idle: float = 30
    answering: float = 120
    closing: float = 2
    settled: float = 1


class Held(Protocol):
    """A connection as the watch sees it.

    Attributes:
        place: the group that it is in.
        transport: what it writes to.
    """

    place: Optional[dict[Held, float]]
    transport: asyncio.Transport

    def refuse(self, status: int, message: str) -> None:
        """Say what is wrong, and close."""

    def abort(self) -> None:
        """End at once."""


class Watch:
    """Knows what each connection is waited for, and ends those that take too long.

    Args:
        limits: how long, and how many.
        refusal: status and message to the body of an answer.
        headers: of every answer.
        clock: the time in seconds.
    """

    def __init__(
        self,
        limits: Limits,
        refusal: Callable[[int, str], bytes],
        headers: list[tuple[bytes, bytes]],
        clock: Callable[[], float],
    ) -> None:
        """No connection is there yet."""
        self.limits = limits
        self.refusal = refusal
        self.headers = headers
        self.clock = clock
        # Connections by when they came, so that the first of each is the one to look at.
        self.idle: dict[Held, float] = {}
        self.arriving: dict[Held, float] = {}
        self.answering: dict[Held, float] = {}
        self.closing: dict[Held, float] = {}

    def __len__(self) -> int:
        return len(self.idle) + len(self.arriving) + len(self.answering) + len(self.closing)

    def move(self, connection: Held, where: Optional[dict[Held, float]]) -> None:
        """Put a connection among the last of one group; None: it has ended."""
        if connection.place is not None:
            connection.place.pop(connection, None)
        connection.place = where
        if where is not None:
            where[connection] = self.clock()

    def admit(self) -> bool:
        """Return whether there is room for one more; the longest idle one may have to go."""
        if len(self) < self.limits.connections:
            return True
        for connection, since in self.idle.items():
            if self.clock() - since < self.limits.settled:
                break
            connection.abort()
            return True
        return False

    def sweep(self) -> None:
        """End the connections whose time is up."""
        limits = self.limits
        for connection in self._late(self.idle, limits.idle):
            if connection.transport.get_write_buffer_size():  # the client has yet to read
                self.move(connection, self.answering)
            else:
                connection.abort()
        for connection in self._late(self.arriving, limits.arriving):
            connection.refuse(408, "the request took too long to arrive")
        for where, seconds in (
            (self.answering, limits.answering),
            (self.closing, limits.closing),
        ):
            for connection in self._late(where, seconds):
                connection.abort()

    def _late(self, where: dict[Held, float], seconds: float) -> list[Held]:
        late = []
        now = self.clock()
        for connection, since in where.items():
            if now - since < seconds:
                break
            late.append(connection)
        return late
