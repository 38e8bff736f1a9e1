"""Dictionary files: which id each entity or relation name has (DGL-KE, DGL, OpenKE)."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from dglke_distill.data.text import lines
from dglke_distill.errors import UserError

__all__ = ["find_one", "is_dictionary", "read_dictionary"]


def find_one(folder: Path, stems: tuple[str, ...], endings: tuple[str, ...]) -> Optional[Path]:
    """Return the one file ``<stem><ending>`` in a folder, plain or ``.gz``; None without one.

    Raises:
        UserError: several such files lie there.
    """
    candidates = (
        folder / f"{stem}{ending}{packed}"
        for stem in stems
        for ending in endings
        for packed in ("", ".gz")
    )
    found = [path for path in candidates if path.is_file()]
    if len(found) > 1:
        raise UserError(
            f"{folder} holds both {found[0].name} and {found[1].name}: remove one of them"
        )
    return found[0] if found else None


def is_dictionary(path: Path) -> bool:
    """Whether a file's lines are pairs of which one column holds the ids 0 to n - 1.

    A ``.tsv`` may as well be a list of labels; this tells.

    Raises:
        UserError: the file is damaged or not UTF-8.
    """
    rows = [line.split("\t") for _, line in lines(path)]
    if not rows or any(len(row) != 2 for row in rows):
        return False
    return any(_is_numbering(list(column)) for column in zip(*rows))


def read_dictionary(
    path: Path, *, openke: bool = False, warnings: Optional[list[str]] = None
) -> list[str]:
    """Read the names of a dictionary file in id order.

    DGL-KE and ``dgl.data`` write ``id<TAB>name``; ``name<TAB>id`` is understood too where only
    that reading gives the ids 0 to n - 1. OpenKE has a first line with the count of lines, then
    ``name<TAB>id``, or a space between the two.

    Args:
        path: the file, gzip-compressed if its name ends in ``.gz``.
        openke: whether it is OpenKE's layout.
        warnings: receives what is legal but noteworthy.

    Raises:
        UserError: a line is malformed, or the ids are not 0 to n - 1, each once, or a name occurs
            twice, or the count in the first line is wrong.
    """
    rows: list[tuple[int, str, str]] = []
    promised: Optional[int] = None
    for number, line in lines(path, warnings):
        if openke and promised is None:
            promised = _id(line.strip())
            if promised is None:
                raise UserError(
                    f"{path}, line 1: {line!r} is not a count; OpenKE files begin with the number "
                    f"of lines that follow"
                )
            continue
        cells = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
        if len(cells) != 2 or not all(cells):
            raise UserError(f"{path}, line {number}: an id and a name, separated by a tab, needed")
        rows.append((number, cells[0], cells[1]))
    if not rows:
        raise UserError(f"{path} is empty: it must list every name with its id")
    if promised is not None and promised != len(rows):
        raise UserError(
            f"{path}, line 1: promises {promised} names but {len(rows)} follow; correct the count "
            f"or restore the missing lines"
        )
    id_first = not openke and (
        _is_numbering([r[1] for r in rows]) or not _is_numbering([r[2] for r in rows])
    )
    return _in_id_order(path, [(n, a, b) if id_first else (n, b, a) for n, a, b in rows])


def _id(text: str) -> Optional[int]:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _is_numbering(cells: list[str]) -> bool:
    """Whether the cells are 0 to n - 1 in some order."""
    return {_id(cell) for cell in cells} == set(range(len(cells)))


def _in_id_order(path: Path, rows: list[tuple[int, str, str]]) -> list[str]:
    """Return names by id, from (line number, id, name) rows."""
    names: list[Optional[str]] = [None] * len(rows)
    lines_of_names: dict[str, int] = {}
    for number, cell, name in rows:
        index = _id(cell)
        if index is None:
            raise UserError(f"{path}, line {number}: {cell!r} is not an id; give a whole number")
        if index >= len(rows):
            raise UserError(
                f"{path}, line {number}: id {index} is too large for {len(rows)} names; ids must "
                f"run from 0 to {len(rows) - 1} without gaps"
            )
        if names[index] is not None:
            raise UserError(f"{path}, line {number}: id {index} was given before; number it anew")
        if name in lines_of_names:
            raise UserError(
                f"{path}, line {number}: {name!r} already stands in line {lines_of_names[name]}; "
                f"remove one of them"
            )
        names[index] = name
        lines_of_names[name] = number
    return [name for name in names if name is not None]
