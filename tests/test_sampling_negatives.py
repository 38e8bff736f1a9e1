"""Negative samplers: distributions, filters, constraints, and life inside DGL's data loader."""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import SIDES, Triples
from dglke_distill.kernels.random import stream_key
from dglke_distill.sampling.negatives import NEGATIVE_SAMPLERS, NegativeSampler, build_sampler

ENTITIES, RELATIONS = 40, 3
TYPES = (np.arange(ENTITIES) % 3).astype(np.int32)


@pytest.fixture(scope="module")
def triples() -> Triples:
    """Skewed facts; entities 38 and 39 occur in none."""
    rng = np.random.default_rng(5)
    head = (38 * rng.random(300) ** 2).astype(np.int32)
    tail = (38 * rng.random(300) ** 3).astype(np.int32)
    array = np.stack([head, rng.integers(0, RELATIONS, 300), tail], 1)
    return Triples.from_array(np.unique(array, axis=0))


@pytest.fixture(scope="module")
def graph(triples: Triples) -> dgl.DGLGraph:
    return build_graph(triples, ENTITIES)


def facts(triples: Triples) -> set[tuple[int, int, int]]:
    return {tuple(row) for row in triples.to_array().tolist()}  # type: ignore[misc]


def ends(triples: Triples, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    head, relation, tail = (
        c.astype(np.int64) for c in (triples.head, triples.relation, triples.tail)
    )
    return (head, relation, tail) if side == "tail" else (tail, relation, head)


def private(name: str, graph: dgl.DGLGraph, **settings: Any) -> NegativeSampler:
    settings = {"sharing": "private", "entity_type": TYPES, **settings}
    return build_sampler(name, graph, RELATIONS, **settings)


def test_uniform_draws_are_uniform(graph: dgl.DGLGraph, triples: Triples) -> None:
    sampler = private("uniform", graph, count=200)
    candidates, known = sampler.draw("tail", *ends(triples, "tail"), stream_key(1))
    assert candidates.shape == (len(triples), 200) and known is None
    assert chisquare(np.bincount(candidates.ravel(), minlength=ENTITIES)).pvalue > 1e-3
    # Rows and columns are independent of each other.
    assert chisquare(np.bincount(candidates[:, 0], minlength=ENTITIES)).pvalue > 1e-3
    assert (candidates[1:] == candidates[:-1]).mean() == pytest.approx(1 / ENTITIES, rel=0.1)


@pytest.mark.parametrize("exponent", [0.75, 0.0, 2.0])
def test_degree_draws_follow_the_power(
    graph: dgl.DGLGraph, triples: Triples, exponent: float
) -> None:
    sampler = private("degree", graph, count=400, options={"exponent": exponent})
    candidates, _ = sampler.draw("head", *ends(triples, "head"), stream_key(2))
    degree = graph.in_degrees().numpy() + graph.out_degrees().numpy()
    weight = np.where(degree > 0, degree.astype(float) ** exponent, 0.0)
    counts = np.bincount(candidates.ravel(), minlength=ENTITIES)
    assert not counts[weight == 0].any()
    expected = weight[weight > 0] / weight.sum() * counts.sum()
    assert chisquare(counts[weight > 0], expected).pvalue > 1e-3


def test_bernoulli_tosses_sides_as_wang_et_al(graph: dgl.DGLGraph, triples: Triples) -> None:
    sampler = private("bernoulli", graph)
    for relation in range(RELATIONS):
        rows = triples.relation == relation
        tails_per_head = rows.sum() / len(set(triples.head[rows]))
        heads_per_tail = rows.sum() / len(set(triples.tail[rows]))
        chance = tails_per_head / (tails_per_head + heads_per_tail)
        relations = np.full(20_000, relation)
        (tail, tail_rows), (head, head_rows) = sampler.split(
            relations, relations, relations, 0, stream_key(relation)
        )
        assert (tail, head) == ("tail", "head")
        assert sorted([*tail_rows, *head_rows]) == list(range(20_000))
        error = np.sqrt(chance * (1 - chance) / 20_000)
        assert abs(len(head_rows) / 20_000 - chance) < 4 * error


def test_sides_alternate_or_both(graph: dgl.DGLGraph, triples: Triples) -> None:
    columns = tuple(ends(triples, "tail"))
    sampler = private("uniform", graph)
    turns = [sampler.split(*columns, turn, stream_key(0)) for turn in range(3)]
    assert turns == [[("tail", None)], [("head", None)], [("tail", None)]]
    sampler = private("uniform", graph, sides="both")
    assert sampler.split(*columns, 1, stream_key(0)) == [("tail", None), ("head", None)]


def test_relation_constraint_keeps_to_entities_seen_there(triples: Triples) -> None:
    sampler = build_sampler("typed", build_graph(triples, ENTITIES), RELATIONS, count=300)
    assert sampler.sharing == "private"
    for side in SIDES:
        entity, relation, answer = ends(triples, side)
        candidates, _ = sampler.draw(side, entity, relation, answer, stream_key(30))
        for kind in range(RELATIONS):
            seen = np.unique(answer[relation == kind])
            drawn = candidates[relation == kind].ravel()
            counts = np.bincount(np.searchsorted(seen, drawn), minlength=len(seen))
            assert set(np.unique(drawn)) == set(seen)
            assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("sharing", ["chunk", "private"])
def test_type_constraint_keeps_the_type_of_the_answer(triples: Triples, sharing: str) -> None:
    graph = build_graph(triples, ENTITIES)
    sampler = private("typed", graph, sharing=sharing, chunk_size=8, count=20, sides="both")
    head, relation, tail = ends(triples, "tail")
    groups = sampler.split(head, relation, tail, 0, stream_key(0))
    asked = {"head": 0, "tail": 0}
    for number, (side, rows) in enumerate(groups):
        entity, given, answer = (c[rows] if rows is not None else c for c in ends(triples, side))
        candidates, _ = sampler.draw(side, entity, given, answer, stream_key(number))
        per_row = np.repeat(candidates, len(entity) // len(candidates), axis=0)
        assert (TYPES[per_row] == TYPES[answer][:, None]).all()
        assert set(np.unique(candidates)) >= {int(TYPES[answer[0]]) + 36}  # also unseen ones
        asked[side] += len(entity)
    assert asked == {"head": len(triples), "tail": len(triples)}
    assert len(groups) == (6 if sharing == "chunk" else 2)


@pytest.mark.parametrize("name", NEGATIVE_SAMPLERS)
@pytest.mark.parametrize("side", SIDES)
def test_filtered_private_draws_are_never_facts(
    graph: dgl.DGLGraph, triples: Triples, name: str, side: Any
) -> None:
    entity, relation, answer = ends(triples, side)
    sampler = private(name, graph, filtered=True, count=50)
    candidates, known = sampler.draw(side, entity, relation, answer, stream_key(4))
    true = facts(triples)
    flagged = np.zeros(candidates.shape, bool) if known is None else known
    for i, row in enumerate(candidates):
        for c, flag in zip(row.tolist(), flagged[i]):
            fact = (entity[i], relation[i], c) if side == "tail" else (c, relation[i], entity[i])
            assert (fact in true) == flag


def test_filtered_uniform_draws_are_uniform_over_the_rest() -> None:
    array = [(0, 0, t) for t in (0, 1, 2, 5, 9, 39)] + [(1, 0, 3)]
    graph = build_graph(Triples.from_array(np.array(array)), ENTITIES)
    sampler = private("uniform", graph, filtered=True, count=20_000)
    candidates, known = sampler.draw(
        "tail", np.array([0]), np.array([0]), np.array([5]), stream_key(5)
    )
    assert known is None
    counts = np.bincount(candidates[0], minlength=ENTITIES)
    free = np.setdiff1d(np.arange(ENTITIES), [0, 1, 2, 5, 9, 39])
    assert counts.sum() == counts[free].sum()
    assert chisquare(counts[free]).pvalue > 1e-3


def test_filtered_weighted_draws_keep_their_weights() -> None:
    rng = np.random.default_rng(0)
    array = np.stack([np.full(400, 1), np.ones(400), (30 * rng.random(400) ** 2).astype(int)], 1)
    array = np.concatenate([array, [(0, 0, 0), (0, 0, 1), (0, 0, 7)]])
    graph = build_graph(Triples.from_array(array), ENTITIES)
    sampler = private("degree", graph, filtered=True, count=30_000)
    candidates, _ = sampler.draw("tail", np.array([0]), np.array([0]), np.array([7]), stream_key(6))
    degree = (graph.in_degrees() + graph.out_degrees()).numpy().astype(float)
    degree[[0, 1, 7]] = 0
    counts = np.bincount(candidates[0], minlength=ENTITIES)
    weight = degree**0.75
    assert not counts[weight == 0].any()
    expected = weight[weight > 0] / weight.sum() * counts.sum()
    assert chisquare(counts[weight > 0], expected).pvalue > 1e-3


@pytest.mark.parametrize("count", [3, 20_000])
def test_filtered_typed_draws_are_uniform_over_the_rest(count: int) -> None:
    """Both ways of replacing: trying again, and listing what is free."""
    array = [(h, 0, h % 17) for h in range(40)] + [(0, 0, t) for t in (3, 5, 8)]
    graph = build_graph(Triples.from_array(np.array(array)), ENTITIES)
    sampler = build_sampler("typed", graph, 1, filtered=True, count=count)
    rows = 60_000 // count
    candidates, known = sampler.draw(
        "tail", np.zeros(rows, int), np.zeros(rows, int), np.full(rows, 3), stream_key(7)
    )
    assert known is None
    counts = np.bincount(candidates.ravel(), minlength=17)
    free = np.setdiff1d(np.arange(17), [0, 3, 5, 8])
    assert counts.sum() == counts[free].sum() == rows * count
    assert chisquare(counts[free]).pvalue > 1e-3


def test_where_everything_is_a_fact_it_is_flagged_and_dgl_gets_nothing() -> None:
    array = [(0, 0, t) for t in range(4)] + [(1, 0, 0)]
    graph = build_graph(Triples.from_array(np.array(array)), 4)
    for name in ("uniform", "typed", "degree"):
        for sharing in ("chunk", "private"):
            sampler = build_sampler(name, graph, 1, filtered=True, count=6, sharing=sharing)
            query = (np.array([0, 1]), np.array([0, 0]), np.array([2, 0]))
            _, known = sampler.draw("tail", *query, stream_key(0))
            assert known is not None and known[0].all() and not known[1].all()
            source, target = sampler(graph, torch.tensor([1, 4]))
            assert source.tolist() == [1] * 6 and 0 not in target.tolist()


def test_shared_draws_are_flagged_not_replaced(graph: dgl.DGLGraph, triples: Triples) -> None:
    size = 288 if len(triples) >= 288 else len(triples) // 12 * 12
    sampler = build_sampler("uniform", graph, RELATIONS, filtered=True, count=30, chunk_size=24)
    for side in SIDES:
        entity, relation, answer = (c[:size] for c in ends(triples, side))
        candidates, known = sampler.draw(side, entity, relation, answer, stream_key(8))
        assert candidates.shape == (size // 24, 30) and known is not None
        true = facts(triples)
        for i in range(size):
            for c, flag in zip(candidates[i // 24].tolist(), known[i]):
                fact = (
                    (entity[i], relation[i], c) if side == "tail" else (c, relation[i], entity[i])
                )
                assert (fact in true) == flag


def test_chunks_divide_the_positives(graph: dgl.DGLGraph) -> None:
    sampler = build_sampler("uniform", graph, chunk_size=256)
    counts = [sampler.chunks(n) for n in (1024, 1000, 513, 257, 256, 7, 1)]
    assert counts == [4, 2, 1, 1, 1, 1, 1]
    assert build_sampler("uniform", graph, chunk_size=10).chunks(96) == 8
    assert build_sampler("uniform", graph, chunk_size=0).chunks(1024) == 1
    assert private("uniform", graph).chunks(77) == 77


def test_draws_depend_on_the_key_alone(graph: dgl.DGLGraph, triples: Triples) -> None:
    for name in NEGATIVE_SAMPLERS:
        for filtered in (False, True):
            first, second = (private(name, graph, filtered=filtered, count=9) for _ in range(2))
            query = ("tail", *ends(triples, "tail"))
            a, _ = first.draw(*query, stream_key(1))
            first.draw(*query, stream_key(2))
            b, _ = second.draw(*query, stream_key(1))
            c, _ = second.draw(*query, stream_key(2))
            assert np.array_equal(a, b)
            assert (a != c).mean() > 0.5


@pytest.mark.parametrize("name", NEGATIVE_SAMPLERS)
@pytest.mark.parametrize("sharing", ["chunk", "private"])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("sides", ["alternate", "both"])
@pytest.mark.parametrize("idtype", [torch.int64, torch.int32])
def test_inside_dgl_data_loader(
    triples: Triples, name: str, sharing: Any, filtered: bool, sides: Any, idtype: torch.dtype
) -> None:
    graph = build_graph(triples, ENTITIES).astype(idtype)
    negative_sampler = build_sampler(
        name, graph, RELATIONS, count=5, sharing=sharing, filtered=filtered, sides=sides,
        chunk_size=16, entity_type=TYPES, seed=11,
    )  # fmt: skip
    sampler = dgl.dataloading.as_edge_prediction_sampler(
        dgl.dataloading.NeighborSampler([3]), negative_sampler=negative_sampler
    )
    edges = torch.arange(graph.num_edges(), dtype=idtype)
    loader = dgl.dataloading.DataLoader(graph, edges, sampler, batch_size=64, shuffle=True)
    true = facts(triples)
    width = 10 if sides == "both" and name != "bernoulli" else 5
    pairs = 0
    for _, positive, negative, _ in loader:
        ids = positive.edata[dgl.EID].long()
        assert negative.idtype == idtype
        assert negative.num_edges() == width * len(ids)
        nodes = negative.ndata[dgl.NID]
        source, target = (nodes[end.long()].view(-1, width) for end in negative.edges(order="eid"))
        head, tail = (torch.from_numpy(c).long()[ids] for c in (triples.head, triples.tail))
        relation = torch.from_numpy(triples.relation).long()[ids]
        kept_head, kept_tail = source == head[:, None], target == tail[:, None]
        assert (kept_head | kept_tail).all()
        if width == 10:
            assert kept_head[:, :5].all() and kept_tail[:, 5:].all()
        if filtered:
            given = relation[:, None].expand_as(source)
            drawn = torch.stack([source, given, target], -1).view(-1, 3)
            assert not true & set(map(tuple, drawn.tolist()))
        pairs += negative.num_edges()
    assert pairs == width * len(triples)


def test_dgl_calls_are_reproducible_and_differ(graph: dgl.DGLGraph) -> None:
    edges = torch.arange(20)
    first, second = (build_sampler("uniform", graph, seed=3, count=8) for _ in range(2))
    a, b, c = first(graph, edges), first(graph, edges), second(graph, edges)
    assert torch.equal(a[0], c[0]) and torch.equal(a[1], c[1])
    head, tail = graph.find_edges(edges)
    assert torch.equal(a[0], head.repeat_interleave(8))  # tails first
    assert torch.equal(b[1], tail.repeat_interleave(8))
    other = build_sampler("uniform", graph, seed=4, count=8)(graph, edges)
    assert not torch.equal(a[1], other[1])


def test_inverse_edges_are_no_positives(triples: Triples) -> None:
    graph = build_graph(triples, ENTITIES, inverse=True, num_relations=RELATIONS)
    sampler = build_sampler("uniform", graph, RELATIONS, filtered=True, count=4)
    source, _ = sampler(graph, torch.tensor([0, 1]))
    assert len(source) == 8
    with pytest.raises(ValueError, match="inverse edge"):
        sampler(graph, torch.tensor([len(triples)]))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("unifrom", {}, "negatives.sampler: unknown sampler 'unifrom'; did you mean 'uniform'"),
        ("uniform", {"count": 0}, "negatives.count must be at least 1"),
        ("uniform", {"sharing": "all"}, "negatives.sharing is 'all'"),
        ("uniform", {"sides": "left"}, "negatives.sides is 'left'"),
        ("uniform", {"options": {"exponent": 1}}, "exponent"),
        ("degree", {"options": {"exponent": -1}}, "exponent"),
        ("typed", {"options": {"constraint": "type"}}, "no entity types"),
        ("typed", {"options": {"constraint": "range"}}, "constraint"),
    ],
)
def test_wrong_settings_are_named(
    graph: dgl.DGLGraph, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_sampler(name, graph, **settings)


def test_a_graph_without_edges_is_refused() -> None:
    empty = build_graph(Triples.from_array(np.empty((0, 3), np.int64)), 3)
    with pytest.raises(ValueError, match="no edges"):
        build_sampler("uniform", empty)
    with pytest.raises(ValueError, match="one id from 0 on per entity"):
        graph = build_graph(Triples.from_array(np.array([[0, 0, 1]])), 3)
        build_sampler("typed", graph, entity_type=np.zeros(2, np.int32))
