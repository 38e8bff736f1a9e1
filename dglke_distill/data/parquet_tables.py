"""Parquet files as tables of triples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular, shown
from dglke_distill.data.cell_tables import CellBlock
from dglke_distill.data.column_tables import ROWS, ColumnTable, Kind, arrow_kind
from dglke_distill.data.opening import most_bytes
from dglke_distill.data.table_options import TableOptions

PARQUET_ENDINGS = (".parquet", ".pq")
_MAGIC = b"PAR1"
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


class ParquetTable(ColumnTable):
    """A Parquet file, read by options; see ``ColumnTable`` for which columns.

    Args:
        path: the file.
        options: how it is read.
        order: the columns' order where none is chosen and no name says it.
        warnings: receives what was left out.
        weigh: whether weights are wanted.

    Raises:
        UserError: the file is missing or damaged, has no such columns, or the library is absent.
    """

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
            import pyarrow.parquet
        except ImportError:
            raise UserError(
                f"{path}: Parquet needs the package pyarrow: pip install 'dglke-distill[formats]'"
            ) from None
        super().__init__(path, options)
        self._stream = open_regular(path, missing="there is no file; check the name")
        with self._reading():
            self._file = pyarrow.parquet.ParquetFile(self._stream, **_LIMITS)
        with self._reading():
            self._schema = self._file.schema_arrow
            groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
        if size > most_bytes(path) or size < 0:
            raise self._closed(
                "expands to far more than its size, which no file of triples does; where you trust "
                "it, save its three columns as text"
            )
        self._choose(list(self._schema.names), order, warnings, weigh)

    def __iter__(self) -> Iterator[CellBlock]:
        """Yield the rows, block by block.

        Raises:
            UserError: the file is damaged, a name is missing, or a weight is none.
        """
        start = 1
        with self._stream:
            batches = self._file.iter_batches(batch_size=ROWS, columns=self.used)
            while True:
                with self._reading():
                    batch = next(batches, None)
                    table = (
                        None
                        if batch is None
                        else {n: batch.column(n).to_pylist() for n in self.used}
                    )
                if table is None:
                    return
                block = self._block(start, table)
                yield block
                start += block.cells.shape[1]

    def _kind(self, name: str) -> tuple[Kind, str]:
        return arrow_kind(self._schema.field(name).type)

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
        return super()._closed(message)
