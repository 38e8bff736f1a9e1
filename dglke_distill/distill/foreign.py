"""Trained models of other libraries: tables in the layout of ours, with their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.config import ModelConfig, Tree, read_toml, validate_tree
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.errors import UserError
from dglke_distill.models import build_model, build_score_function
from dglke_distill.models.base import KGEModel

__all__ = ["SETTINGS_FILE", "ForeignModel", "NamedTable", "read_settings", "read_weights"]

Array = NDArray[Any]

SETTINGS_FILE = "import.toml"
"""What the weights do not tell, written by the user: the model's name and its options."""


class NamedTable(NamedTuple):
    """Rows of floats, the name of each, and the files that both come from.

    With reciprocal relations ``rows`` has twice as many rows as there are names.
    """

    rows: Array
    names: list[str]
    weights: Path
    dictionary: Path


@dataclass(frozen=True)
class ForeignModel:
    """A model of another library.

    Attributes:
        config: the model as ours that scores the same, up to what the loader says.
        entities: vectors (entities, dim), float32 or float64, perhaps mapped from a file.
        relations: relation rows as our score function takes them.
    """

    config: ModelConfig
    entities: NamedTable
    relations: NamedTable

    def __post_init__(self) -> None:
        """Check that tables, names and the score function fit each other.

        Raises:
            UserError: they do not.
        """
        factor = 2 if self.config.reciprocal else 1
        for kind, table, times in (
            ("entities", self.entities, 1),
            ("relations", self.relations, factor),
        ):
            if times * len(table.names) != len(table.rows):
                raise UserError(
                    f"{table.dictionary}: names {len(table.names)} {kind}, but the teacher has "
                    f"{len(table.rows)} rows"
                )
        wanted = build_score_function(self.config).relation_floats
        found = self.relations.rows.shape[1]
        if found != wanted:
            raise UserError(
                f"{self.relations.weights}: {found} floats per relation, but {self.config.name} "
                f"with {self.config.dim} floats per entity has {wanted}"
            )

    @property
    def files(self) -> list[Path]:
        """The files of the weights."""
        return list(dict.fromkeys([self.entities.weights, self.relations.weights]))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model once loaded."""
        return torch.float64 if self.entities.rows.dtype == np.float64 else torch.float32

    @property
    def sizes(self) -> dict[str, Any]:
        """The section ``model`` of results."""
        floats = self.entities.rows.shape[1]
        return {
            "name": self.config.name,
            "dim": floats,
            "floats_per_entity": floats,
            "bytes_per_entity": floats * self.dtype.itemsize,
            "parameters": self.entities.rows.size + self.relations.rows.size,
        }

    def vocabulary(self, kind: str) -> Vocabulary:
        """Return its own names of ``entities`` or ``relations``, in its own order."""
        word = {"entities": "entity", "relations": "relation"}[kind]
        return Vocabulary(getattr(self, kind).names, kind=word)

    def model(self, entities: Vocabulary, relations: Vocabulary) -> KGEModel:
        """Return the model with its rows in the order of these names, in evaluation mode.

        Raises:
            UserError: the names are others, or a weight is not finite.
        """
        order = _order(self.relations, relations, "relations")
        if self.config.reciprocal:
            order = np.concatenate([order, order + len(relations)])
        tables = {
            "encoder.weight": (self.entities, _order(self.entities, entities, "entities")),
            "relation_weight": (self.relations, order),
        }
        state = {}
        for name, (table, rows) in tables.items():
            chosen = np.asarray(table.rows)[rows]
            if not np.isfinite(chosen).all():
                raise UserError(f"{table.weights}: has values that are not finite; train it again")
            state[name] = torch.from_numpy(np.ascontiguousarray(chosen)).to(self.dtype)
        made = build_model(self.config, len(entities), len(relations), self.dtype)
        made.load_state_dict(state)
        return made.eval()

    def model_for(self, dataset: Dataset) -> KGEModel:
        """Return the model with its rows in the order of a dataset's ids; see ``model``."""
        return self.model(dataset.entities, dataset.relations)


def _order(table: NamedTable, names: Vocabulary, kind: str) -> NDArray[np.int64]:
    """Return the row of each name."""
    rows = {name: row for row, name in enumerate(table.names)}
    missing = [name for name in names if name not in rows]
    if missing or len(rows) != len(names):
        strange = missing[0] if missing else next(name for name in rows if name not in names)
        where = "is not there" if missing else "is not in the data"
        raise UserError(
            f"{table.dictionary}: the teacher's {kind} are not those of the data: {strange!r} "
            f"{where}; train the student on the teacher's own data"
        )
    return np.array([rows[name] for name in names], dtype=np.int64)


def read_settings(place: Path, schema: type[Tree], example: str) -> Tree:
    """Read and validate the file ``import.toml`` of a folder.

    Args:
        place: the folder. schema: its keys. example: a line to show where it is missing.

    Raises:
        UserError: it is missing, malformed, or has unknown keys or bad values.
    """
    path = place / SETTINGS_FILE
    if not path.is_file():
        raise UserError(
            f"{path}: is missing; the weights do not tell which model they are, so write that "
            f"there, e.g. {example}"
        )
    return validate_tree(schema, read_toml(path), str(path))


def read_weights(path: Path) -> dict[str, Array]:
    """Read tensors that ``torch.save`` wrote, by torch's reader that builds nothing but tensors.

    Returns:
        The floating-point ones by name, ``model.`` in front of all names taken away; half
        precision as float32.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes it raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path}: no weights alone ({reason}); a whole pickled model can run any code when it "
            "is read, so save its state: torch.save(model.state_dict(), 'state.pt')"
        ) from None
    tensors = isinstance(found, Mapping) and {
        str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f"{path}: no named tensors; save model.state_dict()")
    exact = (torch.float32, torch.float64)
    return {
        name.removeprefix("model."): (value if value.dtype in exact else value.float()).numpy()
        for name, value in tensors.items()
        if value.is_floating_point()
    }
