"""Models as DGL-KE saves them: two arrays, its settings, and the dictionaries that these name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.config import ModelConfig
from dglke_distill.data.dictionaries import find_one, read_dictionary
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.errors import UserError
from dglke_distill.models import build_model, build_score_function
from dglke_distill.models.base import KGEModel

__all__ = ["DGLKE_MODELS", "Folder", "is_folder", "load_folder", "open_folder"]

Array = NDArray[Any]

DGLKE_MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "TransE": ("TransE", {"norm": "l2"}),
    "TransE_l1": ("TransE", {"norm": "l1"}),
    "TransE_l2": ("TransE", {"norm": "l2"}),
    "DistMult": ("DistMult", {}),
    "ComplEx": ("ComplEx", {}),
    "RotatE": ("RotatE", {}),
    "RESCAL": ("RESCAL", {}),
    "SimplE": ("SimplE", {}),
}
"""DGL-KE's names of models, as ours with their options.

Its scores differ from ours by its gamma, which it adds to negated distances; and SimplE's, which it
clips to 20 on either side.
"""

_INITIAL_EPSILON = 2.0  # DGL-KE's constant in the range of its initial embeddings


class Folder(NamedTuple):
    """A DGL-KE folder, opened: the arrays are mapped, not read."""

    config: ModelConfig
    entity: Array
    relation: Array
    files: list[Path]
    settings: Mapping[str, Any]

    @property
    def sizes(self) -> dict[str, Any]:
        """The section ``model`` of results."""
        floats = self.entity.shape[1]
        return {
            "name": self.config.name,
            "dim": floats,
            "floats_per_entity": floats,
            "bytes_per_entity": floats * (8 if self.entity.dtype == np.float64 else 4),
            "parameters": self.entity.size + self.relation.size,
        }


def is_folder(place: Path) -> bool:
    """Return whether DGL-KE wrote a folder."""
    return next(place.glob("*_entity.npy"), None) is not None


def load_folder(place: Path, dataset: Dataset) -> KGEModel:
    """Load the model in a folder; its rows are put into the order of a dataset's ids.

    Raises:
        UserError: a file is missing or damaged, or shapes, names or ids do not fit.
    """
    saved = open_folder(place)
    dtype = torch.float64 if saved.entity.dtype == np.float64 else torch.float32
    model = build_model(saved.config, dataset.num_entities, dataset.num_relations, dtype)
    rows = _rows(place, saved.settings, "entities", dataset.entities, len(saved.entity))
    relation_rows = _rows(
        place, saved.settings, "relations", dataset.relations, len(saved.relation)
    )
    relation = np.asarray(saved.relation, dtype=np.float64)
    if saved.config.name == "RotatE":
        relation = relation / _phase_unit(place, saved)
    tables = {
        "encoder.weight": (np.asarray(saved.entity)[rows], saved.files[0]),
        "relation_weight": (relation[relation_rows], saved.files[1]),
    }
    state = {}
    for name, (table, path) in tables.items():
        if not np.isfinite(table).all():
            raise UserError(f"{path}: has values that are not finite; train it again")
        state[name] = torch.from_numpy(np.ascontiguousarray(table)).to(dtype)
    model.load_state_dict(state)
    return model.eval()


def open_folder(place: Path) -> Folder:
    """Open a folder and check its shapes.

    Raises:
        UserError: see ``load_folder``.
    """
    path = place / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: DGL-KE's settings cannot be read ({error})") from None
    # Training writes model_name, hidden_dim; its distributed launcher model, emb_size.
    name = _first(settings, ("model_name", "model"))
    if name not in DGLKE_MODELS:
        known = ", ".join(DGLKE_MODELS)
        raise UserError(f"{path}: a model {name!r} of DGL-KE cannot be a teacher; known: {known}")
    files = [_array_file(place, settings, name, kind) for kind in ("entity", "relation")]
    entity, relation = (_read(file) for file in files)
    ours, options = DGLKE_MODELS[name]
    config = ModelConfig(name=ours, dim=entity.shape[1], options=options)
    wanted = build_score_function(config).relation_floats
    if relation.shape[1] != wanted:
        raise UserError(
            f"{files[1]}: {relation.shape[1]} floats per relation, but {name} with "
            f"{entity.shape[1]} floats per entity has {wanted}; was it trained with "
            "--double_ent and --double_rel as DGL-KE's own settings have them?"
        )
    return Folder(config, entity, relation, files, settings)


def _first(settings: Any, keys: Iterable[str]) -> Any:
    found = (settings.get(key) for key in keys) if isinstance(settings, dict) else ()
    return next((value for value in found if value is not None), None)


def _array_file(place: Path, settings: Mapping[str, Any], model: str, kind: str) -> Path:
    exact = place / f"{settings.get('dataset')}_{model}_{kind}.npy"
    if exact.is_file():
        return exact
    found = sorted(place.glob(f"*_{model}_{kind}.npy"))
    if len(found) != 1:
        what = "there is none" if not found else f"there are {len(found)}"
        raise UserError(f"{place}: one file *_{model}_{kind}.npy is needed, and {what}")
    return found[0]


def _read(path: Path) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no array of numbers ({error})") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise UserError(
            f"{path}: {array.dtype} of shape {array.shape}, where rows of floats are needed"
        )
    return array


def _phase_unit(place: Path, saved: Folder) -> float:
    """Return what DGL-KE's RotatE divides a relation's numbers by to get radians."""
    gamma = _first(saved.settings, ("gamma",))
    hidden = _first(saved.settings, ("hidden_dim", "emb_size"))
    numbers = all(isinstance(n, (int, float)) and n > 0 for n in (gamma, hidden))
    if not numbers or 2 * hidden != saved.config.dim:
        raise UserError(
            f"{place / 'config.json'}: the phases of RotatE cannot be read without gamma (is "
            f"{gamma!r}) and hidden_dim (is {hidden!r}), half the {saved.config.dim} floats of an "
            "entity"
        )
    return (float(gamma) + _INITIAL_EPSILON) / float(hidden) / math.pi


def _rows(
    place: Path, settings: Mapping[str, Any], kind: str, names: Vocabulary, count: int
) -> NDArray[np.int64]:
    """Return the row of each name of the dataset, found through the dictionary.

    Raises:
        UserError: there is no dictionary, or it does not fit the rows or the dataset.
    """
    path = _dictionary(place, settings, kind)
    theirs = read_dictionary(path)
    if len(theirs) != count:
        raise UserError(f"{path}: names {len(theirs)} {kind}, but the teacher has {count} rows")
    rows = {name: row for row, name in enumerate(theirs)}
    missing = [name for name in names if name not in rows]
    if missing or len(theirs) != len(names):
        strange = missing[0] if missing else next(name for name in theirs if name not in names)
        where = "is not there" if missing else "is not in the data"
        raise UserError(
            f"{path}: the teacher's {kind} are not those of the data: {strange!r} {where}; train "
            "the student on the teacher's own data"
        )
    return np.array([rows[name] for name in names], dtype=np.int64)


def _dictionary(place: Path, settings: Mapping[str, Any], kind: str) -> Path:
    keys = {"entities": ("emap_file", "emp_file"), "relations": ("rmap_file", "rmp_file")}[kind]
    named: Optional[str] = _first(settings, keys)
    if isinstance(named, str):
        data = Path(str(settings.get("data_path") or "."))
        folders = (place, Path(), data, data / str(settings.get("dataset")))
        for path in (place / Path(named).name, *(folder / named for folder in folders)):
            if path.is_file():
                return path
    found = find_one(place, (kind,), (".dict", ".tsv"))
    if found is None:
        raise UserError(
            f"{place}: the dictionary of its {kind} ({named or keys[0]}) is not found; put it into "
            "this folder"
        )
    return found
