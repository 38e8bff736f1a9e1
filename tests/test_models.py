"""The contract of score functions, run over the whole registry."""

from __future__ import annotations

import dgl
import pytest
import torch
from model_formulas import (
    ENTITIES,
    REFERENCES,
    RELATIONS,
    every_model,
    every_variant,
    graph_of,
    make,
    one_thread,  # noqa: F401 (a fixture)
    reference,
    some_triples,
)
from torch.func import functional_call

from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import SIDES
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.sampling.negatives import NEGATIVE_SAMPLERS, build_sampler


def test_every_model_of_the_registry_has_a_written_out_formula():
    assert set(REFERENCES) == set(SCORE_FUNCTIONS)


@pytest.mark.parametrize("entity_bias", [False, True])
@pytest.mark.parametrize("reciprocal", [False, True])
@every_variant
def test_scores_are_the_formula_on_both_sides(name, options, reciprocal, entity_bias):
    model = make(name, options, reciprocal=reciprocal, entity_bias=entity_bias)
    head, relation, tail = some_triples()
    entity, table = model.encoder.weight.tolist(), model.relation_weight.tolist()
    bias = model.bias_weight[:, 0].tolist() if entity_bias else [0.0] * ENTITIES
    by_tail, by_head = [], []
    for h, r, t in zip(head.tolist(), relation.tolist(), tail.tolist()):
        by_tail.append(
            [
                reference(name, options, entity[h], table[r], entity[x]) + bias[x]
                for x in range(ENTITIES)
            ]
        )
        by_head.append(
            [
                (
                    reference(name, options, entity[t], table[r + RELATIONS], entity[x])
                    if reciprocal
                    else reference(name, options, entity[x], table[r], entity[t])
                )
                + bias[x]
                for x in range(ENTITIES)
            ]
        )
    expected = {"tail": torch.tensor(by_tail).double(), "head": torch.tensor(by_head).double()}
    torch.testing.assert_close(model.score_all(head, relation, "tail"), expected["tail"])
    torch.testing.assert_close(model.score_all(tail, relation, "head"), expected["head"])
    own = expected["tail"][torch.arange(len(head)), tail]
    torch.testing.assert_close(model.score_triples(head, relation, tail).detach(), own)
    torch.testing.assert_close(model(graph_of(head, relation, tail)).detach(), own)


