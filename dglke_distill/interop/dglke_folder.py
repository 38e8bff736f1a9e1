"""Models as DGL-KE saves them: two arrays, its settings, and the dictionaries that these name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import read_object
from dglke_distill.data.array_files import map_npy
from dglke_distill.data.dictionaries import find_one, read_dictionary
from dglke_distill.interop.foreign import ForeignModel, NamedTable, foreign_config
from dglke_distill.models import build_score_function

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

INVERSE = "_inverse"
"""What our exports add to a relation's name for its second row, which answers head queries."""

INITIAL_EPSILON = 2.0
"""DGL-KE's constant in the range of its initial embeddings, and so in RotatE's phases."""


def is_folder(place: Path) -> bool:
    """Return whether DGL-KE wrote a folder."""
    return next(place.glob("*_entity.npy"), None) is not None


def open_folder(place: Path) -> ForeignModel:
    """Open a folder; the entities' array is mapped, not read.

    Raises:
        UserError: a file is missing or damaged, or shapes or names do not fit.
    """
    path = place / "config.json"
    if not path.exists():
        raise UserError(f"{path}: is missing; {_what_to_write(place)}")
    settings = read_object(path)
    # Training writes model_name, hidden_dim; its distributed launcher model, emb_size.
    name = _first(settings, ("model_name", "model"))
    if name is None:
        raise UserError(f"{path}: does not say which model it is; {_what_to_write(place)}")
    if name not in DGLKE_MODELS:
        known = ", ".join(DGLKE_MODELS)
        raise UserError(f"{path}: a model {name!r} of DGL-KE cannot be a teacher; known: {known}")
    files = [_array_file(place, settings, name, kind) for kind in ("entity", "relation")]
    entity, relation = (_read(file) for file in files)
    ours, options = DGLKE_MODELS[name]
    named = {kind: _dictionary(place, settings, kind) for kind in ("entities", "relations")}
    # Our own export puts ids first, and says what it is.
    ours_first = True if "reciprocal" in settings else None
    names = {kind: read_dictionary(file, id_first=ours_first) for kind, file in named.items()}
    reciprocal = _reciprocal(path, settings, names["relations"])
    if reciprocal:
        names["relations"] = names["relations"][: len(relation) // 2]
    config = foreign_config(files[0], entity, ours, options=options, reciprocal=reciprocal)
    wanted = build_score_function(config).relation_floats
    if relation.shape[1] != wanted:
        raise UserError(
            f"{files[1]}: {relation.shape[1]} floats per relation, but {name} with "
            f"{entity.shape[1]} floats per entity has {wanted}; was it trained with "
            "--double_ent and --double_rel as DGL-KE's own settings have them?"
        )
    if ours == "RotatE":
        relation = relation.astype(np.float64) / _phase_unit(place, settings, config.dim)
    tables = {
        kind: NamedTable(rows, names[kind], weights, named[kind])
        for kind, rows, weights in zip(("entities", "relations"), (entity, relation), files)
    }
    return ForeignModel(config, **tables)


def _what_to_write(place: Path) -> str:
    """Return what the settings must say, as far as names and shapes of the arrays tell."""
    path = min(place.glob("*_entity.npy"))
    stem = path.name.removesuffix("_entity.npy")
    model = max((m for m in DGLKE_MODELS if stem.endswith(f"_{m}")), key=len, default=None)
    data = stem.removesuffix(f"_{model}") if model else stem
    try:
        width = int(_read(path).shape[1])
    except UserError:
        width = 400
    halved = model in ("RotatE", "ComplEx", "SimplE")  # trained with --double_ent
    example = {
        "dataset": data,
        "model_name": model or "TransE_l2",
        "hidden_dim": width // 2 if halved else width,
        "gamma": 12.0,
    }
    return (
        f"the arrays do not tell which model they are, so write that there: {json.dumps(example)}, "
        f"with the model_name ({', '.join(DGLKE_MODELS)}), hidden_dim and gamma it was trained with"
    )


def _reciprocal(path: Path, settings: Mapping[str, Any], relations: list[str]) -> bool:
    """Return whether the second half of the relations answers head queries of the first.

    Our own export says so in its settings. Where nothing is said, names like those of our export
    stand for it only beside the settings that older versions of it wrote, and DGL-KE does not.
    """
    half = len(relations) // 2
    inverse = [f"{name}{INVERSE}" for name in relations[:half]]
    paired = half > 0 and relations[half:] == inverse
    said = settings.get("reciprocal")
    if said is None:
        ours = settings.get("gamma") == 0 and settings.get("emap_file") == "entities.tsv"
        return paired and ours and "model" in settings and "model_name" in settings
    if not isinstance(said, bool) or (said and not paired):
        raise UserError(
            f"{path}: reciprocal is {said!r}, but the relations are not names followed by the "
            f"same names with {INVERSE!r}; set it to false, or export the model anew"
        )
    return said


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
    array: Array = map_npy(path)
    if array.ndim != 2 or array.dtype.kind != "f" or array.itemsize > 8 or not array.size:
        raise UserError(
            f"{path}: {array.dtype} of shape {array.shape}, where rows of floats are needed"
        )
    # Of another byte order, it is read whole.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _phase_unit(place: Path, settings: Mapping[str, Any], dim: int) -> float:
    """Return what DGL-KE's RotatE divides a relation's numbers by to get radians."""
    gamma = _first(settings, ("gamma",))
    hidden = _first(settings, ("hidden_dim", "emb_size"))
    numbers = all(isinstance(n, (int, float)) and n >= 0 for n in (gamma, hidden))
    if not numbers or 2 * hidden != dim:
        raise UserError(
            f"{place / 'config.json'}: the phases of RotatE cannot be read without gamma (is "
            f"{gamma!r}) and hidden_dim (is {hidden!r}), half the {dim} floats of an entity"
        )
    return (float(gamma) + INITIAL_EPSILON) / float(hidden) / math.pi


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
