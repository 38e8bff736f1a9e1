"""Connections: many requests on one, requests that are none, slow clients, too many of them."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_fixtures import Page, page, served, town

from dglke_distill.serve import Limits
from dglke_distill.serve.watch import Watch, most_connections

__all__ = ["page", "town"]

HOST = b"Host: localhost\r\n"
LAST = HOST + b"Connection: close\r\n"


def connected(page: Page) -> socket.socket:
    return socket.create_connection(page.server.server_address, timeout=30)


def exchange(page: Page, data: bytes, *, half: bool = False) -> list[tuple[int, bytes]]:
    """Send bytes, read until the server closes; return status and body of each answer."""
    with connected(page) as connection:
        connection.sendall(data)
        if half:
            connection.shutdown(socket.SHUT_WR)
        return answers(connection.makefile("rb").read())


def answers(text: bytes) -> list[tuple[int, bytes]]:
    found = []
    while text:
        head, blank, rest = text.partition(b"\r\n\r\n")
        assert blank and head.startswith(b"HTTP/1.1 "), text[:200]
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers[b"content-length"])
        assert len(rest) >= length
        found.append((int(head[9:12]), rest[:length]))
        text = rest[length:]
    return found


def get(target: str, more: bytes = HOST) -> bytes:
    return b"GET " + target.encode() + b" HTTP/1.1\r\n" + more + b"\r\n"


def test_the_next_request_on_a_connection_is_answered_at_once(page: Page) -> None:
    """Nagle's algorithm and delayed acknowledgements made each 40 ms late."""
    taken = []
    wanted = len(page.request("/page.css")[2])
    with connected(page) as connection:
        stream = connection.makefile("rb")
        for _ in range(40):
            begun = time.perf_counter()
            connection.sendall(get("/page.css"))
            while stream.readline() != b"\r\n":
                pass
            assert len(stream.read(wanted)) == wanted
            taken.append(time.perf_counter() - begun)
    assert sorted(taken)[len(taken) // 4] < 0.03


def test_requests_in_one_packet_are_answered_in_order(page: Page) -> None:
    targets = ["/health", "/api/models", "/api/answers?entity=Ada&relation=runs", "/nothing"] * 50
    data = b"".join(map(get, targets)) + get("/icon.svg", LAST)
    found = exchange(page, data)
    alone = {target: page.request(target)[::2] for target in {*targets, "/icon.svg"}}
    assert found == [alone[target] for target in [*targets, "/icon.svg"]]


def test_requests_before_one_that_is_none_are_answered(page: Page) -> None:
    found = exchange(page, get("/api/answers?entity=Ada&relation=runs") + get("/health") + b"what?")
    assert [status for status, _ in found] == [200, 200]


def test_a_request_may_come_byte_by_byte(page: Page) -> None:
    with connected(page) as connection:
        for byte in get("/health", LAST):
            connection.sendall(bytes([byte]))
            time.sleep(0.001)
        assert answers(connection.makefile("rb").read())[0][0] == 200


@pytest.mark.parametrize("target", ["/health", "/api/answers?entity=Ada&relation=runs"])
def test_a_client_that_has_sent_everything_is_answered(page: Page, target: str) -> None:
    assert [status for status, _ in exchange(page, get(target), half=True)] == [200]


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"\r\n\r\n"])
def test_a_client_that_ends_within_a_request_is_forgotten(page: Page, data: bytes) -> None:
    assert exchange(page, data, half=True) == []


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /health HTTP/1.1", b"Host: localhost", *headers, b"", body])


