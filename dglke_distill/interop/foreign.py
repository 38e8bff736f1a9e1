"""Trained models of other libraries: tables in the layout of ours, with their names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import check_regular, shown
from dglke_distill.base.shown import plural
from dglke_distill.config import ModelConfig, read_toml, validate_tree
from dglke_distill.config.validation import Tree
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.models import build_model, build_score_function
from dglke_distill.models.base import KGEModel

Array = NDArray[Any]
Tables = TypeVar("Tables")
Convert = TypeVar("Convert", bound=Callable[..., Any])

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
            ("entity", self.entities, 1),
            ("relation", self.relations, factor),
        ):
            if times * len(table.names) != len(table.rows):
                raise UserError(
                    f"{table.dictionary}: names {plural(len(table.names), kind)}, but the "
                    f"teacher has {plural(len(table.rows), 'row')}"
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


def only_weights(place: Path, files: Sequence[Path], kinds: str) -> Path:
    """Return the one file of weights in a folder.

    Args:
        place: the folder, for the message.
        files: those found.
        kinds: what they may be called, for the message.
    """
    if len(files) != 1:
        what = ", ".join(path.name for path in files) or "there is none"
        raise UserError(f"{place}: one file {kinds} of weights is needed; found: {what}")
    return files[0]


def conversion(place: Path, name: str, models: Mapping[str, Convert], library: str) -> Convert:
    """Return what converts a model that ``import.toml`` names in any letter case."""
    for known, convert in models.items():
        if known.lower() == name.lower():
            return convert
    raise UserError(
        f"{place / SETTINGS_FILE}: a model {name!r} of {library} cannot be a teacher; "
        f"known: {', '.join(models)}"
    )


def read_settings(place: Path, schema: type[Tree]) -> Tree:
    """Read and validate the file ``import.toml`` of a folder.

    Args:
        place: the folder.
        schema: its keys.

    Raises:
        UserError: it is missing, malformed, or has unknown keys or bad values.
    """
    path = place / SETTINGS_FILE
    if not path.is_file():
        raise UserError(
            f"{path}: is missing; the weights do not tell which model they are, so write that "
            'there, e.g. model = "TransE"'
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
    _refuse_packed(path, check_regular(path).st_size)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes it raise
        first = shown(str(error).strip().partition("\n")[0])
        raise UserError(
            f"{path}: no weights alone ({first}); a whole pickled model can run any code when it "
            "is read, so save its state: torch.save(model.state_dict(), 'state.pt')"
        ) from None
    tensors = isinstance(found, Mapping) and {
        str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f"{path}: no named tensors; save model.state_dict()")
    return {
        name.removeprefix("model."): _array(path, name, value)
        for name, value in tensors.items()
        if value.is_floating_point()
    }


def _refuse_packed(path: Path, size: int) -> None:
    """Refuse an archive that unpacks to more than it holds: torch stores, it never packs."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: is a damaged archive ({shown(error)}); restore it") from None
    if sum(file.file_size for file in files) > size:
        raise UserError(
            f"{path}: unpacks to more than the {size:,} bytes it holds, which nothing that torch "
            "saved does; save it anew by torch.save"
        )


def _array(path: Path, name: str, tensor: torch.Tensor) -> Array:
    """Return a tensor as an array, if it is one of numbers that all lie in the file."""
    plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu":
        kind = tensor.device.type if plain else str(tensor.layout).removeprefix("torch.")
        raise UserError(
            f"{path}: {shown(name)} is a {kind} tensor; save dense ones on the CPU: "
            "tensor.detach().cpu().to_dense()"
        )
    tensor = tensor.detach()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{path}: {shown(name)}, {tuple(tensor.shape)}, repeats fewer numbers than that; save "
            "tensor.contiguous()"
        )
    exact = tensor.dtype in (torch.float32, torch.float64)
    array: Array = (tensor if exact else tensor.float()).numpy()
    return array


def foreign_config(path: Path, rows: Array, name: str, **more: Any) -> ModelConfig:
    """Return the settings of a model whose entity table is given.

    Raises:
        UserError: the table has more floats a row than any model, or is no table.
    """
    if rows.ndim != 2:
        raise UserError(f"{path}: a table of shape {rows.shape}, where rows of floats are needed")
    return validate_tree(ModelConfig, {"name": name, "dim": rows.shape[1], **more}, str(path))


def converted(path: Path, convert: Callable[[], Tables]) -> Tables:
    """Return what a converter of tables makes of a file's.

    Raises:
        UserError: they are not shaped as the model's are.
    """
    try:
        return convert()
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: its tables are not those of that model ({shown(error)}); is `model` in "
            "import.toml right?"
        ) from None
