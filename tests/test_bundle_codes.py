"""Bundles of models of codebooks: the codes are kept, and both readers answer as the model does."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_fixtures import NAMES, RELATION_NAMES, loaded_model, queries
from kg_bundle import Bundle
from model_formulas import DIM, ENTITIES, RELATIONS, one_thread  # noqa: F401
from reader_fixtures import JAVASCRIPT_READER, READERS

import dglke_distill as kd
from dglke_distill.artifacts.checkpoint import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.cli.compress import in_storage
from dglke_distill.compression import Storage
from dglke_distill.config import Config
from dglke_distill.interop import export_model
from dglke_distill.interop.bundle import _packed
from dglke_distill.models import build_model

node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

MODELS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("DistMult", {}, {}),
    ("TransE", {"normalize": True}, {"entity_bias": True}),
    ("RotE", {}, {"reciprocal": True, "entity_bias": True}),
    ("RotE", {"hidden": 7}, {"reciprocal": True, "entity_bias": True}),
    ("RESCAL", {"hidden": 7}, {"reciprocal": True}),
    ("PairRE", {}, {}),
    ("TransR", {}, {"entity_bias": True}),
]
PIECES: list[dict[str, Any]] = [{"pieces": 4}, {"pieces": 3, "bits": 4}, {"pieces": 12, "bits": 4}]
each_model = pytest.mark.parametrize(("name", "options", "settings"), MODELS)
each_cut = pytest.mark.parametrize("pieces", PIECES)


def stored(name: str, options: Any, settings: Any, pieces: dict[str, Any]) -> LoadedModel:
    """Return a model that was compressed to codes."""
    return in_storage(loaded_model(name, options, **settings), Storage.of("pq", pieces))


def trained(name: str, options: Any, settings: Any, pieces: dict[str, Any]) -> LoadedModel:
    """Return a model of the encoder ``codebook``."""
    section = {"name": name, "dim": DIM, "options": options, **settings}
    section.update(encoder="codebook", encoder_options=pieces)
    config = Config.from_mapping({"model": section, "data": {"dataset": "tiny"}}, "test")
    model = build_model(config.model, ENTITIES, RELATIONS)
    model.reset(0, 1.0)
    return LoadedModel(model.eval(), config, NAMES, RELATION_NAMES, {})


def written(loaded: LoadedModel, place: Path, **options: Any) -> Path:
    return export_model(loaded, "bundle", place, options)


def by_hand(path: Path) -> np.ndarray[Any, Any]:
    """Put the vectors together from the bytes of the file, by FORMAT.md, in loops."""
    data = path.read_bytes()
    version, length = struct.unpack("<II", data[8:16])
    assert version == 3
    header = json.loads(data[16 : 16 + length])
    about = header["arrays"]
    pieces, entries, size = about["entity_codebooks"]["shape"]
    books = 16 + length + about["entity_codebooks"]["offset"]
    rows, width = about["entity"]["shape"]
    vectors = []
    for row in range(rows):
        start = 16 + length + about["entity"]["offset"] + row * width
        codes = data[start : start + width]
        if entries == 16:
            codes = bytes(half for byte in codes for half in (byte % 16, byte // 16))[:pieces]
        vector: list[float] = []
        for piece, code in enumerate(codes):
            place = books + 4 * size * (piece * entries + code)
            vector += struct.unpack(f"<{size}f", data[place : place + 4 * size])
        norm = sum(x * x for x in vector) ** 0.5
        vectors.append([x / norm for x in vector] if header.get("normalize") else vector)
    return np.array(vectors)


@each_model
@each_cut
@pytest.mark.parametrize("make", [stored, trained])
def test_codes_are_kept_and_answer_as_the_model(
    tmp_path: Path, make: Any, name: str, options: Any, settings: Any, pieces: dict[str, Any]
) -> None:
    loaded = make(name, options, settings, pieces)
    path = written(loaded, tmp_path / "it")
    bundle = Bundle(path)
    expected = loaded.model.entity_embeddings.numpy()
    np.testing.assert_allclose(by_hand(path), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(bundle.vectors(0, ENTITIES), by_hand(path), rtol=1e-6, atol=1e-7)
    held = bundle._arrays["entity"].nbytes
    if "entity_bias" in bundle._arrays:
        held += bundle._arrays["entity_bias"].nbytes
    table = in_storage(loaded, Storage.of("pq", pieces)).model
    assert held == ENTITIES * table.bytes_per_entity
    assert bundle._arrays["entity_codebooks"].nbytes == table.shared_bytes
    entity, relation = queries()
    for side in ("head", "tail"):
        with torch.no_grad():
            ours = loaded.model.score_all(entity, relation, side).numpy()
        theirs = [bundle.scores(int(e), int(r), side) for e, r in zip(entity, relation)]
        # What is left is the rounding of coefficients, layers and biases to float16.
        np.testing.assert_allclose(theirs, ours, rtol=5e-3, atol=2e-2)


def test_compressing_codes_that_were_trained_keeps_them() -> None:
    """Also where vectors are normalised, which makes many pieces out of one entry."""
    for name, options, settings in MODELS:
        for pieces in PIECES:
            loaded = trained(name, options, settings, pieces)
            after = in_storage(loaded, Storage.of("pq", pieces)).model
            expected = loaded.model.encoder.coded()
            assert all(map(torch.equal, after.encoder.coded(), expected))
            assert torch.equal(after.entity_embeddings, loaded.model.entity_embeddings)


SCRIPT = """
import { Bundle } from "./kg_bundle.mjs";
import { readFileSync } from "node:fs";
for (const path of process.argv.slice(2)) {
  const file = readFileSync(path);
  const bundle = new Bundle(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
  const scores = { tail: [], head: [] };
  for (const side of ["tail", "head"]) {
    for (let e = 0; e < bundle.entities.length; e += 1) {
      for (let r = 0; r < bundle.relations.length; r += 1) {
        scores[side].push(Array.from(bundle.scores(e, r, side)));
      }
    }
  }
  console.log(JSON.stringify({ scores, best: bundle.predictTails(0, 0, { k: 99 }) }));
}
"""


def in_node(folder: Path, script: str, *paths: Path) -> list[Any]:
    shutil.copy(JAVASCRIPT_READER, folder / "kg_bundle.mjs")
    (folder / "script.mjs").write_text(script, encoding="utf-8")
    command = ["node", str(folder / "script.mjs"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@node
def test_javascript_answers_as_numpy(tmp_path: Path) -> None:
    paths = [
        written(stored(*model, pieces), tmp_path / f"{i}-{j}")
        for i, model in enumerate(MODELS)
        for j, pieces in enumerate(PIECES)
    ]
    for path, found in zip(paths, in_node(tmp_path, SCRIPT, *paths)):
        bundle = Bundle(path)
        for side in ("tail", "head"):
            ours = [bundle.scores(int(e), int(r), side) for e, r in zip(*queries())]
            np.testing.assert_allclose(found["scores"][side], ours, rtol=1e-4, atol=2e-5)
        names = [name for name, _ in bundle.predict_tails(0, 0, k=99)]
        assert [one["name"] for one in found["best"]] == names


PUBLISHED = """
import { Bundle } from "./kg_bundle.mjs";
import { readFileSync } from "node:fs";
const file = readFileSync(process.argv[2]);
const bundle = new Bundle(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
for (const [entity, relation] of JSON.parse(readFileSync(process.argv[3]))) {
  const tails = bundle.predictTails(entity, relation);
  const heads = bundle.predictHeads(relation, entity);
  console.log(JSON.stringify([tails, heads].map((found) => found.map(({ name }) => name))));
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "each", "shared"),
    [
        ("rescal-hidden-fb15k237-dim32-pq16", 16, 32_768),
        ("rote-wn18rr-dim43-pq16", 16, 43_008),
        ("rote-wn18rr-dim61-pq32", 32, 61_440),
    ],
)
def test_bundles_of_the_zoo_answer_as_its_models(
    tmp_path: Path, name: str, each: int, shared: int
) -> None:
    model = kd.load(name, offline=True)
    bundle = Bundle(written(model.loaded, tmp_path / "it"))
    arrays = bundle._arrays
    biases = arrays["entity_bias"].nbytes if "entity_bias" in arrays else 0
    assert arrays["entity"].nbytes + biases == each * len(model.entities)
    assert arrays["entity_codebooks"].nbytes == shared
    generator = np.random.default_rng(0)
    asked, expected = [], []
    for _ in range(10):
        entity = model.entities[int(generator.integers(len(model.entities)))]
        relation = model.relations[int(generator.integers(len(model.relations)))]
        asked.append((entity, relation))
        tails, heads = model.predict_tails(entity, relation), model.predict_heads(relation, entity)
        expected.append([[one.name for one in found] for found in (tails, heads)])
        theirs = bundle.predict_tails(entity, relation), bundle.predict_heads(relation, entity)
        assert [[one for one, _ in found] for found in theirs] == expected[-1]
        for found, of in zip((tails, heads), theirs):
            scores = [one.score for one in found]
            np.testing.assert_allclose([score for _, score in of], scores, rtol=5e-3, atol=2e-2)
    if shutil.which("node") is not None:
        (tmp_path / "asked.json").write_text(json.dumps(asked))
        assert in_node(tmp_path, PUBLISHED, tmp_path / "it", tmp_path / "asked.json") == expected


def test_dtype_is_the_one_rule(tmp_path: Path) -> None:
    codes = stored("DistMult", {}, {}, {"pieces": 4})
    plain = loaded_model("DistMult")
    for loaded, dtype, version, kind in (
        (codes, None, 3, "uint8"),
        (codes, "pq", 3, "uint8"),
        (codes, "int8", 1, "int8"),
        (codes, "float16", 1, "float16"),
        (plain, None, 1, "float16"),
    ):
        path = written(loaded, tmp_path / f"{id(loaded)}-{dtype}", dtype=dtype)
        assert path.read_bytes()[8:12] == struct.pack("<I", version)
        assert Bundle(path)._arrays["entity"].dtype == np.dtype(kind)
        told: list[str] = []
        place = tmp_path / f"{id(loaded)}-{dtype}-again"
        export_model(loaded, "bundle", place, {"dtype": dtype}, told.append)
        decoded = ["decoded: the model keeps an entity in 4 bytes, this export does not"]
        assert told == (decoded if loaded is codes and version == 1 else [])
    with pytest.raises(UserError, match=r"dtype=pq: the model has no codebooks .* leave dtype out"):
        written(plain, tmp_path / "no", dtype="pq")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("kind", "format", "said"),
    [
        ("pq", "npz", 6),
        ("pq", "word2vec", 6),
        ("int8", "dglke", 14),
        ("int8", "bundle", 14),
        ("float16", "bundle", None),
        ("float32", "npz", None),
    ],
)
def test_an_export_says_that_it_decodes(tmp_path: Path, kind: str, format: str, said: Any) -> None:
    loaded = in_storage(loaded_model("DistMult"), Storage.of(kind))
    told: list[str] = []
    export_model(loaded, format, tmp_path / "it", {}, told.append)
    line = f"decoded: the model keeps an entity in {said} bytes, this export does not"
    assert told == ([] if said is None else [line])


