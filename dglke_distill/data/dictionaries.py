"""Dictionary files: which id each entity or relation name has (DGL-KE, DGL, OpenKE)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.packings import without_packing
from dglke_distill.data.split_names import files_in
from dglke_distill.data.text import lines, strip_blanks

_ID_WORDS = frozenset("id ids index idx number nr no entity_id relation_id entid relid".split())
_NAME_WORDS = frozenset(
    "name names label labels entity entities relation relations key word entity_name "
    "relation_name".split()
)


def find_one(folder: Path, stems: tuple[str, ...], endings: tuple[str, ...]) -> Optional[Path]:
    """Return the one file ``<stem><ending>`` in a folder, in any letter case; None without one.

    It may be compressed in a way that is read.

    Raises:
        UserError: several such files lie there.
    """
    wanted = {f"{stem}{ending}".lower() for stem in stems for ending in endings}
    found = [path for path in files_in(folder) if without_packing(path.name).lower() in wanted]
    if len(found) > 1:
        raise holds_both(folder, found)
    return found[0] if found else None


def holds_both(folder: Path, found: Sequence[Path]) -> UserError:
    """Return the error that several files would play one part."""
    return UserError(
        f"{folder} holds both {' and '.join(path.name for path in found)}: remove one of them"
    )


def is_dictionary(path: Path) -> bool:
    """Whether a file's lines are pairs of which one column holds the ids 0 to n - 1.

    A ``.tsv`` may as well be a list of labels; this tells.

    Raises:
        UserError: the file is damaged or not UTF-8.
    """
    rows = [line.split("\t") for _, line in lines(path)]
    if rows and len(rows[0]) == 2 and _stated_order(rows[0]) is not None:
        rows = rows[1:]
    if not rows or any(len(row) != 2 for row in rows):
        return False
    return any(_is_numbering(list(column)) for column in zip(*rows))


def read_dictionary(
    path: Path,
    *,
    openke: bool = False,
    id_first: Optional[bool] = None,
    warnings: Optional[list[str]] = None,
) -> list[str]:
    """Read the names of a dictionary file in id order.

    DGL-KE and ``dgl.data`` write ``id<TAB>name``; ``name<TAB>id`` is understood too where only
    that reading gives the ids 0 to n - 1. Where both do, the first line must say which it is:
    ``id<TAB>name`` or ``name<TAB>id``. OpenKE has a first line with the count of lines, then
    ``name<TAB>id``, or a space between the two.

    Args:
        path: the file, compressed if its name says so.
        openke: whether it is OpenKE's layout.
        id_first: whether the id stands first, where the file's convention says so.
        warnings: receives what is legal but noteworthy.

    Raises:
        UserError: a line is malformed, or the ids are not 0 to n - 1, each once, or a name occurs
            twice, or the count in the first line is wrong, or it can be read in two ways.
    """
    rows: list[tuple[int, str, str]] = []
    promised: Optional[int] = None
    blanks = 0
    for number, line in lines(path, warnings):
        if openke and promised is None:
            promised = _id(line.strip())
            if promised is None:
                raise UserError(
                    f"{path}, line 1: {line!r} is not a count; OpenKE files begin with the number "
                    f"of lines that follow"
                )
            continue
        raw = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
        cells = [strip_blanks(cell) for cell in raw]
        if len(cells) != 2 or not all(cells):
            raise UserError(f"{path}, line {number}: an id and a name, separated by a tab, needed")
        if number == 1 and not openke and _stated_order(cells) is not None:
            id_first = _stated_order(cells) if id_first is None else id_first
            continue
        blanks += cells != raw
        rows.append((number, cells[0], cells[1]))
    if not rows:
        raise UserError(f"{path} is empty: it must list every name with its id")
    if promised is not None and promised != len(rows):
        raise UserError(
            f"{path}, line 1: promises {promised} names but {len(rows)} follow; correct the count "
            f"or restore the missing lines"
        )
    if blanks and warnings is not None:
        warnings.append(f"{path}: blanks around names were removed in {plural(blanks, 'line')}")
    if openke:
        id_first = False
    elif id_first is None:
        id_first = _told_order(path, rows)
    return _in_id_order(path, [(n, a, b) if id_first else (n, b, a) for n, a, b in rows])


def _stated_order(cells: list[str]) -> Optional[bool]:
    """Return whether a heading says that ids stand first; None if it is no heading."""
    first, second = (cell.strip().strip("#:").casefold() for cell in cells)
    for one, other, answer in ((first, second, True), (second, first, False)):
        if one in _ID_WORDS and other in _NAME_WORDS:
            return answer
    return None


def _told_order(path: Path, rows: list[tuple[int, str, str]]) -> bool:
    """Return whether ids stand first, by which column holds the ids 0 to n - 1."""
    first, second = [row[1] for row in rows], [row[2] for row in rows]
    if _is_numbering(first) and _is_numbering(second):
        pairs = {(_id(a), _id(b)) for a, b in zip(first, second)}
        if any((b, a) not in pairs for a, b in pairs):
            raise UserError(
                f"{path}: its names are numbers too, so that it can be read as ids and names or "
                f"as names and ids; say which by a first line 'id<TAB>name' or 'name<TAB>id'"
            )
    return _is_numbering(first) or not _is_numbering(second)


def ambiguous_dictionary(names: Sequence[str]) -> bool:
    """Whether a dictionary of these names, by id, could be read both ways."""
    ids = [_id(name) for name in names]
    if {*ids} != set(range(len(ids))):
        return False
    return any(ids[ids[i] or 0] != i for i in range(len(ids)))


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
