"""Text files read in blocks of whole lines, with their damage told by file and line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular
from dglke_distill.data.file_kinds import HEAD_BYTES, PACKINGS, FileKind, binary_kind, text_kind

__all__ = [
    "blocks",
    "decode",
    "first_bytes",
    "first_rows",
    "kind_of_file",
    "lines",
    "plural",
    "strip_blanks",
    "table_blocks",
    "without_packing",
]

_BLOCK_BYTES = 1 << 26
_ENDLESS_BYTES = 1 << 26
_INVISIBLE = "\ufeff\u200b\u2060"
_BOM = b"\xef\xbb\xbf"
_PACKED: dict[str, tuple[str, bytes, Callable[..., Any]]] = {
    ".gz": ("gzip", b"\x1f\x8b", gzip.open),
    ".bz2": ("bzip2", b"BZh", bz2.open),
    ".xz": ("xz", b"\xfd7zXZ\0", lzma.open),
}
_MAX_RATIO = 200
_FREE_BYTES = 1 << 28
"""A file may expand to this size, or to ``_MAX_RATIO`` times its own, whichever is more."""


def without_packing(name: str) -> str:
    """Return a file's name without the ending of a compression that is read."""
    for ending in PACKINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def strip_blanks(name: str) -> str:
    """Return a name without blanks of any kind, or byte-order marks, at its ends."""
    stripped = name.strip()
    if stripped and (stripped[0] in _INVISIBLE or stripped[-1] in _INVISIBLE):
        shorter = stripped.strip(_INVISIBLE)
        return strip_blanks(shorter) if shorter != stripped else stripped
    return stripped


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


def first_bytes(path: Path) -> bytes:
    """Return the start of a file, unpacked, without its byte-order mark.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _open(path) as stream:
        head = _read(path, stream, HEAD_BYTES)
    kind = _packed_kind(path, head)
    if kind is not None:
        raise UserError(f"{path}: unpacked, it {kind}")
    return head.removeprefix(_BOM)


def kind_of_file(path: Path) -> Optional[FileKind]:
    """Return what a file is, unpacked, by its first bytes.

    Returns:
        None for a table of text, or what cannot be read.
    """
    packing = _packing(path)
    try:
        with open_regular(path) as stream:
            unpacked = _PACKED[packing][2](stream, "rb") if packing else stream
            head = unpacked.read(HEAD_BYTES)
    except (OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError, UserError):
        return None
    kind = _packed_kind(path, head) if packing else binary_kind(path, head)
    return kind or text_kind(path, head)


def blocks(path: Path, warnings: Optional[list[str]]) -> Iterator[tuple[int, bytes]]:
    r"""Yield the number of a block's first line and the block: whole lines ended by ``\n``.

    A byte-order mark is skipped with a warning, ``\r\n`` becomes ``\n``, blank lines at the end
    of the file are left out, and the last line gets its missing line end.

    Raises:
        UserError: the file is missing, damaged or no text; it holds zero bytes, stray carriage
            returns or a line without end; it expands to far more than its size.
    """
    rest, line, at_start, total = b"", 1, True, 0
    with _open(path) as stream:
        allowed = max(_FREE_BYTES, _MAX_RATIO * path.stat().st_size)
        while True:
            data = _read(path, stream, _BLOCK_BYTES)
            total += len(data)
            if total > allowed and without_packing(path.name) != path.name:
                raise UserError(
                    f"{path}: expands to more than {_MAX_RATIO} times its size, which no file of "
                    f"triples does; where you trust it, unpack it yourself"
                )
            if at_start and (kind := _packed_kind(path, data)) is not None:
                raise UserError(f"{path}: unpacked, it {kind}")
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


def table_blocks(
    path: Path, header: bool, warnings: Optional[list[str]]
) -> Iterator[tuple[int, bytes]]:
    """Yield blocks as ``blocks`` does, without the first line if it is a heading.

    Args:
        path: the file.
        header: whether to leave the first line out.
        warnings: receives what is legal but noteworthy.

    Raises:
        UserError: as for ``blocks``; the text has another grammar, of RDF or JSON.
    """
    for start, block in blocks(path, warnings):
        if start == 1:
            kind = text_kind(path, block[:HEAD_BYTES])
            if kind is not None:
                raise UserError(f"{path}: {kind}")
            if header:
                _, _, block = block.partition(b"\n")
                start = 2
        if block:
            yield start, block


def _open(path: Path) -> Any:
    stream = open_regular(path, missing="there is no file; check the name")
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        packing = _packing(path)
        _check_start(path, head, packing)
        return stream if packing is None else _Unpacked(_PACKED[packing][2](stream, "rb"), stream)
    except OSError as error:
        stream.close()
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except BaseException:
        stream.close()
        raise


def _packing(path: Path) -> Optional[str]:
    return next((ending for ending in _PACKED if path.name.lower().endswith(ending)), None)


def _check_start(path: Path, head: bytes, packing: Optional[str]) -> None:
    """Refuse what its first bytes show to be no text, or otherwise packed than its name says."""
    if packing is not None:
        if not head.startswith(_PACKED[packing][1]):
            kind = binary_kind(path.with_name(without_packing(path.name)), head)
            if kind is not None:
                raise UserError(f"{path} is {kind.name} in spite of its name; rename it")
        return
    for ending, (name, magic, _) in _PACKED.items():
        if head.startswith(magic) and (ending != ".bz2" or _is_bzip2(head)):
            raise UserError(
                f"{path} is {name}-compressed: rename it to {path.name}{ending}, or unpack it"
            )
    kind = binary_kind(path, head)
    if kind is not None:
        raise UserError(f"{path}: {kind}")


def _is_bzip2(head: bytes) -> bool:
    return head[3:4].isdigit() and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")


class _Unpacked:
    """A stream of unpacked bytes that closes the packed file with itself."""

    def __init__(self, stream: Any, packed: Any) -> None:
        self._stream, self._packed = stream, packed

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._packed.close()

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        return data


def _read(path: Path, stream: Any, size: int) -> bytes:
    packing = _packing(path)
    name = _PACKED[packing][0] if packing else ""
    try:
        data: bytes = stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):
        raise UserError(f"{path} is not whole {name} data: compress or download it again") from None
    except MemoryError:
        raise UserError(f"{path}: needs too much memory to unpack; unpack it yourself") from None
    except OSError as error:
        if packing is None or error.strerror:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        raise UserError(f"{path} is not whole {name} data: compress or download it again") from None
    return data


def _refuse_endless(path: Path, line: int, rest: bytes) -> None:
    """Refuse what would be read whole before its first line is known, such as a file of holes."""
    if len(rest) >= _ENDLESS_BYTES:
        what = "a zero byte" if b"\0" in rest else f"over {_ENDLESS_BYTES >> 20} MiB without text"
        raise UserError(f"{path}, line {line}: contains {what}; is it a file of triples?")


def _packed_kind(path: Path, data: bytes) -> Optional[FileKind]:
    """Return what a compressed file holds that is no text."""
    if _packing(path) is None:
        return None
    if any(data.startswith(magic) for _, magic, _ in _PACKED.values()) and not _is_text(data):
        return FileKind("compressed twice", "unpack it once")
    kind = binary_kind(path.with_name(without_packing(path.name)), data[:HEAD_BYTES])
    if kind is not None and kind.name == "a tar archive":
        kind = binary_kind(path, data[:HEAD_BYTES])  # tar unpacks both at once
    return kind


def _is_text(data: bytes) -> bool:
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data[:HEAD_BYTES])


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
