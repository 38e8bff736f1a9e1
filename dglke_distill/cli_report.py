"""``dglke-distill report``."""

# No `from __future__ import annotations`: typer on Python 3.9 would not see the options.

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["report"]


def report(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Directory of a finished run or comparison.")
    ],
) -> None:
    """Write the report of a finished run anew: page, figures and table."""
    from dglke_distill import report as reports  # with it comes matplotlib, which takes a second

    write = reports.write_comparison if reports.is_comparison(directory) else reports.write_report
    path = write(directory)
    of = reports.table_of(directory)
    table = Table()
    for index, heading in enumerate(of.headings):
        table.add_column(heading, justify="left" if index < of.text_columns else "right")
    for row in of.rows:
        style = "bold" if row.best else ""
        table.add_row(*(Text(cell) for cell in row.cells), style=style)
    Console().print(table)
    typer.echo(str(path))
