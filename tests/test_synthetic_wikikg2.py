"""The synthetic graph in the layout of ogbl-wikikg2: what it promises, at a tiny size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripts import imported

from dglke_distill.data.ogb import load_ogb

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "synthetic_wikikg2.py"


@pytest.fixture(scope="module")
def synthetic():
    return imported(SCRIPT)


@pytest.fixture(scope="module")
def size(synthetic):
    return synthetic.Size(
        entities=2000, relations=20, train=12000, valid=300, test=400, negatives=6
    )


@pytest.fixture(scope="module")
def root(synthetic, size, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.write(folder, size, seed=3)
    return folder


@pytest.fixture(scope="module")
def dataset(root):
    return load_ogb("ogbl-wikikg2", root)


def test_official_loader_finds_the_promised_counts(dataset, size):
    assert (dataset.num_entities, dataset.num_relations) == (size.entities, size.relations)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (12000, 300, 400)
    assert dataset.candidates("valid").head.shape == (300, 6)
    assert dataset.candidates("test").tail.shape == (400, 6)


def test_raw_edges_are_the_train_split(root, dataset):
    import pandas as pd

    raw = root / "ogbl_wikikg2" / "raw"
    edges = pd.read_csv(raw / "edge.csv.gz", header=None).to_numpy()
    relation = pd.read_csv(raw / "edge_reltype.csv.gz", header=None).to_numpy()[:, 0]
    np.testing.assert_array_equal(edges[:, 0], dataset.train.head)
    np.testing.assert_array_equal(edges[:, 1], dataset.train.tail)
    np.testing.assert_array_equal(relation, dataset.train.relation)


def test_facts_are_distinct_and_train_covers_everything(dataset, size):
    everything = np.concatenate(
        [dataset.split(name).to_array() for name in ("train", "valid", "test")]
    )
    assert len(np.unique(everything, axis=0)) == len(everything)
    seen = np.union1d(dataset.train.head, dataset.train.tail)
    np.testing.assert_array_equal(seen, np.arange(size.entities))
    assert len(np.unique(dataset.train.relation)) == size.relations


def test_relations_lead_along_the_ring(synthetic, dataset, size):
    """A relation's tail community follows from its head's, except for the stated noise."""
    world = synthetic.World.draw(size, np.random.default_rng([3, 0]))
    rank_of = np.argsort(world.entity_of)
    ring = size.communities
    test = dataset.test
    gathering = test.relation % synthetic.GATHERING == 0
    start = np.where(gathering, 0, rank_of[test.head] % ring)
    expected = (start + world.step[test.relation]) % ring
    follows = (rank_of[test.tail] % ring == expected).mean()
    # Distinct facts thin out popular ones, so noise weighs a little more than its share.
    assert 0.75 < follows < 0.97
    assert 2 * (1 / ring) < 0.75, "chance alone would not do it"


def test_heads_lie_in_their_relations_domains(synthetic, dataset, size):
    world = synthetic.World.draw(size, np.random.default_rng([3, 0]))
    community = np.argsort(world.entity_of) % size.communities
    for part in (dataset.train, dataset.test):
        gathers = part.relation % synthetic.GATHERING == 0
        beyond = (community[part.head] - world.domain[part.relation]) % size.communities
        assert (gathers | (beyond < world.width)).all()
    assert world.width < size.communities
    elsewhere = dataset.train.relation % synthetic.GATHERING == 0
    assert len(np.unique(community[dataset.train.head[elsewhere]])) == size.communities


def test_degrees_have_a_heavy_tail(dataset, size):
    degree = np.sort(np.bincount(dataset.train.tail, minlength=size.entities))[::-1]
    assert degree[0] > 20 * np.median(degree)
    share_of_top = degree[: size.entities // 100].sum() / degree.sum()
    assert share_of_top > 0.1


def test_seed_decides(synthetic, size):
    def draw(seed):
        world = synthetic.World.draw(size, np.random.default_rng([seed, 0]))
        return synthetic.draw_splits(world, seed)["train"]["head"]

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_scaled(synthetic):
    small = synthetic.Size().scaled(0.001)
    assert (small.entities, small.train, small.relations) == (2501, 16109, 535)


def test_nothing_is_overwritten(synthetic, size, root):
    with pytest.raises(FileExistsError):
        synthetic.write(root, size, seed=4)
