"""Files of triples of names, read fast and blamed precisely.

pandas' C reader takes each block of lines; only where it refuses does Python look at the lines one
by one, to name the bad one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.cell_tables import CellBlock
from dglke_distill.data.line_errors import blame_names, separator_of
from dglke_distill.data.text import cell_frame, strip_blanks, table_blocks
from dglke_distill.data.triples import Triples

if TYPE_CHECKING:
    from dglke_distill.data.name_tables import NameTable

_LED_BY_BLANKS = re.compile(rb'(?:^|,)( +)?(?:"(?:[^"]|"")*"|[^,\n]*)', re.MULTILINE)


class NameIndex:
    """Ids of names, given out in order of first appearance or fixed by a dictionary file.

    Args:
        kind: the word used in messages, ``"entity"`` or ``"relation"``.
        names: the names in id order, when they are fixed; others are then errors.
        source: the file that fixes them, for messages.
    """

    def __init__(
        self, kind: str, names: Optional[list[str]] = None, source: Optional[Path] = None
    ) -> None:
        self.kind = kind
        self.fixed = names is not None
        self.source = source
        self.ids: dict[str, int] = {name: i for i, name in enumerate(names or ())}

    def __len__(self) -> int:
        """Return the number of names known so far."""
        return len(self.ids)

    @property
    def names(self) -> list[str]:
        """The names in id order."""
        return list(self.ids)

    def freeze(self, source: Path) -> None:
        """Give out no further ids; ``source`` is where the known names came from."""
        self.fixed = True
        self.source = source

    def look_up(self, names: list[str]) -> NDArray[np.int32]:
        """Return an id for each name, -1 for an unknown one when the names are fixed."""
        found = list(map(self.ids.get, names))
        for place in (place for place, known in enumerate(found) if known is None):
            found[place] = -1 if self.fixed else self.ids.setdefault(names[place], len(self.ids))
        return np.array(found, dtype=np.int32)


def read_name_triples(
    path: Path,
    entities: NameIndex,
    relations: NameIndex,
    *,
    order: str = "hrt",
    header: bool = False,
    first_row: Optional[list[str]] = None,
    warnings: Optional[list[str]] = None,
    table: Optional[NameTable] = None,
    weights: Optional[list[NDArray[np.float32]]] = None,
) -> Triples:
    """Read a file of triples of names, one per line; commas separate in .csv, tabs elsewhere.

    Blanks around names are no part of them.

    Args:
        path: the file, compressed if its name says so.
        entities: ids of entity names; extended unless fixed.
        relations: ids of relation names; extended unless fixed.
        order: the columns' order, a permutation of ``hrt``.
        header: whether the first line is left out, whatever it holds.
        first_row: receives the head, relation and tail of the first line, which are then not
            looked up: the first triple returned holds no ids yet.
        warnings: receives what is legal but noteworthy.
        table: its reader, where it is no plain table; ``order`` and ``header`` are then its own.
        weights: receives the weights of the rows, block by block, where ``table`` reads some.

    Returns:
        One triple per line in file order; none for an empty file.

    Raises:
        UserError: the file is missing, damaged or not UTF-8, or a line is malformed or has an
            unknown name; file and line are named.
    """
    parts: list[list[NDArray[np.int32]]] = []
    blanks = _Blanks(path)
    source = _plain(path, order, header, warnings, blanks) if table is None else table
    for start, written_cells, weight in source:
        # Heads and tails in one go: most names occur on both sides.
        cells = written_cells[[0, 2, 1]]
        if weights is not None and weight is not None:
            weights.append(weight)
        if first_row is not None and not parts:
            written = cells[:, 0].tolist()
            head, tail, relation = map(strip_blanks, written)
            first_row += [head, relation, tail]
            if not all(first_row):
                raise _empty_name(path, 1)
            padded = [a for a, b in zip(written, (head, tail, relation)) if a != b]
            blanks.count += len(padded)
            blanks.example = padded[0] if padded else ""
            cells, start = cells[:, 1:], start + 1
            parts.append([np.zeros(1, dtype=np.int32)] * 3)
        ends = _encode(path, start, cells[:2], entities, blanks)
        relation_ids = _encode(path, start, cells[2:], relations, blanks)
        parts.append([ends[0], relation_ids[0], ends[1]])
    blanks.report(warnings)
    return join_parts(parts)


def _plain(
    path: Path, order: str, header: bool, warnings: Optional[list[str]], blanks: _Blanks
) -> Iterator[CellBlock]:
    """Yield the rows of a plain table of three columns."""
    separator = separator_of(path)
    columns = [order.index(role) for role in "hrt"]
    for start, block in table_blocks(path, header, warnings):
        cells = _name_cells(path, start, block, separator)[columns]
        if separator == "," and b', "' in block:  # pandas has taken these away
            blanks.count += sum(match[1] is not None for match in _LED_BY_BLANKS.finditer(block))
            blanks.example = blanks.example or ' "'
        yield CellBlock(start, cells, None)


class _Blanks:
    """Counts names with blanks around them."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.example = path, 0, ""

    def report(self, warnings: Optional[list[str]]) -> None:
        if self.count and warnings is not None:
            warnings.append(
                f"{self.path}: blanks around names were removed {plural(self.count, 'time')}, "
                f"e.g. from {self.example!r}"
            )


