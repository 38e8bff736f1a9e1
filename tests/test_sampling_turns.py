"""Negatives that DGL's own loaders draw: other ones in each epoch, whatever the workers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import dgl
import numpy as np
import pytest
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.sampling.negatives import build_sampler

ENTITIES, EDGES, BATCH = 500, 128, 32
Epoch = dict[int, tuple[tuple[int, ...], tuple[int, ...]]]


@pytest.fixture(scope="module")
def graph() -> dgl.DGLGraph:
    rng = np.random.default_rng(0)
    head, tail = (rng.integers(0, ENTITIES, EDGES, dtype=np.int32) for _ in range(2))
    return build_graph(Triples(head, rng.integers(0, 5, EDGES, dtype=np.int32), tail), ENTITIES)


def sampler_of(graph: dgl.DGLGraph, seed: int = 3, **settings: Any) -> Any:
    return build_sampler("uniform", graph, count=8, sharing="private", seed=seed, **settings)


def loader(graph: dgl.DGLGraph, sampler: Any, workers: int, **settings: Any) -> Any:
    pairs = dgl.dataloading.as_edge_prediction_sampler(
        dgl.dataloading.MultiLayerFullNeighborSampler(1), negative_sampler=sampler
    )
    return dgl.dataloading.DataLoader(
        graph,
        torch.arange(EDGES),
        pairs,
        batch_size=BATCH,
        num_workers=workers,
        **{"shuffle": False, **settings},
    )


def drawn(batches: Any) -> Epoch:
    """What an epoch draws for each edge: sources and targets."""
    found = {}
    for _, positive, negative, _ in batches:
        edges = positive.edata[dgl.EID]
        source, target = (negative.ndata[dgl.NID][ends] for ends in negative.edges())
        for i, edge in enumerate(edges.tolist()):
            found[edge] = (
                tuple(source.view(len(edges), -1)[i].tolist()),
                tuple(target.view(len(edges), -1)[i].tolist()),
            )
    assert len(found) == EDGES
    return found


def repeated(one: Epoch, other: Epoch) -> int:
    return sum(one[edge] == other[edge] for edge in one)


WORKERS = [(0, False), (1, False), (2, False), (1, True), (2, True)]
every_loader = pytest.mark.parametrize(("workers", "persistent"), WORKERS)


def persistence(workers: int, persistent: bool) -> dict[str, Any]:
    return {"persistent_workers": True} if workers and persistent else {}


@every_loader
@pytest.mark.parametrize("shuffle", [False, True])
def test_no_epoch_repeats_another(
    graph: dgl.DGLGraph, workers: int, persistent: bool, shuffle: bool
) -> None:
    sampler = sampler_of(graph)
    batches = loader(graph, sampler, workers, shuffle=shuffle, **persistence(workers, persistent))
    epochs = [drawn(batches) for _ in range(4)]
    pairs = [(a, b) for i, a in enumerate(epochs) for b in epochs[:i]]
    assert [repeated(a, b) for a, b in pairs] == [0] * len(pairs)


@every_loader
def test_the_seed_names_the_draws(graph: dgl.DGLGraph, workers: int, persistent: bool) -> None:
    runs = []
    for seed in (3, 3, 4):
        sampler = sampler_of(graph, seed)
        batches = loader(graph, sampler, workers, **persistence(workers, persistent))
        runs.append([drawn(batches) for _ in range(2)])
    assert runs[0] == runs[1]
    assert [repeated(a, b) for a, b in zip(runs[0], runs[2])] == [0, 0]


@every_loader
def test_an_epoch_that_is_named_is_the_same_anywhere(
    graph: dgl.DGLGraph, workers: int, persistent: bool
) -> None:
    plain = sampler_of(graph)
    plain.set_epoch(2)
    expected = drawn(loader(graph, plain, 0))
    sampler = sampler_of(graph)
    batches = loader(graph, sampler, workers, **persistence(workers, persistent))
    found = []
    for epoch in (0, 2, 2):
        sampler.set_epoch(epoch)
        found.append(drawn(batches))
    assert found[1] == found[2] == expected
    assert repeated(found[0], found[1]) == 0
    with pytest.raises(UserError, match="epoch is -1"):
        sampler.set_epoch(-1)


@pytest.mark.parametrize("named", [False, True])
@every_loader
def test_both_sides_of_an_edge_are_replaced_in_time(
    graph: dgl.DGLGraph, workers: int, persistent: bool, named: bool
) -> None:
    sampler = sampler_of(graph)
    batches = loader(graph, sampler, workers, **persistence(workers, persistent))
    head = graph.edges()[0].tolist()
    kept = []
    for epoch in range(8):
        if named:
            sampler.set_epoch(epoch)
        kept.append({e: set(source) == {head[e]} for e, (source, _) in drawn(batches).items()})
    assert all(len({epoch[edge] for epoch in kept}) == 2 for edge in range(EDGES))


def test_copies_draw_what_the_original_draws(graph: dgl.DGLGraph) -> None:
    sampler = sampler_of(graph)
    copies = [copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))]
    for edges in (torch.arange(4), torch.arange(4)):
        pairs = sampler(graph, edges)
        for other in copies:
            again = other(graph, edges)
            assert all(torch.equal(a, b) for a, b in zip(pairs, again))


def test_workers_that_are_started_afresh_draw_their_own(
    graph: dgl.DGLGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where processes are not forked, the sampler is packed for each."""
    monkeypatch.setattr("dglke_distill.sampling.turns._is_sent", lambda: True)
    edges = torch.arange(4)
    runs = []
    for _ in range(2):
        sampler = sampler_of(graph)
        sampler(graph, edges)
        sent = [pickle.loads(pickle.dumps(sampler)) for _ in range(3)]
        runs.append([str([ends.tolist() for ends in other(graph, edges)]) for other in sent])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3


def test_a_graph_of_other_nodes_is_refused(graph: dgl.DGLGraph) -> None:
    other = dgl.graph(graph.edges())
    other.edata["relation"] = graph.edata["relation"]
    with pytest.raises(ValueError, match="draws from 500 entities, the graph has"):
        sampler_of(graph)(dgl.remove_nodes(other, [0]), torch.arange(2))
