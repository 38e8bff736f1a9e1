"""Tables of text whose columns the user chooses, or separates otherwise."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.headings import heading_left_out, heading_order, named_columns
from dglke_distill.data.line_errors import is_time, separator_of
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.text import BLANKS, blocks, cell_frame, decode

Cells = NDArray[np.object_]
_UNIT = "\x1f"
_SHOWN = 12


class CellBlock(NamedTuple):
    """Rows of a table.

    ``start`` is the first row's line; ``cells`` (3, n) are heads, relations and tails; ``weights``
    (n,) float32, or None.
    """

    start: int
    cells: Cells
    weights: Optional[NDArray[np.float32]]


@dataclass
class _Plan:
    """Which columns are read, from 0 on; ``heading``: the first line names them, and is no row."""

    positions: list[int]
    weight: Optional[int]
    heading: bool
    width: int


class CellTable:
    """A table of text, read by options.

    Args:
        path: the file.
        options: how it is read.
        order: the columns' order where no column is chosen, a permutation of ``hrt``.
        header: whether the first line is a heading; None: found out.
        warnings: receives what was left out.
        weigh: whether weights are wanted; without them a column of weights may lack.

    Raises:
        UserError: the file is missing or damaged, or has no such columns.
    """

    def __init__(
        self,
        path: Path,
        options: TableOptions,
        *,
        order: str = "hrt",
        header: Optional[bool] = None,
        warnings: Optional[list[str]] = None,
        weigh: bool = False,
    ) -> None:
        self.path, self.options, self.order = path, options, order
        self.weigh = weigh and options.weight_column is not None
        self._told = warnings
        self.separator = options.delimiter or separator_of(path)
        self.quoted = self.separator == "," or options.quoted
        self._blocks = blocks(path, warnings)
        self._first = next(self._blocks, None)
        self.plan = _Plan([0, 1, 2], None, False, 3)
        if self._first is not None:
            line = decode(path, 1, self._first[1].partition(b"\n")[0])
            self.plan = self._planned(self._split(line), header)

    @property
    def may_have_heading(self) -> bool:
        """Whether it is open if the first row is a heading."""
        return not self.plan.heading

    def __iter__(self) -> Iterator[CellBlock]:
        """Yield the rows, block by block.

        Raises:
            UserError: a line is malformed, a name is empty, or a weight is none.
        """
        if self._first is None:
            return
        start, block = self._first
        if self.plan.heading:
            _, _, block = block.partition(b"\n")
            start += 1
        self._tell_extra(block)
        while True:
            if block:
                yield self._read(start, block)
            following = next(self._blocks, None)
            if following is None:
                return
            start, block = following

    def _split(self, line: str) -> list[str]:
        if self.separator == BLANKS:
            return line.split()
        if not self.quoted:
            return [cell.strip() for cell in line.split(self.separator)]
        try:
            cells = next(csv.reader([line], delimiter=self.separator, skipinitialspace=True), [])
        except csv.Error:
            cells = line.split(self.separator)
        return [cell.strip() for cell in cells]

    # --- which columns --------------------------------------------------------------------------

    def _planned(self, cells: list[str], header: Optional[bool]) -> _Plan:
        options, width = self.options, len(cells)
        names = options.columns
        weight_name = options.weight_column
        wanted = [*(names or ()), *([] if weight_name is None else [weight_name])]
        by_name = header is not False and any(_place(cells, name) is not None for name in wanted)
        where = f"{self.path}, line 1"
        weight = None
        if weight_name is not None:
            weight = self._position(weight_name, cells, by_name, self.weigh)
        if names is not None:
            found = [self._position(name, cells, by_name, True) for name in names]
            positions = [place for place in found if place is not None]
        else:
            positions, by_name = self._unnamed(cells, weight, header, by_name)
        if max(positions) >= width:
            beside = "" if weight is None else " beside the weight's"
            raise UserError(
                f"{where}: has {plural(width, 'column')}, not three{beside} separated by "
                f"{self._sign()}; "
                "say what separates them by --delimiter, or correct the line"
            )
        if len(set(positions)) < 3:
            twice = next(place for place in positions if positions.count(place) > 1)
            raise UserError(
                f"{where}: column {cells[twice]!r} is chosen twice; choose three others"
            )
        if weight in positions:
            raise UserError(f"{where}: column {weight_name!r} holds a name, no weight")
        extra = width - len(positions) - (weight is not None)
        if extra and names is None and not options.ignore_extra:
            raise UserError(
                f"{where}: has {plural(width, 'column')} ({self._shown(cells)}), of which "
                f"{3 + (weight is not None)} are read: say --ignore-extra to leave the others out, "
                "or choose by --columns head=...,relation=...,tail=..."
            )
        heading = by_name or (header is True and sorted(positions) != [0, 1, 2])
        if heading and not by_name and self._told is not None:
            self._told.append(heading_left_out(self.path, cells))
        return _Plan(positions, weight, heading, width)

    def _unnamed(
        self, cells: list[str], weight: Optional[int], header: Optional[bool], by_name: bool
    ) -> tuple[list[int], bool]:
        """Return the columns that a heading shows, else the first three beside the weight."""
        first = [place for place in range(max(len(cells), 4)) if place != weight][:3]
        known = None if header is False else named_columns(cells)
        chosen = [cells[place] for place in first if place < len(cells)]
        if known is not None and heading_order(chosen) is None:
            places = [cells.index(name) for name in known]
            if self._told is not None:
                self._told.append(
                    f"{self.path}, line 1: {', '.join(known)} were taken for head, relation and "
                    "tail, as the heading says; choose others by --columns"
                )
            return places, True
        order = heading_order(chosen) if header is not False else None
        if order is not None and (by_name or len(cells) > 3):
            return [first[order.index(role)] for role in "hrt"], True
        return [first[self.order.index(role)] for role in "hrt"], by_name

    def _position(self, name: str, cells: list[str], by_name: bool, needed: bool) -> Optional[int]:
        """Return the place of a column by its name in the heading, or its number."""
        place = _place(cells, name) if by_name else None
        if place is None and name.isascii() and name.isdigit() and len(name) < 6:
            place = int(name) - 1
            place = place if 0 <= place < len(cells) else None
        if place is None and needed:
            raise UserError(
                f"{self.path}, line 1: there is no column {name!r} among {self._shown(cells)}; "
                "give a name of the heading or a number from 1 on, or what separates columns by "
                "--delimiter"
            )
        return place

    def _shown(self, cells: Sequence[str]) -> str:
        more = f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
        return ", ".join(cell[:40] for cell in cells[:_SHOWN]) + more

    def _sign(self) -> str:
        words = {"\t": "tabs", ",": "commas", ";": "semicolons", BLANKS: "blanks"}
        return words.get(self.separator, repr(self.separator))

    def _tell_extra(self, block: bytes) -> None:
        """Say which columns are left out, and if one holds dates."""
        plan = self.plan
        out = [i for i in range(plan.width) if i not in (*plan.positions, plan.weight)]
        if not out or self._told is None:
            return
        assert self._first is not None
        heading = self._split(decode(self.path, 1, self._first[1].partition(b"\n")[0]))
        row = self._split(decode(self.path, 2, block.partition(b"\n")[0])) if block else []
        told = []
        for place in out[:_SHOWN]:
            name = heading[place] if plan.heading else str(place + 1)
            sample = row[place] if place < len(row) else ""
            told.append(f"{name} (dates such as {sample})" if is_time(sample) else name)
        more = f" and {len(out) - _SHOWN} more" if len(out) > _SHOWN else ""
        many = "columns" if len(out) > 1 else "column"
        verb = "were" if len(out) > 1 else "was"
        self._told.append(f"{self.path}: {many} {', '.join(told)}{more} {verb} left out")

    # --- rows -----------------------------------------------------------------------------------

    def _read(self, start: int, block: bytes) -> CellBlock:
        plan = self.plan
        separator = self.separator
        if len(separator) > 1 and separator != BLANKS:
            if _UNIT.encode() in block:
                line = start + block.count(b"\n", 0, block.index(_UNIT.encode()))
                raise UserError(f"{self.path}, line {line}: contains a control character (0x1f)")
            block, separator = block.replace(separator.encode(), _UNIT.encode()), _UNIT
        try:
            frame = cell_frame(block, separator, quoted=self.quoted, led_by_blanks=self.quoted)
        except ValueError as error:
            self._blame(start, block, separator, str(error))
        if frame.shape[1] != plan.width:
            self._blame(start, block, separator, "its lines have other columns than the first")
        if len(frame) != block.count(b"\n"):
            self._blame(start, block, separator, "a quoted name spans several lines")
        cells: Cells = np.stack([frame[place].to_numpy(dtype=object) for place in plan.positions])
        if not all(type(cell) is str and cell.strip() for cell in cells.reshape(-1)):
            self._blame(start, block, separator, "a name is empty")
        weights = None
        if plan.weight is not None and self.weigh:
            column = frame[plan.weight].to_numpy(dtype=object)
            first = self.may_have_heading and start == 1
            weights = parse_weights(column, self.path, start, lenient_first=first)
        return CellBlock(start, cells, weights)

    def _blame(self, start: int, block: bytes, separator: str, otherwise: str) -> NoReturn:
        """Raise for the first line that is malformed."""
        width, most = self.plan.width, max(self.plan.positions)
        for number, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), start):
            line = decode(self.path, number, raw)
            where = f"{self.path}, line {number}"
            if not line.strip():
                raise UserError(f"{where}: is blank; remove it")
            if separator == _UNIT:
                line = line.replace(_UNIT, self.separator)
            cells = self._split(line)
            if len(cells) > width or len(cells) <= most:
                raise UserError(
                    f"{where}: has {plural(len(cells), 'column')} separated by {self._sign()}, "
                    f"line 1 has {width}; correct the line"
                )
            empty = next((i for i in self.plan.positions if not cells[i]), None)
            if empty is not None:
                raise UserError(
                    f"{where}: the name in column {empty + 1} is empty; fill it in or remove the "
                    "line"
                )
        raise UserError(f"{self.path}, in the lines from {start}: {otherwise}; correct the file")


def _place(cells: Sequence[str], name: str) -> Optional[int]:
    """Return where a name stands in a heading: as it is, else in any letter case, if but once."""
    for found in (
        [i for i, cell in enumerate(cells) if cell == name],
        [i for i, cell in enumerate(cells) if cell.casefold() == name.casefold()],
    ):
        if len(found) == 1:
            return found[0]
    return None


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def parse_weights(
    column: NDArray[np.object_], path: Path, start: int, *, lenient_first: bool = False,
    what: str = "line",
) -> NDArray[np.float32]:  # fmt: skip
    """Return weights (n,) float32 of texts or numbers.

    Args:
        column: (n,), as they stand there.
        path: the file, for messages.
        start: number of the first row.
        lenient_first: whether the first may be a heading; it is then NaN.
        what: what rows are called.

    Raises:
        UserError: one is no finite number, or negative.
    """
    try:
        found = np.array(column, dtype=np.float64)
    except (ValueError, TypeError):
        found = np.array([_weight(value) for value in column], np.float64)
    with np.errstate(over="ignore"):
        weights = found.astype(np.float32)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if lenient_first and len(bad) and np.isnan(found[0]):
        bad[0] = False
    rows = np.flatnonzero(bad)
    if len(rows):
        raise UserError(
            f"{path}, {what} {start + int(rows[0])}: the weight {str(column[rows[0]])[:40]!r} is "
            "no number from 0 to 3e38; correct it"
        )
    return weights


def _weight(value: object) -> float:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else float("nan")
