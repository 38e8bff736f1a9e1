"""Files fetched over HTTP: resumed where they stopped, and kept only if their bytes are right."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Optional

from dglke_distill.data.manifest import DatasetFile
from dglke_distill.errors import UserError
from dglke_distill.files import sha256_file

__all__ = ["Identity", "Progress", "console_progress", "fetch", "identify"]

Progress = Callable[[str, int, Optional[int]], None]
"""Called with a file's name, the bytes that are there and, where known, the bytes in all."""

Identity = Literal["sha256", "git_blob", "line_ends", "counts", "differs"]
"""How a file was recognised; see ``identify``."""

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30.0
_BLOCK_BYTES = 1 << 16
_PASSING_TROUBLE = (429, 500, 502, 503, 504)


class _BrokenOffError(Exception):
    """The connection ended before the file did; what came is kept."""


def identify(path: Path, file: DatasetFile) -> Identity:
    """Compare a local copy with what a manifest knows of the published file.

    Args:
        path: the copy; compared uncompressed where its name ends in ``.gz`` and the published
            file's does not.
        file: what is known.

    Returns:
        ``sha256`` or ``git_blob`` when that digest agrees; ``line_ends`` when it agrees after the
        line ends are changed between LF and CRLF; ``counts`` when no digest is known, so that only
        counting can tell; ``differs`` otherwise.
    """
    if file.verified_by == "counts":
        return "counts"
    packed = path.name.lower().endswith(".gz") and not file.path.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
        content: bytes = stream.read()
    if _agrees(content, file):
        return "sha256" if file.sha256 is not None else "git_blob"
    unix = content.replace(b"\r\n", b"\n")
    if any(_agrees(other, file) for other in (unix, unix.replace(b"\n", b"\r\n"))):
        return "line_ends"
    return "differs"


def fetch(
    url: str,
    target: Path,
    file: DatasetFile,
    *,
    progress: Optional[Progress] = None,
    otherwise: str = "place the published files in a data root",
) -> None:
    """Download a file, or finish a download that was broken off, and verify it.

    What has arrived lies in ``<target>.part`` until all of it is there; a server without ranges
    sends the whole file again. A lost connection is tried three times. ``target`` appears only
    after its sha256, or else its git blob id, agrees; without either, the caller must count.

    Args:
        url: address of the file.
        target: where it goes; kept when it is there and verified.
        file: what is known of its bytes.
        progress: told of bytes as they arrive.
        otherwise: what else the user can do if the server has another file, for the message.

    Raises:
        UserError: the server refuses, cannot be reached, breaks off for good, or sends something
            else than the published file.
    """
    import pooch

    def downloader(url: str, output_file: str, pooch: Any) -> None:
        part = target.with_name(target.name + ".part")
        resumed = _receive_all(url, part, file, progress, otherwise)
        if identify(part, file) not in ("sha256", "git_blob", "counts") and resumed:
            # The part may be of another version of the file.
            part.unlink()
            _receive_all(url, part, file, progress, otherwise)
        if identify(part, file) not in ("sha256", "git_blob", "counts"):
            size, digests = part.stat().st_size, _digests(part, file)
            part.unlink()
            raise UserError(
                f"{url} sent {size} bytes that are not the published {target.name} (wrong "
                f"{file.verified_by}): {digests}; nothing was kept, try again later or {otherwise}"
            )
        os.replace(part, output_file)

    # pooch reports what it does, at a level that shows by default.
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(target.parent):
            if target.exists() and identify(target, file) == "differs":
                target.unlink()
            pooch.retrieve(
                url,
                known_hash=f"sha256:{file.sha256}" if file.sha256 is not None else None,
                fname=target.name,
                path=target.parent,
                downloader=downloader,
            )
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None


@contextlib.contextmanager
def console_progress() -> Iterator[Progress]:
    """Yield a ``Progress`` that draws bars on standard error, one per file."""
    from rich import progress

    from dglke_distill.console import SafeConsole

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=SafeConsole(stderr=True)) as bars:
        tasks: dict[str, progress.TaskID] = {}

        def show(name: str, done: int, total: Optional[int]) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show


def _agrees(content: bytes, file: DatasetFile) -> bool:
    if file.sha256 is not None:
        return hashlib.sha256(content).hexdigest() == file.sha256
    return _git_blob(content) == file.git_blob


def _git_blob(content: bytes) -> str:
    """Return git's own name for the content, where nobody could compute the sha256."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _digests(path: Path, file: DatasetFile) -> str:
    if file.sha256 is not None:
        return f"{sha256_file(path)} instead of {file.sha256}"
    return f"{_git_blob(path.read_bytes())} instead of {file.git_blob}"


def _receive_all(
    url: str, part: Path, file: DatasetFile, progress: Optional[Progress], otherwise: str
) -> bool:
    """Bring ``part`` to its full length; return whether its beginning was there before."""
    import requests

    there = part.stat().st_size if part.exists() else 0
    if file.bytes is not None and there > file.bytes:
        part.unlink()
        there = 0
    if there and there == file.bytes:
        return True
    problem = ""
    for attempt in range(_ATTEMPTS):
        try:
            _receive(url, part, progress, file.bytes, otherwise)
            return there > 0
        except (
            _BrokenOffError,
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            problem = str(error) if isinstance(error, _BrokenOffError) else type(error).__name__
        except requests.RequestException as error:
            raise UserError(f"{url} cannot be downloaded: {error}") from None
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.5 * 2**attempt)
    size = part.stat().st_size if part.exists() else 0
    raise UserError(
        f"{url}: the download failed {_ATTEMPTS} times after {size} bytes ({problem}); check the "
        f"network and run the same command again to go on from there"
    )


def _receive(
    url: str, part: Path, progress: Optional[Progress], expected: Optional[int], otherwise: str
) -> None:
    """Ask once for what is missing of ``part`` and append it, or write it all anew.

    Where the size is known, one that sends more is not listened to any longer.
    """
    import requests

    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status_code == 416 and done:
            if content_range == f"bytes */{done}":
                return
            part.unlink()
            raise _BrokenOffError("the part is longer than the file")
        if response.status_code in _PASSING_TROUBLE:
            raise _BrokenOffError(f"the server answers {response.status_code} {response.reason}")
        if response.status_code >= 300:
            raise UserError(
                f"{url}: the server answers {response.status_code} {response.reason}; try again "
                f"later, or {otherwise}"
            )
        if response.status_code != 206 or not content_range.startswith(f"bytes {done}-"):
            done = 0
        length = response.headers.get("Content-Length")
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        total = done + int(length) if length is not None and not encoded else None
        # Otherwise urllib3 throws away the bytes of a block that the connection cuts short. We
        # compare lengths ourselves.
        response.raw.enforce_content_length = False
        with open(part, "ab" if done else "wb") as stream:
            for block in response.iter_content(_BLOCK_BYTES):
                stream.write(block)
                done += len(block)
                if progress is not None:
                    progress(part.name.removesuffix(".part"), done, total)
                if expected is not None and done > expected:
                    return
    if total is not None and done < total:
        raise _BrokenOffError(f"the connection closed after {done} of {total} bytes")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from downloading into the same folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Without locks (Windows, some network file systems) the digests still protect the files.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
