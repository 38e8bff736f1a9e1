"""Hosts made of network namespaces of this machine, joined by a bridge.

Each has a network card and an address of its own, and reaches the others through that card alone;
files and processors are shared. What runs a command on such a host is ``ip netns exec NAME``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional


class NetHost(NamedTuple):
    """A host.

    Attributes:
        name: of the namespace.
        address: IPv4.
        wire: our end of its wire; its received bytes are those that the host has sent.
    """

    name: str
    address: str
    wire: str


def ip(*words: str) -> None:
    """Run ``ip``.

    Raises:
        OSError: it failed; the message is its own.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip() or done.returncode}")


def obstacle() -> Optional[str]:
    """Return why no such hosts can be made here, None if they can."""
    if shutil.which("ip") is None:
        return "there is no `ip` here (Debian: iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root: start it with sudo"
    try:
        with namespaces(1):
            return None
    except OSError as error:
        return f"this machine allows no network namespaces ({error})"


@contextmanager
def namespaces(count: int) -> Iterator[list[NetHost]]:
    """Make some hosts; within it they can reach each other.

    Args:
        count: how many, at most 200.

    Raises:
        OSError: they cannot be made.
    """
    tag = f"dk{os.getpid() % 10000}"
    bridge, hosts = f"{tag}b", list[NetHost]()
    ip("link", "add", "name", bridge, "type", "bridge")
    try:
        ip("link", "set", bridge, "up")
        for number in range(count):
            host = NetHost(f"{tag}n{number}", f"10.213.0.{number + 1}", f"{tag}v{number}")
            ip("netns", "add", host.name)
            hosts.append(host)
            wire = ("link", "add", host.wire, "type", "veth", "peer", "name", "eth0")
            ip(*wire, "netns", host.name)
            ip("link", "set", host.wire, "master", bridge, "up")
            for words in (
                ("addr", "add", f"{host.address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", host.name, *words)
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], check=False)
        subprocess.run(["ip", "link", "del", bridge], check=False)
