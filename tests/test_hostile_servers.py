"""Servers that are slow, never end, or lie: each ends in one line, in a limited time."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from zoo_fixtures import NAME, home, store, trained

from dglke_distill import cli, zoo
from dglke_distill.base.errors import UserError
from dglke_distill.data import download, web
from dglke_distill.data.download import fetch, identify
from dglke_distill.data.manifest import DatasetFile

__all__ = ["home", "store", "trained"]

BODY = b"aa\tr\tb\n" * 20
Answer = Callable[[socket.socket, "Raw"], None]


class Raw:
    """A server whose every answer is written by hand.

    Attributes:
        url: its address.
        asked: what was asked of it.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.closed = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.closed.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(4096) or b"\r\n\r\n"
                self.asked.append(asked)
                self.answer(connection, self)
            except OSError:
                pass

    def close(self) -> None:
        self.closed.set()
        self.listener.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Raw]]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(web, "GRACE_SECONDS", 0.6)
    monkeypatch.setattr(web, "READ_SECONDS", 0.4)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    running: list[Raw] = []

    def start(answer: Answer) -> Raw:
        running.append(Raw(answer))
        return running[-1]

    yield start
    for server in running:
        server.close()


def said(*parts: bytes) -> Answer:
    return lambda connection, server: connection.sendall(b"".join(parts))


def header(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + b"\r\n".join([status, *lines]) + b"\r\n\r\n"


def dripping(before: bytes, piece: bytes = b"x", pause: float = 0.05) -> Answer:
    """Send ``before`` at once, then a little at a time, for ever."""

    def answer(connection: socket.socket, server: Raw) -> None:
        connection.sendall(before)
        while not server.closed.wait(pause):
            connection.sendall(piece)

    return answer


def silent(connection: socket.socket, server: Raw) -> None:
    server.closed.wait(20)


CHUNKED = header(b"Transfer-Encoding: chunked")
SHORT = header(b"Content-Length: %d" % (len(BODY) + 5)) + BODY
HOSTILE: dict[str, Answer] = {
    "silent": silent,
    "a body that drips": dripping(header(b"Content-Length: 140")),
    "a body without length that drips": dripping(header()),
    "a status that drips": dripping(b"HTTP/1.1 2"),
    "headers that drip": dripping(b"HTTP/1.1 200 OK\r\nX: "),
    "headers without end": dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 50, 0),
    "a header without end": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536, 0),
    "continue without end": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body without end": dripping(header(), b"x" * 65536, 0),
    "chunks without end": dripping(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", 0),
    "a chunk without end": dripping(CHUNKED + b"fffffff\r\n", b"x" * 65536, 0),
    "chunks that drip": dripping(CHUNKED, b"1\r\nx\r\n"),
    "a chunk of length -1": dripping(CHUNKED + b"-1\r\n", b"x" * 65536, 0),
    "a chunk length without end": dripping(CHUNKED, b"0" * 65536, 0),
    "a chunk length that is none": said(CHUNKED, b"abc!\r\nx\r\n0\r\n\r\n"),
    "trailers without end": dripping(CHUNKED + b"0\r\n", b"X: y\r\n", 0),
    "length abc": said(header(b"Content-Length: abc"), BODY),
    "length -5": said(header(b"Content-Length: -5"), BODY),
    "length +140": said(header(b"Content-Length: +140"), BODY),
    "length of 5,000 digits": said(header(b"Content-Length: " + b"9" * 5000), BODY),
    "two lengths": said(header(b"Content-Length: 140", b"Content-Length: 5"), BODY),
    "a petabyte": said(header(b"Content-Length: 1000000000000000"), BODY),
    "a shorter body": said(SHORT),
    "nothing": said(b""),
    "no HTTP": said(b"SSH-2.0-x\r\n\r\n"),
    "no status": said(b"HTTP/1.1 abc\r\n\r\n"),
    "an encoding": said(header(b"Content-Encoding: gzip"), gzip.compress(b"0" * 9_000_000)),
    "to a file": said(header(b"Location: file:///etc/passwd", status=b"302 Found")),
    "to ftp": said(header(b"Location: ftp://127.0.0.1/x", status=b"301 Moved")),
    "to nowhere": said(header(b"Location: http://", status=b"301 Moved")),
    "in a circle": said(header(b"Location: /again", status=b"307 Again")),
    "status 500": said(header(b"Content-Length: 0", status=b"500 \x1b[31mBroken")),
}


