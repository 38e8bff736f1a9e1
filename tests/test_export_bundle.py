from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_fixtures import (
    AFFINE,
    NAMES,
    ONE_SIDED,
    RELATION_NAMES,
    every_model_of_maps_and_setting,
    loaded_model,
    queries,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kg_bundle import Bundle
from model_formulas import DIM, ENTITIES, RELATIONS, one_thread  # noqa: F401
from reader_fixtures import JAVASCRIPT_READER, PYTHON_READER

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import Vocabulary
from dglke_distill.interop import export_model
from dglke_distill.interop.bundle import _entities, _packed

node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def bundle_of(loaded: LoadedModel, folder: Path, dtype: str = "float32") -> Path:
    return export_model(loaded, "bundle", folder / f"{dtype}.bundle", {"dtype": dtype})


@every_model_of_maps_and_setting
def test_the_reader_scores_as_the_model(
    tmp_path: Path, name: str, options: Any, settings: Any
) -> None:
    loaded = loaded_model(name, options, **settings)
    bundle = Bundle(bundle_of(loaded, tmp_path))
    entity, relation = queries()
    for side in ("head", "tail"):
        ours = loaded.model.score_all(entity, relation, side).numpy()
        theirs = [bundle.scores(int(e), int(r), side) for e, r in zip(entity, relation)]
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=2e-5)


def rounded(loaded: LoadedModel, table: torch.Tensor) -> torch.Tensor:
    """Tail scores of every query with another entity table."""
    loaded.model.encoder.weight.data.copy_(table)
    return loaded.model.score_all(*queries(), "tail")


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("TransE", {}), ("ComplEx", {}), ("RotatE", {}), ("RESCAL", {}), ("RESCAL", {"hidden": 7})],
)
def test_small_dtypes_score_as_the_rounded_table(
    tmp_path: Path, name: str, options: Any, dtype: str
) -> None:
    loaded = loaded_model(name, options, reciprocal=True)
    bundle = Bundle(bundle_of(loaded, tmp_path, dtype))
    decoded = torch.from_numpy(bundle.vectors(0, ENTITIES))
    entity, relation = queries()
    theirs = np.stack([bundle.scores(int(e), int(r)) for e, r in zip(entity, relation)])
    # What is left is the rounding of the relations' coefficients to float16, and of the layer's.
    atol = 2e-2 if options else 5e-3
    np.testing.assert_allclose(theirs, rounded(loaded, decoded), rtol=5e-3, atol=atol)
    assert bundle._entity.dtype == np.dtype(dtype)
    assert bundle._entity.nbytes == ENTITIES * DIM * np.dtype(dtype).itemsize


tables = arrays(np.float32, (4, 6), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False))


@given(tables)
def test_int8_is_off_by_half_a_step_at_most(table: Any) -> None:
    stored = _entities(table, "int8")
    decoded = stored["entity"].astype(np.float64) * stored["entity_scale"][:, None]
    step = np.abs(table).max(axis=1, keepdims=True).astype(np.float64) / 127
    # A scale is rounded up to the next bfloat16.
    assert (np.abs(decoded - table) <= step * (0.5 + 2**-8) + 1e-30).all()


