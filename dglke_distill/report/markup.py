"""HTML from Python calls, everything escaped that is not markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Union

from dglke_distill.report.numbers import printable
from dglke_distill.report.tables import Table

__all__ = ["Content", "Markup", "table", "tag", "together"]


class Markup(str):
    """Text that is HTML already."""


Content = Union[str, Markup, None]


def tag(name: str, *content: Content, **attributes: Union[str, None]) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        content: text, which is escaped, and markup, which is not; None is left out.
        attributes: None is left out; a trailing underscore is dropped (``class_``) and one inside
            becomes a hyphen (``aria_label``).
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            key = key.rstrip("_").replace("_", "-")
            parts.append(f'{key}="{html.escape(printable(value))}"')
    return Markup(f"<{' '.join(parts)}>{together(content)}</{name}>")


def together(content: Iterable[Content]) -> Markup:
    """Return pieces as one, escaping those that are plain text."""
    return Markup(
        "".join(
            piece if isinstance(piece, Markup) else html.escape(printable(piece))
            for piece in content
            if piece is not None
        )
    )


def table(of: Table, caption: str) -> Markup:
    """Return a table of figures; its first column names the rows."""
    kinds = [None if i < of.text_columns else "number" for i in range(len(of.headings))]
    head = [tag("th", h, scope="col", class_=kind) for h, kind in zip(of.headings, kinds)]
    body = []
    for row in of.rows:
        cells: Sequence[Markup] = [
            tag("td" if i else "th", cell, scope=None if i else "row", class_=kind)
            for i, (cell, kind) in enumerate(zip(row.cells, kinds))
        ]
        body.append(tag("tr", *cells, class_="best" if row.best else None))
    inner = tag(
        "table",
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
        aria_label=caption,
    )
    scroll = tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return together([tag("p", caption, class_="caption"), scroll])
