"""Text files read in blocks of whole lines, with their damage told by file and line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from dglke_distill.errors import UserError
from dglke_distill.regular_files import open_regular

__all__ = ["blocks", "decode", "first_rows", "lines", "plural"]

_BLOCK_BYTES = 1 << 26
_ENDLESS_BYTES = 1 << 26
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"


def lines(path: Path, warnings: Optional[list[str]] = None) -> Iterator[tuple[int, str]]:
    """Yield each line's number, from 1, and its text; blank lines at the end are left out.

    Raises:
        UserError: the file is missing, damaged or not UTF-8.
    """
    for first_line, block in blocks(path, warnings):
        for number, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
            yield number, decode(path, number, raw)


def first_rows(path: Path, count: int) -> list[list[str]]:
    """Return the columns of up to ``count`` lines at a file's start, for telling its format."""
    rows = []
    for _, line in lines(path):
        rows.append(line.split("\t") if "\t" in line else line.split())
        if len(rows) == count:
            break
    return rows


def blocks(path: Path, warnings: Optional[list[str]]) -> Iterator[tuple[int, bytes]]:
    r"""Yield the number of a block's first line and the block: whole lines ended by ``\n``.

    A byte-order mark is skipped with a warning, ``\r\n`` becomes ``\n``, blank lines at the end
    of the file are left out, and the last line gets its missing line end.

    Raises:
        UserError: the file is missing or damaged, or holds zero bytes or stray carriage returns.
    """
    rest, line, at_start = b"", 1, True
    with _open(path) as stream:
        while True:
            data = _read(path, stream)
            if at_start and data.startswith(_BOM):
                data = data[len(_BOM) :]
                if warnings is not None:
                    warnings.append(f"{path}: the byte-order mark at its start was skipped")
            at_start = False
            whole = rest + data
            if data:
                # Blank lines stay in the rest until it is known whether the file ends with them.
                cut = whole.rfind(b"\n") + 1
                block = whole[:cut].rstrip(b"\r\n")
                cut = min(cut, whole.find(b"\n", len(block)) + 1) if block else 0
                block, rest = whole[:cut], whole[cut:]
                _refuse_endless(path, line + block.count(b"\n"), rest)
            else:
                block = whole.rstrip(b"\r\n") + b"\n"
                block = b"" if block == b"\n" else block
            if block:
                block = block.replace(b"\r\n", b"\n")
                _refuse_control_bytes(path, line, block)
                yield line, block
                line += block.count(b"\n")
            if not data:
                return


def _open(path: Path) -> Any:
    stream = open_regular(path, missing="there is no file; check the name")
    if path.suffix.lower() == ".gz":
        stream.close()
        return gzip.open(path, "rb")
    compressed = stream.read(2) == _GZIP_MAGIC
    stream.seek(0)
    if compressed:
        stream.close()
        raise UserError(f"{path} is gzip-compressed: rename it to {path.name}.gz")
    return stream


def _read(path: Path, stream: Any) -> bytes:
    try:
        data: bytes = stream.read(_BLOCK_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path} is not whole gzip data: compress or download it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return data


def _refuse_endless(path: Path, line: int, rest: bytes) -> None:
    """Refuse what would be read whole before its first line is known, such as a file of holes."""
    if len(rest) >= _ENDLESS_BYTES:
        what = "a zero byte" if b"\0" in rest else f"over {_ENDLESS_BYTES >> 20} MiB without text"
        raise UserError(f"{path}, line {line}: contains {what}; is it a file of triples?")


def _refuse_control_bytes(path: Path, first_line: int, block: bytes) -> None:
    for byte, what, mend in (
        (b"\0", "a zero byte", "save the file as UTF-8 text"),
        (b"\r", "a carriage return inside the line", "end lines with \\n or \\r\\n"),
    ):
        if byte in block:
            number = first_line + block.count(b"\n", 0, block.index(byte))
            raise UserError(f"{path}, line {number}: contains {what}; {mend}")


def decode(path: Path, number: int, raw: bytes) -> str:
    """Return one line's text.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None


def plural(count: int, noun: str) -> str:
    """Return the count with its noun, as in ``1 line`` and ``2 lines``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
