"""Files that anyone may have written, opened only if they are regular, and read within limits.

A pipe, a device, a socket and a folder are refused before they are opened: opening a pipe waits
for a writer, and a device never ends. Size is looked at before reading.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Optional, Union

from dglke_distill.base.errors import UserError

AnyPath = Union[str, Path]

_LONGEST, _LONGEST_PATH = 255, 4096  # bytes, of Linux and its file systems

_BLOCK_BYTES = 1 << 20
MOST_NAME_BYTES = 1 << 16
"""Most bytes per name, on average, of a file of names."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_path(path: AnyPath) -> None:
    """Refuse what no file can be called.

    Raises:
        UserError: there is a NUL character in it, or half a surrogate pair, or it is too long.
    """
    try:
        written = os.fsencode(path)
    except UnicodeEncodeError:
        raise UserError(f"{shown(path)}: no file can be called so") from None
    if "\0" in str(path):
        raise UserError(f"{shown(path)}: a path has no NUL character; remove it")
    if len(written) >= _LONGEST_PATH or any(len(x) > _LONGEST for x in written.split(b"/")):
        raise UserError(
            f"{shown(path)}: is too long for a path: {_LONGEST} bytes a name, "
            f"{_LONGEST_PATH - 1} in all"
        )


def in_home(path: AnyPath) -> Path:
    """Return a path with the home directory for a ``~``; one of a user who is not here stays.

    ``Path.expanduser`` raises there.
    """
    return Path(os.path.expanduser(path))


def resolved(path: AnyPath) -> Path:
    """Return a path without links and dots; ``Path.resolve`` raises where links go in a circle.

    Raises:
        UserError: what no file can be called.
    """
    check_path(path)
    return Path(os.path.realpath(path))


def check_regular(
    path: AnyPath, limit: Optional[int] = None, *, missing: str = "no such file"
) -> os.stat_result:
    """Refuse what is no regular file, or too large, without opening it.

    Args:
        path: the file; a symbolic link counts as what it leads to.
        limit: its largest size in bytes; None: any.
        missing: what to say where there is nothing.

    Raises:
        UserError: it is missing, out of reach, no regular file, or larger than the limit.
    """
    try:
        about = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: {missing}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL, or what no file name can hold
        raise UserError(f"{shown(path)}: cannot be read ({reason(error)})") from None
    _check(path, about, limit)
    return about


def open_regular(
    path: AnyPath, limit: Optional[int] = None, *, missing: str = "no such file"
) -> BinaryIO:
    """Open a regular file for reading bytes; see ``check_regular``.

    Nothing else is ever opened: opening a pipe waits for a writer, and a device never ends.

    Raises:
        UserError: as ``check_regular``.
    """
    check_regular(path, limit, missing=missing)
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        # Should a pipe have come in between, opening it does not wait.
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise UserError(f"{path}: {missing}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    stream = os.fdopen(descriptor, "rb")
    try:
        _check(path, os.fstat(descriptor), limit)
    except UserError:
        stream.close()
        raise
    return stream


def _check(path: AnyPath, about: os.stat_result, limit: Optional[int]) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = next((name for test, name in _KINDS if test(about.st_mode)), "no file")
        fix = "; save what it gives in a file first" if stat.S_ISFIFO(about.st_mode) else ""
        raise UserError(f"{path}: is {kind}; a regular file is needed{fix}")
    if limit is not None and about.st_size > limit:
        raise _too_large(path, f"{about.st_size:,} bytes", limit)


def _too_large(path: AnyPath, size: str, limit: int) -> UserError:
    return UserError(f"{path}: {size}, where at most {limit:,} are expected; is it the right file?")


def most_bytes_of_names(count: int) -> int:
    """Return the largest size of a file of so many names."""
    return MOST_NAME_BYTES * (count + 1)


def check_names(path: AnyPath, count: int) -> int:
    """Refuse a file of names that is too large to be one; see ``check_regular``.

    Args:
        path: the file.
        count: how many names it has.

    Returns:
        The largest size that it may have.

    Raises:
        UserError: as ``check_regular``.
    """
    limit = most_bytes_of_names(count)
    check_regular(path, limit)
    return limit


def read_bytes(
    path: AnyPath, limit: int, *, missing: str = "no such file", text: bool = False
) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Args:
        path: the file.
        limit: in bytes.
        missing: as for ``check_regular``.
        text: whether a zero byte is an error, told before the rest is read: a file of holes is
            all zeros.

    Raises:
        UserError: as ``check_regular``, or the file has a zero byte where text is wanted.
    """
    parts: list[bytes] = []
    size = 0
    with open_regular(path, limit, missing=missing) as stream:
        while size <= limit:
            try:
                part = stream.read(_BLOCK_BYTES)
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({reason(error)})") from None
            if not part:
                return b"".join(parts)
            if text and 0 in part:
                raise UserError(f"{path}: contains a zero byte, so it is no text; restore it")
            size += len(part)
            parts.append(part)
    raise _too_large(path, "more bytes than it says", limit)  # it grows, or says it is empty


def read_text(path: AnyPath, limit: int, *, missing: str = "no such file") -> str:
    """Read a regular UTF-8 file of at most ``limit`` bytes, its line ends as they are.

    Raises:
        UserError: as ``read_bytes``, or the file is not UTF-8.
    """
    data = read_bytes(path, limit, missing=missing, text=True)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 ({error.reason}); restore it") from None


def reason(error: Exception) -> str:
    """Return an exception's message as one short line that can be printed."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return shown(" ".join(text.split()))


def shown(text: object) -> str:
    """Return a text as it can be printed: neither over 300 letters, nor with what is no letter."""
    whole = str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return whole if len(whole) <= 300 else f"{whole[:300]}..."
