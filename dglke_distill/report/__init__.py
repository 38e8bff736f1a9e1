"""Reports: a page, figures and a Markdown table of a finished run or comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from matplotlib.figure import Figure

from dglke_distill.artifacts.results_files import RESULTS_FILE, results_kind
from dglke_distill.base.files import directory_aside
from dglke_distill.base.shown import capitalised, markdown_text
from dglke_distill.report.comparison import (
    about_gains,
    about_table,
    comparison_figure,
    comparison_page,
)
from dglke_distill.report.comparison_results import read_comparison
from dglke_distill.report.drawings import FIGURES
from dglke_distill.report.html import run_page
from dglke_distill.report.page import Drawing
from dglke_distill.report.run_results import ShownStage, read_run
from dglke_distill.report.tables import Table, comparison_table, run_table, verdict_table
from dglke_distill.report.theme import LIGHT, dark_svg, png, svg

__all__ = [
    "PAGE",
    "REPORT_DIRECTORY",
    "TABLE",
    "about_gains",
    "is_comparison",
    "table_of",
    "write_comparison",
    "write_report",
]

REPORT_DIRECTORY = "report"
PAGE = "report.html"
TABLE = "table.md"
COMPARISON = "comparison"


def write_report(run_directory: Path) -> Path:
    """Write the report of a finished chain to its directory ``report``.

    That directory is replaced as a whole: it holds either the former report or the new one.

    Args:
        run_directory: with ``results.json``, ``chain.toml`` and the stages.

    Returns:
        The page's path.

    Raises:
        UserError: a file is missing or malformed; the message names it.
    """
    run = read_run(run_directory)
    with directory_aside(run_directory / REPORT_DIRECTORY, foreign=_foreign) as folder:
        drawings = []
        for kind in FIGURES:
            figure = kind.draw(run, LIGHT)
            if figure is not None:
                text = _save(figure, folder, kind.name, run.stages)
                drawings.append(Drawing(kind.name, kind.title, kind.describe(run), kind.note, text))
        told = [v.sentence for v in list(run.verdicts.values())[-1:]]
        judged = f"\n{verdict_table(run).markdown()}" if told else ""
        _write(folder / TABLE, _table_text(run_table(run), run.chain.data_warnings, told) + judged)
        _write(folder / PAGE, run_page(run, drawings))
    return run_directory / REPORT_DIRECTORY / PAGE


def write_comparison(directory: Path) -> Path:
    """Write the report of a comparison to its directory ``report``; see ``write_report``.

    Args:
        directory: with the comparison's ``results.json``.
    """
    compared = read_comparison(directory)
    with directory_aside(directory / REPORT_DIRECTORY, foreign=_foreign) as folder:
        text = _save(comparison_figure(compared, LIGHT), folder, COMPARISON)
        warnings = compared.results.data_warnings
        told = about_table(compared)
        _write(folder / TABLE, _table_text(comparison_table(compared), warnings, told))
        _write(folder / PAGE, comparison_page(compared, text))
    return directory / REPORT_DIRECTORY / PAGE


def is_comparison(directory: Path) -> bool:
    """Return whether a directory holds a comparison; else it holds a chain.

    Raises:
        UserError: there is no ``results.json``, or it is malformed.
    """
    return results_kind(directory / RESULTS_FILE) == "comparison"


def table_of(directory: Path) -> Table:
    """Return the table of a finished chain or comparison."""
    if is_comparison(directory):
        return comparison_table(read_comparison(directory))
    return run_table(read_run(directory))


def _table_text(table: Table, warnings: Sequence[str], told: Sequence[str] = ()) -> str:
    lines = "".join(f"\nWarning: {line}\n" for line in warnings)
    lines += "".join(f"\n{markdown_text(capitalised(line))}.\n" for line in told)
    return table.markdown() + lines


def _foreign(folder: Path) -> Optional[str]:
    """Return the name of something in a report's directory that no report has."""
    drawn = (*(kind.name for kind in FIGURES), COMPARISON)
    ours = {PAGE, TABLE, *(name + end for name in drawn for end in (".svg", "-dark.svg", ".png"))}
    return min((path.name for path in folder.iterdir() if path.name not in ours), default=None)


def _save(figure: Figure, folder: Path, name: str, stages: Sequence[ShownStage] = ()) -> str:
    """Save a figure as PNG on white and as transparent SVG in light and dark; return the light."""
    text = svg(figure, LIGHT)
    _write(folder / f"{name}.svg", text)
    _write(folder / f"{name}-dark.svg", dark_svg(text, stages))
    (folder / f"{name}.png").write_bytes(png(figure, LIGHT))
    return text


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
