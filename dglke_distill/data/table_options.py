"""How the columns of a user's own tables are read: which, what separates them, what is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from dglke_distill.base.errors import UserError

if TYPE_CHECKING:
    from dglke_distill.config import DataConfig

IN_MEMORY = "memory"
"""The format of what was given as a table in memory, and lies in no file."""

_ROLES = ("head", "relation", "tail")
_SIGNS = {
    "tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "colon": ":", "bar": "|",
    "pipe": "|", "space": r"\s+", "blank": r"\s+", "whitespace": r"\s+", " ": r"\s+",
}  # fmt: skip
_MOST_SIGNS = 8


@dataclass(frozen=True)
class TableOptions:
    r"""What a user says of their tables.

    Attributes:
        columns: the names, or numbers from 1 on, of the head's, relation's and tail's column;
            None: the first three, or those that a heading names so.
        delimiter: what separates columns, ``\s+`` for any blanks; None: commas in .csv, else tabs.
        ignore_extra: whether columns beyond those needed are left out.
        weight_column: the name or number of the column of weights; None: there are none.
        literals: whether statements of RDF about literals are facts, too.
    """

    columns: Optional[tuple[str, str, str]] = None
    delimiter: Optional[str] = None
    ignore_extra: bool = False
    weight_column: Optional[str] = None
    literals: bool = False

    @classmethod
    def of(cls, data: DataConfig) -> TableOptions:
        """Return what the settings of the data say.

        Raises:
            UserError: one of them cannot be understood.
        """
        weight = None if data.weight_column is None else data.weight_column.strip()
        if weight == "":
            raise UserError("data.weight_column is empty: give the name or number of a column")
        chosen = None if data.columns is None else _columns(data.columns)
        if chosen is not None and weight in chosen:
            raise UserError(f"data.weight_column: column {weight!r} holds a name; choose another")
        sign = None if data.delimiter is None else _delimiter(data.delimiter)
        return cls(chosen, sign, bool(data.ignore_extra), weight, data.literals == "keep")

    @property
    def of_text(self) -> bool:
        """Whether tables of text are read otherwise than by default."""
        return self != TableOptions(literals=self.literals)

    @property
    def quoted(self) -> bool:
        """Whether the delimiter goes with quoted cells, as commas do."""
        return self.delimiter in (",", ";")


PLAIN = TableOptions()
"""Nothing said: three columns, tabs, commas in .csv files."""


def reading(data: DataConfig) -> dict[str, Any]:
    """Return how the settings of the data say that files are read, as ``catalog.load`` takes it.

    Raises:
        UserError: one of them cannot be understood.
    """
    return {
        "format": data.format,
        "header": data.header,
        "split_seed": data.split_seed,
        "table": TableOptions.of(data),
    }


def _columns(text: str) -> tuple[str, str, str]:
    example = "such as head=x,relation=y,tail=z, by names in the heading or numbers from 1 on"
    found: dict[str, str] = {}
    for part in text.split(","):
        role, sign, name = (piece.strip() for piece in part.partition("="))
        role = {"h": "head", "r": "relation", "t": "tail"}.get(role.lower(), role.lower())
        if not sign or role not in _ROLES or not name:
            raise UserError(f"data.columns: {part.strip()!r} is not understood; say {example}")
        if role in found:
            raise UserError(f"data.columns: {role} is given twice; say {example}")
        found[role] = name
    missing = [role for role in _ROLES if role not in found]
    if missing:
        raise UserError(f"data.columns: {missing[0]} is missing; say {example}")
    names = found["head"], found["relation"], found["tail"]
    if len(set(names)) < 3:
        raise UserError(f"data.columns: two of {', '.join(names)} are one column; give three")
    return names


def _delimiter(text: str) -> str:
    sign = _SIGNS.get(text.strip().lower() or text, text)
    if sign == r"\s+":
        return sign
    if not sign or len(sign) > _MOST_SIGNS or re.search(r'["\n\r\0\x1f]', sign):
        raise UserError(
            f"data.delimiter: {text!r} cannot separate columns; give 1 to {_MOST_SIGNS} signs, no "
            "quote or line end, or a word: tab, comma, semicolon, bar, space"
        )
    if not sign.isascii() or sign.isalnum():
        raise UserError(f"data.delimiter: {text!r} may be part of names; give another sign")
    return sign
