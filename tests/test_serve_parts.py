"""What stands behind the page: the search for names, the map, the facts."""

from __future__ import annotations

import importlib
import sys
import unicodedata
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
import torch
from distill_fixtures import model_of
from hypothesis import given
from hypothesis import strategies as st
from serve_fixtures import FACTS, town, write_town

from dglke_distill.base.spelling import folded
from dglke_distill.compression import Storage, compress
from dglke_distill.config import ModelConfig
from dglke_distill.data import catalog
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import Vocabulary
from dglke_distill.serve.entity_map import EntityMap
from dglke_distill.serve.facts import Role, main_role, prominence, relation_counts
from dglke_distill.serve.projections import PCA, UMAP, Projection
from dglke_distill.serve.search import NameSearch

__all__ = ["town"]


def plain(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text)
    return "".join(c for c in parts if not unicodedata.combining(c)).casefold()


def fit(name: str, text: str) -> int:
    """Return how well a name fits, 0 the best, 4 not at all; by looking at every place."""
    places = [i for i in range(len(name)) if name.startswith(text, i)]
    if name == text:
        return 0
    if not places:
        return 4
    if places[0] == 0:
        return 1
    ascii_letter = [name[i - 1].isalnum() or not name[i - 1].isascii() for i in places]
    return 3 if all(ascii_letter) else 2


NAMES = st.text(alphabet="abAé _/ß", min_size=1, max_size=6)


@given(
    names=st.lists(NAMES, min_size=1, max_size=30, unique=True),
    text=NAMES.filter(str.strip),
    limit=st.integers(1, 12),
    seed=st.none() | st.integers(0, 3),
)
def test_names_are_found_as_by_looking_at_each(
    names: list[str], text: str, limit: int, seed: Optional[int]
) -> None:
    weight = None if seed is None else np.random.default_rng(seed).integers(0, 4, len(names))
    search = NameSearch(Vocabulary(names), weight)
    wanted = plain(text.strip())
    classes = [fit(plain(name), wanted) for name in names]
    heavy = [0] * len(names) if weight is None else weight.tolist()
    order = sorted(range(len(names)), key=lambda i: (classes[i], -heavy[i], i))
    assert search.find(text, limit) == [i for i in order if classes[i] < 4][:limit]


def test_names_that_are_ids() -> None:
    search = NameSearch(Vocabulary(None, size=1000))
    assert search.find("99", 5) == [99, 990, 991, 992, 993]
    assert search.find("", 3) == [0, 1, 2]
    assert NameSearch(Vocabulary([])).find("a", 3) == []


def test_of_very_many_names_the_best_come_first() -> None:
    names = [f"a{i:05}" for i in range(20_000)] + ["a", "Z a1 z"]
    search = NameSearch(Vocabulary(names), np.arange(len(names))[::-1])
    assert search.find("a", 3) == [20_000, 0, 1]
    assert search.find("a1 z", 3) == [20_001]
    assert search.find("a19999", 3) == [19_999]
    assert folded("ÉTÉ\n") == "ete "


