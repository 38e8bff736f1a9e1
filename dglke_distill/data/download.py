"""Files fetched over HTTP: resumed where they stopped, and kept only if their bytes are right."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Optional

from dglke_distill.base.disk import NotWritten, wrong
from dglke_distill.base.errors import UserError
from dglke_distill.base.places import folders_made
from dglke_distill.base.regular_files import open_regular
from dglke_distill.data.manifest import DatasetFile
from dglke_distill.data.web import BrokenOffError, ask

Progress = Callable[[str, int, Optional[int]], None]
"""Called with a file's name, the bytes that are there and, where known, the bytes in all."""

MOST_BYTES = 1 << 29
"""The largest file that is downloaded where its size is not known."""

Identity = Literal["sha256", "git_blob", "line_ends", "counts", "differs"]
"""How a file was recognised; see ``identify``."""

_ATTEMPTS = 3
_BLOCK_BYTES = 1 << 16
_PASSING_TROUBLE = (429, 500, 502, 503, 504)


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
    packed = path.name.lower().endswith(".gz") and not file.path.lower().endswith(".gz")
    if file.verified_by == "counts":
        other = not packed and file.bytes not in (None, path.stat().st_size)
        return "differs" if other else "counts"
    if _digest(path, file, packed) == _expected(file):
        return "sha256" if file.sha256 is not None else "git_blob"
    for ends in (b"\n", b"\r\n"):
        if _digest(path, file, packed, ends) == _expected(file):
            return "line_ends"
    return "differs"


def fetch(
    url: str,
    target: Path,
    file: DatasetFile,
    *,
    most_bytes: int = MOST_BYTES,
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
        most_bytes: where its size is not known, more than that is not listened to.
        progress: told of bytes as they arrive.
        otherwise: what else the user can do if the server has another file, for the message.

    Raises:
        UserError: the server refuses, cannot be reached, breaks off for good, or sends something
            else than the published file.
    """
    part = target.with_name(target.name + ".part")
    most = most_bytes if file.bytes is None else file.bytes
    try:
        folder = target.parent
        # Who had the lock before may have removed the folder that it made.
        with folders_made(folder), _alone_in(folder), folders_made(folder):
            if target.exists():
                if _is_published(target, file):
                    return
                target.unlink()
            resumed = _receive_all(url, part, file, most, progress, otherwise)
            if not _is_published(part, file) and resumed:
                # The part may be of another version of the file.
                part.unlink()
                _receive_all(url, part, file, most, progress, otherwise)
            if not _is_published(part, file):
                refusal = _refusal(url, part, target.name, file, otherwise)
                part.unlink()
                raise refusal
            os.replace(part, target)
    except OSError as error:
        raise NotWritten(f"cannot write {target}: {wrong(error, named=False)}") from None


@contextlib.contextmanager
def console_progress() -> Iterator[Progress]:
    """Yield a ``Progress`` that draws bars on standard error, one per file, if it is a terminal."""
    from rich import progress

    from dglke_distill.base.console import SafeConsole

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    console, silent = SafeConsole(stderr=True), not sys.stderr.isatty()
    with progress.Progress(*columns, console=console, disable=silent) as bars:
        tasks: dict[str, progress.TaskID] = {}

        def show(name: str, done: int, total: Optional[int]) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show


def _is_published(path: Path, file: DatasetFile) -> bool:
    """Return whether a file is byte for byte the published one, as far as that is known."""
    if file.bytes not in (None, path.stat().st_size):
        return False
    expected = _expected(file)
    return expected is None or _digest(path, file, packed=False) == expected


def _expected(file: DatasetFile) -> Optional[str]:
    return file.sha256 if file.sha256 is not None else file.git_blob


def _refusal(url: str, part: Path, name: str, file: DatasetFile, otherwise: str) -> UserError:
    wrong: str = file.verified_by
    if wrong == "counts":
        wrong, digests = "size", f"{file.bytes} are expected"
    else:
        digests = f"{_digest(part, file, packed=False)} instead of {_expected(file)}"
    return UserError(
        f"{url} sent {part.stat().st_size} bytes that are not the published {name} (wrong "
        f"{wrong}): {digests}; nothing was kept, try again later or {otherwise}"
    )


def _digest(path: Path, file: DatasetFile, packed: bool, ends: Optional[bytes] = None) -> str:
    """Return the digest that a manifest would state of a file.

    Args:
        path: the file.
        file: whose kind of digest.
        packed: whether to look at what is compressed in it.
        ends: what to change all line ends to.
    """
    if file.sha256 is not None:
        digest = hashlib.sha256()
    else:
        # Git's own name for the content; its length comes first.
        if packed or ends is not None:
            size = sum(map(len, _blocks(path, packed, ends)))
        else:
            size = path.stat().st_size
        digest = hashlib.sha1(b"blob %d\0" % size)
    for block in _blocks(path, packed, ends):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, packed: bool, ends: Optional[bytes]) -> Iterator[bytes]:
    """Yield a file's content in pieces, its line ends changed if so asked."""
    with open_regular(path) as plain:
        stream: Any = gzip.GzipFile(fileobj=plain) if packed else plain
        rest = b""
        while block := stream.read(_BLOCK_BYTES):
            if ends is None:
                yield block
                continue
            block = rest + block
            rest = b"\r" if block.endswith(b"\r") else b""  # a line feed may follow
            block = block[: len(block) - len(rest)].replace(b"\r\n", b"\n")
            yield block if ends == b"\n" else block.replace(b"\n", ends)
        yield rest


def _receive_all(
    url: str,
    part: Path,
    file: DatasetFile,
    most: int,
    progress: Optional[Progress],
    otherwise: str,
) -> bool:
    """Bring ``part`` to its full length; return whether its beginning was there before."""
    there = part.stat().st_size if part.exists() else 0
    if there > most:
        part.unlink()
        there = 0
    if there and there == file.bytes:
        return True
    problem = ""
    for attempt in range(_ATTEMPTS):
        try:
            _receive(url, part, progress, most, otherwise)
            return there > 0
        except BrokenOffError as error:
            problem = str(error)
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.5 * 2**attempt)
    size = part.stat().st_size if part.exists() else 0
    raise UserError(
        f"{url}: the download failed {_ATTEMPTS} times after {size} bytes ({problem}); check the "
        f"network and run the same command again to go on from there"
    )


