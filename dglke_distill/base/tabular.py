"""What is a table to other tools: as a frame of pandas, and as an Arrow table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas
    import pyarrow


class Tabular:
    """Gives its rows to pandas and Arrow; a subclass writes ``frame``."""

    def frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas frame."""
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas frame; it is that of ``frame``."""
        return self.frame()

    def to_arrow(self) -> pyarrow.Table:
        """Return the rows as an Arrow table, with the columns of ``to_pandas``.

        Raises:
            UserError: pyarrow is not installed.
        """
        from dglke_distill.base.table_frames import arrow_table

        return arrow_table(self.frame())
