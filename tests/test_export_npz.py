"""Tables as files: all that a model's scores need is in them, and NumPy alone makes these again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_fixtures import ASKED, NAMES, ONE_SIDED, RELATION_NAMES, loaded_model
from model_formulas import VARIANTS, one_thread, reference, some_triples  # noqa: F401

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.compression import Storage, compress
from dglke_distill.interop import export_model
from dglke_distill.models import SCORE_FUNCTIONS

Arrays = Mapping[str, Any]
CASES = [
    *((name, options, {}) for name, options in VARIANTS),
    *((name, options, {"reciprocal": True, "entity_bias": True}) for name, options in VARIANTS),
    *((name, options, settings) for name, options in ONE_SIDED for settings in ASKED),
]
IDS = ["-".join([name, *map(str, options.values()), *more]) for name, options, more in CASES]


def normalised(vector: Any, arrays: Arrays, name: str) -> Any:
    """Batch normalisation by what was seen in training; 1e-5 is torch's epsilon."""
    if f"shared.{name}.weight" not in arrays:
        return vector
    mean, variance, weight, bias = (
        arrays[f"shared.{name}.{part}"]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (vector - mean) / np.sqrt(variance + 1e-5) * weight + bias


def of_cores(arrays: Arrays, known: Any, r: Any, other: Any, side: str) -> float:
    """Score TuckER and MEIM: parts of vectors meet the cores that their relation's part mixes."""
    known = normalised(known, arrays, "known_norm")
    core = arrays["shared.core"]
    count, _, part, _ = core.shape
    partitions = len(known) // part
    query = np.zeros_like(known)
    for k in range(partitions):
        rows = r.reshape(partitions, -1)[k]
        matrix = sum(c * w for c, w in zip(rows, core[k if count > 1 else 0]))
        piece = known[k * part : (k + 1) * part]
        met = piece @ matrix if side == "tail" else matrix @ piece
        query[k * part : (k + 1) * part] = met
    return float(normalised(query, arrays, "query_norm") @ other)


def of_layer(arrays: Arrays, known: Any, r: Any, other: Any) -> float:
    """Score RESCAL with a hidden layer, (h M + relu(W h + b) V) t."""
    dim = len(known)
    units = np.maximum(arrays["shared.inner"] @ known + r[dim * dim :], 0)
    return float(
        (known @ r[: dim * dim].reshape(dim, dim) + units @ arrays["shared.outer"]) @ other
    )


def score(arrays: Arrays, h: int, r: int, t: int, side: str = "tail") -> float:
    """Return a triple's score by nothing but the arrays of the file."""
    model = json.loads(str(arrays["config"]))["model"]
    name, options, entity = model["name"], model["options"], arrays["entity"]
    known, other = (h, t) if side == "tail" else (t, h)
    bias = float(arrays["entity_bias"][other]) if "entity_bias" in arrays else 0.0
    if model["reciprocal"] and side == "head":
        r, side = r + len(arrays["relation"]) // 2, "tail"
    row = arrays["relation"][r]
    if "shared.inner" in arrays:
        return of_layer(arrays, entity[known], row, entity[other]) + bias
    if "shared.core" in arrays:
        return of_cores(arrays, entity[known], row, entity[other], side) + bias
    h, t = (known, other) if side == "tail" else (other, known)
    return reference(name, options, entity[h], row, entity[t]) + bias


def check(arrays: Arrays, loaded: LoadedModel, rtol: float = 1e-6) -> None:
    """Compare a dozen triples, asked from both sides."""
    head, relation, tail = some_triples()
    for side, known, other in (("tail", head, tail), ("head", tail, head)):
        ours = loaded.model.score_all(known, relation, side)
        want = ours.gather(1, other[:, None])[:, 0].double().numpy()
        ids = zip(head.tolist(), relation.tolist(), tail.tolist())
        have = [score(arrays, *triple, side) for triple in ids]
        np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol * np.abs(want).max())


def test_every_registered_model_is_tried() -> None:
    assert {name for name, *_ in CASES} >= set(SCORE_FUNCTIONS)


@pytest.mark.parametrize(("name", "options", "settings"), CASES, ids=IDS)
def test_scores_are_made_of_the_archive_alone(
    tmp_path: Path, name: str, options: dict[str, Any], settings: dict[str, Any]
) -> None:
    loaded = loaded_model(name, options, dtype="float64", **settings)
    with np.load(export_model(loaded, "npz", tmp_path / "it.npz"), allow_pickle=False) as file:
        arrays = dict(file)
    learned = sum(each.numel() for each in loaded.model.score_function.parameters())
    named = {key for key in arrays if key.startswith("shared.")}
    kept = sum(arrays[key].size for key in named if "running" not in key)
    assert kept == learned
    check(arrays, loaded)


@pytest.mark.parametrize(("name", "options"), ONE_SIDED, ids=[name for name, _ in ONE_SIDED])
def test_a_compressed_model_is_exported_with_its_shared_weights(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    loaded = loaded_model(name, options, reciprocal=True)
    small = compress(loaded.model, loaded.config.model, Storage.of("int8"))
    packed = LoadedModel(small, loaded.config, NAMES, RELATION_NAMES, {})
    with np.load(export_model(packed, "npz", tmp_path / "it.npz")) as arrays:
        check(arrays, packed, rtol=1e-4)


@pytest.mark.parametrize(("name", "options"), ONE_SIDED, ids=[name for name, _ in ONE_SIDED])
def test_parquet_has_the_shared_weights_too(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    loaded = loaded_model(name, options, dtype="float64", reciprocal=True)
    folder = export_model(loaded, "parquet", tmp_path / "it")
    assert len(list(folder.iterdir())) == 3
    read = parquet.read_table(folder / "shared.parquet")
    arrays: dict[str, Any] = {"config": read.schema.metadata[b"config"].decode()}
    for row in read.to_pylist():
        arrays[row["name"]] = np.array(row["values"]).reshape(row["shape"])
    for key, file in (("entity", "entities"), ("relation", "relations")):
        vectors = parquet.read_table(folder / f"{file}.parquet")["vector"].to_pylist()
        arrays[key] = np.array(vectors)
    check(arrays, loaded)
