"""Exports to vector databases: their search against the model's own ranking."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_fixtures import loaded_model, queries
from model_formulas import ENTITIES, IDS, RELATIONS, VARIANTS

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import SIDES, Vocabulary
from dglke_distill.interop import export_model
from dglke_distill.interop.qdrant_folder import _do_not_wait_for_the_disk
from dglke_distill.interop.vectors import SearchVectors, search_vectors

SETTINGS: list[dict[str, Any]] = [{}, {"reciprocal": True}, {"entity_bias": True}]
CASES = [
    (name, options, settings, f"{label}-{next(iter(settings), 'plain')}")
    for (name, options), label in zip(VARIANTS, IDS)
    for settings in SETTINGS
]
SEARCHED = [
    ("ComplEx", {}, {"entity_bias": True}), ("TransE", {"norm": "l2"}, {"reciprocal": True}),
    ("RESCAL", {}, {}), ("RotE", {}, {"entity_bias": True, "reciprocal": True}),
    ("RESCAL", {"hidden": 7}, {"reciprocal": True, "entity_bias": True}),
]  # fmt: skip
SHOWN = [
    *(("faiss", *case) for case in SEARCHED), *(("sqlite-vec", *case) for case in SEARCHED),
    ("qdrant", *SEARCHED[0]), ("qdrant", *SEARCHED[1]),  # its client takes seconds to import
]  # fmt: skip


def kind(loaded: LoadedModel) -> str:
    """What the formulas of a model are, by this test's own reading."""
    function = loaded.model.score_function
    if function.transforms_candidates or function.kernel in ("l1", "complex_modulus"):
        return "refused"
    if function.kernel == "hyperbolic_squared":
        return "refused"
    if function.kernel == "l2" and loaded.config.model.entity_bias:
        return "refused"
    return "searched"


def brute(vectors: SearchVectors, asked: Any) -> Any:
    """Scores of a search, the best greatest."""
    entities, asked = vectors.entities.astype(np.float64), asked.astype(np.float64)
    if vectors.metric == "ip":
        return asked @ entities.T
    return -np.square(asked[:, None] - entities[None]).sum(-1)


@pytest.mark.parametrize("distances_only", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "settings"), [c[:3] for c in CASES], ids=[c[3] for c in CASES]
)
def test_search_ranks_as_the_model(
    name: str, options: Any, settings: dict[str, Any], distances_only: bool
) -> None:
    loaded = loaded_model(name, options, dtype="float64", **settings)
    if kind(loaded) == "refused":
        with pytest.raises(UserError, match=r"cannot be searched by inner product or distance: "):
            search_vectors(loaded, "faiss", distances_only=distances_only)
        return
    vectors = search_vectors(loaded, "faiss", distances_only=distances_only)
    if distances_only:
        assert vectors.metric == "l2"
    for side in SIDES:
        entity, relation = queries()
        want = loaded.model.score_all(entity, relation, side).numpy()
        got = brute(vectors, vectors.query(entity, relation, side))
        for a, b in zip(want, got):
            best = np.argsort(-b)
            gaps = np.diff(a[best])
            assert (gaps <= 1e-4 * max(1.0, np.abs(a).max())).all()  # falling, but for rounding


def test_every_kind_of_model_is_met() -> None:
    kinds = {kind(loaded_model(*case[:2], **case[2])) for case in CASES}
    assert kinds == {"refused", "searched"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "name", "options", "settings"), SHOWN, ids=[f"{c[0]}-{c[1]}" for c in SHOWN]
)
def test_what_the_readme_shows_finds_the_best(
    tmp_path: Path, format: str, name: str, options: Any, settings: dict[str, Any]
) -> None:
    loaded = loaded_model(name, options, **settings)
    out = tmp_path / "export"
    told: list[str] = []
    export_model(loaded, format, out, {"questions": 20}, told.append)
    about = json.loads((out / "recall.json").read_text())
    assert about["recall"] == 1.0
    assert "recall@10 against the model's exact ranking 1.0000, of 20" in told[0]
    (code,) = re.findall(r"```python\n(.*)```", (out / "README.md").read_text(), re.DOTALL)
    code = code.replace("import sqlite3, sqlite_vec\n", APSW) if format == "sqlite-vec" else code
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "np.str_" not in done.stdout
    found = re.findall(r"'(?:\\.|[^'])*'|\"[^\"]*\"", done.stdout)
    names = [eval(text) for text in found]
    zero = torch.zeros(1, dtype=torch.long)
    scores = loaded.model.score_all(zero, zero, "tail")[0]
    got = torch.tensor([float(scores[loaded.entities.id(each)]) for each in names])
    assert len(set(names)) == 10
    torch.testing.assert_close(got, scores.sort(descending=True).values[:10], rtol=1e-4, atol=1e-4)


APSW = """
import sqlite3, sqlite_vec
if not hasattr(sqlite3.Connection, "enable_load_extension"):
    import apsw
    class sqlite3:
        connect = apsw.Connection
"""


