"""Files of triples, read fast and blamed precisely.

pandas' C reader takes each block of lines; only where it refuses does Python look at the lines one
by one, to name the bad one.
"""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.text import blocks, decode, plural
from dglke_distill.data.triples import Triples
from dglke_distill.errors import UserError

__all__ = ["NameIndex", "read_id_triples", "read_name_triples"]

_SEPARATORS = {"\t": "tabs", ",": "commas"}


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
    warnings: Optional[list[str]] = None,
) -> Triples:
    """Read a file of triples of names, one per line; commas separate in .csv, tabs elsewhere.

    Args:
        path: the file, gzip-compressed if its name ends in ``.gz``.
        entities: ids of entity names; extended unless fixed.
        relations: ids of relation names; extended unless fixed.
        order: the columns' order, a permutation of ``hrt``.
        warnings: receives what is legal but noteworthy.

    Returns:
        One triple per line in file order; none for an empty file.

    Raises:
        UserError: the file is missing, damaged or not UTF-8, or a line is malformed or has an
            unknown name; file and line are named.
    """
    separator = "," if path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"
    parts: list[list[NDArray[np.int32]]] = []
    for first_line, block in blocks(path, warnings):
        cells = _name_cells(path, first_line, block, separator)
        if first_line == 1 and warnings is not None:
            _suspect_header(path, cells[:, 0].tolist(), warnings)
        # Heads and tails in one go: most names occur on both sides.
        ends = _encode(path, first_line, cells[[order.index("h"), order.index("t")]], entities)
        relation = _encode(path, first_line, cells[[order.index("r")]], relations)
        parts.append([ends[0], relation[0], ends[1]])
    return _join(parts)


def read_id_triples(
    path: Path,
    num_entities: int,
    num_relations: int,
    *,
    order: str = "hrt",
    count_header: bool = False,
    warnings: Optional[list[str]] = None,
) -> Triples:
    """Read a file of triples of ids, separated by tabs or spaces.

    Args:
        path: the file, gzip-compressed if its name ends in ``.gz``.
        num_entities: entity ids must be below this.
        num_relations: relation ids must be below this.
        order: the columns' order, a permutation of ``hrt``.
        count_header: whether the first line holds the number of triples (OpenKE).
        warnings: receives what is legal but noteworthy.

    Returns:
        One triple per line in file order.

    Raises:
        UserError: as for ``read_name_triples``; an id out of range; a wrong count in the header.
    """
    promised: Optional[int] = None
    parts: list[list[NDArray[np.int32]]] = []
    limits = {"h": num_entities, "r": num_relations, "t": num_entities}
    for first_line, block in blocks(path, warnings):
        start = first_line
        if count_header and promised is None:
            header, _, block = block.partition(b"\n")
            promised = _count(path, header)
            start += 1
            if not block:
                continue
        table = _id_table(path, start, block)
        columns = []
        for role in "hrt":
            column = table[:, order.index(role)]
            bad = np.flatnonzero((column < 0) | (column >= limits[role]))
            if len(bad):
                kind = "relation" if role == "r" else "entity"
                raise UserError(
                    f"{path}, line {start + int(bad[0])}: {kind} id {column[bad[0]]} is unknown: "
                    f"ids run from 0 to {limits[role] - 1}; correct the line, or the columns' "
                    f"order (--format)"
                )
            columns.append(column.astype(np.int32))
        parts.append(columns)
    triples = _join(parts)
    if count_header and promised is None:
        raise UserError(f"{path} is empty: its first line must hold the number of triples")
    if promised is not None and promised != len(triples):
        raise UserError(
            f"{path}, line 1: promises {promised} triples but {len(triples)} follow; correct the "
            f"count or restore the missing lines"
        )
    return triples


def _name_cells(path: Path, first_line: int, block: bytes, separator: str) -> NDArray[np.object_]:
    """Return the cells of a block of lines, strings in an array of shape (3, lines)."""
    import pandas

    try:
        frame = pandas.read_csv(
            io.BytesIO(block),
            sep=separator,
            header=None,
            dtype=object,
            na_filter=False,
            quoting=csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE,
            skip_blank_lines=False,
            engine="c",
            lineterminator="\n",
            low_memory=False,
        )
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as error:
        _blame(path, first_line, block, separator, str(error))
    if frame.shape[1] != 3 or len(frame) != block.count(b"\n"):
        _blame(path, first_line, block, separator, "a quoted name spans several lines")
    cells: NDArray[np.object_] = frame.to_numpy(dtype=object).T
    if (cells == "").any():
        _blame(path, first_line, block, separator, "a name is empty")
    return cells


