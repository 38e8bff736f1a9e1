"""The web server: one address, one page and its questions, and an end within a second."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Optional, cast

import uvicorn

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import visible
from dglke_distill.base.signals import signals_to
from dglke_distill.serve.api import Api
from dglke_distill.serve.app import FENCE, Pages, build, encoded, meant_for
from dglke_distill.serve.connections import Connection
from dglke_distill.serve.routes import Refused
from dglke_distill.serve.watch import Limits, Watch, most_connections

_GRACE = 0.4
"""Seconds that answers which have begun may still take when the server is told to stop."""

_AT_ONCE = 16
"""Connections accepted before others are served; each takes a descriptor."""

_SWITCH = 0.001
"""Seconds after which the thread that scores lets the one that sends go on, and the reverse."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PageServer:
    """Serves the page and its questions, by uvicorn.

    The port is taken at once, and answers come when ``api`` is set and ``serve_forever`` runs.

    Args:
        host: name or address to listen on.
        port: to listen on; 0 for any free one.
        limits: of connections; by default as many as descriptors allow, 1,000 at most.

    Attributes:
        api: answers the questions.
        loopback: whether only this machine reaches it. Then requests must be made to a name or
            address of loopback, lest another site's name be pointed here (DNS rebinding).
        server_address: the address listened on, and the port.

    Raises:
        UserError: the port is out of range, in use or not allowed; or there is no such host.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8350, limits: Optional[Limits] = None
    ) -> None:
        """Take the port."""
        if not 0 <= port <= 65535:
            raise UserError(f"--port {port}: ports go from 1 to 65535, or 0 for any free one")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except (OSError, ValueError) as error:
            raise UserError(f"--host {host!r}: no such host here ({error})") from None
        self.limits = limits or Limits(connections=most_connections(Limits.connections))
        self.api: Optional[Api] = None
        # asyncio turns Nagle's algorithm off only where the protocol is named.
        self._socket = socket.socket(found[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((str(found[4][0]), port))
            self._socket.listen(self.limits.connections)
        except OSError as error:
            self._socket.close()
            raise UserError(_explain(error, host, port)) from None
        self.server_address: tuple[str, int] = self._socket.getsockname()[:2]
        self.loopback = ipaddress.ip_address(self.server_address[0]).is_loopback
        self._pages = Pages(self._answers, self.loopback)
        self._server: Optional[_Server] = None
        self._stopped = False

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *of_error: Any) -> None:
        self._socket.close()
        self._pages.close()

    @property
    def server_port(self) -> int:
        """The port."""
        return self.server_address[1]

    @property
    def url(self) -> str:
        """The page's address."""
        host, port = self.server_address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def accepts(self, hosts: Sequence[str]) -> bool:
        """Return whether a request with these ``Host`` headers is meant for this server."""
        return not self.loopback or meant_for(hosts)

    def serve_forever(self) -> None:
        """Serve until ``shutdown`` is called or, in the main thread, until a signal to stop."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        try:
            asyncio.run(self._serve())
        finally:
            sys.setswitchinterval(before)

    def shutdown(self) -> None:
        """End ``serve_forever``, from any thread."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    def _answers(self) -> Api:
        assert self.api is not None
        return self.api

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_Complaints())
        watch = Watch(
            self.limits,
            lambda status, message: encoded(Refused(status, message).body()),
            FENCE,
            loop.time,
        )
        config = uvicorn.Config(
            build(self._pages),
            http=cast(Any, functools.partial(Connection, watch)),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_AT_ONCE,
            timeout_keep_alive=3600,  # the watch ends idle ones sooner
            timeout_graceful_shutdown=cast(Any, _GRACE),
        )
        self._server = _Server(config, watch, self._socket)
        self._server.should_exit = self._stopped
        await self._server.serve(sockets=[self._socket])


class _Server(uvicorn.Server):
    """uvicorn's server that also ends late connections, and stops at SIGHUP too."""

    def __init__(self, config: uvicorn.Config, watch: Watch, listening: socket.socket) -> None:
        super().__init__(config)
        self._watch = watch
        self._listening = listening

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await super().startup(sockets)
        # `backlog` is also how many asyncio accepts at once; more of them may wait.
        self._listening.listen(self._watch.limits.connections)

    async def on_tick(self, counter: int) -> bool:
        self._watch.sweep()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: Optional[FrameType]) -> None:
            self.should_exit = True

        heard = [number for number in _STOPS if signal.getsignal(number) != signal.SIG_IGN]
        with signals_to(stop, heard):  # one is ignored under nohup
            yield


class _Complaints:
    """Says what goes wrong in the loop, once a minute at most where descriptors have run out."""

    def __init__(self) -> None:
        self._last = -60.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if time.monotonic() - self._last >= 60:
                self._last = time.monotonic()
                print(
                    visible(f"note: connections wait: {error.strerror} (see ulimit -n)"),
                    file=sys.stderr,
                    flush=True,
                )
        elif not isinstance(error, (ConnectionError, TimeoutError)):
            loop.default_exception_handler(context)


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: in use on {host}; choose another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"--port {port}: not allowed to you; choose one from 1024 on"
    return f"--host {host}: cannot listen there ({error.strerror})"