def _receive(url: str, part: Path, progress: Optional[Progress], most: int, otherwise: str) -> None:
    """Ask once for what is missing of ``part`` and append it, or write it all anew.

    One that sends more than ``most`` bytes is not listened to any longer.
    """
    done = part.stat().st_size if part.exists() else 0
    with ask(url, {"Range": f"bytes={done}-"} if done else {}) as reply:
        content_range = reply.headers.get("Content-Range", "")
        if reply.status == 416 and done:
            if content_range == f"bytes */{done}":
                return
            part.unlink()
            raise BrokenOffError("the part is longer than the file")
        if reply.status in _PASSING_TROUBLE:
            raise BrokenOffError(f"the server answers {reply.status} {reply.reason}")
        if reply.status == 206 and not (done and content_range.startswith(f"bytes {done}-")):
            part.unlink(missing_ok=True)
            raise BrokenOffError("the server sends another part than the one asked for")
        if reply.status not in (200, 206):
            raise UserError(
                f"{url}: the server answers {reply.status} {reply.reason}; try again later, or "
                f"{otherwise}"
            )
        if reply.status == 200:
            done = 0
        total = done + reply.length if reply.length is not None else None
        if total is not None and total > most:
            part.unlink(missing_ok=True)
            raise UserError(
                f"{url}: has {total} bytes, which are not the published {part.stem}: at most "
                f"{most} are expected; {otherwise}"
            )
        with open(part, "ab" if done else "wb") as stream:
            for block in reply.blocks():
                stream.write(block[: most + 1 - done])
                done += len(block)
                if progress is not None:
                    progress(part.name.removesuffix(".part"), done, total)
                if done > most:
                    break
    if done > most:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{url}: sends more than {most} bytes, which are not the published {part.stem}; "
            f"nothing was kept, {otherwise}"
        )


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
