"""Models of PyKEEN: a state that ``torch.save`` wrote, beside the names of its triples factory."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any, Callable, Literal, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field, StrictModel
from dglke_distill.config.sections import Options
from dglke_distill.interop.foreign import (
    SETTINGS_FILE,
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

_PICKLE = "trained_model.pkl"
_FACTORY = "training_triples"
_NAMES = {"entities": "entity_to_id", "relations": "relation_to_id"}
_ENDINGS = (".tsv.gz", ".tsv")


class PyKEENSettings(StrictModel):
    """The file ``import.toml``: the arguments that PyKEEN's model was built with."""

    model: str = Field(description="PyKEEN's name of it")
    scoring_fct_norm: Literal[1, 2] = Field(1, description="TransE; PyKEEN's own default")
    p: Literal[1, 2] = Field(1, description="PairRE; PyKEEN's own default")
    power_norm: Literal[False] = Field(False, description="TransE, PairRE; true cannot be loaded")


class _State:
    """The tables of representations, complained about where they are others."""

    def __init__(self, path: Path, arrays: dict[str, Array]) -> None:
        self.path, self.arrays = path, arrays

    def __call__(self, kind: str, count: int = 1) -> list[Array]:
        """Return the ``count`` tables (rows, floats) of ``entity`` or ``relation``."""
        start, end = f"{kind}_representations.", "._embeddings.weight"
        tables = {name: a for name, a in self.arrays.items() if name.startswith(start)}
        wanted = [f"{start}{i}{end}" for i in range(count)]
        found = sorted(name for name in tables if name.endswith(end))
        if found != wanted or any(tables[name].ndim != 2 for name in wanted):
            raise UserError(
                f"{self.path}: this model has the tables {', '.join(wanted)}, but the file has "
                f"{', '.join(found) or 'none of the kind'}; is `model` in import.toml right?"
            )
        return [tables[name] for name in wanted]

    def beside(self, kind: str) -> Array:
        """Return the two tables of a kind side by side."""
        return np.concatenate(self(kind, 2), axis=1)

    def halves(self, kind: str) -> Array:
        """Return a table of complex numbers, real parts before imaginary ones."""
        pairs = self(kind)[0].reshape(-1, self(kind)[0].shape[1] // 2, 2)
        return np.concatenate([pairs[..., 0], pairs[..., 1]], axis=1)


Converted = tuple[str, Options, Array, Array]
"""Our model's name and options, entity table, relation table."""


def _transe(state: _State, settings: PyKEENSettings) -> Converted:
    options: Options = {"norm": f"l{settings.scoring_fct_norm}"}
    return "TransE", options, state("entity")[0], state("relation")[0]


def _as_it_is(ours: str) -> Callable[[_State, PyKEENSettings], Converted]:
    return lambda state, settings: (ours, {}, state("entity")[0], state("relation")[0])


def _complex(state: _State, settings: PyKEENSettings) -> Converted:
    return "ComplEx", {}, state.halves("entity"), state.halves("relation")


def _rotate(state: _State, settings: PyKEENSettings) -> Converted:
    real, imaginary = np.split(state.halves("relation").astype(np.float64), 2, axis=1)
    if np.abs(np.hypot(real, imaginary) - 1).max(initial=0) > 1e-3:
        raise UserError(
            f"{state.path}: has relations that are no rotations (of modulus other than 1); "
            "train with PyKEEN's own relation_constrainer"
        )
    # Its distance is the Euclidean one of the whole vectors, not the sum of moduli of the paper.
    return "RotatE", {"norm": "l2"}, state.halves("entity"), np.arctan2(imaginary, real)


def _simple(state: _State, settings: PyKEENSettings) -> Converted:
    # (<h_0, r_0, t_0> + <t_1, r_1, h_1>) / 2: unlike the paper's, no role meets the other.
    return "DistMult", {}, state.beside("entity"), state.beside("relation") / 2


def _pairre(state: _State, settings: PyKEENSettings) -> Converted:
    if settings.p != 1:
        raise UserError(f"{state.path}: PairRE with p = 2 cannot be loaded; ours is L1")
    return "PairRE", {"normalize": True}, state("entity")[0], state.beside("relation")


PYKEEN_MODELS: dict[str, Callable[[_State, PyKEENSettings], Converted]] = {
    "TransE": _transe,
    "DistMult": _as_it_is("DistMult"),
    "ComplEx": _complex,
    "RotatE": _rotate,
    "RESCAL": _as_it_is("RESCAL"),
    "HolE": _as_it_is("HolE"),
    "SimplE": _simple,
    "PairRE": _pairre,
}
"""PyKEEN's models that can be expressed; each turns its tables into ours, and scores are equal.

Ali, Berrendorf, Hoyt, Vermue, Sharifzadeh, Tresp, Lehmann 2021, "PyKEEN 1.0: a Python library for
training and evaluating knowledge graph embeddings"; the formulas are those of its version 1.11,
whose SimplE is a DistMult of twice the size. Its TransR is missing because it clamps projections.
"""


def is_folder(place: Path) -> bool:
    """Return whether a folder looks like one of PyKEEN's."""
    if (place / _PICKLE).is_file() or _names_file(place, "entities") is not None:
        return True
    return (place / SETTINGS_FILE).is_file() and bool(_states(place))


def open_folder(place: Path) -> ForeignModel:
    """Open a folder: a state ``*.pt``, names ``entity_to_id.tsv.gz`` and such, settings.

    The names may lie in ``training_triples/``, as ``to_path_binary`` of a triples factory leaves
    them. ``import.toml`` names the model: ``model = "TransE"``, and, where they are not 1,
    ``scoring_fct_norm`` or ``p``.

    A model trained with inverse triples has twice as many rows of relations as there are names;
    relation r has row 2 r there, and its inverse row 2 r + 1.

    Raises:
        UserError: a file is missing or damaged, or shapes or names do not fit.
    """
    files = _states(place)
    if not files and (place / _PICKLE).is_file():
        raise UserError(
            f"{place / _PICKLE}: is a pickled model, which can run any code when it is read, so "
            "it is not; save its weights beside it: "
            "torch.save(result.model.state_dict(), 'state.pt')"
        )
    weights = only_weights(place, files, "*.pt")
    settings = read_settings(place, PyKEENSettings)
    convert = conversion(place, settings.model, PYKEEN_MODELS, "PyKEEN")
    state = _State(weights, read_weights(weights))
    ours, options, entities, relations = converted(weights, lambda: convert(state, settings))
    entity_table = _named(place, "entities", entities, weights)
    relation_table = _named(place, "relations", relations, weights)
    reciprocal = len(relations) == 2 * len(relation_table.names)
    if reciprocal:
        rows = np.concatenate([relations[0::2], relations[1::2]])
        relation_table = relation_table._replace(rows=rows)
    config = foreign_config(weights, entities, ours, options=options, reciprocal=reciprocal)
    return ForeignModel(config, entity_table, relation_table)


def _states(place: Path) -> list[Path]:
    return sorted([*place.glob("*.pt"), *place.glob("*.pth")])


def _named(place: Path, kind: str, rows: Array, weights: Path) -> NamedTable:
    path = _names_file(place, kind)
    if path is None:
        raise UserError(
            f"{place}: the names of its {kind} ({_NAMES[kind]}.tsv.gz) are not found, nor in "
            f"{_FACTORY}; save them: result.training.to_path_binary('{_FACTORY}')"
        )
    return NamedTable(rows, _read_names(path), weights, path)


def _names_file(place: Path, kind: str) -> Optional[Path]:
    places = (f / f"{_NAMES[kind]}{e}" for f in (place, place / _FACTORY) for e in _ENDINGS)
    return next((path for path in places if path.is_file()), None)


def _read_names(path: Path) -> list[str]:
    """Read a table with the columns id and label, as pandas writes it: quoted where need be."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", strict=True))
        names = {int(row["id"]): str(row["label"]) for row in rows}
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: no names that PyKEEN saved (gzipped text, a first line `id<TAB>label`)"
        ) from None
    if len(names) != len(rows) or set(names) != set(range(len(rows))):
        raise UserError(f"{path}: the ids must be 0 to {len(rows) - 1}, each once")
    return [names[i] for i in range(len(rows))]
