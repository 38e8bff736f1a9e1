"""The one way to print with rich: no text is markup, and nothing reaches the terminal unseen."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Optional

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from dglke_distill.base.shown import visible

_UNBOUNDED = 1_000_000
_LEAST = 12
"""Letters of a folded name that can be read."""


class SafeConsole(Console):
    """A console that takes every string for plain text of unknown origin.

    Strings may be given as they are, in tables, titles and headings too: square brackets and
    ``:smile:`` stay, control characters are escaped. What shall be bold or coloured says so by
    ``style=``.

    What is no terminal has no width: tables and lines are as wide there as what stands in them. On
    a terminal that is too narrow for a table, its words fold: no name is ever cut. Where a dozen
    letters of a name have no room, the table is as wide as elsewhere, and the terminal wraps it.

    Args:
        stderr: write to standard error.
        soft_wrap: leave it to the terminal to fold long lines.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        """Turn everything off that reads meaning into text."""
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
        )
        if not self.is_terminal:
            self.width = _UNBOUNDED

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print, with every name whole.

        Args:
            objects: what to print.
            settings: see ``rich.console.Console.print``.
        """
        endless, kept = self.options.update(max_width=_UNBOUNDED), self._width
        wide = False
        for table in (each for each in objects if isinstance(each, Table)):
            narrow = Measurement.get(self, endless, table).minimum > self.width
            names = [column for column in table.columns if column.justify == "left"]
            for column in names:
                column.overflow, column.no_wrap = "fold", column.no_wrap and not narrow
                column.max_width = _LEAST if narrow else None
            wide = wide or Measurement.get(self, endless, table).minimum > self.width
            for column in names:
                column.max_width = None
        try:
            self._width = _UNBOUNDED if wide else kept
            super().print(*objects, **settings)
        finally:
            self._width = kept

    def render_str(self, text: str, **settings: Any) -> Text:  # type: ignore[override]
        """Return a string as text; rich comes here with each, in cells and titles as well.

        Args:
            text: of whatever origin.
            settings: see ``rich.console.Console.render_str``.
        """
        settings.update(markup=False, emoji=False, highlight=False)
        return super().render_str(visible(text), **settings)

    def render(
        self, renderable: RenderableType, options: Optional[ConsoleOptions] = None
    ) -> Iterable[Segment]:
        """Yield what is written, without control characters of what did not come as a string.

        Args:
            renderable: see ``rich.console.Console.render``.
            options: see there.
        """
        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                yield Segment(visible(segment.text, keep="\n"), segment.style)
            else:
                yield segment


def tolerant_output() -> None:
    """Let a character that the terminal's encoding lacks be escaped instead of ending the program.

    Standard error does so by itself.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
