"""What is a table to other tools: as a frame of pandas, and as an Arrow table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dglke_distill.base.errors import UserError

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["Tabular"]


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
        try:
            import pyarrow
        except ImportError:
            raise UserError(
                "to_arrow: needs the package pyarrow: pip install 'dglke-distill[formats]'"
            ) from None
        return pyarrow.Table.from_pandas(self.frame(), preserve_index=False)
