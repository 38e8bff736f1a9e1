"""What servers send: within limits of time and size, whatever they say of it.

A server may answer never, or a byte a minute, may lie about the length, or may never end. The
limits here are of the whole transfer. The ``requests`` library has limits for single reads alone.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urljoin, urlsplit

from dglke_distill.base.errors import UserError

READ_SECONDS = 20.0
"""A server that sends nothing for so long is given up."""
GRACE_SECONDS = 60.0
"""Time for connecting and headers, on top of what ``LEAST_BYTES_PER_SECOND`` allows."""
LEAST_BYTES_PER_SECOND = 4096
"""A server that sends less, on average, is given up."""

_BLOCK_BYTES = 1 << 16
_MOST_REDIRECTS = 5
_MOST_CHUNK_LINE = 1000
_MOST_TRAILERS = 100
_REDIRECTS = (301, 302, 303, 307, 308)


class BrokenOffError(Exception):
    """The connection could not be made, or ended before the answer did; it may work again."""


@dataclass
class ServerReply:
    """A server's answer, its body not read yet.

    Attributes:
        url: where it came from, after redirects.
        status: the HTTP status.
        reason: its words.
        headers: by name, in any letter case.
        length: bytes of the body, None where the server does not say.
    """

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]
    length: Optional[int]
    _body: Any
    _watch: _Watch

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as it was sent.

        Raises:
            BrokenOffError: it ended before it was whole.
            UserError: it comes too slowly, or is sent in a way that is not allowed.
        """
        body = self._body
        with _told_apart(self._watch):
            done = 0
            for block in _chunks(body) if body.chunked else _plain(body, self.length):
                done += len(block)
                self._watch.received(len(block))
                yield block
            if self.length is not None and done < self.length:
                raise BrokenOffError(f"the connection closed after {done} of {self.length} bytes")


@contextlib.contextmanager
def ask(url: str, headers: Mapping[str, str]) -> Iterator[ServerReply]:
    """Ask for an address by GET, following redirects that do not leave the safer protocol.

    Args:
        url: an ``http`` or ``https`` address.
        headers: of the request.

    Raises:
        BrokenOffError: the server cannot be reached, or hung up.
        UserError: the address or a header of the answer is not allowed, or the server is slow.
    """
    import requests

    watch = _Watch(url)
    with contextlib.ExitStack() as stack:
        stack.enter_context(watch)
        session = stack.enter_context(_session(watch))
        with _told_apart(watch):
            for _ in range(_MOST_REDIRECTS + 1):
                _check_address(url)
                answer: requests.Response = stack.enter_context(
                    session.get(
                        url,
                        headers={"Accept-Encoding": "identity", **headers},
                        stream=True,
                        timeout=READ_SECONDS,
                        allow_redirects=False,
                    )
                )
                if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
                    break
                url = _redirected(url, answer.headers["Location"])
            else:
                raise UserError(f"{watch.url}: is redirected more than {_MOST_REDIRECTS} times")
            reply = _reply(url, answer, watch)
        yield reply


def _reply(url: str, answer: Any, watch: _Watch) -> ServerReply:
    headers = answer.headers
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise UserError(f"{url}: the server sends {headers['Content-Encoding'][:40]!r} unasked")
    body = answer.raw._fp
    if not isinstance(body, http.client.HTTPResponse):
        raise UserError(f"{url}: the server's answer cannot be read")
    length = None if body.chunked else _length(url, headers.get("Content-Length"))
    reason = re.sub(r"[^ -~]", "?", str(answer.reason or ""))[:80]
    return ServerReply(url, answer.status_code, reason, headers, length, body, watch)


