"""Files of triples of ids, read fast and blamed precisely."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.headings import heading_left_out, heading_order
from dglke_distill.data.line_errors import too_many
from dglke_distill.data.text import decode, table_blocks
from dglke_distill.data.triple_files import join_parts
from dglke_distill.data.triples import Triples

if TYPE_CHECKING:
    from dglke_distill.data.name_tables import NameTable


def read_id_triples(
    path: Path,
    num_entities: int,
    num_relations: int,
    *,
    order: str = "hrt",
    count_header: bool = False,
    header: Optional[bool] = None,
    warnings: Optional[list[str]] = None,
    table: Optional[NameTable] = None,
) -> Triples:
    """Read a file of triples of ids, separated by tabs or spaces.

    Args:
        path: the file, compressed if its name says so.
        num_entities: entity ids must be below this.
        num_relations: relation ids must be below this.
        order: the columns' order, a permutation of ``hrt``.
        count_header: whether the first line holds the number of triples (OpenKE).
        header: whether the first line is a heading; None: if it is one that is known.
        warnings: receives what is legal but noteworthy.
        table: its reader, where its columns are chosen; ``order`` is then its own.

    Returns:
        One triple per line in file order.

    Raises:
        UserError: as for ``read_name_triples``; an id out of range; a wrong count in the header.
    """
    promised: Optional[int] = None
    parts: list[list[NDArray[np.int32]]] = []
    limits = {"h": num_entities, "r": num_relations, "t": num_entities}
    if table is not None:
        order = "hrt"
    source = table_blocks(path, False, warnings) if table is None else _chosen(table)
    for start, block in source:
        if count_header and promised is None:
            count, _, block = block.partition(b"\n")
            promised = _count(path, count)
            start += 1
        elif start == 1 and _is_heading(path, block, header, warnings):
            _, _, block = block.partition(b"\n")
            start += 1
        if not block:
            continue
        ids = _id_table(path, start, block)
        columns = []
        for role in "hrt":
            column = ids[:, order.index(role)]
            bad = np.flatnonzero((column < 0) | (column >= limits[role]))
            if len(bad):
                kind = "relation" if role == "r" else "entity"
                raise UserError(
                    f"{path}, line {start + int(bad[0])}: {kind} id {column[bad[0]]} is unknown: "
                    f"ids run from 0 to {limits[role] - 1}; correct the line, or the columns' "
                    f"order (--set data.format=...)"
                )
            columns.append(column.astype(np.int32))
        parts.append(columns)
    triples = join_parts(parts)
    if count_header and promised is None:
        raise UserError(f"{path} is empty: its first line must hold the number of triples")
    if promised is not None and promised != len(triples):
        raise UserError(
            f"{path}, line 1: promises {promised} triples but {len(triples)} follow; correct the "
            f"count or restore the missing lines"
        )
    return triples


def _chosen(table: NameTable) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of lines of the columns that are chosen."""
    for start, cells, _ in table:
        yield start, "".join("\t".join(row) + "\n" for row in zip(*cells)).encode()


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
        line = decode(path, number, raw)
        cells = line.split()
        where = f"{path}, line {number}"
        if not cells:
            raise UserError(f"{where}: is blank; remove it")
        if len(cells) != 3:
            few = len(cells) < 3
            hint = too_many(path, cells, "\t" if "\t" in line else " ") if not few else ""
            raise UserError(
                f"{where}: has {plural(len(cells), 'column')} where three ids are needed"
                f"{hint or '; correct the line'}"
            )
        for cell in cells:
            if not _is_id(cell):
                heading = "" if number > 1 else ", or say --set data.header=true of a heading"
                raise UserError(
                    f"{where}: {cell!r} is not an id; give whole numbers, or choose a format of "
                    f"names (--set data.format=names_hrt){heading}"
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


def _is_heading(
    path: Path, block: bytes, header: Optional[bool], warnings: Optional[list[str]]
) -> bool:
    """Whether the first line of a file of ids is to be left out."""
    line = decode(path, 1, block.partition(b"\n")[0])
    ids = all(_is_id(cell) for cell in line.split())
    if ids or header is False or (header is None and heading_order(line.split()) is None):
        if header and warnings is not None:
            warnings.append(f"{path}, line 1: holds ids, so it is no heading and was kept")
        return False
    if warnings is not None:
        warnings.append(heading_left_out(path, line.split()))
    return True


def _is_id(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) < 19