def refused(call: Callable[[], Any]) -> str:
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        call()
    assert time.monotonic() - begun < 10
    message = str(caught.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    return message


@pytest.mark.parametrize("kind", HOSTILE)
def test_downloads(serve: Any, tmp_path: Path, kind: str) -> None:
    server = serve(HOSTILE[kind])
    digest = hashlib.sha256(BODY).hexdigest()
    for known in (
        DatasetFile(path="train.txt", sha256=digest, bytes=len(BODY)),
        DatasetFile(path="train.txt", git_blob="0" * 40),
    ):
        target = tmp_path / "new" / "train.txt"
        refused(lambda k=known, t=target: fetch(f"{server.url}/x", t, k, most_bytes=1 << 20))
        assert not target.exists()
        assert all(part.stat().st_size <= 1 << 20 for part in target.parent.glob("*"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_stores(serve: Any, home: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(HOSTILE[kind])
    monkeypatch.setattr("dglke_distill.zoo.store.MAX_INDEX_BYTES", 1 << 20)
    refused(lambda: zoo.list(store=f"{server.url}/zoo"))


@pytest.mark.parametrize("kind", ["silent", "a body that drips", "length abc", "no HTTP"])
def test_a_dead_store_does_not_block_the_others(
    serve: Any,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    server = serve(HOSTILE[kind])
    monkeypatch.setenv("DGLKE_DISTILL_STORES", f"{server.url}/zoo,{store}")
    assert zoo.load(NAME).model.floats_per_entity == 8
    error = capsys.readouterr().err
    assert error.startswith("warning: a store is left out: ") and len(error.splitlines()) == 1
    assert any(entry.name == NAME for entry in zoo.list())
    assert capsys.readouterr().err.count("warning: ") == 1
    with pytest.raises(UserError, match="the zoo has no model 'nonsense'"):
        zoo.info("nonsense")
    assert capsys.readouterr().err.count("warning: ") == 1
    with pytest.raises(SystemExit):
        cli.main(["zoo", "list", "--store", f"{server.url}/zoo"])
    assert capsys.readouterr().err.startswith("error: ")


def test_a_store_with_a_damaged_registry_is_left_out(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "zoo.toml").write_text("[[[")
    monkeypatch.setenv("DGLKE_DISTILL_STORES", f"{tmp_path / 'broken'},{store}")
    assert zoo.info(NAME).name == NAME
    assert "warning: a store is left out: " in capsys.readouterr().err


@pytest.mark.parametrize("lie", ["another part", "the whole", "no range", "too much"])
def test_resumed_answers_that_lie(serve: Any, tmp_path: Path, lie: str) -> None:
    """A part is completed by what follows it, or everything is fetched again."""
    digest = hashlib.sha256(BODY).hexdigest()
    known = DatasetFile(path="train.txt", sha256=digest, bytes=len(BODY))
    ranges = {
        "another part": b"Content-Range: bytes 3-139/140",
        "the whole": b"Content-Range: bytes 0-139/140",
        "no range": b"X: y",
        "too much": b"Content-Range: bytes 50-9999/10000",
    }

    def answer(connection: socket.socket, server: Raw) -> None:
        if b"Range: bytes=50-" not in server.asked[-1]:
            connection.sendall(header(b"Content-Length: 140") + BODY)
            return
        body = b"x" * (9950 if lie == "too much" else 137)
        length = b"Content-Length: %d" % len(body)
        connection.sendall(header(ranges[lie], length, status=b"206 Part") + body)

    server = serve(answer)
    target = tmp_path / "train.txt"
    (tmp_path / "train.txt.part").write_bytes(BODY[:50])
    if lie == "too much":
        refused(lambda: fetch(f"{server.url}/x", target, known))
    fetch(f"{server.url}/x", target, known)
    assert target.read_bytes() == BODY


def test_what_is_sent_in_chunks_is_put_together(serve: Any, tmp_path: Path) -> None:
    chunks = b"3;x=y\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
    server = serve(said(CHUNKED, chunks))
    known = DatasetFile(path="x", sha256=hashlib.sha256(b"abc0123456789").hexdigest())
    fetch(f"{server.url}/x", tmp_path / "x", known)
    assert (tmp_path / "x").read_bytes() == b"abc0123456789"


def test_redirects_within_the_web_are_followed(serve: Any, tmp_path: Path) -> None:
    there = serve(said(header(b"Content-Length: 140"), BODY))
    here = serve(said(header(b"Location: " + there.url.encode() + b"/y", status=b"302 Found")))
    known = DatasetFile(path="x", sha256=hashlib.sha256(BODY).hexdigest())
    fetch(f"{here.url}/x", tmp_path / "x", known)
    assert (tmp_path / "x").read_bytes() == BODY
    assert there.asked[0].startswith(b"GET /y HTTP/1.1")


@pytest.mark.parametrize("target", ["http://host/x", "file:///x", "//[", "gopher://host/"])
def test_redirects_out_of_https_are_not(target: str) -> None:
    with pytest.raises((UserError, ValueError)):
        web._redirected("https://host/y", target)
    assert web._redirected("https://host/y", "/x") == "https://host/x"
    assert web._redirected("http://host/y", "https://host/x") == "https://host/x"


def test_digests_take_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "train.txt"
    line = b"head\trelation\ttail\r\n"
    path.write_bytes(line * 1_500_000)
    unix = line.replace(b"\r\n", b"\n") * 1_500_000
    known = DatasetFile(path="train.txt", sha256=hashlib.sha256(unix).hexdigest())
    del unix
    tracemalloc.start()
    assert identify(path, known) == "line_ends"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
