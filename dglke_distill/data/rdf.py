"""N-Triples, N-Quads and Turtle, read as they come; nothing that they name is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import shown
from dglke_distill.base.shown import plural
from dglke_distill.data.cell_tables import CellBlock
from dglke_distill.data.file_kinds import text_kind
from dglke_distill.data.opening import open_unpacked
from dglke_distill.data.packings import inner_name
from dglke_distill.data.text import first_bytes

RDF_ENDINGS = (".nt", ".ntriples", ".ttl", ".turtle", ".nq", ".nquads")
"""Endings of files that are read as RDF."""

_FORMATS = {
    ".nt": "N_TRIPLES", ".ntriples": "N_TRIPLES", ".ttl": "TURTLE", ".turtle": "TURTLE",
    ".nq": "N_QUADS", ".nquads": "N_QUADS", "N-Quads (RDF)": "N_QUADS",
    "N-Triples (RDF)": "N_TRIPLES", "Turtle (RDF)": "TURTLE",
}  # fmt: skip
_NAMES = {"N_TRIPLES": "N-Triples", "TURTLE": "Turtle", "N_QUADS": "N-Quads"}
_BLOCK_ROWS = 1 << 16
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\u0000"}
_BREAKS = re.compile(r"[\t\n\r\0]")
_UNNAMED = re.compile(r"[0-9a-f]{16,}")


def rdf_format(path: Path) -> Optional[str]:
    """Return the kind of RDF that a file is by its ending, else by its first bytes.

    Raises:
        UserError: the file is missing or damaged.
    """
    name = inner_name(path).lower()
    ending = next((ending for ending in RDF_ENDINGS if name.endswith(ending)), None)
    if ending is not None:
        return _FORMATS[ending]
    kind = text_kind(path, first_bytes(path))
    return None if kind is None else _FORMATS.get(kind.name)


class RdfTable:
    """The statements of a file of RDF, as rows.

    An entity's name is its IRI without angle brackets, of a blank node ``_:`` and its label;
    a literal, where those are kept, is named as N-Triples write it. Nodes without a label get
    one by their order in the file, so that the same file gives the same names.

    Args:
        path: the file.
        kind: as ``rdf_format`` returns it.
        literals: whether statements about literals are facts.
        warnings: receives how many were left out.
    """

    may_have_heading = False

    def __init__(
        self, path: Path, kind: str, *, literals: bool, warnings: Optional[list[str]] = None
    ) -> None:
        self.path, self.kind, self.literals, self._told = path, kind, literals, warnings

    def __iter__(self) -> Iterator[CellBlock]:
        """Yield the statements, block by block.

        Raises:
            UserError: the file is missing, damaged or no such RDF, or the library is absent.
        """
        try:
            import pyoxigraph
        except ImportError:
            raise UserError(
                f"{self.path}: {_NAMES[self.kind]} needs the package pyoxigraph: pip install "
                "'dglke-distill[formats]'"
            ) from None
        rows: list[tuple[str, str, str]] = []
        start, left_out = 1, 0
        unnamed: dict[str, str] = {}
        literal = pyoxigraph.Literal
        with open_unpacked(self.path) as stream:
            for statement in self._statements(pyoxigraph, stream):
                tail = statement.object
                if isinstance(tail, literal) and not self.literals:
                    left_out += 1
                    continue
                rows.append(
                    (
                        self._name(statement.subject, unnamed),
                        statement.predicate.value,
                        self._name(tail, unnamed),
                    )
                )
                if len(rows) == _BLOCK_ROWS:
                    yield _block(start, rows)
                    start, rows = start + len(rows), []
        if rows:
            yield _block(start, rows)
        if self.kind == "N_QUADS" and self._told is not None:
            self._told.append(f"{self.path}: the graphs that statements stand in were left out")
        if left_out and self._told is not None:
            self._told.append(
                f"{self.path}: {plural(left_out, 'statement')} about literals (texts, numbers, "
                f"dates) {'was' if left_out == 1 else 'were'} left out; to keep them as entities, "
                "say --set data.literals=keep"
            )

    def _statements(self, pyoxigraph: Any, stream: open_unpacked) -> Iterator[Any]:
        kind = getattr(pyoxigraph.RdfFormat, self.kind)
        name = _NAMES[self.kind]
        try:
            # Lenient: names such as <e1>, which are no whole IRIs, stand in many a graph.
            yield from pyoxigraph.parse(stream, format=kind, lenient=True)
        except SyntaxError as error:
            line = f", line {error.lineno}" if error.lineno else ""
            raise UserError(
                f"{self.path}{line}: is not valid {name} ({shown(error.msg)}); correct it"
            ) from None
        except (OSError, ValueError, UnicodeError, UserError) as error:
            if stream.error is not None:
                raise stream.error from None
            raise UserError(
                f"{self.path}: cannot be read as {name} ({shown(error)}); correct it"
            ) from None

    def _name(self, node: Any, unnamed: dict[str, str]) -> str:
        kind = type(node).__name__
        if kind == "NamedNode":
            value: str = node.value
            if not value or _BREAKS.search(value):
                raise UserError(
                    f"{self.path}: the name {shown(value)!r} is empty, or has a tab, line end or "
                    "zero byte in it; rename it"
                )
            return value
        if kind == "BlankNode":
            if _UNNAMED.fullmatch(node.value):  # the parser's own, another one each time
                label = f"_:{self.path.stem.partition('.')[0]}-{len(unnamed) + 1}"
                return unnamed.setdefault(node.value, label)
            return f"_:{node.value}"
        if kind == "Literal":
            return _BREAKS.sub(lambda found: _ESCAPES[found[0]], str(node))
        raise UserError(
            f"{self.path}: a statement about a statement (RDF-star) is no triple of names: "
            f"{shown(node)[:100]}; remove it"
        )


def _block(start: int, rows: list[tuple[str, str, str]]) -> CellBlock:
    cells = np.empty((3, len(rows)), dtype=np.object_)
    for place, column in enumerate(zip(*rows)):
        cells[place] = column
    return CellBlock(start, cells, None)
