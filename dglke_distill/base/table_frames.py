"""Frames of answers: pandas' own, that go to Arrow too. Importing it imports pandas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas

from dglke_distill.base.errors import UserError

if TYPE_CHECKING:
    import pyarrow

_WHOLE = frozenset({"question", "rank", "id"})
_NUMBERS = frozenset({"score", "probability"})


class TableFrame(pandas.DataFrame):
    """A ``pandas.DataFrame`` with ``to_arrow``, as the other answers have it."""

    @property
    def _constructor(self) -> Any:
        """What pandas makes of parts of it."""
        return TableFrame

    def to_pandas(self) -> pandas.DataFrame:
        """Return it as a ``pandas.DataFrame`` and nothing more."""
        return pandas.DataFrame(self)

    def to_arrow(self) -> pyarrow.Table:
        """Return it as an Arrow table with the same columns, without the index.

        Raises:
            UserError: pyarrow is not installed.
        """
        return arrow_table(self)


def table_frame(columns: Mapping[str, Any]) -> TableFrame:
    """Return a frame whose columns have their types without rows too.

    Args:
        columns: values by name; ``question``, ``rank`` and ``id`` are whole numbers, ``score`` and
            ``probability`` floats, others text. Ranks are floats where two share the mean of
            theirs, such as 1.5.
    """

    def kind(name: str) -> Any:
        if name == "rank" and any(value != int(value) for value in columns[name]):
            return "float64"
        return "int64" if name in _WHOLE else "float64" if name in _NUMBERS else object

    return TableFrame({name: pandas.Series(of, dtype=kind(name)) for name, of in columns.items()})


def arrow_table(frame: pandas.DataFrame) -> pyarrow.Table:
    """Return a frame as an Arrow table; columns of objects are text, without rows too.

    Args:
        frame: its index is left out.

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise UserError(
            "to_arrow: needs the package pyarrow: pip install 'dglke-distill[formats]'"
        ) from None
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    for place, field in enumerate(table.schema):
        if pyarrow.types.is_null(field.type):
            text = table.column(place).cast(pyarrow.string())
            table = table.set_column(place, field.with_type(pyarrow.string()), text)
    return table
