"""The hosts of a launch: a file of them, or this one alone."""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import read_text

DEFAULT_PORT = 30050
"""DGL's own."""
_LONGEST = 1 << 20
_LEAST_PORT = 10_000
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 1_000


class Host(NamedTuple):
    """A host: what ssh calls it, and where the others reach its server."""

    name: str
    address: str
    port: int


def local_hosts(parts: int) -> tuple[Host, ...]:
    """Return this host once for each part, with ports that are free now."""
    return tuple(Host("this host", "127.0.0.1", port) for port in free_ports(parts))


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Return numbers of ports of an address of this host that nobody listens to.

    They are below those that the system gives to outgoing connections, one of which could take a
    port before its server does; of others, each call tries them in an order of its own.

    Args:
        count: how many.
        address: IPv4.

    Raises:
        OSError: it is no address of this host, or too few ports are free.
    """
    numbers = random.SystemRandom().sample(range(_LEAST_PORT, _first_outgoing()), _TRIES)
    places: list[socket.socket] = []
    try:
        for number in [*numbers, *[0] * count]:  # 0: any that the system has left
            if len(places) == count:
                break
            place = socket.socket()
            try:
                place.bind((address, number))
            except OSError as error:
                place.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                places.append(place)
        return [int(place.getsockname()[1]) for place in places]
    finally:
        for place in places:
            place.close()


def _first_outgoing() -> int:
    """Return the lowest port that the system gives to outgoing connections."""
    with suppress(OSError, ValueError, IndexError):
        return max(int(_OUTGOING.read_text().split()[0]), 2 * _LEAST_PORT)
    return 32768


def read_hosts(path: Path, port: int) -> tuple[Host, ...]:
    """Read a file of hosts, one a line: NAME [ADDRESS] [PORT]; # begins a comment.

    Args:
        path: the file.
        port: of hosts that state none.

    Raises:
        UserError: no such file, a line that is no host, or one named twice with the same port.
    """
    found: list[Host] = []
    for number, line in enumerate(read_text(path, _LONGEST).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        host = _host(words, port, f"{path}, line {number}")
        if any(other[1:] == host[1:] for other in found):
            raise UserError(
                f"{path}, line {number}: {host.address} port {host.port} is there twice; give each "
                "host once, or other ports"
            )
        found.append(host)
    if not found:
        raise UserError(f"{path}: names no host; write one a line")
    return tuple(found)


def _host(words: list[str], port: int, where: str) -> Host:
    name, rest = words[0], words[1:]
    if name.startswith("-"):
        raise UserError(f"{where}: {name!r:.60} is no host")
    address = None
    if rest and not rest[0].isdecimal():
        address = rest.pop(0)
    if rest:
        text = rest.pop(0)
        if not text.isdecimal() or len(text) > 5 or not 1024 <= int(text) <= 65535:
            raise UserError(f"{where}: port {text!r:.20} must be 1024 to 65535")
        port = int(text)
    if rest:
        raise UserError(f"{where}: {' '.join(words)!r:.80} is not NAME [ADDRESS] [PORT]")
    return Host(name, _address(address or name, where), port)


def _address(text: str, where: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(text)
    except (OSError, UnicodeError):
        raise UserError(
            f"{where}: {text!r:.80} has no IPv4 address that this host knows; write it behind the "
            "name"
        ) from None