def many(count: int = 600, dim: int = 16) -> LoadedModel:
    """A model of more entities than an index of cells needs."""
    from dglke_distill.config import Config, ModelConfig
    from dglke_distill.models import build_model

    config = Config(model=ModelConfig(name="DistMult", dim=dim))
    model = build_model(config.model, count, 3).eval()
    model.reset(1)
    return LoadedModel(
        model, config, Vocabulary(size=count), Vocabulary(size=3, kind="relation"), {}
    )


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"index": "flat"}, 1.0),
        ({"index": "hnsw"}, 0.95),
        ({"index": "ivfpq", "probes": 24, "pieces": 16}, 0.6),
    ],
)
def test_indices_of_faiss(tmp_path: Path, options: dict[str, Any], least: float) -> None:
    import faiss

    loaded = many()
    export_model(loaded, "faiss", tmp_path / "out", options)
    recall = json.loads((tmp_path / "out" / "recall.json").read_text())["recall"]
    assert least <= recall <= 1.0
    index = faiss.read_index(str(tmp_path / "out" / "entities.faiss"))
    assert index.ntotal == 600
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    # The recall that is stated is that of the file, counted here by ids.
    rng = np.random.default_rng(5)
    entity, relation = (torch.from_numpy(rng.integers(0, n, 100)) for n in (600, 3))
    exact = loaded.model.score_all(entity, relation, "tail").topk(10).indices.numpy()
    found = index.search(search_vectors(loaded, "x").query(entity, relation, "tail"), 10)[1]
    own = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found)])
    assert abs(own - recall) < 0.08


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (100, {"index": "ivfpq"}, "learned from 256 entities or more, the model has 100"),
        (300, {"index": "ivfpq", "pieces": 5}, "pieces=5 does not divide the 16 dimensions"),
        (300, {"index": "ivfpq", "lists": 301}, "301 lists for 300 entities"),
        (300, {"index": "tree"}, "index"),
        (300, {"indx": "flat"}, "indx"),
    ],
)
def test_indices_that_cannot_be(
    tmp_path: Path, count: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export_model(many(count), "faiss", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'faiss'; run `pip install 'dglke-distill\[vectors\]'`"):
        export_model(many(20), "faiss", tmp_path / "out")


# --- pgvector -------------------------------------------------------------------------------------

AWKWARD = ["tab\there", "back\\slash", "new\rline", "it's", 'quo"te', "\\N", "漢字"]


def awkward() -> LoadedModel:
    loaded = loaded_model("ComplEx", {}, entity_bias=True)
    names = [*AWKWARD, *(f"n{i}" for i in range(ENTITIES - len(AWKWARD)))]
    return LoadedModel(
        loaded.model, loaded.config, Vocabulary(names), loaded.relations, loaded.results
    )


def uncopied(text: str) -> str:
    """Read a cell of COPY's text format (PostgreSQL's manual, COPY, "Text Format")."""
    signs = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "\\": "\\"}
    return re.sub(r"\\(.)", lambda found: signs[found[1]], text)


@pytest.mark.parametrize("index", ["hnsw", "ivfflat", "none"])
def test_copy_files_hold_every_vector(tmp_path: Path, index: str) -> None:
    loaded, out = awkward(), tmp_path / "out"
    export_model(loaded, "pgvector", out, {"index": index, "table": "kg"})
    vectors = search_vectors(loaded, "pgvector")
    rows = [line.split("\t") for line in (out / "entities.copy").read_text().splitlines()]
    assert [int(row[0]) for row in rows] == list(range(ENTITIES))
    assert [uncopied(row[1]) for row in rows] == list(loaded.entities)
    read = np.array([json.loads(row[2]) for row in rows], np.float32)
    assert np.array_equal(read, vectors.entities)  # to the last bit
    assert f"embedding vector({read.shape[1]}) NOT NULL" in (out / "schema.sql").read_text()
    sql = (out / "index.sql").read_text()
    assert ("USING" in sql) == (index != "none")
    assert ("vector_ip_ops" in sql) == (index != "none")
    assert "\\copy kg (id, name, embedding)" in (out / "load.sql").read_text()
    assert "ORDER BY embedding <#>" in (out / "README.md").read_text()


def test_qdrant_does_not_wait_for_the_disk_at_each_point(tmp_path: Path) -> None:
    client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    local = client.QdrantClient(path=str(tmp_path / "made"))
    about = client.models.VectorParams(size=2, distance=client.models.Distance.DOT)
    local.create_collection("entities", vectors_config=about)
    _do_not_wait_for_the_disk(local)
    connection = local._client.collections["entities"].storage.storage
    assert [connection.execute(f"PRAGMA {word}").fetchone()[0] for word in
            ("synchronous", "journal_mode")] == [0, "off"]  # fmt: skip
    local.close()
    _do_not_wait_for_the_disk(object())  # a client of another version is only slow


@pytest.mark.parametrize(
    ("options", "message"),
    [({"table": "a; drop table b"}, "table"), ({"index": "btree"}, "index")],
)
def test_options_of_pgvector(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_model(awkward(), "pgvector", tmp_path / "out", options)


def test_a_database_with_pgvector_ranks_as_the_model(tmp_path: Path) -> None:
    place = os.environ.get("DGLKE_DISTILL_PGVECTOR")
    if place is None or shutil.which("psql") is None:
        pytest.skip("DGLKE_DISTILL_PGVECTOR names no PostgreSQL with pgvector, or psql is absent")
    loaded, out = awkward(), tmp_path / "out"
    export_model(loaded, "pgvector", out, {"table": "kg_tested", "index": "none"})
    psql = ["psql", place, "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"]
    subprocess.run([*psql, "-c", "DROP TABLE IF EXISTS kg_tested"], check=True)
    subprocess.run([*psql, "-f", "load.sql"], check=True, cwd=out)
    entity, relation = torch.tensor([3, 5]), torch.tensor([0, RELATIONS - 1])
    asked = search_vectors(loaded, "pgvector").query(entity, relation, "head")
    exact = loaded.model.score_all(entity, relation, "head")
    for query, scores in zip(asked.tolist(), exact):
        order = f"SELECT id FROM kg_tested ORDER BY embedding <#> '{query}'"
        done = subprocess.run([*psql, "-c", order], check=True, capture_output=True, text=True)
        ids = [int(line) for line in done.stdout.split()]
        assert (scores[ids].diff() <= 1e-5).all()