REQUESTS: list[tuple[str, bytes, int]] = [
    ("http/1.0", b"GET /health HTTP/1.0\r\n" + HOST + b"\r\n", 200),
    ("no host", get("/health", b"Connection: close\r\n"), 403),
    ("two hosts", get("/health", HOST + LAST), 403),
    ("whole address", get("http://evil.example/health", LAST), 200),
    ("two slashes", get("//evil.example/health", LAST), 404),
    ("star", get("*", LAST), 404),
    ("no slash", get("health", LAST), 400),
    ("options", b"OPTIONS * HTTP/1.1\r\n" + LAST + b"\r\n", 405),
    ("connect", b"CONNECT example.org:443 HTTP/1.1\r\n" + LAST + b"\r\n", 405),
    ("lower case", b"get /health HTTP/1.1\r\n" + LAST + b"\r\n", 400),
    ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, 400),
    ("websocket", get("/health", HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), 200),
    ("body", post(b"Content-Length: 5", body=b"hello"), 405),
    ("body of a get", get("/health", HOST + b"Content-Length: 5\r\n") + b"hello" + get("/"), 200),
    ("chunked", get("/health", HOST + b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 200),
    ("bad chunk", post(b"Transfer-Encoding: chunked", body=b"zz\r\nhello"), 405),
    ("huge chunk", post(b"Transfer-Encoding: chunked", body=b"f" * 30 + b"\r\nhello"), 405),
    ("chunked and long", post(b"Transfer-Encoding: chunked", b"Content-Length: 4"), 400),
    ("large body", post(b"Content-Length: 3000000", body=b"x" * 3_000_000), 413),
    ("huge body", post(b"Content-Length: 999999999999999999"), 413),
    ("expected body", post(b"Expect: 100-continue", b"Content-Length: 5"), 405),
    *(
        (f"length {length[:9].decode()}", post(b"Content-Length: " + length), 400)
        for length in (b"abc", b"-5", b"+5", b"0x10", b"5, 6", b"9" * 20, b"9" * 5000, b"5\x00")
    ),
    ("two lengths", post(b"Content-Length: 1", b"Content-Length: 2"), 400),
    ("long address", get("/" + "a" * 9000, LAST), 414),
    ("longer address", get("/" + "a" * 1_000_000, LAST), 414),
    ("endless address", b"GET /" + b"a" * 300_000, 414),
    ("many parameters", get("/api/models?" + "&a=1" * 1000, LAST), 400),
    ("long parameter", get("/api/models?" + "a" * 8000, LAST), 400),
    ("long name", get("/api/answers?relation=runs&entity=" + "a" * 8000, LAST), 404),
    ("long k", get("/api/answers?entity=Ada&relation=runs&k=" + "1" * 8000, LAST), 400),
    ("many headers", get("/health", LAST + b"A: b\r\n" * 101), 431),
    ("long header", get("/health", LAST + b"A: " + b"b" * 40_000 + b"\r\n"), 431),
    ("endless header", b"GET / HTTP/1.1\r\nA: " + b"b" * 1_000_000, 431),
    ("endless header name", b"GET / HTTP/1.1\r\n" + b"a" * 1_000_000, 431),
    ("a header that may be", get("/health", LAST + b"A: " + b"b" * 20_000 + b"\r\n"), 200),
    ("folded header", get("/health", LAST + b"A: b\r\n c\r\n"), 400),
    ("NUL in a header", get("/health", LAST + b"A: b\0c\r\n"), 400),
    ("space before the colon", get("/health", LAST + b"A : b\r\n"), 400),
    ("NUL in the address", get("/page.css%00", LAST), 404),
    ("NUL in a name", get("/api/answers?relation=runs&entity=%00", LAST), 404),
    ("raw bytes", b"GET /\xc3\xa9 HTTP/1.1\r\n" + LAST + b"\r\n", 400),
    ("no UTF-8", get("/%ff", LAST), 400),
    ("surrogate", get("/api/entities?text=%ED%A0%80", LAST), 400),
    *(
        (f"k {k}", get(f"/api/answers?entity=Ada&relation=runs&k={k}", LAST), 400)
        for k in ("1e30", "-1", "0", "", "%D9%A3", "%C2%B2", "9" * 30, "1.0", "nan", "1%0A", "0x1")
    ),
]


@pytest.mark.parametrize("what", [what for what, _, _ in REQUESTS])
def test_one_answer_to_what_is_odd(page: Page, what: str, capfd: Any) -> None:
    """One answer, then the end; nothing is printed, and the next one is served."""
    data, status = next((data, status) for name, data, status in REQUESTS if name == what)
    found = exchange(page, data)
    assert [found[0][0], len(found)] == [status, 1]
    if status != 200:
        told = json.loads(found[0][1])
        assert told["error"] and "\n" not in told["error"]
    assert capfd.readouterr().err == ""
    assert page.request("/health")[0] == 200


