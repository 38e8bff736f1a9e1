"""Parquet files as tables of triples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular, shown
from dglke_distill.data.cell_tables import CellBlock, parse_weights
from dglke_distill.data.headings import heading_order, named_columns
from dglke_distill.data.opening import most_bytes
from dglke_distill.data.table_options import TableOptions

__all__ = ["PARQUET_ENDINGS", "ParquetTable", "is_parquet"]

PARQUET_ENDINGS = (".parquet", ".pq")
_MAGIC = b"PAR1"
_BREAKS = re.compile(r"[\t\n\r\0]")
_ROWS = 1 << 16
_SHOWN = 12
_LIMITS = {"thrift_string_size_limit": 1 << 26, "thrift_container_size_limit": 1 << 20}


def is_parquet(path: Path) -> bool:
    """Return whether a file is called Parquet, or begins and ends as one."""
    if path.name.lower().endswith(PARQUET_ENDINGS):
        return True
    try:
        with open_regular(path) as stream:
            if stream.read(4) != _MAGIC or stream.seek(0, 2) < 12:
                return False
            stream.seek(-4, 2)
            return stream.read(4) == _MAGIC
    except (OSError, UserError):
        return False


class ParquetTable:
    """A Parquet file, read by options.

    The columns are those that ``options`` choose, else those whose names say head, relation and
    tail, else all three if there are three.

    Args:
        path: the file.
        options: how it is read.
        order: the columns' order where none is chosen and no name says it.
        warnings: receives what was left out.
        weigh: whether weights are wanted.

    Raises:
        UserError: the file is missing or damaged, has no such columns, or the library is absent.
    """

    may_have_heading = False

    def __init__(
        self,
        path: Path,
        options: TableOptions,
        *,
        order: str = "hrt",
        warnings: Optional[list[str]] = None,
        weigh: bool = False,
    ) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UserError(
                f"{path}: Parquet needs the package pyarrow: pip install 'dglke-distill[formats]'"
            ) from None
        self.path, self.options = path, options
        self._stream = open_regular(path, missing="there is no file; check the name")
        with self._reading():
            self._file = pyarrow.parquet.ParquetFile(self._stream, **_LIMITS)
        self._types = pyarrow.types
        with self._reading():
            schema = self._file.schema_arrow
            groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
        if size > most_bytes(path) or size < 0:
            raise self._closed(
                "expands to far more than its size, which no file of triples does; where you trust "
                "it, save its three columns as text"
            )
        names = list(schema.names)
        self.weight: Optional[str] = None
        if options.weight_column is not None and weigh:
            self.weight = self._column(options.weight_column, names)
        self.columns = self._chosen(names, order)
        used = [*self.columns, *([] if self.weight is None else [self.weight])]
        if len(set(used)) < len(used):
            raise self._closed(f"column {self.weight!r} holds a name, no weight")
        for name in used:
            self._check_type(schema.field(name).type, name)
        out = [name for name in names if name not in used and name != options.weight_column]
        if out and options.columns is None and not options.ignore_extra:
            raise self._closed(
                f"has {len(names)} columns ({self._shown(names)}), of which {len(used)} are read: "
                "say --ignore-extra to leave the others out, or choose by --columns "
                "head=...,relation=...,tail=..."
            )
        if out and warnings is not None:
            dates = [
                f"{name} (dates)" if self._types.is_temporal(schema.field(name).type) else name
                for name in out
            ]
            many = "columns" if len(out) > 1 else "column"
            verb = "were" if len(out) > 1 else "was"
            warnings.append(f"{path}: {many} {self._shown(dates)} {verb} left out")

    def __iter__(self) -> Iterator[CellBlock]:
        """Yield the rows, block by block.

        Raises:
            UserError: the file is damaged, a name is missing, or a weight is none.
        """
        used = [*self.columns, *([] if self.weight is None else [self.weight])]
        start = 1
        with self._stream:
            batches = self._file.iter_batches(batch_size=_ROWS, columns=used)
            while True:
                with self._reading():
                    batch = next(batches, None)
                    table = (
                        None if batch is None else {n: batch.column(n).to_pylist() for n in used}
                    )
                if table is None:
                    return
                count = len(table[used[0]])
                cells = np.empty((3, count), dtype=np.object_)
                for place, name in enumerate(self.columns):
                    cells[place] = self._texts(table[name], name, start)
                weights = None
                if self.weight is not None:
                    column = np.empty(count, dtype=np.object_)
                    column[:] = [np.nan if v is None else v for v in table[self.weight]]
                    weights = parse_weights(column, self.path, start, what="row")
                yield CellBlock(start, cells, weights)
                start += count

    def _texts(self, values: Sequence[Any], name: str, start: int) -> list[str]:
        texts = ["" if value is None else str(value) for value in values]
        empty = next((i for i, text in enumerate(texts) if not text.strip()), None)
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

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Make one error of whatever the library says of a file that is damaged."""
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            why = shown(str(error).partition("\n")[0]) or "too large"
            raise self._closed(f"is no whole Parquet file ({why}); download it again") from None

    def _closed(self, message: str) -> UserError:
        self._stream.close()
        return UserError(f"{self.path}: {message}")

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
            f"has {len(names)} columns ({self._shown(names)}): say by --columns "
            "head=...,relation=...,tail=... which hold the triples"
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

    def _check_type(self, kind: Any, name: str) -> None:
        types = self._types
        value = kind.value_type if types.is_dictionary(kind) else kind
        texts = types.is_string(value) or types.is_large_string(value) or _is_view(types, value)
        numbers = types.is_integer(value)
        weighs = name == self.weight and (types.is_floating(value) or types.is_decimal(value))
        if not (texts or numbers or weighs):
            raise self._closed(
                f"column {name!r} is of type {shown(kind)[:60]}: names must be texts or whole "
                "numbers; choose others by --columns"
            )

    def _shown(self, names: Sequence[str]) -> str:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(shown(name)[:40] for name in names[:_SHOWN]) + more


def _is_view(types: Any, kind: Any) -> bool:
    return hasattr(types, "is_string_view") and bool(types.is_string_view(kind))
