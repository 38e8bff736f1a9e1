"""Neighbour blocks: true edges, none of the answers, fair and reproducible draws."""

from __future__ import annotations

from collections import Counter

import dgl
import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.sampling.neighbors import NeighborBlocks

ENTITIES, RELATIONS, SIZE = 60, 5, 400
Message = tuple[int, int, int]


@pytest.fixture(scope="module")
def triples() -> Triples:
    """Facts with hubs; the last ten are copies of the first ten."""
    rng = np.random.default_rng(1)
    columns = (ENTITIES * rng.random((SIZE, 3)) ** 3).astype(np.int64)
    columns[:, 1] = rng.integers(0, RELATIONS, SIZE)
    columns[-10:] = columns[:10]
    return Triples.from_array(columns)


@pytest.fixture(scope="module")
def graph(triples: Triples) -> dgl.DGLGraph:
    return build_graph(triples, ENTITIES, inverse=True, num_relations=RELATIONS)


def messages(block: dgl.DGLGraph) -> list[Message]:
    """The (source, relation, target) of a block's edges, in entity ids."""
    source, target = block.edges(order="eid")
    return list(
        zip(
            block.srcdata[dgl.NID][source].tolist(),
            block.edata["relation"].tolist(),
            block.dstdata[dgl.NID][target].tolist(),
        )
    )


def all_messages(triples: Triples) -> list[Message]:
    forward = [tuple(row) for row in triples.to_array().tolist()]
    return [*forward, *((t, r + RELATIONS, h) for h, r, t in forward)]  # type: ignore[list-item]


def test_blocks_chain_and_hold_true_edges(graph: dgl.DGLGraph, triples: Triples) -> None:
    nodes = torch.tensor([7, 3, 59, 0, 11])
    blocks = NeighborBlocks(graph, [4, 3, 2], seed=1).sample(nodes, torch.tensor([5]))
    assert [torch.equal(blocks[i].dstdata[dgl.NID], blocks[i + 1].srcdata[dgl.NID]) for i in (0, 1)]
    assert torch.equal(blocks[-1].dstdata[dgl.NID], nodes)
    everything = all_messages(triples)
    for block, fanout in zip(blocks, [4, 3, 2]):
        assert block.is_block and block.idtype == torch.int64
        sources, targets = block.srcdata[dgl.NID], block.dstdata[dgl.NID]
        assert torch.equal(sources[: len(targets)], targets)
        assert len(set(sources.tolist())) == len(sources)
        edges = block.edata[dgl.EID].tolist()
        assert [everything[edge] for edge in edges] == messages(block)
        assert len(set(edges)) == len(edges)
        degree = graph.in_degrees(targets)
        assert (block.in_degrees() <= fanout).all()
        generous = degree >= fanout + 2  # at most the excluded fact and its copy are missing
        assert (block.in_degrees()[generous] == fanout).all()


def test_all_neighbours_but_the_excluded_facts(graph: dgl.DGLGraph, triples: Triples) -> None:
    """Facts 0 to 9 have copies: excluding one edge excludes the copy and all inverses."""
    nodes, banned_edges = torch.arange(ENTITIES), torch.tensor([0, 3, 50, 51, 52, 395])
    (block,) = NeighborBlocks(graph, [-1]).sample(nodes, banned_edges)
    rows = triples.to_array().tolist()
    banned = set()
    for head, relation, tail in (rows[edge] for edge in banned_edges.tolist()):
        banned |= {(head, relation, tail), (tail, relation + RELATIONS, head)}
    expected = Counter(m for m in all_messages(triples) if m not in banned)
    assert Counter(messages(block)) == expected
    assert 2 * SIZE - sum(expected.values()) >= 2 * (len(banned_edges) + 3)
    (whole,) = NeighborBlocks(graph, [-1]).sample(nodes)
    assert Counter(messages(whole)) == Counter(all_messages(triples))


@pytest.mark.parametrize("fanout", [1, 3, 10, 100])
def test_no_excluded_fact_in_sampled_blocks(
    graph: dgl.DGLGraph, triples: Triples, fanout: int
) -> None:
    rows = triples.to_array().tolist()
    sampler = NeighborBlocks(graph, [fanout, fanout])
    for seed_key in range(10):
        banned_edges = torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed_key))[:200]
        banned = {tuple(rows[edge]) for edge in banned_edges.tolist()}
        banned |= {(t, r + RELATIONS, h) for h, r, t in banned}
        for block in sampler.sample(torch.arange(30), banned_edges, seed_key=seed_key):
            assert not banned & set(messages(block))


