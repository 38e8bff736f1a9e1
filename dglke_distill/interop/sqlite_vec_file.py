"""Entity vectors in an SQLite file, for the extension sqlite-vec."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.interop.base import Array
from dglke_distill.interop.vectors import Found, SearchVectors, VectorExport

_MOST_DIMENSIONS = 8192
_MOST_FOUND = 4096
_FIND = "SELECT rowid FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance"
_ASKED = """
import sqlite3, sqlite_vec

base = sqlite3.connect("entities.db")
base.enable_load_extension(True)  # where this Python's sqlite3 cannot: apsw.Connection can
sqlite_vec.load(base)
print(base.execute(
    "SELECT name FROM vectors JOIN entities ON entities.id = vectors.rowid "
    "WHERE embedding MATCH ? AND k = 10 ORDER BY distance",
    [query({entity!r}, {relation!r}).tobytes()],
).fetchall())"""


class SqliteVecFile(VectorExport):
    """``entities.db``: a table ``entities`` (id, name), and ``vectors`` (rowid, embedding) of vec0.

    Where entities have labels, ``entities`` has a column ``label``, null without one.

    sqlite-vec has distances alone, so that inner products are made to be some; see ``vectors``.
    Its search compares all entities: it is exact.
    """

    name = "sqlite-vec"
    about = "entity vectors as an SQLite file for sqlite-vec; dot and L2 models"
    requires = ("sqlite_vec",)
    distances_only = True

    def fill(
        self, names: list[str], vectors: SearchVectors, options: Any, place: Path
    ) -> tuple[str, Found]:
        """Write the file."""
        dim = vectors.entities.shape[1]
        if dim > _MOST_DIMENSIONS:
            raise UserError(
                f"--format sqlite-vec: {dim} dimensions, where it has {_MOST_DIMENSIONS} at most; "
                "export a smaller model"
            )
        base = _Base(place / "entities.db")
        column = "" if self.labels is None else ", label TEXT"
        base.run(f"CREATE TABLE entities (id INTEGER PRIMARY KEY, name TEXT NOT NULL{column})")
        base.run(f"CREATE VIRTUAL TABLE vectors USING vec0(embedding float[{dim}])")
        base.run("BEGIN")
        if self.labels is None:
            base.many("INSERT INTO entities VALUES (?, ?)", enumerate(names))
        else:
            told = ((i, names[i], label or None) for i, label in enumerate(self.labels))
            base.many("INSERT INTO entities VALUES (?, ?, ?)", told)
        rows = ((i, row.tobytes()) for i, row in enumerate(vectors.entities))
        base.many("INSERT INTO vectors (rowid, embedding) VALUES (?, ?)", rows)
        base.run("CREATE INDEX entities_by_name ON entities (name)")
        base.run("COMMIT")

        def search(queries: Array, k: int) -> Array:
            found = np.full((len(queries), k), -1, np.int64)
            for i, query in enumerate(queries):
                ids = [row[0] for row in base.rows(_FIND, query.tobytes(), min(k, _MOST_FOUND))]
                found[i, : len(ids)] = ids
            return found

        return _ASKED, search


class _Base:
    """A connection that can load extensions: of Python itself, else of apsw."""

    def __init__(self, path: Path) -> None:
        import sqlite_vec

        self._made: Any
        if hasattr(sqlite3.Connection, "enable_load_extension"):
            self._made = sqlite3.connect(path, isolation_level=None)
        else:
            try:
                import apsw
            except ImportError:
                raise UserError(
                    "--format sqlite-vec: this Python's sqlite3 cannot load extensions; "
                    "pip install apsw, or take another Python"
                ) from None
            self._made = apsw.Connection(str(path))
        self._made.enable_load_extension(True)
        self._made.load_extension(sqlite_vec.loadable_path())
        self._made.enable_load_extension(False)

    def run(self, text: str) -> None:
        self._made.execute(text)

    def many(self, text: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._made.executemany(text, rows)

    def rows(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return list(self._made.execute(text, values))
