"""The page and its questions as a Starlette application."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional, TypeVar
from urllib.parse import parse_qs, unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dglke_distill import __version__
from dglke_distill.base.shown import visible
from dglke_distill.base.spelling import near_words
from dglke_distill.serve.api import Api
from dglke_distill.serve.connections import ONLY_READ
from dglke_distill.serve.openapi import description
from dglke_distill.serve.questions import Question
from dglke_distill.serve.routes import PREFIX, Query, Refused

Made = TypeVar("Made")

_ASSETS = Path(__file__).with_name("assets")
_JSON = b"application/json"
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
FENCE: list[tuple[bytes, bytes]] = [
    (b"server", b"dglke-distill"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""Headers of every answer."""

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+))(?::\d{1,5})?")
_READERS = 2
"""Threads for what takes time and does not score: spellings, searches for names."""

_MOST_PARAMETERS = 20

_TOGETHER = 64
"""Most questions that are answered as one batch."""


def encoded(value: Any) -> bytes:
    """Return JSON in UTF-8; NaN and infinities raise a ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def meant_for(hosts: Sequence[str]) -> bool:
    """Return whether a request with these ``Host`` headers is made to a loopback name."""
    match = _HOST.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
    if match is None:
        return False
    name = match[1] or match[2]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"


class Reply(Response):
    """An answer whose headers are ready to be sent.

    Args:
        body: what it holds.
        kind: its type.
        status: of HTTP.
        extra: headers besides those of every answer.
    """

    def __init__(
        self,
        body: bytes,
        kind: bytes = _JSON,
        status: int = 200,
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [
            *FENCE,
            *extra,
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
        ]


class Together:
    """Answers questions in batches: those that come while others are answered wait together.

    Args:
        submit: has work done in the thread that scores.
        answer: questions to what is said to each, a body or what was raised.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[], Any]], Future[Any]],
        answer: Callable[[Sequence[Question]], Sequence[Any]],
    ) -> None:
        self._submit = submit
        self._answer = answer
        self._busy = False
        self._waiting: list[tuple[Question, asyncio.Future[bytes]]] = []

    async def ask(self, question: Question) -> bytes:
        """Return the body of the answer."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if not self._busy:
            self._begin()
        return await future

    def _begin(self) -> None:
        self._waiting = [pair for pair in self._waiting if not pair[1].done()]
        batch = self._waiting[:_TOGETHER]
        del self._waiting[:_TOGETHER]
        self._busy = bool(batch)
        if not batch:
            return
        loop = asyncio.get_running_loop()
        questions = [question for question, _ in batch]
        futures = [future for _, future in batch]

        def deliver(done: Future[Sequence[Any]]) -> None:
            error = done.exception()
            answers = [error] * len(futures) if error is not None else done.result()
            self._begin()  # the next are scored while these are sent
            for future, answer in zip(futures, answers):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        def hand_over(done: Future[Any]) -> None:
            try:
                loop.call_soon_threadsafe(deliver, done)
            except RuntimeError:  # the server has ended, and nobody waits
                pass

        self._submit(lambda: self._answer(questions)).add_done_callback(hand_over)


class Pages:
    """What the routes answer.

    Args:
        api: finds the server's answers; called at each question, since it is there later.
        loopback: whether requests must be made to a name of loopback.
    """

    def __init__(self, api: Callable[[], Api], loopback: bool) -> None:
        """Read the files."""
        self._api = api
        self.loopback = loopback
        self._pool = ThreadPoolExecutor(_READERS, "serve")
        self._together: Optional[Together] = None
        self.files = {
            "/" if path.name == "index.html" else f"/{path.name}": Reply(
                path.read_bytes(), _TYPES[path.suffix]
            )
            for path in sorted(_ASSETS.iterdir())
            if path.suffix in _TYPES
        }

    def routes(self) -> list[Route]:
        """Return all routes."""
        every = [Route(path, reply) for path, reply in self.files.items()]
        health = {"status": "ok", "version": __version__}
        every.append(Route("/health", Reply(encoded(health))))
        every.append(Route("/openapi.json", Reply(encoded(description()))))
        every.append(Route(f"{PREFIX}answers", self.answers))
        every.append(Route(f"{PREFIX}{{path:path}}", self.ask))
        return every

    def close(self) -> None:
        """End the threads as soon as they are done."""
        self._pool.shutdown(wait=False)

    async def answers(self, request: Request) -> Response:
        """Answer a question to a model."""
        api, query = self._api(), parameters(request.scope)
        if self._together is None:
            self._together = Together(api.gallery.submit, api.answer_all)
        if api.at_hand(query):
            question = api.question(query)
        else:
            question = await self._elsewhere(lambda: api.question(query))
        await _done(api.gallery.lay_out(question.shown, question.projection))
        return Reply(await self._together.ask(question))

    async def ask(self, request: Request) -> Response:
        """Answer any other question of the page."""
        api, query = self._api(), parameters(request.scope)
        path = request.path_params["path"]
        if path == "map":
            await _done(await self._elsewhere(lambda: api.map_of(query)))
        return Reply(await self._elsewhere(lambda: encoded(api.answer(path, query))))

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Say what was wrong."""
        path = request.scope["path"]
        if isinstance(error, Refused):
            refused = error
        elif isinstance(error, HTTPException) and error.status_code == 404:
            names = [*self.files, "/health", "/openapi.json"]
            near = near_words(path, names)
            refused = Refused(404, f"there is no page {path}", "", near)
        else:
            told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            print(visible(told, keep="\n"), file=sys.stderr, flush=True)
            refused = Refused(500, "the server made a mistake; its terminal tells which")
        body = await self._elsewhere(lambda: encoded(refused.body()))
        extra = [(b"allow", b"GET, HEAD")] if refused.status == 405 else []
        return Reply(body, status=refused.status, extra=extra)

    async def _elsewhere(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


async def _done(work: Future[Any]) -> None:
    """Wait for work without a thread, whatever comes of it."""
    if not work.done():
        with contextlib.suppress(Exception):  # it is told where the result is taken
            await asyncio.shield(asyncio.wrap_future(work))


class Fence:
    """Lets pass what is asked by this machine's own pages, in words that can be read.

    Args:
        app: the application within.
        pages: says what is wrong with the rest.
    """

    def __init__(self, app: ASGIApp, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, or answer what is wrong with it."""
        try:
            self._look_at(scope)
            await self._app(scope, receive, send)
        except Exception as error:
            reply = await self._pages.refuse(Request(scope), error)
            await reply(scope, receive, send)

    def _look_at(self, scope: Scope) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, ONLY_READ)
        headers = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if self._pages.loopback and not meant_for(hosts):
            raise Refused(403, "this page is for this machine: ask for it as localhost")
        if b"%" in scope["raw_path"]:
            try:
                unquote(scope["raw_path"].decode("ascii"), errors="strict")
            except ValueError:
                raise Refused(400, "the address is not percent-encoded UTF-8") from None
        if scope["path"].startswith(PREFIX) and (b"sec-fetch-site", b"cross-site") in headers:
            raise Refused(403, "other sites may not ask this page's questions")


def parameters(scope: Scope) -> Query:
    """Return the parameters of a request."""
    text = scope["query_string"].decode("ascii")
    if text.count("&") >= _MOST_PARAMETERS:
        raise Refused(400, f"there are more than {_MOST_PARAMETERS} parameters")
    try:
        return parse_qs(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refused(400, "the address is not percent-encoded UTF-8") from None


def build(pages: Pages) -> Starlette:
    """Return the application."""
    app = Starlette(
        routes=pages.routes(),
        middleware=[Middleware(Fence, pages=pages)],
        exception_handlers={HTTPException: pages.refuse},
    )
    app.router.redirect_slashes = False
    return app