def _name_cells(path: Path, first_line: int, block: bytes, separator: str) -> NDArray[np.object_]:
    """Return the cells of a block of lines, strings in an array of shape (3, lines)."""
    commas = separator == ","
    try:
        frame = cell_frame(
            block, separator, quoted=commas, led_by_blanks=commas and b', "' in block
        )
    except ValueError as error:
        blame_names(path, first_line, block, separator, str(error))
    if frame.shape[1] != 3 or len(frame) != block.count(b"\n"):
        blame_names(path, first_line, block, separator, "a quoted name spans several lines")
    cells: NDArray[np.object_] = frame.to_numpy(dtype=object).T
    if (cells == "").any():
        blame_names(path, first_line, block, separator, "a name is empty")
    return cells


def _encode(
    path: Path, first_line: int, cells: NDArray[np.object_], index: NameIndex, blanks: _Blanks
) -> NDArray[np.int32]:
    """Return the ids of an array of names of shape (columns, lines)."""
    import pandas

    codes, found = pandas.factorize(cells.reshape(-1))
    written = found.tolist()
    names = list(map(strip_blanks, written))
    if names != written:
        changed = np.array([name != other for name, other in zip(names, written)])[codes]
        blanks.count += int(changed.sum())
        blanks.example = blanks.example or written[codes[int(np.argmax(changed))]]
        empty = [i for i, name in enumerate(names) if not name]
        if empty:
            row = int(np.flatnonzero(codes == empty[0])[0]) % cells.shape[1]
            raise _empty_name(path, first_line + row)
    ids = index.look_up(names)[codes].reshape(cells.shape)
    rows = np.flatnonzero((ids < 0).any(axis=0))
    if len(rows):
        row = int(rows[0])
        name = cells[int(np.argmax(ids[:, row] < 0)), row]
        raise unknown_name(f"{path}, line {first_line + row}", name, index)
    return ids


def _empty_name(path: Path, line: int) -> UserError:
    return UserError(
        f"{path}, line {line}: a name is empty but for blanks; fill it in or remove the line"
    )


def unknown_name(where: str, name: str, index: NameIndex, *, first: bool = False) -> UserError:
    """Return the error for a name that no dictionary has; the first line may be a heading."""
    heading = ", or say --set data.header=true of a heading" if first else ""
    return UserError(
        f"{where}: {index.kind} {name!r} is not in {index.source}; add it there, or give the "
        f"columns' order (--set data.format=...){heading}"
    )


def join_parts(parts: list[list[NDArray[np.int32]]]) -> Triples:
    """Return triples from the columns of block after block."""
    if not parts:
        empty = np.empty(0, dtype=np.int32)
        return Triples(empty, empty, empty)
    return Triples(*(np.concatenate(column) for column in zip(*parts)))
