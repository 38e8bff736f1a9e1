"""The train graph and the index of known answers, against dictionaries and numpy."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.data.graph import (
    KnownAnswers,
    build_graph,
    graph_triples,
    group_by_query,
    unique_queries,
)
from dglke_distill.data.known_answers import order_by_query
from dglke_distill.data.triples import SIDES, Triples
from dglke_distill.kernels.known_answers import MARK_LIMIT

ENTITIES, RELATIONS = 9, 4
rows = st.tuples(
    st.integers(0, ENTITIES - 1), st.integers(0, RELATIONS - 1), st.integers(0, ENTITIES - 1)
)
triple_lists = st.lists(rows, max_size=60)


def make(rows: list[tuple[int, int, int]]) -> Triples:
    return Triples.from_array(np.array(rows, np.int64).reshape(-1, 3))


def by_query(rows: list[tuple[int, int, int]], side: str) -> dict[tuple[int, int], set[int]]:
    found: dict[tuple[int, int], set[int]] = defaultdict(set)
    for head, relation, tail in rows:
        entity, answer = (head, tail) if side == "tail" else (tail, head)
        found[entity, relation].add(answer)
    return found


def test_graph_keeps_order_relations_and_isolated_nodes() -> None:
    triples = make([(3, 1, 0), (0, 0, 2), (3, 1, 0), (1, 2, 1)])
    graph = build_graph(triples, 6)
    head, tail = graph.edges(order="eid")
    assert graph.num_nodes() == 6
    assert graph.idtype == torch.int64
    assert head.tolist() == [3, 0, 3, 1]
    assert tail.tolist() == [0, 2, 0, 1]
    assert graph.edata["relation"].tolist() == [1, 0, 1, 2]
    assert graph.edata["relation"].dtype == torch.int64


def test_inverse_edges_follow_their_triples() -> None:
    triples = make([(3, 1, 0), (0, 0, 2)])
    graph = build_graph(triples, 4, inverse=True, num_relations=5)
    head, tail = graph.edges(order="eid")
    assert head.tolist() == [3, 0, 0, 2]
    assert tail.tolist() == [0, 2, 3, 0]
    assert graph.edata["relation"].tolist() == [1, 0, 6, 5]
    without = build_graph(triples, 4, inverse=True)
    assert without.edata["relation"].tolist() == [1, 0, 3, 2]


def test_relations_beyond_the_given_number_are_refused() -> None:
    with pytest.raises(ValueError, match="num_relations=1"):
        build_graph(make([(0, 1, 0)]), 2, inverse=True, num_relations=1)


@given(triple_lists)
def test_graph_triples_reverses_build_graph(rows: list[tuple[int, int, int]]) -> None:
    triples = make(rows)
    plain = graph_triples(build_graph(triples, ENTITIES))
    both = build_graph(triples, ENTITIES, inverse=True, num_relations=RELATIONS)
    assert np.array_equal(plain.to_array(), triples.to_array())
    assert np.array_equal(graph_triples(both, RELATIONS).to_array(), triples.to_array())
    assert len(graph_triples(both)) == 2 * len(triples)


def test_graph_triples_needs_relations_and_inverses_last() -> None:
    graph = build_graph(make([(0, 5, 1), (1, 0, 0)]), 2)
    with pytest.raises(ValueError, match="after all the others"):
        graph_triples(graph, 5)
    del graph.edata["relation"]
    with pytest.raises(ValueError, match="no relation ids"):
        graph_triples(graph)


@given(triple_lists, triple_lists)
def test_known_answers_equal_a_dictionary(
    first: list[tuple[int, int, int]], second: list[tuple[int, int, int]]
) -> None:
    index = KnownAnswers.build([make(first), make(second)], ENTITIES)
    distinct = set(first) | set(second)
    everyone = np.arange(ENTITIES * RELATIONS)
    entity, relation = everyone // RELATIONS, everyone % RELATIONS
    for side in SIDES:
        expected = by_query(first + second, side)
        assert len(index.packed[side]) == len(distinct)
        for e, r in zip(entity, relation):
            assert index.answers(e, r, side).tolist() == sorted(expected[e, r])
        offsets, answers = index.gather(entity, relation, side)
        assert offsets.dtype == answers.dtype == np.int64
        for i, (e, r) in enumerate(zip(entity, relation)):
            assert answers[offsets[i] : offsets[i + 1]].tolist() == sorted(expected[e, r])


@given(triple_lists, st.data())
def test_contains_equals_a_dictionary(
    rows: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    index = KnownAnswers.build([make(rows)], ENTITIES)
    chunks = data.draw(st.integers(1, 5))
    size = chunks * data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    entity = rng.integers(0, ENTITIES, size)
    relation = rng.integers(0, RELATIONS + 1, size)  # one of them unknown to the index
    candidates = rng.integers(0, ENTITIES, (chunks, data.draw(st.integers(1, 12))))
    for side in SIDES:
        expected = by_query(rows, side)
        found = index.contains(entity, relation, candidates, side)
        assert found.dtype == np.bool_
        for i in range(size):
            row = candidates[i // (size // chunks)]
            answers = expected[entity[i], relation[i]]
            assert found[i].tolist() == [c in answers for c in row]


@pytest.mark.parametrize("chunks", [1, 2, 40])
def test_contains_with_many_answers_and_large_ids(chunks: int) -> None:
    """Hubs beyond the limit up to which answers are walked, ids that share their low 16 bits."""
    rng = np.random.default_rng(0)
    num_entities, width = 200_000, 4
    hub_answers = rng.permutation(num_entities)[: 3 * MARK_LIMIT * width]
    few = np.array([5, 5 + 65_536, 7 + 2 * 65_536])
    rows = [(0, 0, int(t)) for t in hub_answers] + [(1, 1, int(t)) for t in few]
    index = KnownAnswers.build([make(rows)], num_entities)
    entity, relation = np.arange(40) % 2, np.arange(40) % 2
    pool = np.concatenate([hub_answers[:50], few, few + 65_536, rng.integers(0, num_entities, 50)])
    candidates = rng.choice(pool, (chunks, width))
    found = index.contains(entity, relation, candidates, "tail")
    per_row = np.repeat(candidates, 40 // chunks, axis=0)
    expected = np.where(
        (entity == 0)[:, None], np.isin(per_row, hub_answers), np.isin(per_row, few)
    )
    assert expected.any() and not expected.all()
    assert np.array_equal(found, expected)


def test_contains_refuses_uneven_chunks_and_takes_none() -> None:
    index = KnownAnswers.build([make([(0, 0, 1)])], 2)
    with pytest.raises(ValueError, match="3 queries do not divide into 2 chunks"):
        index.contains(np.zeros(3, int), np.zeros(3, int), np.zeros((2, 1), int), "tail")
    nothing = index.contains(np.zeros(0, int), np.zeros(0, int), np.zeros((1, 4), int), "tail")
    assert nothing.shape == (0, 4)


def test_ids_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="num_entities=3"):
        KnownAnswers.build([make([(0, 0, 3)])], 3)
    with pytest.raises(ValueError, match="negative"):
        KnownAnswers.build([make([(-1, 0, 0)])], 3)
    index = KnownAnswers.build([make([(0, 0, 1)])], 2)
    with pytest.raises(ValueError, match="entity id"):
        index.gather(np.array([2]), np.array([0]), "tail")
    with pytest.raises(ValueError, match="side must be"):
        order_by_query(make([(0, 0, 1)]), "left")  # type: ignore[arg-type]


def test_memory_is_sixteen_bytes_a_fact_and_an_entity() -> None:
    index = KnownAnswers.build([make([(0, 0, 1), (0, 0, 1), (1, 0, 1)])], 100)
    assert index.nbytes == 2 * 8 * 2 + 2 * 8 * 101


@given(triple_lists)
def test_order_is_a_stable_sort_by_query(rows: list[tuple[int, int, int]]) -> None:
    triples = make(rows)
    for side in SIDES:
        entity, answer = (
            (triples.head, triples.tail) if side == "tail" else (triples.tail, triples.head)
        )
        expected = np.lexsort((answer, triples.relation, entity))
        assert np.array_equal(order_by_query(triples, side), expected)
        order, starts = group_by_query(triples, side)
        groups = [
            {(int(entity[i]), int(triples.relation[i])) for i in order[a:b]}
            for a, b in zip(starts[:-1], starts[1:])
        ]
        assert all(len(group) == 1 for group in groups)
        assert len(set().union(*groups)) == len(groups) == len(by_query(rows, side))


@given(triple_lists)
def test_unique_queries_equal_a_dictionary(rows: list[tuple[int, int, int]]) -> None:
    for side in SIDES:
        expected = by_query(rows, side)
        entity, relation, offsets, answers = unique_queries(make(rows), side)
        assert list(zip(entity.tolist(), relation.tolist())) == sorted(expected)
        for i, query in enumerate(sorted(expected)):
            assert answers[offsets[i] : offsets[i + 1]].tolist() == sorted(expected[query])
        assert offsets[-1] == len(answers)


def test_index_built_from_a_strided_view_is_the_same() -> None:
    array = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(np.int32)
    view = Triples(array[:, 0], array[:, 1], array[:, 2])
    a, b = KnownAnswers.build([view], 5), KnownAnswers.build([Triples.from_array(array)], 5)
    for side in SIDES:
        assert np.array_equal(a.packed[side], b.packed[side])
        assert np.array_equal(a.offsets[side], b.offsets[side])


def test_the_former_name_is_the_same_function() -> None:
    from dglke_distill import graph
    from dglke_distill.data.graph import build_graph

    assert graph.build_graph is build_graph
