"""Being started by torchrun: who a process is stands in its environment.

torchrun starts ``LOCAL_WORLD_SIZE`` processes on each host. The first of all is the launcher, the
first of each other host becomes that host's agent, and the rest have nothing to do: agents start
trainers themselves, as many as torchrun started processes. Agents and launcher, which else talk
over a pipe or ssh, talk over a connection whose address and password are in torch's store.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import IO, Any, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.runs.launching.hosts import Host, free_ports

_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_LAUNCHER = "dglke-distill/launcher"
_PATIENCE = 10.0


class Place(NamedTuple):
    """Where a process stands among those that torchrun has started.

    Attributes:
        host: number of its host.
        hosts: how many there are.
        local: its number on the host.
        trainers: how many processes each host has.
        master: address and port of torch's store.
    """

    host: int
    hosts: int
    local: int
    trainers: int
    master: tuple[str, int]


def place_of(environment: Mapping[str, str]) -> Place:
    """Read the environment.

    Raises:
        UserError: torchrun has not set it, or a value is none of its.
    """
    missing = [n for n in (*_NAMES, "MASTER_ADDR", "MASTER_PORT") if not environment.get(n)]
    if missing:
        raise UserError(
            f"--torchrun: {missing[0]} is not set; start it as `torchrun ... -m dglke_distill dist "
            "launch --torchrun -- train PARTS ...`"
        )
    try:
        rank, local, world, trainers = (int(environment[name]) for name in _NAMES)
        port = int(environment["MASTER_PORT"])
    except ValueError:
        raise UserError("--torchrun: RANK and its like must be whole numbers") from None
    if not 0 < port < 1 << 16:
        raise UserError(f"--torchrun: MASTER_PORT {port} is no port; give 1 to 65535")
    if not (0 <= local < trainers and 0 <= rank < world and world % trainers == 0):
        raise UserError(
            f"--torchrun: RANK {rank} of {world} and LOCAL_RANK {local} of {trainers} do not go "
            "together; start as many processes on each host (--nproc-per-node)"
        )
    master = environment["MASTER_ADDR"], port
    return Place(rank // trainers, world // trainers, local, trainers, master)


class Connection:
    """A connection to an agent, in place of a process that runs it."""

    def __init__(self, place: socket.socket) -> None:
        """Keep it."""
        self._socket = place
        self.stdin = _Input(place)
        self.stdout: IO[str] = place.makefile("r", encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Return at once: whoever has read the connection to its end knows that it has ended."""
        return 0

    def kill(self) -> None:
        """End the connection, which ends the agent and all that it has started."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class _Input:
    """What an agent reads; its end does not end what it says."""

    def __init__(self, place: socket.socket) -> None:
        self._socket = place

    def write(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def flush(self) -> None:
        return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)


def _notice_loss(connection: socket.socket) -> None:
    """Have the system end a connection whose other host has gone without a word, in a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def meet(place: Place, timeout: float) -> Any:
    """Return torch's store, where all processes find each other.

    Args:
        place: of this process.
        timeout: seconds to wait for the others.

    Raises:
        UserError: the store is not reached.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    hosts_it = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    leads = hosts_it and place.host == place.local == 0
    if not leads:
        _reach(place.master, timeout)
    try:
        return TCPStore(*place.master, None, leads, timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        raise UserError(
            f"--torchrun: the store of {place.master[0]} port {place.master[1]} is not reached: "
            f"{str(error).splitlines()[0][:120]}"
        ) from None


def _reach(where: tuple[str, int], timeout: float) -> None:
    """Wait until somebody listens there: torch would fill the terminal with its own frames."""
    limit = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(where, max(0.1, limit - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() > limit or isinstance(error, socket.gaierror):
                raise UserError(
                    f"--torchrun: the store at {where[0]} port {where[1]} (MASTER_ADDR, "
                    f"MASTER_PORT) is not reached: {error.strerror or error}"
                ) from None
        time.sleep(0.2)


def become_agent(store: Any, place: Place) -> None:
    """Be the agent of a host until the launcher is gone."""
    try:
        where = store.get(_LAUNCHER).decode().split()
    except RuntimeError:
        raise UserError("--torchrun: the first process says nothing; look what it prints") from None
    try:
        connection = socket.create_connection((where[0], int(where[1])), _PATIENCE)
    except OSError as error:
        raise UserError(
            f"--torchrun: the launcher at {where[0]} is gone, or its ports are closed to this host "
            f"({error.strerror or error})"
        ) from None
    with connection:
        connection.settimeout(None)
        _notice_loss(connection)
        own = connection.getsockname()[0]
        (port,) = free_ports(1, own)
        connection.sendall(f"{where[2]} {place.host} {own} {port}\n".encode())
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 1)
    from dglke_distill.runs.launching import agent

    agent.main()


def accept_agents(
    store: Any, place: Place, timeout: float
) -> tuple[tuple[Host, ...], tuple[Optional[Connection], ...]]:
    """Wait for the agents of all other hosts; the launcher calls it.

    Args:
        store: torch's.
        place: the launcher's.
        timeout: seconds to wait for them.

    Returns:
        The hosts in the order of their numbers, and the connections; None for this host's own
        agent, which the launcher starts.

    Raises:
        UserError: a host does not answer, or MASTER_ADDR is no address of this one.
    """
    password = secrets.token_hex(16)
    found: dict[int, tuple[Host, Optional[Connection]]] = {}
    try:
        address = socket.gethostbyname(place.master[0])
        listening = socket.create_server((address, 0))
    except OSError as error:
        raise UserError(
            f"--torchrun: MASTER_ADDR {place.master[0]} is no IPv4 address of the first host: "
            f"{error.strerror or error}"
        ) from None
    with listening as server:
        own = Host(place.master[0], address, *free_ports(1, address))
        found[0] = own, None
        store.set(_LAUNCHER, f"{address} {server.getsockname()[1]} {password}")
        server.settimeout(timeout)
        while len(found) < place.hosts:
            try:
                connection, peer = server.accept()
            except TimeoutError:
                silent = min(set(range(place.hosts)) - found.keys())
                raise UserError(
                    f"host {silent} of torchrun does not answer within {timeout:g} s (--timeout)"
                ) from None
            connection.settimeout(_PATIENCE)  # for whoever calls and says nothing
            made, words = Connection(connection), list[str]()
            with suppress(OSError):
                words = made.stdout.readline(200).split()
            # As bytes: what is no ASCII text is no password, and no error.
            if len(words) == 4 and hmac.compare_digest(words[0].encode(), password.encode()):
                host = Host(f"node {words[1]} ({peer[0]})", words[2], int(words[3]))
                found[int(words[1])] = host, made
                connection.settimeout(None)
                _notice_loss(connection)
            else:
                connection.close()
    ordered = [found[number] for number in range(place.hosts)]
    return tuple(host for host, _ in ordered), tuple(made for _, made in ordered)