def _encode(
    path: Path, first_line: int, cells: NDArray[np.object_], index: NameIndex
) -> NDArray[np.int32]:
    """Return the ids of an array of names of shape (columns, lines)."""
    import pandas

    codes, names = pandas.factorize(cells.reshape(-1))
    ids = index.look_up(names.tolist())[codes].reshape(cells.shape)
    rows = np.flatnonzero((ids < 0).any(axis=0))
    if len(rows):
        row = int(rows[0])
        name = cells[int(np.argmax(ids[:, row] < 0)), row]
        raise UserError(
            f"{path}, line {first_line + row}: {index.kind} {name!r} is not in {index.source}; add "
            f"it there, or give the columns' order (--format)"
        )
    return ids


def _blame(path: Path, first_line: int, block: bytes, separator: str, otherwise: str) -> NoReturn:
    """Raise for the first malformed line of a block of names."""
    for number, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        line = decode(path, number, raw)
        where = f"{path}, line {number}"
        if not line.strip():
            raise UserError(f"{where}: is blank; remove it")
        cells = next(csv.reader([line])) if separator == "," else line.split(separator)
        if len(cells) != 3:
            raise UserError(
                f"{where}: has {plural(len(cells), 'column')} where three separated by "
                f"{_SEPARATORS[separator]} are needed{_hint(line, cells, separator)}"
            )
        if "" in cells:
            raise UserError(
                f"{where}: the name in column {cells.index('') + 1} is empty; fill it in or remove "
                f"the line"
            )
    raise UserError(f"{path}, in the lines from {first_line}: {otherwise}; correct the file")


def _hint(line: str, cells: list[str], separator: str) -> str:
    if len(cells) != 1:
        return "; correct the line"
    if line.strip().isdigit():
        return "; a line with a count alone belongs to the OpenKE format (--format openke)"
    if separator == "\t" and line.count(",") == 2:
        return "; give the file a name in .csv if commas separate its columns"
    if separator == "," and line.count("\t") == 2:
        return "; give the file a name in .tsv if tabs separate its columns"
    if len(line.split()) == 3:
        return f"; replace the spaces between columns by {_SEPARATORS[separator]}"
    return "; correct the line"


def _id_table(path: Path, first_line: int, block: bytes) -> NDArray[np.int64]:
    """Return an int64 array of shape (lines, 3)."""
    import pandas

    with suppress(pandas.errors.ParserError, ValueError, OverflowError):
        table: NDArray[np.int64] = pandas.read_csv(
            io.BytesIO(block),
            sep=r"\s+",
            header=None,
            dtype=np.int64,
            na_filter=False,
            skip_blank_lines=False,
            engine="c",
            low_memory=False,
        ).to_numpy()
        if table.shape == (block.count(b"\n"), 3):
            return table
    for number, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        cells = decode(path, number, raw).split()
        where = f"{path}, line {number}"
        if not cells:
            raise UserError(f"{where}: is blank; remove it")
        if len(cells) != 3:
            raise UserError(
                f"{where}: has {plural(len(cells), 'column')} where three ids are needed; correct "
                f"the line"
            )
        for cell in cells:
            if not (cell.isascii() and cell.isdigit() and len(cell) < 19):
                raise UserError(
                    f"{where}: {cell!r} is not an id; give whole numbers, or choose a format of "
                    f"names (--format names_hrt)"
                )
    raise UserError(f"{path}, in the lines from {first_line}: ids could not be read; correct them")


def _count(path: Path, header: bytes) -> int:
    text = decode(path, 1, header).strip()
    if not (text.isascii() and text.isdigit()):
        raise UserError(
            f"{path}, line 1: {text!r} is not a count; OpenKE files begin with the number of lines "
            f"that follow"
        )
    return int(text)


def _suspect_header(path: Path, cells: list[str], warnings: list[str]) -> None:
    words = {cell.strip().lower() for cell in cells}
    if words in (
        {"head", "relation", "tail"},
        {"subject", "predicate", "object"},
        {"subject", "relation", "object"},
        {"h", "r", "t"},
        {"s", "p", "o"},
    ):
        warnings.append(
            f"{path}, line 1: {', '.join(cells)} was read as a fact; remove the line if it is a "
            f"heading"
        )


def _join(parts: list[list[NDArray[np.int32]]]) -> Triples:
    if not parts:
        empty = np.empty(0, dtype=np.int32)
        return Triples(empty, empty, empty)
    return Triples(*(np.concatenate(column) for column in zip(*parts)))
