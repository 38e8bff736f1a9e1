"""The hosts of a launch: a file of them, or this one alone."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import NamedTuple

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import read_text

DEFAULT_PORT = 30050
"""DGL's own."""
_LONGEST = 1 << 20


class Host(NamedTuple):
    """A host: what ssh calls it, and where the others reach its server."""

    name: str
    address: str
    port: int


def local_hosts(parts: int) -> tuple[Host, ...]:
    """Return this host once for each part, with ports that are free now."""
    return tuple(Host("this host", "127.0.0.1", port) for port in free_ports(parts))


def free_ports(count: int) -> list[int]:
    """Return numbers of ports of 127.0.0.1 that nobody listens to."""
    places = [socket.socket() for _ in range(count)]
    try:
        for place in places:
            place.bind(("127.0.0.1", 0))
        return [int(place.getsockname()[1]) for place in places]
    finally:
        for place in places:
            place.close()


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
