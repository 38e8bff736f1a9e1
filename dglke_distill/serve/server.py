"""A web server in the standard library, for one page and its questions."""

from __future__ import annotations

import errno
import ipaddress
import json
import re
import socket
import socketserver
import sys
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, unquote, urlsplit

from dglke_distill.errors import UserError
from dglke_distill.serve.api import PREFIX, Api, Refused

__all__ = ["PageServer"]

_JSON = "application/json"
_ASSETS = Path(__file__).with_name("assets")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+))(?::\d{1,5})?")


class PageServer(ThreadingHTTPServer):
    """Serves the page and its questions; a thread per connection.

    The port is taken at once, and answers come when ``api`` is set and ``serve_forever`` runs.

    Args:
        host: name or address to listen on. port: to listen on; 0 for any free one.

    Attributes:
        api: answers the questions.
        loopback: whether only this machine reaches it. Then requests must be made to a name or
            address of loopback, lest another site's name be pointed here (DNS rebinding).

    Raises:
        UserError: the port is out of range, in use or not allowed; or there is no such host.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str = "127.0.0.1", port: int = 8350) -> None:
        """Take the port."""
        if not 0 <= port <= 65535:
            raise UserError(f"--port {port}: ports go from 1 to 65535, or 0 for any free one")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            raise UserError(f"--host {host}: no such host here ({error})") from None
        self.address_family, address = found[0], found[4]
        self.api: Optional[Api] = None
        self.files = {
            f"/{path.name}": (path.read_bytes(), _TYPES[path.suffix])
            for path in _ASSETS.iterdir()
            if path.suffix in _TYPES
        }
        self.files["/"] = self.files.pop("/index.html")
        try:
            super().__init__((str(address[0]), port), _Handler)
        except OSError as error:
            raise UserError(_explain(error, host, port)) from None
        self.loopback = ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def server_bind(self) -> None:
        """Take the port, without asking the network for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @property
    def url(self) -> str:
        """The page's address."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke off; anything else is a mistake of ours."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, socket.timeout)):
            traceback.print_exc()

    def accepts(self, hosts: list[str]) -> bool:
        """Return whether a request with these ``Host`` headers is meant for this server."""
        if not self.loopback:
            return True
        match = _HOST.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
        if match is None:
            return False
        name = match[1] or match[2]
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name.lower().rstrip(".") == "localhost"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a word, after which a connection is given up

    def do_GET(self) -> None:
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # what follows is no request
        try:
            status, (body, kind) = 200, self._answer()
        except Refused as error:
            refused: Optional[Refused] = error
        except Exception:
            traceback.print_exc()
            refused = Refused(500, "the server made a mistake; its terminal tells which")
        else:
            refused = None
        if refused is not None:
            status, (body, kind) = refused.status, (_json(refused.body()), _JSON)
        self._send(status, body, kind)

    do_HEAD = do_GET

    def _answer(self) -> tuple[bytes, str]:
        server = self.server
        if not server.accepts(self.headers.get_all("Host", [])):
            raise Refused(403, "this page is for this machine: ask for it as localhost")
        try:
            parts = urlsplit(self.path)
            path = unquote(parts.path, errors="strict")
            query = parse_qs(
                parts.query,
                keep_blank_values=True,
                errors="strict",
                max_num_fields=20,
            )
        except ValueError:
            raise Refused(400, "the address is not percent-encoded UTF-8") from None
        if path.startswith(PREFIX):
            if self.headers.get("Sec-Fetch-Site") == "cross-site":
                raise Refused(403, "other sites may not ask this page's questions")
            assert server.api is not None
            return _json(server.api.answer(path[len(PREFIX) :], query)), _JSON
        if path not in server.files:
            raise Refused(404, f"there is no page {path}")
        return server.files[path]

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(
        self, code: int, message: Optional[str] = None, explain: Optional[str] = None
    ) -> None:
        """Refuse what is no request that this server knows, as JSON."""
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:  # it is the method that has no handler
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered"
        text = message or HTTPStatus(code).phrase
        self._send(code, _json(Refused(code, text).body()), _JSON)

    def version_string(self) -> str:
        """Name the program, not its version nor Python's."""
        return "dglke-distill"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet."""


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: in use on {host}; choose another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"--port {port}: not allowed to you; choose one from 1024 on"
    return f"--host {host}: cannot listen there ({error.strerror})"