def test_a_wrong_method_is_told_the_right_ones(page: Page) -> None:
    for method in ("POST", "ODD"):
        assert page.request("/health", method)[1]["allow"] == "GET, HEAD"


def test_head_is_get_without_the_body(page: Page) -> None:
    for target in ("/", "/health", "/openapi.json", "/nothing", "/api/nothing", "/api/models"):
        status, headers, body = page.request(target, "HEAD")
        wanted = page.request(target)
        assert (status, body) == (wanted[0], b"")
        assert headers["content-length"] == str(len(wanted[2]))


# --- time -----------------------------------------------------------------------------------------

QUICK = Limits(connections=8, arriving=0.6, idle=0.9, answering=1.5, closing=0.5, settled=0.3)


@pytest.fixture(scope="module")
def quick(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page that waits for nobody."""
    store = tmp_path_factory.mktemp("empty")
    with served([str(town / "complex")], QUICK, store=store) as made:
        yield made


@pytest.fixture(autouse=True)
def nobody_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait until the connections of the test before have gone."""
    yield
    if "quick" in request.fixturenames:
        time.sleep(0.3)


def ended(connection: socket.socket) -> tuple[float, bytes]:
    """Read until the end; return the seconds that it took, and what was read."""
    begun = time.monotonic()
    text = b""
    try:
        while more := connection.recv(65536):
            text += more
    except ConnectionError:
        pass
    return time.monotonic() - begun, text


def test_who_says_nothing_is_ended(quick: Page) -> None:
    with connected(quick) as connection:
        seconds, text = ended(connection)
        assert text == b"" and 0.8 < seconds < 5


def test_who_has_been_answered_and_says_no_more_is_ended(quick: Page) -> None:
    with connected(quick) as connection:
        connection.sendall(get("/health"))
        seconds, text = ended(connection)
        assert answers(text)[0][0] == 200 and 0.8 < seconds < 5


@pytest.mark.parametrize("piece", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ", b"\r\n"])
def test_a_request_that_comes_drop_by_drop_is_ended(quick: Page, piece: bytes) -> None:
    """However many bytes come, the whole has to come in time."""
    with connected(quick) as connection:
        connection.sendall(piece)
        begun, text = time.monotonic(), b""
        connection.settimeout(0.1)
        while not text:
            assert time.monotonic() - begun < 5
            try:
                text = connection.recv(65536)
            except TimeoutError:
                connection.sendall(b"\r\n" if piece == b"\r\n" else b"x" if piece != b"G" else b"")
        assert text.startswith(b"HTTP/1.1 408 ")


def test_who_does_not_read_is_ended(quick: Page) -> None:
    """Thousands of answers that nobody takes."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(quick.server.server_address)
        connection.settimeout(0.2)
        begun = time.monotonic()
        connection.sendall(get("/page.js") * 2000)
        while time.monotonic() - begun < 8:
            try:
                connection.sendall(b"x")
            except ConnectionError:
                break
            except TimeoutError:
                pass
            time.sleep(0.05)
        else:
            pytest.fail("it was never ended")
    assert quick.request("/health")[0] == 200


def test_others_are_served_while_slow_ones_wait(quick: Page) -> None:
    slow = [connected(quick) for _ in range(QUICK.connections - 1)]
    for connection in slow:
        connection.sendall(b"GET / HT")
    assert quick.request("/health")[0] == 200
    for connection in slow:
        connection.close()


def test_too_many_connections(quick: Page) -> None:
    """What is one too many is told so; idle ones make room after a while."""
    many = [connected(quick) for _ in range(QUICK.connections)]
    time.sleep(0.1)
    with connected(quick) as late:
        status, body = answers(late.makefile("rb").read())[0]
        assert status == 503 and b"too many connections" in body
    time.sleep(QUICK.settled)
    assert quick.request("/health")[0] == 200
    assert many[0].recv(1) == b""  # the first one had to go
    for connection in many:
        connection.close()


def test_a_time_limit_counts_from_the_beginning() -> None:
    now = 0.0
    watch = Watch(QUICK, lambda status, message: b"", [], lambda: now)

    class Fake:
        place: Any = None
        ended: str = ""

        class transport:
            @staticmethod
            def get_write_buffer_size() -> int:
                return 0

        def refuse(self, status: int, message: str) -> None:
            self.ended = str(status)
            watch.move(self, watch.closing)  # type: ignore[arg-type]

        def abort(self) -> None:
            self.ended += " aborted"
            watch.move(self, None)  # type: ignore[arg-type]

    first, second = Fake(), Fake()
    watch.move(first, watch.arriving)  # type: ignore[arg-type]
    now = 0.4
    watch.move(second, watch.arriving)  # type: ignore[arg-type]
    watch.sweep()
    assert (first.ended, second.ended) == ("", "")
    now = 0.61
    watch.sweep()
    assert (first.ended, second.ended) == ("408", "")
    now = 1.2
    watch.sweep()
    assert (first.ended, second.ended) == ("408 aborted", "408")
    assert len(watch) == 1


def test_connections_leave_descriptors_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((64, 16), (1024, 976), (16, 4), (10**6, 1000), (-1, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, soft=soft: (soft, soft))
        assert most_connections(1000) == most


# --- the command ----------------------------------------------------------------------------------


def seconds_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_few_descriptors_and_an_end_that_waits_for_no_client(
    town: Path, number: int, tmp_path: Path
) -> None:
    """64 descriptors and 300 connections; then a stop while some ask, wait and do not read."""
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
    start = "os.execv(sys.executable, [sys.executable, '-m', 'dglke_distill', *sys.argv[1:]])"
    command = [sys.executable, "-c", limit + start, "serve", "--port=0", "--threads=1"]
    with subprocess.Popen(
        [*command, "--store", str(tmp_path), str(town / "complex")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        held: list[socket.socket] = []
        try:
            assert process.stdout is not None and process.stderr is not None
            address = process.stdout.readline().partition(" ")[0]
            port = int(address.rstrip("/").rpartition(":")[2])
            for _ in range(300):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=30))
                held[-1].sendall(b"GET / HT")
            time.sleep(1)
            assert len(os.listdir(f"/proc/{process.pid}/fd")) < 64
            before = seconds_of(process.pid)
            time.sleep(2)
            assert seconds_of(process.pid) - before < 0.5
            for connection in held:
                connection.close()
            held.clear()
            time.sleep(1)
            for _ in range(5):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=30))
                held[-1].sendall(get("/api/answers?entity=Ada&relation=runs"))
                assert held[-1].recv(15) == b"HTTP/1.1 200 OK"
            held.append(socket.create_connection(("127.0.0.1", port)))
            held[-1].sendall(b"GET / HT")
            held.append(socket.create_connection(("127.0.0.1", port)))
            held[-1].sendall(get("/page.js") * 3000)
            time.sleep(0.3)
            process.send_signal(number)
            assert process.wait(15) == 0  # these clients could hold it for longer
            assert process.stdout.read() == "ended\n"
            assert "Traceback" not in process.stderr.read()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        finally:
            process.kill()
            for connection in held:
                connection.close()


def test_requests_while_the_server_ends(town: Path, tmp_path: Path) -> None:
    """Each gets a whole answer or none; the server ends all the same."""
    whole: list[bool] = []
    with served([str(town / "complex")], store=tmp_path) as page:

        def ask() -> None:
            try:
                with connected(page) as connection:
                    while True:
                        connection.sendall(get("/api/answers?entity=Ada&relation=runs"))
                        text = connection.recv(65536)
                        while text and len(text.partition(b"\r\n\r\n")[2]) < 100:
                            text += connection.recv(65536)
                        if not text:
                            return
                        whole.append(text.startswith(b"HTTP/1.1 200"))
            except OSError:
                pass

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert whole and all(whole)