def reference_map(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places, up to the sign of each axis, and shares of the variance."""
    centred = vectors - vectors.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T, values[:2] ** 2 / (values**2).sum()


@pytest.mark.parametrize("name", ["TransE", "ComplEx", "RotatE", "TransR", "PairRE"])
def test_the_map_is_that_of_the_singular_vectors(name: str) -> None:
    model = model_of(name, entities=40)
    made = EntityMap(model)
    places, shares = reference_map(model.entity_embeddings.numpy())
    assert made.ids.tolist() == list(range(40))
    np.testing.assert_allclose(made.shares, shares)
    np.testing.assert_allclose(np.abs(made.places), np.abs(places), atol=1e-9)
    np.testing.assert_allclose(made.locate(np.array([7, 3])), made.places[[7, 3]])


def test_of_a_large_table_a_sample_is_drawn() -> None:
    model = model_of("DistMult", entities=300)
    made, again = EntityMap(model, sample=50), EntityMap(model, sample=50)
    assert len(set(made.ids.tolist())) == 50
    assert (np.diff(made.ids) > 0).all()
    np.testing.assert_array_equal(made.ids, again.ids)
    np.testing.assert_array_equal(made.places, again.places)
    places, shares = reference_map(model.entity_embeddings.numpy()[made.ids])
    np.testing.assert_allclose(np.abs(made.places), np.abs(places), atol=1e-9)
    np.testing.assert_allclose(made.shares, shares)
    np.testing.assert_allclose(made.locate(made.ids), made.places)
    assert made.locate(np.setdiff1d(np.arange(300), made.ids)).shape == (250, 2)


def test_maps_without_extent() -> None:
    single = model_of("TransE", entities=1)
    made = EntityMap(single)
    np.testing.assert_array_equal(made.places, [[0, 0]])
    same = model_of("TransE", entities=5)
    with torch.no_grad():
        same.encoder.weight.fill_(0.5)
    made = EntityMap(same)
    np.testing.assert_allclose(made.places, np.zeros((5, 2)), atol=1e-9)
    np.testing.assert_array_equal(made.shares, [0, 0])


@pytest.fixture(scope="module")
def groups() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of six groups that principal components do not keep apart; the group of each."""
    rng = np.random.default_rng(3)
    centre = 12 * np.concatenate([np.eye(5), -np.ones((1, 5)) / 2])
    group = np.arange(240) % 6
    return centre[group] + rng.normal(size=(240, 5)), group


def kept_together(places: np.ndarray, group: np.ndarray) -> float:
    """The share of the ten nearest on the map that are of the same group."""
    far = np.square(places[:, None] - places[None]).sum(-1)
    near = np.argsort(far, axis=1, kind="stable")[:, 1:11]
    return float((group[near] == group[:, None]).mean())


@pytest.mark.slow
def test_umap_keeps_groups_together(groups: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    vectors, group = groups
    made, again = UMAP(vectors), UMAP(vectors)
    np.testing.assert_array_equal(made.places, again.places)
    assert made.shares is None
    assert (
        kept_together(made.places, group) > 0.99 > 0.9 > kept_together(PCA(vectors).places, group)
    )
    np.testing.assert_allclose(made.locate(vectors[:9]), made.places[:9], rtol=1e-6)
    beside = made.locate(vectors[:60] + 0.1)  # not on the map: among its own group
    nearest = np.square(beside[:, None] - made.places[None]).sum(-1).argmin(1)
    assert (group[nearest] == group[:60]).all()
    for same in (np.full((20, 4), 0.5), vectors[:3], vectors[:1], vectors[:12, :1]):
        few = UMAP(same)
        assert few.places.shape == (len(same), 2) and np.isfinite(few.places).all()
        assert few.locate(same[:0]).shape == (0, 2)
    line = np.repeat(np.arange(3.0), 20)[:, None] * 10 + np.arange(60.0)[:, None] / 100
    of_one_float = UMAP(line).places
    assert kept_together(of_one_float, np.arange(60) // 20) > 0.9


def test_another_package_named_umap_is_not_umap_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dglke_distill.serve.projections import projections

    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "umap.py").write_text("raise SystemExit")
    for name in [name for name in sys.modules if name.partition(".")[0] == "umap"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    assert projections() == ["pca"]
    (tmp_path / "umap.py").unlink()
    (tmp_path / "umap").mkdir()
    (tmp_path / "umap" / "__init__.py").write_text("raise SystemExit")
    importlib.invalidate_caches()
    assert projections() == ["pca"]
    (tmp_path / "umap" / "umap_.py").write_text("")
    assert projections() == ["pca", "umap"]


def test_places_between_neighbours_are_weighed_by_their_distance() -> None:
    class Given(Projection):
        def _fit(self, vectors: np.ndarray) -> np.ndarray:
            return 10 * vectors

    line = np.arange(9.0)[:, None] * [1.0, 0.0]
    made = Given(line)
    np.testing.assert_array_equal(made.locate(line), made.places)
    # Of 4.25 the neighbours are 4, 5 and 3, a quarter, three and five quarters away.
    weight = np.array([4, 4 / 3, 4 / 5])
    want = 10 * (weight @ [4, 5, 3]) / weight.sum()
    np.testing.assert_allclose(made.locate(np.array([[4.25, 0.0]])), [[want, 0]])


def test_compressed_models_have_maps() -> None:
    model = model_of("ComplEx", entities=60, dtype=torch.float32)
    config, table = ModelConfig(name="ComplEx", dim=8), {"kind": "int8"}
    storage = Storage.model_validate({"entities": table, "relations": table})
    whole, small = EntityMap(model), EntityMap(compress(model, config, storage))
    assert np.abs(whole.places - small.places).max() < 0.05 * np.abs(whole.places).max()


def test_facts_are_counted(tmp_path: Path) -> None:
    data = catalog.load(str(write_town(tmp_path / "facts")))
    known = KnownAnswers.build([data.train, data.valid, data.test], data.num_entities)
    names, relations = list(data.entities), list(data.relations)
    facts = set(FACTS)
    degrees = [sum(h == name for h, _, _ in facts) + sum(t == name for _, _, t in facts)
               for name in names]  # fmt: skip
    assert prominence(known).tolist() == degrees
    for i, name in enumerate(names):
        counts = {("head", r): sum((h, x) == (name, r) for h, x, _ in facts) for r in relations} | {
            ("tail", r): sum((t, x) == (name, r) for _, x, t in facts) for r in relations
        }
        for side, asked in (("head", "tail"), ("tail", "head")):
            found = relation_counts(known, i, asked, len(relations))
            assert found.tolist() == [counts[side, r] for r in relations]
        role = main_role(known, i, len(relations))
        assert role is not None
        assert counts[role.side, relations[role.relation]] == max(counts.values())
    assert main_role(known, names.index("Old Town"), 3) == Role(relations.index("lives in"), "tail")
