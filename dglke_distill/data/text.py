"""Text files read in blocks of whole lines, with their damage told by file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular
from dglke_distill.base.shown import plural
from dglke_distill.data.file_kinds import HEAD_BYTES, FileKind, binary_kind, text_kind
from dglke_distill.data.opening import (
    expands,
    most_bytes,
    open_stream,
    packed_kind,
    read_stream,
)
from dglke_distill.data.packings import DAMAGED, packing_of

if TYPE_CHECKING:
    from pandas import DataFrame

BLANKS = r"\s+"
"""What separates columns by any number of blanks."""
_BLOCK_BYTES = 1 << 26
_ENDLESS_BYTES = 1 << 26
_INVISIBLE = "\ufeff\u200b\u2060"
_BOM = b"\xef\xbb\xbf"


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


ASKED = "?"
"""Stands in a question for what is asked."""


def triple_lines(path: Path, what: str, also: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield each line's number and the names of its head, relation and tail; no blank ones.

    Args:
        path: a file of three columns, with tabs between.
        what: a line of it, for messages.
        also: what else belongs in a line, for messages.

    Raises:
        UserError: it cannot be read, is empty, or a line has not three names.
    """
    empty = True
    for number, line in lines(path):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.rstrip("\r\n").split("\t")]
        if len(parts) != 3 or not all(parts):
            raise UserError(
                f"{path}, line {number}: {plural(len(parts), 'column')}, where head, relation and "
                f"tail are wanted, with a tab between them{also}"
            )
        empty = False
        yield number, parts
    if empty:
        raise UserError(f"{path}: is empty; give a {what} on each line")


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
    with open_stream(path) as stream:
        head = read_stream(path, stream, HEAD_BYTES)
    kind = packed_kind(path, head)
    if kind is not None:
        raise UserError(f"{path}: unpacked, it {kind}")
    return head.removeprefix(_BOM)


def kind_of_file(path: Path) -> Optional[FileKind]:
    """Return what a file is, unpacked, by its first bytes.

    Returns:
        None for a table of text, or what cannot be read.
    """
    packing = packing_of(path)
    try:
        with open_regular(path) as stream:
            unpacked = packing.open(stream, "rb") if packing else stream
            head = unpacked.read(HEAD_BYTES)
    except (OSError, MemoryError, UserError, *DAMAGED):
        return None
    kind = packed_kind(path, head) if packing else binary_kind(path, head)
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
    with open_stream(path) as stream:
        allowed = most_bytes(path)
        while True:
            data = read_stream(path, stream, _BLOCK_BYTES)
            total += len(data)
            if total > allowed and packing_of(path) is not None:
                raise expands(path)
            if at_start and (kind := packed_kind(path, data)) is not None:
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


def cell_frame(block: bytes, separator: str, *, quoted: bool, led_by_blanks: bool) -> DataFrame:
    """Return the cells of whole lines as they stand there, read by pandas' C reader.

    Args:
        block: the lines.
        separator: a character, or the pattern of blanks.
        quoted: whether a cell may be quoted.
        led_by_blanks: whether blanks behind a separator are no part of a cell.

    Raises:
        ValueError: what pandas does not read.
    """
    import pandas

    frame: DataFrame = pandas.read_csv(
        io.BytesIO(block),
        sep=separator,
        header=None,
        dtype=object,
        na_filter=False,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        skipinitialspace=led_by_blanks,
        skip_blank_lines=False,
        engine="c",
        lineterminator=None if separator == BLANKS else "\n",
        low_memory=False,
    )
    return frame


def _refuse_endless(path: Path, line: int, rest: bytes) -> None:
    """Refuse what would be read whole before its first line is known, such as a file of holes."""
    if len(rest) >= _ENDLESS_BYTES:
        what = "a zero byte" if b"\0" in rest else f"over {_ENDLESS_BYTES >> 20} MiB without text"
        raise UserError(f"{path}, line {line}: contains {what}; is it the right file?")


def _refuse_control_bytes(path: Path, first_line: int, block: bytes) -> None:
    for byte, what, fix in (
        (b"\0", "a zero byte", "save the file as UTF-8 text"),
        (b"\r", "a carriage return inside the line", "end lines with \\n or \\r\\n"),
    ):
        if byte in block:
            number = first_line + block.count(b"\n", 0, block.index(byte))
            raise UserError(f"{path}, line {number}: contains {what}; {fix}")


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
