"""The batch loader: every fact once, the right rows, resumable and reproducible."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import fields
from typing import Any, Optional

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.sampling.batch import Batch, BatchLoader, Queries
from dglke_distill.sampling.negatives import NEGATIVE_SAMPLERS, build_sampler
from dglke_distill.sampling.neighbors import NeighborBlocks
from dglke_distill.sampling.order import subsampling_weights

ENTITIES, RELATIONS, SIZE = 50, 4, 131
TYPES = (np.arange(ENTITIES) % 3).astype(np.int32)


@pytest.fixture(scope="module")
def triples() -> Triples:
    """Facts of which some occur twice."""
    rng = np.random.default_rng(0)
    columns = (ENTITIES * rng.random((SIZE, 3)) ** 2).astype(np.int64)
    columns[:, 1] %= RELATIONS
    columns[-5:] = columns[:5]
    return Triples.from_array(columns)


def loader(triples: Triples, mode: str = "negatives", **settings: Any) -> BatchLoader:
    inverse = settings.pop("inverse", False)
    graph = build_graph(triples, ENTITIES, inverse=inverse, num_relations=RELATIONS)
    own = ("batch_size", "seed", "subsampling", "neighbors")
    given_settings = {"batch_size": 32, "seed": 7}
    given_settings.update({k: settings.pop(k) for k in own if k in settings})
    if given_settings.get("neighbors"):
        given_settings["neighbors"] = NeighborBlocks(graph, given_settings["neighbors"], 3)
    sampler = None
    if mode == "negatives":
        settings = {"count": 9, "entity_type": TYPES, **settings}
        sampler = build_sampler(settings.pop("name", "uniform"), graph, RELATIONS, **settings)
    return BatchLoader(
        graph,
        RELATIONS,
        mode=mode,  # type: ignore[arg-type]
        sampler=sampler,
        **given_settings,
    )


def tensors(value: Any) -> list[Optional[torch.Tensor]]:
    """All tensors of a batch, in a fixed order; blocks as their edges."""
    if value is None or isinstance(value, (torch.Tensor, str)):
        return [value if isinstance(value, torch.Tensor) else None]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in tensors(part)]
    if hasattr(value, "edata"):
        return [*value.edges(order="eid"), value.edata["relation"]]
    return [t for f in fields(value) for t in tensors(getattr(value, f.name))]


def same(a: Batch, b: Batch) -> bool:
    first, second = tensors(a), tensors(b)
    return len(first) == len(second) and all(
        (x is None and y is None) or (x is not None and y is not None and torch.equal(x, y))
        for x, y in zip(first, second)
    )


SETTINGS: list[dict[str, Any]] = [
    *({"name": name} for name in NEGATIVE_SAMPLERS),
    {"sides": "both", "chunk_size": 8},
    {"sharing": "private", "filtered": True, "subsampling": True},
    {"name": "bernoulli", "chunk_size": 4, "filtered": True},
    {"name": "typed", "sides": "both", "filtered": True},
    {"inverse": True, "neighbors": [3, 4], "filtered": True},
    {"mode": "one_vs_all", "subsampling": True},
    {"mode": "k_vs_all"},
    {"mode": "one_vs_all", "inverse": True, "neighbors": [-1]},
    {"mode": "k_vs_all", "inverse": True, "neighbors": [2]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_batches_are_a_function_of_seed_epoch_and_number(
    triples: Triples, settings: dict[str, Any]
) -> None:
    first, again = loader(triples, **settings), loader(triples, **settings)
    epoch = list(first.epoch(3))
    assert len(epoch) == len(first)
    assert all(same(a, b) for a, b in zip(epoch, again.epoch(3)))
    tail = list(again.epoch(3, start=2))
    assert len(tail) == len(epoch) - 2
    assert all(same(a, b) for a, b in zip(epoch[2:], tail))
    assert not same(epoch[0], next(first.epoch(4)))
    assert not same(epoch[0], next(loader(triples, **{**settings, "seed": 8}).epoch(3)))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_batches_do_not_depend_on_threads(triples: Triples, settings: dict[str, Any]) -> None:
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = list(loader(triples, **settings).epoch(0))
    finally:
        numba.set_num_threads(before)
    assert all(same(a, b) for a, b in zip(alone, loader(triples, **settings).epoch(0)))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_tensors_survive_later_batches(triples: Triples, settings: dict[str, Any]) -> None:
    batches = loader(triples, **settings).epoch(0)
    first = next(batches)
    copies = [None if t is None else t.clone() for t in tensors(first)]
    list(batches)
    for tensor, copy in zip(tensors(first), copies):
        assert tensor is None or copy is None or torch.equal(tensor, copy)


@pytest.mark.parametrize("settings", [s for s in SETTINGS if s.get("mode") != "k_vs_all"], ids=str)
def test_every_edge_is_visited_once(triples: Triples, settings: dict[str, Any]) -> None:
    made = loader(triples, **settings)
    batches = list(made.epoch(1))
    assert [len(b.edges) for b in batches] == [32, 32, 32, 32, 3]
    edges = torch.cat([batch.edges for batch in batches]).numpy()
    assert sorted(edges) == list(range(SIZE))
    for column in ("head", "relation", "tail"):
        values = torch.cat([getattr(batch, column) for batch in batches])
        assert values.dtype == torch.int64
        assert np.array_equal(values.numpy(), getattr(triples, column)[edges])


def rows_of(batch: Batch, rows: torch.Tensor) -> torch.Tensor:
    return rows if batch.nodes is None else batch.nodes[rows]


def asked(batch: Batch, queries: Queries) -> list[tuple[int, int, int]]:
    """The (head, relation, tail) that the queries of a group come from."""
    assert queries.answer is not None
    entity = rows_of(batch, queries.entity).tolist()
    answer = rows_of(batch, queries.answer).tolist()
    head, tail = (entity, answer) if queries.side == "tail" else (answer, entity)
    return list(zip(head, queries.relation.tolist(), tail))


@pytest.mark.parametrize("settings", [s for s in SETTINGS if "mode" not in s], ids=str)
def test_queries_ask_for_the_positives(triples: Triples, settings: dict[str, Any]) -> None:
    made = loader(triples, **settings)
    facts = {tuple(row) for row in triples.to_array().tolist()}
    for number, batch in enumerate(made.epoch(2)):
        positives = list(zip(batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist()))
        questions = [fact for queries in batch.queries for fact in asked(batch, queries)]
        times = 2 if settings.get("sides") == "both" else 1
        assert Counter(questions) == Counter(positives * times)
        assert batch.nodes is not None
        nodes = batch.nodes.tolist()
        used: set[int] = set()
        for queries in batch.queries:
            assert queries.candidates is not None and queries.answers is None
            size, (chunks, count) = len(queries.entity), queries.candidates.shape
            assert size and count == 9 and size % chunks == 0
            used |= set(torch.cat([queries.entity, queries.answer, queries.candidates.flatten()])
                        .tolist())  # fmt: skip
            if settings.get("filtered"):
                known = queries.known
                if known is None:
                    known = torch.zeros(size, count, dtype=torch.bool)
                candidates = rows_of(batch, queries.candidates)
                for i, (head, relation, tail) in enumerate(asked(batch, queries)):
                    for candidate, flag in zip(
                        candidates[i // (size // chunks)].tolist(), known[i].tolist()
                    ):
                        fact = (head, relation, candidate)
                        if queries.side == "head":
                            fact = (candidate, relation, tail)
                        assert (fact in facts) == flag
            else:
                assert queries.known is None
        assert used == set(range(len(nodes))) and len(set(nodes)) == len(nodes)
        if settings.get("name") in (None, "uniform", "degree") and times == 1:
            turn = 2 * len(made) + number
            assert [q.side for q in batch.queries] == ["tail" if turn % 2 == 0 else "head"]


def test_chunks_adapt_to_the_last_batch(triples: Triples) -> None:
    made = loader(triples, chunk_size=8)
    chunks = [batch.queries[0].candidates.shape[0] for batch in made.epoch(0)]  # type: ignore[union-attr]
    assert chunks == [4, 4, 4, 4, 1]
    made = loader(triples, chunk_size=2, batch_size=100)
    assert [b.queries[0].candidates.shape[0] for b in made.epoch(0)] == [50, 1]  # type: ignore[union-attr]


def test_one_vs_all_asks_both_sides(triples: Triples) -> None:
    for batch in loader(triples, "one_vs_all", subsampling=True).epoch(0):
        positives = list(zip(batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist()))
        assert batch.nodes is None
        assert [queries.side for queries in batch.queries] == ["tail", "head"]
        for queries in batch.queries:
            assert asked(batch, queries) == positives
            assert queries.candidates is None and queries.known is None
            assert queries.weight is not None and len(queries.weight) == len(positives)


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 7)), min_size=1, max_size=40
    ),
    st.integers(1, 9),
)
def test_k_vs_all_asks_every_query_once(rows: list[tuple[int, int, int]], batch_size: int) -> None:
    expected: dict[tuple[str, int, int], set[int]] = defaultdict(set)
    for head, relation, tail in rows:
        expected["tail", head, relation].add(tail)
        expected["head", tail, relation].add(head)
    graph = build_graph(Triples.from_array(np.array(rows)), 8)
    made = BatchLoader(graph, 3, batch_size=batch_size, mode="k_vs_all", seed=1)
    assert len(made) == -(-len(expected) // batch_size)
    found: dict[tuple[str, int, int], list[int]] = {}
    visits: Counter[int] = Counter()
    for batch in made.epoch(0):
        assert batch.nodes is None and 1 <= len(batch.queries) <= 2
        assert sum(len(queries.entity) for queries in batch.queries) <= batch_size
        visits.update(batch.edges.tolist())
        for edge, head, relation, tail in zip(
            *(t.tolist() for t in (batch.edges, batch.head, batch.relation, batch.tail))
        ):
            assert rows[edge] == (head, relation, tail)
        in_batch = set()
        for queries in batch.queries:
            assert queries.answer is None and queries.answers is not None
            offsets, entities = queries.answers.offsets, queries.answers.entities
            assert len(offsets) == len(queries.entity) + 1 and offsets[-1] == len(entities)
            for i, (entity, relation) in enumerate(
                zip(queries.entity.tolist(), queries.relation.tolist())
            ):
                key = (queries.side, entity, relation)
                assert key not in found
                found[key] = entities[offsets[i] : offsets[i + 1]].tolist()
                in_batch |= {
                    (entity, relation, a) if queries.side == "tail" else (a, relation, entity)
                    for a in found[key]
                }
        assert {rows[edge] for edge in batch.edges.tolist()} == in_batch
    assert found == {key: sorted(answers) for key, answers in expected.items()}
    assert visits == dict.fromkeys(range(len(rows)), 2)


def test_subsampling_weights_are_those_of_the_rotate_code(triples: Triples) -> None:
    """``count_frequency`` and ``subsampling_weight`` of KnowledgeGraphEmbedding/dataloader.py."""
    count: dict[tuple[int, int], int] = {}
    for head, relation, tail in triples.to_array().tolist():
        for key in ((head, relation), (tail, -relation - 1)):
            count[key] = count[key] + 1 if key in count else 4
    expected = [
        1 / np.sqrt(count[head, relation] + count[tail, -relation - 1])
        for head, relation, tail in triples.to_array().tolist()
    ]
    weights = subsampling_weights(triples)
    assert weights.dtype == np.float32
    assert weights == pytest.approx(expected, rel=1e-6)
    for settings in ({"sides": "both"}, {"name": "bernoulli"}):
        for batch in loader(triples, subsampling=True, **settings).epoch(0):
            facts = dict(zip(zip(batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist()),
                             np.array(expected)[batch.edges]))  # fmt: skip
            for queries in batch.queries:
                assert queries.weight is not None and queries.weight.dtype == torch.float32
                assert queries.weight.tolist() == pytest.approx(
                    [facts[fact] for fact in asked(batch, queries)], rel=1e-6
                )


def test_blocks_lead_to_the_nodes_and_hold_no_answer(triples: Triples) -> None:
    for mode in ("negatives", "one_vs_all", "k_vs_all"):
        for batch in loader(triples, mode, inverse=True, neighbors=[-1, 4]).epoch(0):
            assert batch.blocks is not None and batch.nodes is not None
            nodes = batch.nodes.tolist()
            assert batch.blocks[-1].dstdata["_ID"].tolist() == nodes
            if mode != "negatives":
                assert nodes == list(range(ENTITIES))
            banned = set()
            for head, relation, tail in zip(
                batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist()
            ):
                banned |= {(head, relation, tail), (tail, relation + RELATIONS, head)}
            for block in batch.blocks:
                source, target = block.edges(order="eid")
                messages = zip(
                    block.srcdata["_ID"][source].tolist(),
                    block.edata["relation"].tolist(),
                    block.dstdata["_ID"][target].tolist(),
                )
                assert not banned & set(messages)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mode": "all"}, UserError, "training.mode is 'all'"),
        ({"mode": "k_vs_all", "subsampling": True}, UserError, "training.subsampling"),
        ({"mode": "one_vs_all", "batch_size": 0}, UserError, "training.batch_size"),
        ({"mode": "negatives"}, ValueError, "needs a sampler"),
    ],
)
def test_wrong_settings_are_named(
    triples: Triples, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BatchLoader(build_graph(triples, ENTITIES), RELATIONS, **{"batch_size": 8, **settings})
