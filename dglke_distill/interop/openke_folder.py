"""Models as OpenKE saves them: a checkpoint or parameters in JSON, beside its dictionaries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Literal

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import parse_json
from dglke_distill.base.regular_files import read_bytes
from dglke_distill.base.schema import Field, StrictModel
from dglke_distill.config.sections import Options
from dglke_distill.data.dictionaries import read_dictionary
from dglke_distill.interop.foreign import (
    ForeignModel,
    NamedTable,
    conversion,
    converted,
    foreign_config,
    only_weights,
    read_settings,
    read_weights,
)

Array = NDArray[Any]

_MAX_BYTES = 1 << 33
_DICTIONARIES = {"entities": "entity2id.txt", "relations": "relation2id.txt"}


class OpenKESettings(StrictModel):
    """The file ``import.toml``: the arguments that OpenKE's model was built with."""

    model: str = Field(description="OpenKE's name of it")
    p_norm: Literal[1, 2] = Field(1, description="TransE, TransR; OpenKE's own default")
    norm_flag: bool = Field(True, description="TransE, TransR; OpenKE's own default")


class _State:
    """Arrays by name, complained about where one is missing."""

    def __init__(self, path: Path, arrays: dict[str, Array]) -> None:
        self.path, self.arrays = path, arrays

    def __call__(self, name: str) -> Array:
        """Return a table (rows, floats)."""
        array = self.arrays.get(f"{name}.weight")
        if array is None or array.ndim != 2:
            found = ", ".join(sorted(self.arrays)) or "nothing"
            raise UserError(
                f"{self.path}: there is no table {name}.weight; is `model` in import.toml right? "
                f"The file holds {found}"
            )
        return array

    def number(self, name: str) -> float:
        """Return a parameter of one number."""
        array = self.arrays.get(name)
        if array is None or array.size != 1:
            raise UserError(f"{self.path}: there is no number {name}, which this model needs")
        return float(array.reshape(()))


Converted = tuple[str, Options, Array, Array]
"""Our model's name and options, entity table, relation table."""


def _transe(state: _State, settings: OpenKESettings) -> Converted:
    options: Options = {"norm": f"l{settings.p_norm}", "normalize": settings.norm_flag}
    return "TransE", options, state("ent_embeddings"), state("rel_embeddings")


def _transr(state: _State, settings: OpenKESettings) -> Converted:
    if settings.norm_flag:
        raise UserError(
            f"{state.path}: OpenKE's TransR with norm_flag scales vectors to length 1 after their "
            "projection, which no model here does; without (norm_flag = false) it can be a teacher"
        )
    vectors = state("rel_embeddings")
    options: Options = {"norm": f"l{settings.p_norm}", "relation_dim": vectors.shape[1]}
    relations = np.concatenate([vectors, state("transfer_matrix")], axis=1)
    return "TransR", options, state("ent_embeddings"), relations


def _as_it_is(ours: str) -> Callable[[_State, OpenKESettings], Converted]:
    return lambda state, settings: (ours, {}, state("ent_embeddings"), state("rel_embeddings"))


def _simple(state: _State, settings: OpenKESettings) -> Converted:
    # It keeps one vector per entity, and trains the mean of <h, r, t> and <h, r_inverse, t>.
    relations = (state("rel_embeddings") + state("rel_inv_embeddings")) / 2
    return "DistMult", {}, state("ent_embeddings"), relations


def _complex(state: _State, settings: OpenKESettings) -> Converted:
    entities, relations = (
        np.concatenate([state(f"{kind}_re_embeddings"), state(f"{kind}_im_embeddings")], axis=1)
        for kind in ("ent", "rel")
    )
    return "ComplEx", {}, entities, relations


def _rescal(state: _State, settings: OpenKESettings) -> Converted:
    # Its score has a minus in front.
    return "RESCAL", {}, state("ent_embeddings"), -state("rel_matrices")


def _rotate(state: _State, settings: OpenKESettings) -> Converted:
    unit = state.number("rel_embedding_range") / math.pi
    return "RotatE", {}, state("ent_embeddings"), state("rel_embeddings").astype(np.float64) / unit


OPENKE_MODELS: dict[str, Callable[[_State, OpenKESettings], Converted]] = {
    "TransE": _transe,
    "TransR": _transr,
    "DistMult": _as_it_is("DistMult"),
    "ComplEx": _complex,
    "RotatE": _rotate,
    "RESCAL": _rescal,
    "HolE": _as_it_is("HolE"),
    "SimplE": _simple,
}
"""OpenKE's models that can be expressed; each turns its tables into ours.

Han, Cao, Lv, Lin, Liu, Sun, Li 2018, "OpenKE: an open toolkit for knowledge embedding"; the
formulas are those of its PyTorch code. Scores here are what it trains to be high for facts; a
margin that it adds is left out. Its SimplE ranks with <h, r, t> alone, though it trains the mean of
two terms; the mean is what is loaded.
"""


def is_folder(place: Path) -> bool:
    """Return whether a folder holds OpenKE's dictionaries beside one of its models."""
    return (place / _DICTIONARIES["entities"]).is_file() and bool(_weights(place))


def open_folder(place: Path) -> ForeignModel:
    """Open a folder: ``*.ckpt`` or ``*.json``, ``entity2id.txt``, ``relation2id.txt``, settings.

    ``import.toml`` names the model: ``model = "TransE"``, and, where they are not 1 and true,
    ``p_norm`` and ``norm_flag``.

    Raises:
        UserError: a file is missing or damaged, or shapes or names do not fit.
    """
    path = only_weights(place, _weights(place), "*.ckpt or *.json")
    settings = read_settings(place, OpenKESettings)
    convert = conversion(place, settings.model, OPENKE_MODELS, "OpenKE")
    arrays = _read_json(path) if path.suffix == ".json" else read_weights(path)
    ours, options, *rows = converted(path, lambda: convert(_State(path, arrays), settings))
    config = foreign_config(path, rows[0], ours, options=options)
    tables = {
        kind: NamedTable(table, read_dictionary(place / file, openke=True), path, place / file)
        for (kind, file), table in zip(_DICTIONARIES.items(), rows)
    }
    return ForeignModel(config, **tables)


def _weights(place: Path) -> list[Path]:
    return sorted([*place.glob("*.ckpt"), *place.glob("*.json")])


def _read_json(path: Path) -> dict[str, Array]:
    """Read what OpenKE's ``save_parameters`` wrote: nested lists of numbers by name."""
    try:
        found = parse_json(read_bytes(path, _MAX_BYTES), str(path), finite=False)
        return {name: np.array(value, dtype=np.float32) for name, value in found.items()}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: no parameters that OpenKE saved ({error})") from None
