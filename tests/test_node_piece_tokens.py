"""NodePiece's tokens against breadth-first searches, networkx and sets."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import torch

from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.models import node_piece_tokens
from dglke_distill.models.node_piece_anchors import choose_anchors, page_rank
from dglke_distill.models.node_piece_tokens import (
    Tokens,
    nearest_anchors,
    relation_context,
    tokenise,
)


def random_triples(seed: int, entities: int, edges: int, relations: int = 5) -> Triples:
    """Facts among some entities, every other time about few of them for the most part."""
    rng = np.random.default_rng(seed)
    weight = (1.0 + np.arange(entities)) ** (-1.3 if seed % 2 else 0.0)
    head = rng.choice(entities, edges, p=weight / weight.sum())
    columns = head, rng.integers(0, relations, edges), rng.integers(0, entities, edges)
    return Triples.from_array(np.stack(columns, axis=1))


def distances(triples: Triples, entities: int) -> list[dict[int, int]]:
    """Edges on the shortest way from each entity to each that it can reach, by searching."""
    neighbors: list[set[int]] = [set() for _ in range(entities)]
    for head, _, tail in triples.to_array().tolist():
        neighbors[head].add(tail)
        neighbors[tail].add(head)
    found = []
    for start in range(entities):
        reached = {start: 0}
        queue = [start]
        for entity in queue:
            for neighbor in neighbors[entity] - reached.keys():
                reached[neighbor] = reached[entity] + 1
                queue.append(neighbor)
        found.append(reached)
    return found


@pytest.mark.parametrize("seed", range(24))
def test_anchors_are_the_nearest_ones(seed, monkeypatch):
    monkeypatch.setattr(node_piece_tokens, "_ROWS", 7)  # several pieces
    rng = np.random.default_rng(1000 + seed)
    entities, edges = int(rng.integers(5, 90)), int(rng.integers(3, 200))
    count, limit = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    triples = random_triples(seed, entities, edges)
    anchors = choose_anchors(triples, entities, int(rng.integers(1, entities)), 0.4, 0.4, seed)
    nearest, distance = nearest_anchors(triples, entities, anchors, count, limit, seed)
    for entity, reached in enumerate(distances(triples, entities)):
        within = sorted(d for a in anchors if (d := reached.get(a, limit + 1)) <= limit)[:count]
        missing = count - len(within)
        assert distance[entity].tolist() == within + [limit + 1] * missing
        assert nearest[entity, len(within) :].tolist() == [len(anchors)] * missing
        named = nearest[entity, : len(within)].tolist()
        assert len(set(named)) == len(named)
        assert [reached[anchors[i]] for i in named] == within
        pairs = list(zip(within, named))
        assert pairs == sorted(pairs)


@pytest.mark.parametrize("seed", [0, 1])
def test_tokens_depend_on_facts_and_seed_alone(seed):
    """Neither the order of edges nor the number of threads changes a draw; another seed does."""
    triples = random_triples(seed, 300, 900)
    order = np.random.default_rng(9).permutation(len(triples))

    def tokens_of(facts: Triples, seed: int) -> Tokens:
        graph = build_graph(facts, 300, inverse=True, num_relations=5)
        return tokenise(graph, 5, anchors=60, per_entity=4, context=3, max_distance=9,
                        degree_share=0.4, pagerank_share=0.3, seed=seed)  # fmt: skip

    first = tokens_of(triples, 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = tokens_of(triples[order], 0)
    finally:
        torch.set_num_threads(before)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    different = tokens_of(triples, 1)
    assert any((one != other).any() for one, other in zip(first[1:], different[1:]))
    assert first.nearest.max() <= 60 and first.context.max() <= 10


def test_leaves_of_a_hub_are_told_apart():
    """All are two steps from the same hundred anchors; each gets its own few."""
    leaves, anchors = np.arange(1, 201), np.arange(201, 301)
    rows = [(0, 0, other) for other in (*leaves, *anchors)]
    triples = Triples.from_array(np.array(rows))
    nearest, distance = nearest_anchors(triples, 301, anchors, 4, 5, 0)
    assert (distance[leaves] == 2).all() and (distance[0] == 1).all()
    assert len({tuple(row) for row in nearest[leaves].tolist()}) > 180
    used = np.bincount(nearest[leaves].ravel(), minlength=100)
    assert (used > 0).sum() > 90


@pytest.mark.parametrize("seed", range(4))
def test_page_rank_is_that_of_networkx(seed):
    triples = random_triples(seed, 40, 90)
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from(range(40))
    graph.add_edges_from(zip(triples.head.tolist(), triples.tail.tolist()))
    expected = networkx.pagerank(graph, alpha=0.85, tol=1e-12, max_iter=500)
    np.testing.assert_allclose(page_rank(triples, 40), list(expected.values()), atol=1e-6)


def test_anchors_are_chosen_by_degree_then_page_rank_then_at_random():
    triples = random_triples(1, 50, 120)
    degree = np.bincount(triples.head, minlength=50) + np.bincount(triples.tail, minlength=50)
    rank = page_rank(triples, 50)
    chosen = choose_anchors(triples, 50, 10, 0.3, 0.4, 0)
    assert len(set(chosen.tolist())) == 10
    by_degree = sorted(range(50), key=lambda entity: (-degree[entity], entity))[:3]
    assert chosen[:3].tolist() == by_degree
    rest = [entity for entity in range(50) if entity not in by_degree]
    by_rank = sorted(rest, key=lambda entity: (-rank[entity], entity))[:4]
    assert chosen[3:7].tolist() == by_rank
    drawn = chosen[7:].tolist()
    assert not set(drawn) & set(by_degree + by_rank) and (degree[drawn] > 0).all()
    assert choose_anchors(triples, 50, 10, 0.3, 0.4, 0).tolist() == chosen.tolist()
    assert {tuple(choose_anchors(triples, 50, 10, 0.3, 0.4, s)[7:]) for s in range(5)} != {
        tuple(drawn)
    }


@pytest.mark.parametrize("shares", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.25, 0.75)])
@pytest.mark.parametrize("count", [1, 3, 9, 12])
def test_as_many_anchors_as_asked_for_whatever_the_shares(count, shares):
    """Entities without edges are the last to be anchors."""
    triples = Triples.from_array(np.array([(i, 0, i + 1) for i in range(5)]))
    chosen = choose_anchors(triples, 12, count, *shares, 0).tolist()
    assert len(set(chosen)) == len(chosen) == count
    if shares == (0.0, 0.0) and count < 6:
        assert max(chosen) <= 5


@pytest.mark.parametrize("count", [0, 1, 3, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_context_is_of_the_relations_that_leave_an_entity(seed, count):
    triples = random_triples(seed, 30, 150, relations=6)
    context = relation_context(triples, 30, 6, count, seed)
    assert context.shape == (30, count)
    leaving: list[set[int]] = [set() for _ in range(30)]
    for head, relation, tail in triples.to_array().tolist():
        leaving[head].add(relation)
        leaving[tail].add(relation + 6)
    for row, relations in zip(context.tolist(), leaving):
        named = [relation for relation in row if relation < 12]
        assert set(named) <= relations and len(set(named)) == len(named)
        assert len(named) == min(count, len(relations))
        assert row == sorted(named) + [12] * (count - len(named))


def test_every_relation_has_its_chance_in_a_context():
    """No fixed preference among relations: over entities with the same five, all occur alike."""
    rows = [(entity, relation, 400) for entity in range(400) for relation in range(5)]
    context = relation_context(Triples.from_array(np.array(rows)), 401, 5, 2, 0)[:400]
    counts = np.bincount(context.ravel(), minlength=5)
    assert counts.sum() == 800 and counts.min() > 120  # of 160 expected, deviation 10
