"""Whichever reader a file of names needs: of columns chosen, of RDF, of Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from dglke_distill.base.errors import UserError
from dglke_distill.data.cell_tables import CellTable
from dglke_distill.data.column_tables import ColumnTable
from dglke_distill.data.parquet_tables import ParquetTable, is_parquet
from dglke_distill.data.rdf import RdfTable, rdf_format
from dglke_distill.data.table_options import PLAIN, TableOptions

NameTable = Union[CellTable, ColumnTable, RdfTable]
"""Yields blocks of cells; ``may_have_heading`` says if the first row may be no fact."""


def is_special(path: Path, options: Optional[TableOptions] = None) -> bool:
    """Return whether a file is read otherwise than as a plain table of three columns.

    Args:
        path: the file.
        options: what the user says of their tables.

    Raises:
        UserError: the file is missing or damaged.
    """
    if options is not None and options.of_text:
        return True
    return is_parquet(path) or rdf_format(path) is not None


def open_table(
    path: Path,
    options: Optional[TableOptions] = None,
    *,
    order: str = "hrt",
    header: Optional[bool] = None,
    warnings: Optional[list[str]] = None,
    weigh: bool = False,
) -> NameTable:
    """Return the reader of a file that ``is_special``.

    Args:
        path: the file.
        options: how it is read.
        order: the columns' order where no column is chosen, a permutation of ``hrt``.
        header: whether a table of text begins with a heading; None: found out.
        warnings: receives what was left out.
        weigh: whether weights are wanted, if ``options`` name their column.

    Raises:
        UserError: the file is missing or damaged, or has no such columns.
    """
    options = options or PLAIN
    if is_parquet(path):
        return ParquetTable(path, options, order=order, warnings=warnings, weigh=weigh)
    kind = None if options.of_text and options.delimiter else rdf_format(path)
    if kind is not None:
        if options.columns is not None or (weigh and options.weight_column is not None):
            raise UserError(
                f"{path}: statements of RDF have no columns to choose, and no weights; leave "
                "--columns and --weight-column away"
            )
        return RdfTable(path, kind, literals=options.literals, warnings=warnings)
    return CellTable(path, options, order=order, header=header, warnings=warnings, weigh=weigh)