def test_rows_are_decoded_block_by_block(tmp_path: Path) -> None:
    entities, dim = 100_000, 64
    arrays = {
        "entity": np.zeros((entities, 16), np.uint8),
        "entity_codebooks": np.ones((16, 256, 4), np.float32),
    }
    side = {"scale": {"constant": 1}, "cross": {"constant": 0}, "shift": {"constant": 0}}
    header = {
        "dim": dim, "entities": entities, "relations": 1, "kernel": "dot", "candidate": None,
        "query": {"tail": side}, "names": {"entities": None, "relations": None},
    }  # fmt: skip
    (tmp_path / "it").write_bytes(_packed(header, arrays))
    bundle = Bundle(tmp_path / "it")
    tracemalloc.start()
    assert (bundle.scores(0, 0) == dim).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * entities * dim / 4  # the scores alone take a sixteenth of the float table


def test_the_example_of_the_format(tmp_path: Path) -> None:
    text = (READERS / "FORMAT.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    encoded = block.encode() + b" " * (-len(block.encode()) % 16)
    books = np.concatenate([np.arange(16), 10 * np.arange(16)]).astype("<f4").tobytes()
    body = bytes.fromhex("01 12 30").ljust(16, b"\0") + books
    body += np.array([1, 10], "<f4").tobytes().ljust(16, b"\0")
    start = b"KGBUNDLE" + struct.pack("<II", 3, len(encoded))
    (tmp_path / "it").write_bytes(start + encoded + body)
    bundle = Bundle(tmp_path / "it")
    assert bundle.vectors(0, 3).tolist() == [[1, 0], [2, 10], [0, 30]]
    assert bundle.scores(0, 0, "tail").tolist() == [-11, 0, -22]
    assert bundle.scores(1, 0, "head").tolist() == [0, -11, -31]
