"""Connections with limits: how much a request may hold, and how long everything may take."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any, Optional

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from dglke_distill.serve.watch import Held, Watch

ONLY_READ = "only GET and HEAD are answered"

_METHOD = re.compile(rb"[A-Z]{1,32} \S+ HTTP/1\.[01]\r?\n")


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits; what it refuses, it refuses in JSON.

    Args:
        watch: knows all connections and the limits.
    """

    def __init__(
        self,
        watch: Watch,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: Optional[asyncio.AbstractEventLoop] = None,
    ) -> None:
        """Not connected yet."""
        super().__init__(config, server_state, app_state, _loop)
        self.watch = watch
        self.place: Optional[dict[Held, float]] = None
        self._heading = False  # within the first line or the headers
        self._head = 0  # bytes of the headers that have come whole
        self._raw = 0  # bytes since, of headers that may have no end
        self._deaf = False  # what still comes is thrown away
        self._mistake: Optional[tuple[int, str]] = None

    # --- the transport's calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Watch the connection, or refuse it where there are too many."""
        admitted = self.watch.admit()
        super().connection_made(transport)
        self.watch.move(self, self.watch.idle)
        if not admitted:
            self.refuse(503, "too many connections; try again later", linger=False)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Forget the connection."""
        self.watch.move(self, None)
        super().connection_lost(exc)

    def eof_received(self) -> Optional[bool]:  # type: ignore[override]
        """Answer a client that has sent its last request and listens on."""
        if self.cycle is None or self.cycle.response_complete or self._ending:
            return None
        self.cycle.keep_alive = False
        self._deaf = True
        return True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf:
            return
        if self.place is self.watch.idle:
            self.watch.move(self, self.watch.arriving)
        self._unset_keepalive_if_required()
        self._raw += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # what follows is of a protocol that is not spoken here
            if self.cycle is not None:
                self.cycle.keep_alive = False
        except httptools.HttpParserInvalidMethodError:
            if _METHOD.match(data):
                self._mistake = self._mistake or (405, ONLY_READ)
            self._mistake = self._mistake or (400, "this is no HTTP request")
        except httptools.HttpParserError:
            self._mistake = self._mistake or (400, "this is no HTTP request")
        if self._heading and self._raw > self.watch.limits.head:
            self._too_much(431, f"the headers are longer than {self.watch.limits.head} bytes")
        if self._mistake is not None:
            self.refuse(*self._mistake)

    # --- the parser's calls ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._heading, self._head, self._raw = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Keep a part of the address."""
        if len(self.url) + len(url) > self.watch.limits.url:
            self._too_much(414, f"the address is longer than {self.watch.limits.url} bytes")
        else:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        limits = self.watch.limits
        self._head += len(name) + len(value) + 4
        if len(self.headers) >= limits.headers:
            self._too_much(431, f"there are more than {limits.headers} headers")
        elif self._head > limits.head:
            self._too_much(431, f"the headers are longer than {limits.head} bytes")
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the request answered; its body, if there is one, is not read."""
        self._heading = False
        body = False
        for name, value in self.headers:
            if name == b"content-length" and value.strip(b"0"):
                body = True
                if len(value) > 18 or int(value) > self.watch.limits.body:
                    limit = self.watch.limits.body
                    self._too_much(413, f"the body is longer than {limit} bytes")
            elif name == b"transfer-encoding":
                body = True
        if self._deaf or self._mistake is not None:
            return
        self.watch.move(self, self.watch.answering)
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, AttributeError):  # CONNECT names no path
            reads = self.scope["method"] in ("GET", "HEAD")
            self._mistake = (400, "the address cannot be read") if reads else (405, ONLY_READ)
            return
        if body:
            self._deaf = True
            self.cycle.keep_alive = False
            self.cycle.transport = _Lingering(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Drop it: no request needs one."""

    def on_message_complete(self) -> None:
        """Go on, unless the message was refused."""
        if self.cycle is not None and not self._deaf:
            super().on_message_complete()

    # --- ends -----------------------------------------------------------------------------------

    @property
    def _ending(self) -> bool:
        return self.place is self.watch.closing or self.transport.is_closing()

    def _too_much(self, status: int, message: str) -> None:
        self._mistake = self._mistake or (status, message)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of one that has begun."""
        if self._ending:
            return
        more = bool(self.pipeline)
        super().on_response_complete()
        watch = self.watch
        self.watch.move(
            self, watch.answering if more else watch.arriving if self._heading else watch.idle
        )

    def refuse(self, status: int, message: str, *, linger: bool = True) -> None:
        """Say what is wrong, and close.

        Requests that came before on the same connection are answered first; then nothing is said.

        Args:
            status: of HTTP.
            message: a sentence.
            linger: whether to wait for the client to stop sending, so that it gets to read.
        """
        self._mistake, self._deaf = None, True
        if self._ending:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        body = self.watch.refusal(status, message)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        headers = [*self.server_state.default_headers, *self.watch.headers]
        lines += [name + b": " + value for name, value in headers]
        lines += [
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            *([b"allow: GET, HEAD"] if status == 405 else []),
            b"connection: close",
            b"",
            body,
        ]
        self.transport.write(b"\r\n".join(lines))
        if linger:
            self.linger()
        else:
            self.transport.close()

    def linger(self) -> None:
        """Close for writing; wait a little for the client, lest it never reads the answer."""
        self._deaf = True
        if self.transport.is_closing():
            return
        self.watch.move(self, self.watch.closing)
        self.flow.resume_reading()
        self.transport.write_eof()

    def shutdown(self) -> None:
        """End when the requests that are being answered are."""
        self._deaf = True
        if self.place is self.watch.closing:
            self.abort()
        else:
            super().shutdown()

    def abort(self) -> None:
        """End at once."""
        self.watch.move(self, None)
        self.transport.abort()


class _Lingering:
    """A transport that lingers where it is told to close."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.linger()
