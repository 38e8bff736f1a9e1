"""Reading the course of a training, which somebody may have cut short or edited."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from dglke_distill.artifacts.results_node import FIX
from dglke_distill.base import regular_files
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural

__all__ = ["read_history", "read_text"]

_MISSING = "no such file; is that the directory of a finished run?"
_MAX_BYTES = 1 << 26


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        UserError: the file is missing or not UTF-8.
    """
    return regular_files.read_text(path, _MAX_BYTES, missing=_MISSING)


def read_history(path: Path) -> dict[str, tuple[float, ...]]:
    """Read a ``history.csv``: column name to its values, NaN where a cell is empty.

    Raises:
        UserError: the file is missing, has no rows, no column ``epoch``, or a cell that is no
            number; the message names the line.
    """
    rows = list(csv.reader(io.StringIO(read_text(path))))
    if len(rows) < 2 or "epoch" not in rows[0]:
        raise UserError(f"{path}: no epochs, or no column named epoch; {FIX}")
    names = rows[0]
    columns: dict[str, list[float]] = {name: [] for name in names}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise UserError(
                f"{path}: line {line} has {plural(len(row), 'cell')}, not {len(names)}; {FIX}"
            )
        for name, cell in zip(names, row):
            try:
                columns[name].append(float(cell) if cell else math.nan)
            except ValueError:
                raise UserError(f"{path}: line {line}, {name}: {cell!r} is no number") from None
    return {name: tuple(values) for name, values in columns.items()}
