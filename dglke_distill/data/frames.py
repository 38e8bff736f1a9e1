"""Tables in memory as triples: data frames of pandas, and whatever gives Arrow's columns.

They are read as Parquet files are. Neither library is imported unless a table of it is given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.data.cell_tables import CellBlock
from dglke_distill.data.column_tables import ROWS, ColumnTable, Kind, arrow_kind
from dglke_distill.data.formats import read_tables
from dglke_distill.data.layout import SPLITS
from dglke_distill.data.sources import is_named
from dglke_distill.data.split_names import parse_split_name
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.triples import Dataset


def is_table(given: object) -> bool:
    """Return whether something is a table in memory, or several by split.

    Args:
        given: anything.
    """
    return isinstance(given, Mapping) or _is_pandas(given) or _is_arrow(given)


def read_frames(
    given: Any,
    options: TableOptions,
    *,
    name: str = "frame",
    split_seed: int = 0,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Dataset:
    """Make a dataset of a table in memory, split as a file of facts is, or of one for each split.

    Args:
        given: a ``pandas.DataFrame``, a ``pyarrow.Table``, another table with
            ``__arrow_c_stream__``, or a mapping of ``train``, ``valid`` and ``test`` to such.
        options: which columns are read.
        name: the dataset's name.
        split_seed: seed where one table is split.
        split_fractions: shares of train, valid and test where one table is split.

    Raises:
        UserError: it is no table, a split lacks, a column lacks, or a name is empty.
    """
    if not name.strip() or Path(name).name != name or "\\" in name or not name.isprintable():
        raise UserError(f"name {name!r:.100}: give a plain name, without / or \\")
    if is_named(name):
        raise UserError(f"name {name!r}: the catalog has a dataset of that name; give another")
    tables = _by_split(given, name) if isinstance(given, Mapping) else {"train": given}
    whole = len(tables) == 1
    places = {split: Path(name if whole else f"{name}[{split}]") for split in tables}

    def opened(split: str, warnings: list[str]) -> ColumnTable:
        return _opened(tables[split], places[split], options, warnings, split == "train")

    return read_tables(
        places, opened, name=name, split_seed=split_seed,
        split_fractions=split_fractions if whole else None,
    )  # fmt: skip


def _by_split(given: Mapping[Any, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, table in given.items():
        said = parse_split_name(Path(key)) if isinstance(key, str) else None
        if said is None or said.word != key.lower():
            raise UserError(f"{name}: {key!r:.100} is no split; give train, valid and test")
        if said.split in found:
            raise UserError(f"{name}: the split {said.split} is given twice; give it once")
        found[said.split] = table
    for split in SPLITS:
        if split not in found:
            raise UserError(
                f"{name}: there is no {split}; give train, valid and test (an empty table where "
                "there is none), or one table alone to have it split"
            )
    return {split: found[split] for split in SPLITS}


def _opened(
    table: Any, place: Path, options: TableOptions, warnings: list[str], weigh: bool
) -> ColumnTable:
    if _is_pandas(table):
        return _PandasTable(table, place, options, warnings, weigh)
    if _is_arrow(table):
        return _ArrowTable(table, place, options, warnings, weigh)
    raise UserError(
        f"{place}: is a {type(table).__name__}; give a pandas.DataFrame or a pyarrow.Table of "
        "triples"
    )


def _is_pandas(given: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def _is_arrow(given: object) -> bool:
    return not isinstance(given, type) and hasattr(given, "__arrow_c_stream__")


class _MemoryTable(ColumnTable):
    """A table in memory; ``names`` are those of its columns, which do not matter without rows."""

    EXTRA = "ignore_extra=True"
    CHOOSE = 'columns="head=...,relation=...,tail=..."'

    def __init__(
        self, path: Path, options: TableOptions, names: list[str], rows: int,
        warnings: Optional[list[str]], weigh: bool,
    ) -> None:  # fmt: skip
        super().__init__(path, options)
        self._names = names
        if rows:
            self._choose(names, "hrt", warnings, weigh)

    def _texts(self, values: Sequence[Any], name: str, start: int) -> list[str]:
        texts = super()._texts(values, name, start)
        try:
            "\n".join(texts).encode()
        except UnicodeEncodeError:
            row = next(i for i, text in enumerate(texts) if not _is_utf8(text))
            raise self._no_text(start + row, name) from None
        return texts

    def _no_text(self, row: int, name: str) -> UserError:
        return UserError(
            f"{self.path}, row {row}: the name in column {name!r} is no Unicode text; replace it"
        )


class _ArrowTable(_MemoryTable):
    def __init__(
        self, table: Any, path: Path, options: TableOptions,
        warnings: Optional[list[str]], weigh: bool,
    ) -> None:  # fmt: skip
        try:
            import pyarrow
        except ImportError:
            raise UserError(
                f"{path}: tables of Arrow need the package pyarrow: pip install "
                "'dglke-distill[formats]'"
            ) from None
        try:
            self._table = table if isinstance(table, pyarrow.Table) else pyarrow.table(table)
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: a {type(table).__name__} is no table of columns ({str(error)[:100]}); "
                "give a pandas.DataFrame or a pyarrow.Table"
            ) from None
        names = list(self._table.column_names)
        super().__init__(path, options, names, len(self._table), warnings, weigh)

    def __iter__(self) -> Iterator[CellBlock]:
        start = 1
        for batch in self._table.select(self.used).to_batches(max_chunksize=ROWS):
            if not batch.num_rows:
                continue
            values: dict[str, Sequence[Any]] = {
                name: self._values(batch.column(name), name, start) for name in self.used
            }
            yield self._block(start, values)
            start += batch.num_rows

    def _values(self, column: Any, name: str, start: int) -> list[Any]:
        try:
            found: list[Any] = column.to_pylist()
        except UnicodeDecodeError:
            # The text may be bytes that somebody has declared to be UTF-8.
            texts = column.cast("large_binary").to_pylist()
            row = next(i for i, text in enumerate(texts) if not _is_utf8(text))
            raise self._no_text(start + row, name) from None
        return found

    def _kind(self, name: str) -> tuple[Kind, str]:
        return arrow_kind(self._table.schema.field(self._names.index(name)).type)


class _PandasTable(_MemoryTable):
    def __init__(
        self, frame: Any, path: Path, options: TableOptions,
        warnings: Optional[list[str]], weigh: bool,
    ) -> None:  # fmt: skip
        import pandas

        self._frame = frame
        # Numbers that pandas gave are no names: columns without names count from 1 on, as in files.
        numbered = isinstance(frame.columns, pandas.RangeIndex)
        labels = range(1, frame.shape[1] + 1) if numbered else frame.columns
        names = [str(label) for label in labels]
        super().__init__(path, options, names, len(frame), warnings, weigh)

    def __iter__(self) -> Iterator[CellBlock]:
        places = {name: self._names.index(name) for name in self.used}
        for start in range(0, len(self._frame), ROWS):
            rows = self._frame.iloc[start : start + ROWS]
            values = {name: self._values(rows.iloc[:, at]) for name, at in places.items()}
            yield self._block(start + 1, values)

    def _values(self, column: Any) -> Sequence[Any]:
        """Return the values of a column, None for whatever pandas takes for a missing one."""
        gone = column.isna().tolist()
        return [None if lacks else value for value, lacks in zip(column.tolist(), gone)]

    def _texts(self, values: Sequence[Any], name: str, start: int) -> list[str]:
        texts = super()._texts(values, name, start)
        # A column of objects may hold anything.
        for row, value in enumerate(values):
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not (whole or isinstance(value, str)):
                raise UserError(
                    f"{self.path}, row {start + row}: column {name!r} holds a "
                    f"{type(value).__name__} ({str(value)[:40]!r}): names must be texts or whole "
                    "numbers"
                )
        return texts

    def _kind(self, name: str) -> tuple[Kind, str]:
        from pandas.api import types

        at = self._names.index(name)
        kind = self._frame.dtypes.iloc[at]
        written = str(kind)
        if isinstance(kind, types.CategoricalDtype):
            kind = kind.categories.dtype
        if types.is_bool_dtype(kind):
            return "other", written
        if any(of(kind) for of in (types.is_object_dtype, types.is_string_dtype)):
            return "name", written
        if types.is_integer_dtype(kind):
            return "name", written
        if types.is_float_dtype(kind):
            # Whole numbers with gaps are floats to pandas: the row of the first gap is then named.
            column = self._frame.iloc[:, at]
            gaps = column.isna().any() and name != self.weight
            return ("name" if gaps and name in self.columns else "weight"), written
        if types.is_datetime64_any_dtype(kind) or types.is_timedelta64_dtype(kind):
            return "date", written
        return "other", written


def _is_utf8(text: Union[str, bytes, None]) -> bool:
    try:
        if text is not None:
            _ = text.encode() if isinstance(text, str) else text.decode()
    except UnicodeError:
        return False
    return True
