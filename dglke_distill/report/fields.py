"""Reading a JSON or CSV file that somebody may have cut short or edited."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base import regular_files
from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import read_json

__all__ = ["Fields", "read_history", "read_results", "read_text"]

_MEND = "write it anew by resuming the run"
_MISSING = "no such file; is that the directory of a finished run?"
_MAX_BYTES = 1 << 26


class Fields:
    """A JSON object whose values are checked as they are read.

    Args:
        tree: the object.
        source: the file, for messages.
        place: where in the file the object stands, such as ``stages[0]``.
    """

    def __init__(self, tree: Any, source: Path, place: str = "") -> None:
        """Refuse anything but an object."""
        self.source, self.place = source, place
        if not isinstance(tree, dict):
            raise self.error("", "is no object")
        self.tree: dict[str, Any] = tree

    def error(self, key: str, fault: str) -> UserError:
        """Return the error that names the file, the key and its fault."""
        where = ".".join(part for part in (self.place, key) if part) or "the content"
        return UserError(f"{self.source}: {where} {fault}; {_MEND}")

    def _value(self, key: str) -> Any:
        if key not in self.tree:
            raise self.error(key, "is missing")
        return self.tree[key]

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, "is no number")
        if not math.isfinite(value):
            raise self.error(key, "is not finite")
        return float(value)

    def optional_number(self, key: str) -> Optional[float]:
        """Return a finite number, or None where it is absent or null."""
        return None if self.tree.get(key) is None else self.number(key)

    def integer(self, key: str) -> int:
        """Return a whole number."""
        value = self.number(key)
        if value != int(value):
            raise self.error(key, "is no whole number")
        return int(value)

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self.error(key, "is no string")
        return value

    def optional_text(self, key: str) -> Optional[str]:
        """Return a string, or None where it is absent or null."""
        return None if self.tree.get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty if the key is missing."""
        found = self.tree.get(key)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise self.error(key, "is no list of texts")
        return tuple(found)

    def object(self, key: str) -> Fields:
        """Return the object below a key."""
        return Fields(self._value(key), self.source, f"{self.place}.{key}".lstrip("."))

    def optional_object(self, key: str) -> Fields:
        """Return the object below a key, an empty one where it is absent or null."""
        tree = {} if self.tree.get(key) is None else self.tree[key]
        return Fields(tree, self.source, f"{self.place}.{key}".lstrip("."))

    def objects(self, key: str) -> list[Fields]:
        """Return a list of at least one object."""
        value = self._value(key)
        if not isinstance(value, list) or not value:
            raise self.error(key, "is no list of at least one entry")
        place = f"{self.place}.{key}".lstrip(".")
        return [Fields(tree, self.source, f"{place}[{i}]") for i, tree in enumerate(value)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tree)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        UserError: the file is missing or not UTF-8.
    """
    return regular_files.read_text(path, _MAX_BYTES, missing=_MISSING)


def read_results(path: Path, kind: Optional[str] = None) -> Fields:
    """Read a ``results.json``, of a certain kind if one is given.

    Args:
        path: the file.
        kind: ``chain`` or ``comparison``.

    Raises:
        UserError: it is missing, malformed, of another schema or of another kind.
    """
    tree = read_json(path, missing=_MISSING, hint=_MEND)
    fields = Fields(tree, path)
    if fields.integer("schema") != 1:
        raise UserError(f"{path}: schema {tree['schema']} is unknown; a newer version wrote it")
    if kind is not None and fields.text("kind") != kind:
        raise UserError(f"{path}: results of a {tree['kind']}, where those of a {kind} are wanted")
    return fields


def read_history(path: Path) -> dict[str, tuple[float, ...]]:
    """Read a ``history.csv``: column name to its values, NaN where a cell is empty.

    Raises:
        UserError: the file is missing, has no rows, no column ``epoch``, or a cell that is no
            number; the message names the line.
    """
    rows = list(csv.reader(io.StringIO(read_text(path))))
    if len(rows) < 2 or "epoch" not in rows[0]:
        raise UserError(f"{path}: no epochs, or no column named epoch; {_MEND}")
    names = rows[0]
    columns: dict[str, list[float]] = {name: [] for name in names}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise UserError(f"{path}: line {line} has {len(row)} cells, not {len(names)}; {_MEND}")
        for name, cell in zip(names, row):
            try:
                columns[name].append(float(cell) if cell else math.nan)
            except ValueError:
                raise UserError(f"{path}: line {line}, {name}: {cell!r} is no number") from None
    return {name: tuple(values) for name, values in columns.items()}
