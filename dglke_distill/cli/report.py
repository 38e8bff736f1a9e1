"""``dglke-distill report``."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from dglke_distill.base.console import SafeConsole
from dglke_distill.cli.say import say

_WIDE = 130
_WHOLE = ("Stage", "Method", "MRR")
_ONLY_WHERE_WIDE = (
    "Model",
    "Floats",
    "Bytes",
    "Parameters",
    "Seeds",
    "Hits@1",
    "Hits@3",
    "Hits@10",
)


def report(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Directory of a finished run or comparison.")
    ],
) -> None:
    """Write the report of a finished run anew: page, figures and table."""
    from dglke_distill import report as reports  # with it comes matplotlib, which takes a second

    write = reports.write_comparison if reports.is_comparison(directory) else reports.write_report
    path = write(directory)
    show_table(directory, SafeConsole())
    say(str(path))


def show_table(directory: Path, console: SafeConsole) -> None:
    """Print the table of a finished run or comparison, without some columns where it is narrow."""
    from dglke_distill.report import table_of

    of = table_of(directory)
    dropped = () if console.width >= _WIDE else _ONLY_WHERE_WIDE
    shown = [i for i, heading in enumerate(of.headings) if heading not in dropped]
    table = Table()
    for i in shown:
        justify: Literal["left", "right"] = "left" if i < of.text_columns else "right"
        table.add_column(of.headings[i], justify=justify, no_wrap=of.headings[i] in _WHOLE)
    for row in of.rows:
        cells = [row.cells[i] for i in shown]
        table.add_row(*cells, style="bold" if row.best else "")
    console.print(table)
