"""The vectors alone, as word2vec writes them; gensim and many viewers read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.interop.base import (
    ExportFormat,
    as_float32,
    entity_labels,
    entity_table,
    relation_names,
    relation_table,
)


class Word2VecOptions(NoOptions):
    """Options of both word2vec formats."""

    table: Literal["entities", "relations"] = Field("entities", description="whose vectors")
    keys: Literal["names", "ids", "labels"] = Field(
        "names", description="what the vectors are called; labels: label (name)"
    )


class Word2VecText(ExportFormat):
    """A line ``count dim``, then a line ``name number ... number`` per vector.

    Mikolov, Chen, Corrado, Dean 2013, "Efficient estimation of word representations in vector
    space": the format of its released tool. A space ends a name there, so spaces within one become
    underscores, as in the tool's own phrases (``New_York``). Nine significant digits give every
    float32 back bit for bit.
    """

    name = "word2vec"
    about = "vectors as word2vec's text, one line each; gensim reads it"
    begins = rb"\d+ \d+\n"
    Options = Word2VecOptions
    binary: ClassVar[bool] = False

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the vectors of one table in id order."""
        if options.table == "entities":
            names, table = list(loaded.entities), entity_table(loaded)
        else:
            names, table = relation_names(loaded), relation_table(loaded)
        if options.keys == "labels":
            names = _labelled(loaded, options.table)
        by_name = options.keys != "ids"
        keys = _keys(names, options.table) if by_name else [str(i) for i in range(len(names))]
        rows = as_float32(table)
        line = " ".join(["%.9g"] * rows.shape[1])
        with open(place, "wb") as stream:
            stream.write(f"{rows.shape[0]} {rows.shape[1]}\n".encode())
            for key, row in zip(keys, rows):
                stream.write(key.encode() + b" ")
                numbers = row.tobytes() if self.binary else (line % tuple(row)).encode()
                stream.write(numbers + b"\n")


class Word2VecBinary(Word2VecText):
    """As the text, but each vector is its name, a space, little-endian float32 and a line end."""

    name = "word2vec-binary"
    about = "vectors as word2vec's binary file; gensim reads it"
    binary = True


def _labelled(loaded: LoadedModel, table: str) -> list[str]:
    """Return the entities as people read them: ``Barack Obama (/m/02mjmr)``."""
    if table != "entities":
        raise UserError("--format word2vec: relations have no labels; say --set keys=names")
    if entity_labels(loaded) is None:
        raise UserError(
            "--format word2vec: no entity of this model has a label: put labels.tsv beside the "
            "triples before it is trained, or say --set keys=names"
        )
    labels = loaded.find_labels()
    return [labels.shown(name) for name in loaded.entities]


def _keys(names: list[str], table: str) -> list[str]:
    """Return names as keys: not empty, without spaces and line ends, each once."""
    fix = "call the vectors by their ids (--set keys=ids)"
    keys: dict[str, str] = {}
    for name in names:
        key = name.replace(" ", "_")
        if not key or "\n" in key:
            raise UserError(f"--format word2vec: no vector can be called {name!r}; {fix}")
        if key in keys:
            raise UserError(
                f"--format word2vec: {table} {keys[key]!r} and {name!r} would both be called "
                f"{key!r}; {fix}"
            )
        keys[key] = name
    return list(keys)