@pytest.mark.parametrize(("degree", "fanout"), [(100, 5), (100, 24), (12, 5), (6, 5), (100, 60)])
def test_every_edge_is_equally_likely(degree: int, fanout: int) -> None:
    """Trying places (many edges), the reservoir (few), both with two edges excluded."""
    columns = [(i + 1, 0, 0) for i in range(degree)]
    graph = build_graph(Triples.from_array(np.array(columns)), degree + 1, inverse=True)
    sampler = NeighborBlocks(graph, [fanout])
    counts, draws = np.zeros(degree), 3000
    for seed_key in range(draws):
        (block,) = sampler.sample(torch.tensor([0]), torch.tensor([0, 3]), seed_key=seed_key)
        edges = block.edata[dgl.EID].numpy()
        assert len(np.unique(edges)) == len(edges) == min(fanout, degree - 2)
        counts[edges] += 1
    free = np.setdiff1d(np.arange(degree), [0, 3])
    assert counts.sum() == counts[free].sum()
    if fanout < degree - 2:
        # Draws without replacement vary less than a multinomial: scale the statistic up.
        share = fanout / len(free)
        statistic = ((counts[free] - draws * share) ** 2).sum() / (draws * share * (1 - share))
        assert 0.5 < statistic / len(free) < 1.6
    else:
        assert chisquare(counts[free]).statistic == 0


def test_where_nearly_all_edges_are_excluded_the_rest_is_found() -> None:
    columns = [(i + 1, 0, 0) for i in range(500)]
    graph = build_graph(Triples.from_array(np.array(columns)), 501, inverse=True)
    banned = torch.tensor([i for i in range(500) if i not in (17, 300, 444)])
    for seed_key in range(20):
        (block,) = NeighborBlocks(graph, [4]).sample(torch.tensor([0]), banned, seed_key=seed_key)
        assert sorted(block.edata[dgl.EID].tolist()) == [17, 300, 444]


def test_draws_repeat_with_the_key_and_ignore_the_company(graph: dgl.DGLGraph) -> None:
    first, second = NeighborBlocks(graph, [3, 3], seed=4), NeighborBlocks(graph, [3, 3], seed=4)
    nodes, edges = torch.arange(20), torch.arange(0, 100, 7)
    a = first.sample(nodes, edges, seed_key=9)
    first.sample(nodes, edges, seed_key=10)
    b = second.sample(nodes, edges, seed_key=9)
    assert [messages(block) for block in a] == [messages(block) for block in b]
    different = first.sample(nodes, edges, seed_key=11)
    assert messages(different[-1]) != messages(a[-1])
    other_seed = NeighborBlocks(graph, [3, 3], seed=5).sample(nodes, edges, seed_key=9)
    assert messages(other_seed[-1]) != messages(a[-1])
    alone = second.sample(torch.tensor([4]), edges, seed_key=9)[-1]
    assert messages(alone) == [m for m in messages(a[-1]) if m[2] == 4]


def test_blocks_carry_messages(graph: dgl.DGLGraph) -> None:
    """DGL's own message passing over a full block equals a sum by hand."""
    nodes = torch.tensor([3, 0, 59])
    (block,) = NeighborBlocks(graph, [-1]).sample(nodes)
    block.srcdata["x"] = block.srcdata[dgl.NID].double()
    block.update_all(dgl.function.copy_u("x", "m"), dgl.function.sum("m", "total"))
    source, target = graph.edges()
    expected = [float(source[target == node].sum()) for node in nodes]
    assert block.dstdata["total"].tolist() == expected


def test_wrong_settings_are_refused(graph: dgl.DGLGraph, triples: Triples) -> None:
    for fanouts in ([], [0], [3, -2]):
        with pytest.raises(ValueError, match="fanouts"):
            NeighborBlocks(graph, fanouts)
    odd = build_graph(triples[:3], ENTITIES)
    with pytest.raises(ValueError, match="inverse=True"):
        NeighborBlocks(odd, [3])


def test_dgls_own_message_functions_run_on_the_blocks() -> None:
    """A user's layer copies edge features and sums them, in float32 (DGL's libxsmm path)."""
    import dgl.function as fn

    triples = Triples.from_array(np.array([[0, 0, 1], [2, 1, 1], [1, 0, 0], [2, 0, 0]]))
    graph = build_graph(triples, 3, inverse=True, num_relations=2)
    (block,) = NeighborBlocks(graph, [-1], seed=0).sample(torch.tensor([1, 0]))
    block.edata["x"] = torch.ones(block.num_edges(), 4)
    block.update_all(fn.copy_e("x", "m"), fn.sum("m", "y"))
    assert block.dstdata["y"][:, 0].tolist() == block.in_degrees().tolist()