def test_a_relation_costs_no_more_than_it_must(tmp_path: Path) -> None:
    """Sides share arrays, and constants take no room."""

    def stored(name: str) -> dict[str, tuple[int, ...]]:
        header = Bundle(bundle_of(loaded_model(name), tmp_path / name)).header
        return {key: tuple(of["shape"]) for key, of in header["arrays"].items() if "query" in key}

    assert stored("TransE") == {"query_tail_shift": (RELATIONS, DIM)}
    assert stored("DistMult") == {"query_tail_scale": (RELATIONS, DIM)}
    assert stored("ComplEx").keys() == {"query_tail_scale", "query_tail_cross"}
    assert stored("RESCAL") == {"query_tail_matrix": (RELATIONS, DIM, DIM)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_layer_is_stored_once_and_older_readers_refuse_it(tmp_path: Path, dtype: str) -> None:
    loaded = loaded_model("RESCAL", {"hidden": 7}, reciprocal=True)
    told: list[str] = []
    options = {"dtype": dtype, "labels": False}
    path = export_model(loaded, "bundle", tmp_path / "it", options, told.append)
    assert path.read_bytes()[8:12] == struct.pack("<I", 2)
    size = 4 if dtype == "float32" else 2
    bytes_of_it = size * (2 * 7 * DIM + 2 * RELATIONS * 7)
    assert told == [f"the hidden layer takes {bytes_of_it:,} bytes of it, its biases counted"]
    layer = {key: of for key, of in Bundle(path).header["arrays"].items() if "hidden" in key}
    assert {key: of["shape"] for key, of in layer.items()} == {
        "hidden_inner": [7, DIM],
        "hidden_outer": [7, DIM],
        "hidden_tail_bias": [RELATIONS, 7],
        "hidden_head_bias": [RELATIONS, 7],
    }
    plain = bundle_of(loaded_model("RESCAL"), tmp_path, dtype)
    assert plain.read_bytes()[8:12] == struct.pack("<I", 1)


def test_answers_come_by_name(tmp_path: Path) -> None:
    loaded = loaded_model("ComplEx")
    bundle = Bundle(bundle_of(loaded, tmp_path))
    assert bundle.entities == list(NAMES)
    assert bundle.relations == list(RELATION_NAMES)
    best = loaded.model.score_all(torch.tensor([10]), torch.tensor([2]), "tail")[0].topk(3)
    answers = bundle.predict_tails("漢字", "relation 2", k=3)
    assert [name for name, _ in answers] == [NAMES[i] for i in best.indices.tolist()]
    np.testing.assert_allclose([score for _, score in answers], best.values, rtol=1e-5)
    rest = bundle.predict_tails("漢字", "relation 2", k=99, exclude=[answers[0][0], 5, 5])
    assert len(rest) == ENTITIES - len({answers[0][0], NAMES[5]})
    assert answers[0][0] not in dict(rest) and NAMES[5] not in dict(rest)
    heads = bundle.predict_heads(1, "n0", k=1)
    triple = (torch.tensor([NAMES.id(heads[0][0])]), torch.tensor([1]), torch.tensor([0]))
    score = loaded.model.score_triples(*triple).item()
    assert bundle.score(heads[0][0], "relation 1", 0) == pytest.approx(score, rel=1e-5)
    with pytest.raises(KeyError, match="'nobody' is none of the 11 entities"):
        bundle.predict_tails("nobody", 0)
    with pytest.raises(KeyError, match="3 is none of the 3 relations"):
        bundle.predict_tails(0, 3)


def test_names_that_are_ids_take_no_room(tmp_path: Path) -> None:
    loaded = loaded_model("DistMult")
    plain = LoadedModel(
        loaded.model, loaded.config, Vocabulary(size=ENTITIES), loaded.relations, {}
    )
    bundle = Bundle(bundle_of(plain, tmp_path))
    assert bundle.header["names"]["entities"] is None
    assert bundle.entities == [str(i) for i in range(ENTITIES)]


def test_values_too_large_for_float16_are_told(tmp_path: Path) -> None:
    loaded = loaded_model("DistMult")
    with torch.no_grad():
        loaded.model.relation_weight[0, 0] = 1e5
    for dtype in ("float16", "int8"):
        with pytest.raises(UserError, match="too large for float16; add --set dtype=float32"):
            bundle_of(loaded, tmp_path, dtype)
    assert list(tmp_path.iterdir()) == []
    bundle_of(loaded, tmp_path)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the header."""
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    header = json.loads(data[16 : 16 + length])
    edit(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 16)
    path.write_bytes(data[:12] + struct.pack("<I", len(text)) + text + data[16 + length :])


def about(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["arrays"]["entity"].update({key: value})


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b"KG"),
    "other file": lambda path: path.write_bytes(b"PK\x03\x04" * 8),
    "version": lambda path: path.write_bytes(b"KGBUNDLE\x04" + path.read_bytes()[9:]),
    "long header": lambda path: path.write_bytes(path.read_bytes()[:12] + b"\xff" * 4 + b" " * 99),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-64]),
    "no json": lambda path: path.write_bytes(path.read_bytes().replace(b'{"model"', b'["model"')),
    "offset": lambda path: change(path, about("offset", -16)),
    "far": lambda path: change(path, about("offset", 1 << 40)),
    "dtype": lambda path: change(path, about("dtype", "object")),
    "shape": lambda path: change(path, about("shape", [ENTITIES, 2 * DIM])),
    "negative": lambda path: change(path, about("shape", [-1, -1])),
    "names": lambda path: change(path, lambda header: header.update(relations=99)),
    "nothing": lambda path: change(path, lambda header: header.clear()),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_refused(tmp_path: Path, what: str) -> None:
    path = bundle_of(loaded_model("TransE"), tmp_path)
    Bundle(path)
    DAMAGES[what](path)
    with pytest.raises(ValueError, match=r"no bundle|damaged"):
        Bundle(path)


def test_the_reader_needs_numpy_alone(tmp_path: Path) -> None:
    path = bundle_of(loaded_model("RotatE"), tmp_path)
    shutil.copy(PYTHON_READER, tmp_path / "kg_bundle.py")
    code = (
        "import sys; from kg_bundle import Bundle\n"
        f"print(Bundle({str(path)!r}).predict_tails('n0', 0, k=1)[0][1])\n"
        "assert not {'torch', 'dglke_distill', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == Bundle(path).predict_tails("n0", 0, k=1)[0][1]


SCRIPT = """
import { Bundle } from "./kg_bundle.mjs";
import { readFileSync } from "node:fs";
const results = [];
for (const path of process.argv.slice(2)) {
  const file = readFileSync(path);
  const bundle = new Bundle(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
  const { entities, relations } = bundle.header;
  const scores = {};
  for (const side of ["tail", "head"]) {
    scores[side] = [];
    for (let e = 0; e < entities; e += 1) {
      for (let r = 0; r < relations; r += 1) {
        scores[side].push(Array.from(bundle.scores(e, r, side)));
      }
    }
  }
  const tails = bundle.predictTails(bundle.entities[10], 1, { k: 4, exclude: ["n2"] });
  const heads = bundle.predictHeads("relation 1", "São Tomé", { k: 99 });
  results.push({ scores, tails, heads, names: bundle.entities, one: bundle.score(1, 2, 3) });
}
console.log(JSON.stringify(results));
"""


def in_node(folder: Path, script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    shutil.copy(JAVASCRIPT_READER, folder / "kg_bundle.mjs")
    (folder / "script.mjs").write_text(script, encoding="utf-8")
    command = ["node", str(folder / "script.mjs"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@node
@pytest.mark.slow
def test_javascript_answers_as_numpy(tmp_path: Path) -> None:
    paths = []
    models = [*(each[:2] for each in AFFINE), *ONE_SIDED]
    for i, (name, options) in enumerate(models):
        reciprocal = bool(i % 2) or (name, options) in ONE_SIDED
        settings = {"reciprocal": reciprocal, "entity_bias": i % 3 == 0}
        for dtype in ("float32", "float16", "int8"):
            folder = tmp_path / f"{i}"
            paths.append(bundle_of(loaded_model(name, options, **settings), folder, dtype))
    done = in_node(tmp_path, SCRIPT, *paths)
    assert done.returncode == 0, done.stderr
    for path, result in zip(paths, json.loads(done.stdout)):
        bundle = Bundle(path)
        assert result["names"] == list(NAMES)
        for side in ("head", "tail"):
            pairs = zip(*queries())
            ours = [bundle.scores(int(e), int(r), side) for e, r in pairs]
            np.testing.assert_allclose(result["scores"][side], ours, rtol=1e-4, atol=2e-5)
        tails = bundle.predict_tails("漢字", 1, k=4, exclude=["n2"])
        assert [answer["name"] for answer in result["tails"]] == [name for name, _ in tails]
        assert all(NAMES[answer["id"]] == answer["name"] for answer in result["tails"])
        heads = bundle.predict_heads("relation 1", "São Tomé", k=99)
        assert [answer["name"] for answer in result["heads"]] == [name for name, _ in heads]
        assert result["one"] == pytest.approx(bundle.score(1, 2, 3), rel=1e-4, abs=2e-5)


@node
@pytest.mark.parametrize("what", ["other file", "version", "long header", "far", "dtype", "names"])
def test_javascript_refuses_a_damaged_file(tmp_path: Path, what: str) -> None:
    path = bundle_of(loaded_model("TransE"), tmp_path)
    DAMAGES[what](path)
    done = in_node(tmp_path, SCRIPT, path)
    assert done.returncode == 1
    assert "no bundle" in done.stderr or "damaged" in done.stderr or "RangeError" in done.stderr


@node
def test_javascript_decodes_every_half(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    zero = {"constant": 0.0}
    header = {
        **{"entities": len(finite), "relations": 1, "dim": 1, "kernel": "dot", "candidate": None},
        "names": {"entities": None, "relations": None},
        "query": {"tail": {"scale": zero, "cross": zero, "shift": {"constant": 1.0}}},
    }
    (tmp_path / "halves").write_bytes(_packed(header, {"entity": finite[:, None]}))
    script = SCRIPT[: SCRIPT.index("  const { entities")] + (
        '  console.log(JSON.stringify(Array.from(bundle.scores(0, 0, "tail"))));\n}\n'
    )
    done = in_node(tmp_path, script, tmp_path / "halves")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        np.array(json.loads(done.stdout), dtype=np.float32), finite.astype(np.float32)
    )