def _length(url: str, stated: Optional[str]) -> Optional[int]:
    if stated is None:
        return None
    # One that is sent twice arrives as "5, 5".
    values = {value.strip() for value in stated.split(",")}
    if len(values) != 1 or not re.fullmatch(r"[0-9]{1,18}", min(values)):
        raise UserError(f"{url}: the server states a length of {stated[:40]!r}, which is none")
    return int(min(values))


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not re.fullmatch(r"[!-~]+", url):
        raise UserError(f"{_shown(url)}: cannot be downloaded: no http or https address")


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location.strip())
    secure, kept = (urlsplit(one).scheme == "https" for one in (url, target))
    if urlsplit(target).scheme not in ("http", "https") or (secure and not kept):
        raise UserError(f"{_shown(url)}: redirects to {_shown(target)}, which is not followed")
    return target


def _shown(url: str) -> str:
    return re.sub(r"[^!-~]", "?", url)[:200]


def _plain(body: http.client.HTTPResponse, length: Optional[int]) -> Iterator[bytes]:
    left = length
    while left is None or left > 0:
        block = body.fp.read1(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))
        if not block:
            return
        left = None if left is None else left - len(block)
        yield block


def _chunks(body: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield a body that is sent in chunks, each of a stated length."""
    while True:
        line = body.fp.readline(_MOST_CHUNK_LINE)
        size = re.match(rb"[0-9A-Fa-f]{1,15}(?=[;\r\n \t])", line)
        if size is None or not line.endswith(b"\n"):
            raise BrokenOffError("a chunk of the answer has no length")
        left = int(size[0], 16)
        if not left:
            break
        while left:
            block = body.fp.read1(min(left, _BLOCK_BYTES))
            if not block:
                raise BrokenOffError("the connection closed within a chunk")
            left -= len(block)
            yield block
        if body.fp.readline(3) not in (b"\r\n", b"\n"):
            raise BrokenOffError("a chunk of the answer is longer than it says")
    for _ in range(_MOST_TRAILERS):
        if body.fp.readline(_MOST_CHUNK_LINE) in (b"\r\n", b"\n", b""):
            return


class _Watch:
    """Hangs up on a server that is too slow: a thread looks at the clock meanwhile."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.late = False
        self._received = 0
        self._begun = time.monotonic()
        self._done = threading.Event()
        self._sockets: list[Any] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def connected(self, socket: Any) -> None:
        self._sockets.append(socket)
        if self.late:
            self._hang_up()

    def received(self, size: int) -> None:
        self._received += size

    def error(self) -> UserError:
        return UserError(
            f"{_shown(self.url)}: the server sent {self._received} bytes in "
            f"{time.monotonic() - self._begun:.0f} s and was given up as too slow; try again later"
        )

    def _run(self) -> None:
        while True:
            allowed = GRACE_SECONDS + self._received / LEAST_BYTES_PER_SECOND
            left = self._begun + allowed - time.monotonic()
            if left <= 0:
                self.late = True
                self._hang_up()
                return
            if self._done.wait(min(left, 1.0)):
                return

    def _hang_up(self) -> None:
        import socket

        for one in self._sockets:
            with contextlib.suppress(OSError, ValueError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _told_apart(watch: _Watch) -> Iterator[None]:
    """Within it, what the network raises is one of our errors."""
    import requests
    import urllib3

    try:
        yield
    except (UserError, BrokenOffError):
        if watch.late:
            raise watch.error() from None
        raise
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise UserError(f"{_shown(watch.url)}: cannot be downloaded: {_line(error)}") from None
    except requests.exceptions.InvalidHeader as error:
        raise UserError(
            f"{_shown(watch.url)}: the server's answer is no HTTP ({_line(error)})"
        ) from None
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
        AttributeError,  # of a response whose connection the watch has closed
    ) as error:
        if watch.late:
            raise watch.error() from None
        raise BrokenOffError(type(error).__name__) from None


def _line(error: Exception) -> str:
    return re.sub(r"[^ -~]", "?", str(error))[:200]


def _session(watch: _Watch) -> Any:
    """Return a session of ``requests`` whose connections the watch can close."""
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter

    class Plain(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            watch.connected(self.sock)

    class Secure(urllib3.connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            watch.connected(self.sock)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            watched(self.poolmanager)

        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            return watched(super().proxy_manager_for(*arguments, **options))

    def watched(manager: Any) -> Any:
        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
        return manager

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session
