"""Further candidates: the teacher's best, and neighbours in the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from distill_fixtures import ENTITIES, RELATIONS, dataset_of, model_of, workspace_of
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.data.triples import SIDES, Side
from dglke_distill.distill.candidates import GraphNeighbors, TopCandidates
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.distill.teacher import Teacher
from dglke_distill.training.objective import START, Moment

DATASET = dataset_of()
WORKSPACE = workspace_of(DATASET)
LARGE = 1 << 20


def queries_of(side: Side) -> tuple[torch.Tensor, torch.Tensor]:
    """Every train query of a side once, in an order of its own."""
    known = DATASET.train.head if side == "tail" else DATASET.train.tail
    pairs = np.unique(np.stack([known, DATASET.train.relation]), axis=1)[:, ::-1].copy()
    return torch.from_numpy(pairs[0]).long(), torch.from_numpy(pairs[1]).long()


def top(teacher: Teacher, graph: Any = WORKSPACE.graph, **settings: Any) -> TopCandidates:
    kept = QueryRows(graph, RELATIONS) if settings.pop("keep", True) else None
    return TopCandidates(teacher, kept, **{"count": 4, **settings})


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("block", [1, 5, 256])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("ComplEx", {"entity_bias": True}), ("DistMult", {"reciprocal": True}), ("PairRE", {})],
)
def test_the_best_are_those_of_a_full_sort(
    name: str, settings: dict[str, Any], block: int, keep: bool
) -> None:
    teacher = Teacher(model_of(name, seed=3, **settings), factor=0.5)
    found = top(teacher, block=block, keep=keep)
    for side in SIDES:
        entity, relation = queries_of(side)
        ids = found.of(side, entity, relation, START)
        assert ids.dtype == torch.int64
        assert ids.shape == (len(entity), 4)
        for row, (e, r) in enumerate(zip(entity.tolist(), relation.tolist())):
            scores = teacher.model.score_all(torch.tensor([e]), torch.tensor([r]), side)[0]
            wanted = sorted(range(ENTITIES), key=lambda i: -scores[i].item())[:4]
            assert ids[row].tolist() == wanted


def test_kept_candidates_are_those_found_anew_also_beside_inverse_edges() -> None:
    teacher = Teacher(model_of("ComplEx", seed=3))
    kept, plain = top(teacher), top(teacher, keep=False)
    inverse = top(teacher, workspace_of(DATASET, inverse=True).graph)
    for side in SIDES:
        entity, relation = queries_of(side)
        order = torch.randperm(len(entity), generator=torch.Generator().manual_seed(0))
        asked = entity[order].repeat(2), relation[order].repeat(2)
        ids = plain.of(side, *asked, START)
        assert torch.equal(kept.of(side, *asked, START), ids)
        assert torch.equal(inverse.of(side, *asked, START), ids)
        assert len(inverse._found[side]) == len(entity)  # inverse edges ask nothing new


def kept_bytes(candidates: TopCandidates) -> int:
    keys = [] if candidates._rows is None else candidates._rows._keys.values()
    tensors = [*keys, *candidates._found.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_memory_is_what_is_said_beforehand() -> None:
    teacher = Teacher(model_of("ComplEx", seed=3))
    need = kept_bytes(top(teacher))
    assert need == TopCandidates.size(QueryRows(WORKSPACE.graph, RELATIONS), 4)
    assert need == sum(len(queries_of(side)[0]) for side in SIDES) * (8 + 4 * 4)
    assert kept_bytes(top(teacher, keep=False)) == 0


def test_more_candidates_than_entities_are_all_entities() -> None:
    entity, relation = queries_of("tail")
    ids = top(Teacher(model_of("ComplEx")), count=10 * ENTITIES).of("tail", entity, relation, START)
    assert ids.sort(dim=1).values.tolist() == [list(range(ENTITIES))] * len(entity)


def neighbors_of(entity: int) -> set[int]:
    train = DATASET.train
    pairs = list(zip(train.head.tolist(), train.tail.tolist()))
    return {t for h, t in pairs if h == entity} | {h for h, t in pairs if t == entity}


@given(
    step=st.integers(0, 10**7),
    seed=st.integers(0, 10**6),
    side=st.sampled_from(SIDES),
    count=st.integers(1, 20),
)
def test_neighbors_are_neighbors(step: int, seed: int, side: Side, count: int) -> None:
    for graph in (WORKSPACE.graph, workspace_of(DATASET, inverse=True).graph):
        source = GraphNeighbors(graph, count=count, seed=seed)
        entity = torch.arange(ENTITIES).repeat(2)
        ids = source.of(side, entity, torch.zeros_like(entity), Moment(0, 1, step, step + 1))
        assert ids.shape == (2 * ENTITIES, count)
        for row, known in zip(ids.tolist(), entity.tolist()):
            assert set(row) <= (neighbors_of(known) or {known})


def test_an_entity_without_neighbors_is_its_own() -> None:
    lonely = ENTITIES - 1
    assert not neighbors_of(lonely)
    source = GraphNeighbors(WORKSPACE.graph, count=3, seed=0)
    ids = source.of("tail", torch.tensor([lonely]), torch.tensor([0]), START)
    assert ids.tolist() == [[lonely] * 3]


def test_draws_depend_on_seed_step_and_side_alone() -> None:
    entity = torch.arange(ENTITIES)
    relation = torch.zeros_like(entity)

    def draws(seed: int = 0, step: int = 5, side: Side = "tail", epoch: int = 0) -> Any:
        source = GraphNeighbors(WORKSPACE.graph, count=30, seed=seed)
        return source.of(side, entity, relation, Moment(epoch, 9, step, 100)).tolist()

    assert draws() == draws(epoch=3)
    others = [draws(seed=1), draws(step=6), draws(side="head")]
    assert all(other != draws() for other in others)
    torch.rand(3)  # what others draw does not matter
    assert draws() == draws()


def test_every_neighbor_is_drawn_as_often_as_it_has_edges() -> None:
    source = GraphNeighbors(WORKSPACE.graph, count=20_000, seed=0)
    train = DATASET.train
    known = int(np.bincount(train.head, minlength=ENTITIES).argmax())
    ends = [*train.tail[train.head == known], *train.head[train.tail == known]]
    wanted = np.bincount(ends, minlength=ENTITIES) / len(ends)
    ids = source.of("tail", torch.tensor([known]), torch.tensor([0]), START)[0]
    assert np.abs(np.bincount(ids, minlength=ENTITIES) / len(ids) - wanted).max() < 0.02
