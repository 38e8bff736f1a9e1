"""Entity vectors as files for PostgreSQL's pgvector: the tables, and what COPY reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.interop.base import Array
from dglke_distill.interop.vectors import Found, SearchVectors, VectorExport, VectorOptions

_MOST_DIMENSIONS = 16_000
_MOST_INDEXED = 2_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b"})
_NULL = "\\N"
_OPERATORS = {"ip": ("<#>", "vector_ip_ops"), "l2": ("<->", "vector_l2_ops")}
_ASKED = """
# psql -v ON_ERROR_STOP=1 DATABASE -f load.sql   (in this folder)
print("SELECT name FROM kg_entities ORDER BY embedding {operator} '"
      + str(query({{entity!r}}, {{relation!r}}).tolist()) + "' LIMIT 10;")"""


class PgvectorOptions(VectorOptions):
    """Options of the files for pgvector."""

    index: Literal["none", "hnsw", "ivfflat"] = Field(
        "hnsw", description="index that load.sql makes; none: every search is exact"
    )
    table: str = Field(
        "kg_entities", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="name of the table"
    )


class PgvectorFiles(VectorExport):
    """``schema.sql`` (DDL), ``entities.copy`` (COPY's text format), ``index.sql`` and ``load.sql``.

    ``psql -f load.sql`` runs all three in their order. A row is id, name and embedding, and a
    label, null without one, where entities have labels; the operator is ``<#>`` (negative inner
    product) or ``<->`` (distance). Numbers have nine digits, which give every float32 back. The
    recall in ``recall.json`` is that of a search without index.
    """

    name = "pgvector"
    about = "entity vectors as COPY files and DDL for PostgreSQL's pgvector; dot and L2 models"
    Options = PgvectorOptions

    def fill(
        self, names: list[str], vectors: SearchVectors, options: Any, place: Path
    ) -> tuple[str, Found]:
        """Write the files."""
        count, dim = vectors.entities.shape
        if dim > _MOST_DIMENSIONS:
            raise UserError(
                f"--format pgvector: {dim} dimensions, where it has {_MOST_DIMENSIONS} at most; "
                "export a smaller model"
            )
        if dim > _MOST_INDEXED and options.index != "none":
            raise UserError(
                f"--format pgvector: {dim} dimensions, where an index has {_MOST_INDEXED} at most; "
                "say --set index=none"
            )
        operator, operators = _OPERATORS[vectors.metric]
        table = options.table
        labels, column = ("", "") if self.labels is None else (",\n    label text", ", label")
        (place / "schema.sql").write_text(
            "CREATE EXTENSION IF NOT EXISTS vector;\n"
            f"CREATE TABLE {table} (\n    id integer PRIMARY KEY,\n    name text NOT NULL,\n"
            f"    embedding vector({dim}) NOT NULL{labels}\n);\n"
        )
        line = ",".join(["%.9g"] * dim)
        ends = [""] * count
        if self.labels is not None:
            ends = [f"\t{label.translate(_ESCAPES) or _NULL}" for label in self.labels]
        with open(place / "entities.copy", "w", encoding="utf-8", newline="\n") as stream:
            for i, (name, row) in enumerate(zip(names, vectors.entities)):
                numbers = line % tuple(row.tolist())
                stream.write(f"{i}\t{name.translate(_ESCAPES)}\t[{numbers}]{ends[i]}\n")
        made = ""
        if options.index != "none":
            lists = f" WITH (lists = {max(1, round(count**0.5))})"
            made = f"CREATE INDEX ON {table} USING {options.index} (embedding {operators})"
            made += f"{lists if options.index == 'ivfflat' else ''};\n"
        (place / "index.sql").write_text(
            f"CREATE INDEX ON {table} (name);\n{made}ANALYZE {table};\n"
        )
        (place / "load.sql").write_text(
            "\\set ON_ERROR_STOP on\nBEGIN;\n\\i schema.sql\n"
            f"\\copy {table} (id, name, embedding{column}) FROM 'entities.copy' "
            "WITH (ENCODING 'UTF8')\n\\i index.sql\nCOMMIT;\n"
        )
        asked = _ASKED.format(operator=operator).replace("kg_entities", table)

        def search(queries: Array, k: int) -> Array:
            return _exact(vectors, queries, k)

        return asked, search


def _exact(vectors: SearchVectors, queries: Array, k: int) -> Array:
    """Return the ids (b, k) that the operator puts first, without an index."""
    products = queries @ vectors.entities.T
    if vectors.metric == "l2":
        products = -np.square(queries[:, None] - vectors.entities[None]).sum(-1)
    found: Array = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return found
