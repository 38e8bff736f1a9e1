"""The synthetic graph in the layout of ogbl-biokg: what it promises, at a tiny size."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dglke_distill.data.ogb import OgbDataset, load_ogb

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def synthetic() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("synthetic_biokg")


@pytest.fixture(scope="module")
def size(synthetic: Any) -> Any:
    return synthetic.Size(negatives=5).scaled(0.004)


@pytest.fixture(scope="module")
def dataset(synthetic: Any, size: Any, tmp_path_factory: pytest.TempPathFactory) -> OgbDataset:
    root = tmp_path_factory.mktemp("synthetic")
    synthetic.write(root, size, seed=3)
    with pytest.raises(FileExistsError):
        synthetic.write(root, size, seed=3)
    return load_ogb("ogbl-biokg", root)


def test_the_whole_size_is_the_published_one(synthetic: Any) -> None:
    from dglke_distill.data.manifest import load_manifest

    manifest = load_manifest("ogbl-biokg")
    assert manifest is not None
    counts, size = manifest.counts, synthetic.Size()
    assert sum(count for _, count in size.types) == counts.entities
    assert len(set(synthetic.TRIPLETS)) == counts.relations
    assert (size.train, size.valid, size.test) == (counts.train, counts.valid, counts.test)
    assert len(size.types) == counts.entity_types


def test_official_loader_finds_the_promised_counts(dataset: OgbDataset, size: Any) -> None:
    assert dataset.num_entities == sum(count for _, count in size.types)
    assert dataset.num_relations == 51
    assert [len(dataset.split(s)) for s in ("train", "valid", "test")] == [
        size.train, size.valid, size.test
    ]  # fmt: skip
    assert dataset.entity_type_names == tuple(name for name, _ in size.types)


def test_facts_are_distinct_typed_and_cover_everything(synthetic: Any, dataset: OgbDataset) -> None:
    parts = [dataset.split(name).to_array() for name in ("train", "valid", "test")]
    everything = np.concatenate(parts)
    assert len(np.unique(everything, axis=0)) == len(everything)
    assert set(np.unique(parts[0][:, [0, 2]])) == set(range(dataset.num_entities))
    assert len(np.unique(parts[0][:, 1])) == 51
    assert dataset.entity_type is not None
    kinds = np.array(dataset.entity_type_names)[dataset.entity_type]
    for head, relation, tail in everything[::50]:
        expected = synthetic.TRIPLETS[relation]
        assert (kinds[head], kinds[tail]) == (expected[0], expected[2])
    for side, column in (("head", dataset.test.head), ("tail", dataset.test.tail)):
        given = dataset.candidates("test").of(side)  # type: ignore[arg-type]
        assert (dataset.entity_type[given] == dataset.entity_type[column][:, None]).all()


def test_relations_lead_along_the_ring(synthetic: Any, dataset: OgbDataset, size: Any) -> None:
    """A tail's place follows from its head's, except for the stated noise."""
    world = synthetic.World.draw(size, np.random.default_rng([3, 0]))
    place = np.concatenate(
        [np.argsort(world.entity_of[name]) % size.places for name, _ in size.types]
    )
    test = dataset.test
    expected = (place[test.head] + world.step[test.relation]) % size.places
    follows = (place[test.tail] == expected).mean()
    # Distinct facts thin out popular ones, so noise weighs a little more than its share.
    assert 0.7 < follows < 0.97
    assert 2 / size.places < 0.5, "chance alone would not do it"


def test_degrees_have_a_heavy_tail(dataset: OgbDataset) -> None:
    degree = np.sort(np.bincount(dataset.train.tail, minlength=dataset.num_entities))[::-1]
    assert degree[0] > 10 * max(1, np.median(degree))


def test_seed_decides(synthetic: Any, size: Any) -> None:
    def draw(seed: int) -> Any:
        world = synthetic.World.draw(size, np.random.default_rng([seed, 0]))
        return synthetic.draw_splits(world, seed)["train"]["head"]

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