@pytest.mark.parametrize("dim", [1, 2, 4, 5, 7])
@every_model
def test_small_and_odd_sizes(name, dim):
    try:
        model = make(name, dim=dim)
    except UserError as error:
        equal = 4 if name == "AutoSF" else 2
        assert dim % equal and "model.dim" in str(error)
        assert f"take {dim + equal - dim % equal}" in str(error)
        if name in ("RotE", "RotH"):  # published with a bias
            assert f"{max(2, dim - 1)} with model.entity_bias=true, which adds one" in str(error)
        return
    head, relation, tail = some_triples()
    entity, table = model.encoder.weight.detach(), model.relation_weight.detach()
    expected = [
        reference(name, {}, entity[h], table[r], entity[t]) for h, r, t in zip(head, relation, tail)
    ]
    for got in (
        model.score_all(head, relation, "tail")[torch.arange(len(head)), tail],
        model.score_all(tail, relation, "head")[torch.arange(len(head)), head],
    ):
        torch.testing.assert_close(got, torch.tensor(expected).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", SIDES)
@every_variant
def test_sharing_of_candidates_does_not_change_scores(name, options, side, dtype):
    model = make(name, options, dtype=dtype, dim=16, entity_bias=True)
    entity, relation, _ = some_triples()
    everything = model.score_all(entity, relation, side)
    assert everything.dtype == dtype
    entities = model.encode()
    query = model.query(entities, entity, relation, side)
    generator = torch.Generator().manual_seed(0)
    # Products of hyperbolic coordinates are large numbers whose difference counts.
    coarse = name == "RotH" and dtype == torch.float32
    bounds = {"rtol": 2e-5, "atol": 1e-4} if coarse else {}
    for chunks in (1, 3, 4, len(entity)):
        candidates = torch.randint(0, ENTITIES, (chunks, 5), generator=generator)
        expected = everything.gather(1, candidates.repeat_interleave(len(entity) // chunks, 0))
        for exact in (False, True):
            got = model.score(query, entities, candidates, exact=exact)
            torch.testing.assert_close(got.detach(), expected, **bounds)
    torch.testing.assert_close(model.score(query, entities).detach(), everything, **bounds)


@pytest.mark.parametrize("side", SIDES)
@every_variant
def test_rows_of_a_subset_score_like_ids(name, options, side):
    """A batch holds distinct entities; rows into them stand for ids."""
    model = make(name, options, entity_bias=True)
    nodes = torch.tensor([7, 2, 9, 4, 0])
    relation = torch.tensor([0, 2, 1, 2])
    entities = model.encode(nodes)
    query = model.query(entities, torch.tensor([3, 0, 0, 1]), relation, side)
    got = model.score(query, entities).detach()
    known = nodes[torch.tensor([3, 0, 0, 1])]
    torch.testing.assert_close(got, model.score_all(known, relation, side)[:, nodes])


@every_variant
def test_gradients_are_those_of_finite_differences(name, options):
    model = make(name, options, dim=4, entity_bias=True)
    graph = graph_of(*some_triples(4))
    names = [key for key, _ in model.named_parameters()]

    def scores(*weights):
        return functional_call(model, dict(zip(names, weights)), (graph,))

    weights = tuple(p.detach().clone().requires_grad_() for p in model.parameters())
    assert torch.autograd.gradcheck(scores, weights, fast_mode=True)


@pytest.mark.parametrize("sharing", ["all", "shared", "private"])
@pytest.mark.parametrize("value", [0.0, 0.5])
@every_variant
def test_gradients_are_finite_where_vectors_coincide(name, options, value, sharing):
    """Identical entities and idle relations: distances of zero, norms of zero."""
    model = make(name, options, dtype=torch.float32, entity_bias=True)
    with torch.no_grad():
        model.encoder.weight.fill_(value)
        model.relation_weight.zero_()
    for side in SIDES:
        entities = model.encode()
        entity, relation, _ = some_triples(6)
        query = model.query(entities, entity, relation, side)
        candidates = {
            "all": None,
            "shared": torch.arange(4)[None],
            "private": torch.arange(24).view(6, 4) % ENTITIES,
        }[sharing]
        score = model.score(query, entities, candidates)
        assert torch.isfinite(score).all()
        score.square().sum().add(score.sum()).backward()
    for weight in model.parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("reciprocal", [False, True])
@every_variant
def test_row_gradients_sum_to_the_dense_ones(name, options, reciprocal):
    triples = some_triples()
    dense = make(name, options, reciprocal=reciprocal, entity_bias=True)
    dense.score_triples(*triples).square().sum().backward()
    sparse = make(name, options, reciprocal=reciprocal, entity_bias=True)
    sparse.set_row_sparse(entities=True, relations=True)
    sparse.score_triples(*triples).square().sum().backward()
    for (key, one), other in zip(dense.named_parameters(), sparse.parameters()):
        if key.startswith("score_function."):  # what all triples share has no rows
            torch.testing.assert_close(other.grad, one.grad)
            continue
        assert other.grad is None, key
        total = torch.zeros_like(one)
        for ids, rows in other.row_gradients:
            total.index_add_(0, ids, rows)
        torch.testing.assert_close(total, one.grad)
    sparse.set_row_sparse(entities=False, relations=False)
    sparse.score_triples(*triples).square().sum().backward()
    torch.testing.assert_close(sparse.encoder.weight.grad, dense.encoder.weight.grad)


# --- DGL graphs ---------------------------------------------------------------------------------


@pytest.fixture
def graph() -> dgl.DGLGraph:
    return graph_of(*some_triples(20))


@every_model
def test_an_induced_subgraph_is_scored_by_its_original_ids(name, graph):
    model = make(name)
    everything = model(graph)
    part = dgl.node_subgraph(graph, [9, 1, 4, 7, 2, 10])
    assert 0 < part.num_edges() < graph.num_edges()
    torch.testing.assert_close(model(part), everything[part.edata[dgl.EID]])


@every_model
def test_own_entity_ids_win_over_dgl_ids(name, graph):
    model = make(name)
    part = dgl.node_subgraph(graph, [9, 1, 4, 7, 2, 10])
    mine = torch.tensor([3, 3, 0, 8, 5, 6])
    part.ndata["entity"] = mine
    head, tail = part.edges()
    expected = model.score_triples(mine[head], part.edata["relation"], mine[tail])
    torch.testing.assert_close(model(part), expected)


def test_dgl_edge_types_are_no_relation_ids(graph):
    """DGL numbers the types by their names, here 10 before 9."""
    model = make("TransE")
    typed = {}
    for relation in range(RELATIONS):
        chosen = graph.edata["relation"] == relation
        name = f"relation {relation + 9}"
        typed["entity", name, "entity"] = tuple(e[chosen] for e in graph.edges())
    hetero = dgl.heterograph(typed, {"entity": ENTITIES})
    flat = dgl.to_homogeneous(hetero)
    with pytest.raises(ValueError, match=r"dgl.ETYPE.*numbered in its own order"):
        model(flat)
    for sampler in NEGATIVE_SAMPLERS:
        with pytest.raises(ValueError, match="numbered in its own order"):
            build_sampler(sampler, flat)
    ids = [int(name.split()[1]) - 9 for _, name, _ in hetero.canonical_etypes]
    assert ids != sorted(ids)
    flat.edata["relation"] = torch.tensor(ids)[flat.edata[dgl.ETYPE]]
    head, tail = flat.edges()
    expected = model.score_triples(head, flat.edata["relation"], tail)
    torch.testing.assert_close(model(flat), expected)
    assert sorted(model(flat).tolist()) == pytest.approx(sorted(model(graph).tolist()))
    for refused in (hetero, dgl.to_block(flat)):
        with pytest.raises(ValueError, match=r"the graph is a (heterograph|block)"):
            model(refused)
        with pytest.raises(ValueError, match=r"the graph is a (heterograph|block)"):
            build_sampler("uniform", refused)


def test_graphs_that_cannot_be_scored_say_why(graph):
    model = make("TransE")
    with pytest.raises(ValueError, match="the graph has no relation ids: set"):
        model(dgl.graph(graph.edges()))
    hetero = dgl.heterograph({("drug", "binds", "protein"): ([0, 1], [0, 1])})
    flat = dgl.to_homogeneous(hetero)
    flat.edata["relation"] = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match='ndata\\["entity"\\]'):
        model(flat)
    fewer = dgl.remove_nodes(graph, [0])  # the others move up by one, and nothing tells
    with pytest.raises(ValueError, match="has 10 nodes, the model 11 entities"):
        model(fewer)
    for values, match in (
        (torch.full((graph.num_edges(),), RELATIONS), "edata.*go from 3 to 3, the model's from 0"),
        (torch.full((graph.num_edges(),), -1), "go from -1 to -1"),
        (torch.zeros(graph.num_edges()), "one integer per edge"),
        (torch.zeros(graph.num_edges(), 1, dtype=torch.int64), "one integer per edge"),
    ):
        wrong = graph.clone()
        wrong.edata["relation"] = values
        with pytest.raises(ValueError, match=match):
            model(wrong)
    part = dgl.node_subgraph(graph, [9, 1, 4])
    part.ndata["entity"] = torch.tensor([0, 11, 1])
    with pytest.raises(ValueError, match="entity ids of the nodes go from 0 to 11"):
        model(part)


def test_a_graph_without_edges_has_no_scores():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert make("TransE", entity_bias=True)(graph_of(nothing, nothing, nothing)).shape == (0,)


def test_int32_graphs_are_scored_too(graph):
    model = make("ComplEx")
    small = graph.int()
    small.edata["relation"] = small.edata["relation"].int()
    torch.testing.assert_close(model(small), model(graph))


@every_model
def test_fine_tuning_with_a_plain_torch_optimiser(name, graph):
    model = make(name, dtype=torch.float32)
    corrupted = graph_of(graph.edges()[0], graph.edata["relation"], graph.edges()[1].roll(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(model(corrupted) - model(graph)).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
