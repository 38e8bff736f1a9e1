"""Entries of a registry as a table that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Optional

from dglke_distill.base.shown import visible
from dglke_distill.zoo.schema import Entry

HEADINGS = ("name", "version", "B/entity", "params", "MRR", "Hits@1", "Hits@10", "split", "MB")
"""Of the columns; all but the first are figures: ``params`` all parameters, ``MB`` all files."""
_LEAST_NEEDED = ("split", "Hits@1", "params", "Hits@10", "version", "MB")


def row_of(entry: Entry) -> tuple[str, ...]:
    """Return what stands below the ``HEADINGS`` for an entry.

    Args:
        entry: of the registry.
    """
    of = entry.metrics
    figures = ["-"] * 4
    if of is not None:
        figures = [*(f"{x:.4f}" for x in (of.mrr, of.hits_at_1, of.hits_at_10)), of.split]
    size = f"{entry.total_bytes / 1e6:.2f}"
    counts = str(entry.version), str(entry.bytes_per_entity), _short(entry.params)
    return tuple(map(visible, (entry.name, *counts, *figures, size)))


def table_of(entries: Iterable[Entry], width: Optional[int] = None) -> tuple[list[str], list[str]]:
    """Return the lines of a table of entries, and the headings that have no room in it.

    Args:
        entries: of the registry.
        width: letters that a line should have at most; the least needed columns are left out for
            it. Names stay whole: a table of name, bytes and MRR may be wider. None: any.
    """
    rows = [HEADINGS, *map(row_of, entries)]
    columns = {column[0]: column for column in zip(*rows)}
    widths = {heading: max(map(len, column)) for heading, column in columns.items()}
    left_out = []
    for heading in _LEAST_NEEDED:
        if width is None or sum(widths.values()) + 2 * len(widths) - 2 <= width:
            break
        left_out.append(heading)
        del columns[heading], widths[heading]
    lines = [_line(row, tuple(widths.values())).rstrip() for row in zip(*columns.values())]
    return lines, left_out


def _short(count: int) -> str:
    """Return a count in thousands, millions or billions, with three digits: 1.50M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            share = count / unit
            return f"{share:.{2 if share < 10 else 1 if share < 100 else 0}f}{letter}"
    return str(count)


class EntryList(list[Entry]):
    """A list of entries that prints as a table; each entry still holds all of its keys.

    Args:
        entries: the entries.
        places: of the stores that have them.

    Attributes:
        places: of the stores that have them, in the same order.
    """

    def __init__(self, entries: Iterable[Entry], places: Iterable[str]) -> None:
        """Keep both."""
        super().__init__(entries)
        self.places = tuple(places)

    def __repr__(self) -> str:
        return "\n".join(table_of(self)[0]) if self else "no models"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in map(row_of, self))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *figures = (
        cell.rjust(width) if i else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths))
    )
    return "  ".join([first, *figures])
