"""Tables whose columns have names and types, in files or in memory: which hold the triples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import shown
from dglke_distill.base.shown import plural
from dglke_distill.data.cell_tables import CellBlock, parse_weights
from dglke_distill.data.headings import heading_order, named_columns
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.text import strip_blanks

ROWS = 1 << 16
"""Rows of a block."""

Kind = Literal["name", "weight", "date", "other"]
"""What a column's type may hold: names (texts, whole numbers), weights, dates, or neither."""

_BREAKS = re.compile(r"[\t\n\r\0]")
_SHOWN = 12


class ColumnTable:
    """Chooses the columns of a table, and makes blocks of cells of their values.

    The columns are those that ``options`` choose, else those whose names say head, relation and
    tail, else all three if there are three. A subclass calls ``_choose`` before it yields blocks.

    Args:
        path: the file, or what a table in memory is called, for messages.
        options: how it is read.
    """

    may_have_heading = False
    EXTRA: ClassVar[str] = "--ignore-extra"
    CHOOSE: ClassVar[str] = "--columns head=...,relation=...,tail=..."

    def __init__(self, path: Path, options: TableOptions) -> None:
        self.path, self.options = path, options
        self.weight: Optional[str] = None
        self.columns: list[str] = []

    @property
    def used(self) -> list[str]:
        """Names of the columns that are read: head, relation, tail, and weight if there is one."""
        return [*self.columns, *([] if self.weight is None else [self.weight])]

    def __iter__(self) -> Iterator[CellBlock]:
        """Yield the rows, block by block."""
        raise NotImplementedError

    def _choose(
        self, names: list[str], order: str, warnings: Optional[list[str]], weigh: bool
    ) -> None:
        """Choose the columns.

        Args:
            names: of all columns, in their order.
            order: the columns' order where none is chosen and no name says it.
            warnings: receives what was left out.
            weigh: whether weights are wanted.
        """
        options = self.options
        if options.weight_column is not None and weigh:
            self.weight = self._column(options.weight_column, names)
        self.columns = self._chosen(names, order)
        used = self.used
        for name in used:
            if names.count(name) > 1:
                raise self._closed(f"two columns are called {name!r}; rename one")
            if self.columns.count(name) > 1:
                raise self._closed(f"column {name!r} is chosen twice; choose three others")
        if self.weight in self.columns:
            raise self._closed(f"column {self.weight!r} holds a name, no weight")
        for name in used:
            kind, written = self._kind(name)
            if kind != "name" and not (kind == "weight" and name == self.weight):
                raise self._closed(
                    f"column {name!r} is of type {shown(written)[:60]}: names must be texts or "
                    f"whole numbers; choose others by {self.CHOOSE.partition(' ')[0]}"
                )
        out = [name for name in names if name not in used and name != options.weight_column]
        if out and options.columns is None and not options.ignore_extra:
            raise self._closed(
                f"has {plural(len(names), 'column')} ({self._shown(names)}), of which "
                f"{len(used)} are read: "
                f"say {self.EXTRA} to leave the others out, or choose by {self.CHOOSE}"
            )
        if out and warnings is not None:
            dates = [f"{n} (dates)" if self._kind(n)[0] == "date" else n for n in out]
            many = "columns" if len(out) > 1 else "column"
            verb = "were" if len(out) > 1 else "was"
            warnings.append(f"{self.path}: {many} {self._shown(dates)} {verb} left out")

    def _kind(self, name: str) -> tuple[Kind, str]:
        """Return what a column may hold, and its type in words."""
        raise NotImplementedError

    def _closed(self, message: str) -> UserError:
        """Return an error, with whatever was open closed."""
        return UserError(f"{self.path}: {message}")

    def _block(self, start: int, table: Mapping[str, Sequence[Any]]) -> CellBlock:
        """Return a block of the values of the columns used.

        Args:
            start: number of the first row.
            table: values by the name of their column; None is an empty one.
        """
        count = len(table[self.columns[0]])
        cells = np.empty((3, count), dtype=np.object_)
        for place, name in enumerate(self.columns):
            cells[place] = self._texts(table[name], name, start)
        weights: Optional[NDArray[np.float32]] = None
        if self.weight is not None:
            column = np.empty(count, dtype=np.object_)
            column[:] = [np.nan if v is None else v for v in table[self.weight]]
            weights = parse_weights(column, self.path, start, what="row")
        return CellBlock(start, cells, weights)

    def _texts(self, values: Sequence[Any], name: str, start: int) -> list[str]:
        texts = ["" if value is None else str(value) for value in values]
        empty = next((i for i, text in enumerate(texts) if not strip_blanks(text)), None)
        if empty is not None:
            raise UserError(
                f"{self.path}, row {start + empty}: the name in column {name!r} is empty; fill it "
                "in or remove the row"
            )
        broken = next((i for i, text in enumerate(texts) if _BREAKS.search(text)), None)
        if broken is not None:
            raise UserError(
                f"{self.path}, row {start + broken}: the name in column {name!r} has a tab, line "
                "end or zero byte in it; replace it"
            )
        return texts

    def _chosen(self, names: list[str], order: str) -> list[str]:
        if self.options.columns is not None:
            return [self._column(name, names) for name in self.options.columns]
        rest = [name for name in names if name not in (self.options.weight_column, self.weight)]
        named = heading_order(rest)
        if named is not None:
            return [rest[named.index(role)] for role in "hrt"]
        found = named_columns(rest)
        if found is not None:
            return list(found)
        if len(rest) == 3 or (len(rest) > 3 and self.options.ignore_extra):
            return [rest[order.index(role)] for role in "hrt"]
        raise self._closed(
            f"has {plural(len(names), 'column')} ({self._shown(names)}): say by {self.CHOOSE} "
            f"which hold the triples"
        )

    def _column(self, name: str, names: list[str]) -> str:
        if names.count(name) == 1:
            return name
        alike = [other for other in names if other.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        if name.isascii() and name.isdigit() and len(name) < 6 and 0 < int(name) <= len(names):
            return names[int(name) - 1]
        raise self._closed(
            f"there is no column {name!r} among {self._shown(names)}; give one of these names, or "
            "a number from 1 on"
        )

    def _shown(self, names: Sequence[str]) -> str:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(shown(name)[:40] for name in names[:_SHOWN]) + more


def arrow_kind(kind: Any) -> tuple[Kind, str]:
    """Return what a column of an Arrow type may hold, and the type in words.

    Args:
        kind: a ``pyarrow.DataType``.
    """
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    view = hasattr(types, "is_string_view") and types.is_string_view(value)
    if types.is_string(value) or types.is_large_string(value) or view or types.is_integer(value):
        return "name", str(kind)
    if types.is_null(value):  # every cell is empty, which a row is blamed for
        return "name", str(kind)
    if types.is_floating(value) or types.is_decimal(value):
        return "weight", str(kind)
    return "date" if types.is_temporal(kind) else "other", str(kind)
