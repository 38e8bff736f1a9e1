"""Encoders: the table, and message passing checked against loops over edges."""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import pytest
import torch
from model_formulas import one_thread  # noqa: F401 (a fixture)

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.models import ENCODERS, SCORE_FUNCTIONS, build_model, neighbor_encoder
from dglke_distill.models.base import KGEModel
from dglke_distill.sampling.neighbors import NeighborBlocks

ENTITIES, RELATIONS, DIM = 13, 3, 8
ISOLATED = 12

VARIANTS: list[dict[str, Any]] = [
    {"composition": "rgcn_basis", "bases": 3},
    {"composition": "rgcn_basis", "bases": 1, "residual": False},
    {"composition": "compgcn", "operation": "subtract"},
    {"composition": "compgcn", "operation": "multiply"},
    {"composition": "compgcn", "operation": "correlate", "residual": False},
]
IDS = ["-".join(str(v) for v in options.values()) for options in VARIANTS]
every_variant = pytest.mark.parametrize("options", VARIANTS, ids=IDS)
both_depths = pytest.mark.parametrize("layers", [1, 2])


@pytest.fixture(scope="module")
def triples() -> Triples:
    random = np.random.default_rng(0)
    rows = np.stack(
        [
            random.integers(0, ISOLATED, 40),
            random.integers(0, RELATIONS, 40),
            random.integers(0, ISOLATED, 40),
        ],
        axis=1,
    )
    return Triples.from_array(np.concatenate([rows, rows[:3]]))  # parallel edges too


@pytest.fixture(scope="module")
def graph(triples) -> dgl.DGLGraph:
    return build_graph(triples, ENTITIES, inverse=True, num_relations=RELATIONS)


def make(options=None, *, graph=None, name="DistMult", dtype=torch.float64, **settings) -> KGEModel:
    config = ModelConfig(
        name=name, dim=DIM, encoder="neighbor", encoder_options=options or {}, **settings
    )
    model = build_model(config, ENTITIES, RELATIONS, dtype, graph=graph)
    model.reset(0, 1.0)
    return model


def vector_of(
    model: KGEModel, triples: Triples, depth: int, entity: int, cache: dict
) -> np.ndarray:
    """Encode one entity by its definition: recursion over neighbours, loops over edges."""
    encoder, options = model.encoder, model.encoder.options
    weight = {key: value.detach().numpy() for key, value in encoder.named_parameters()}
    if depth == 0:
        return weight["weight"][entity]
    if (depth, entity) in cache:
        return cache[depth, entity]

    def below(other: int) -> np.ndarray:
        return vector_of(model, triples, depth - 1, other, cache)

    layer = f"layers.{depth - 1}."
    edges = [(h, r) for h, r, t in triples.to_array().tolist() if t == entity]
    edges += [(t, r + RELATIONS) for h, r, t in triples.to_array().tolist() if h == entity]
    total = np.zeros(DIM)
    if options.composition == "rgcn_basis":
        for other, relation in edges:
            matrix = sum(
                weight[layer + "coefficient"][relation, b] * weight[layer + "basis"][b]
                for b in range(options.bases)
            )
            total += below(other) @ matrix / len(edges)
        own = below(entity) @ weight[layer + "self_loop"]
    else:
        table = weight["layers.0.relation"]
        for i in range(1, depth):
            table = table @ weight[f"layers.{i}.relation"]

        def compose(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            if options.operation == "subtract":
                return left - right
            if options.operation == "multiply":
                return left * right
            return np.array(
                [sum(left[i] * right[(k + i) % DIM] for i in range(DIM)) for k in range(DIM)]
            )

        for other, relation in edges:
            direction = weight[layer + "direction"][0 if relation < RELATIONS else 1]
            total += compose(below(other), table[relation]) @ direction / len(edges)
        own = compose(below(entity), weight[layer + "self_relation"][0])
        own = own @ weight[layer + "self_loop"]
    out = own + total
    if depth < options.layers:
        out = np.maximum(out, 0)
    if options.residual:
        out = out + below(entity)
    cache[depth, entity] = out
    return out


@both_depths
@every_variant
def test_the_whole_graph_is_encoded_by_the_definition(options, layers, graph, triples):
    model = make({**options, "layers": layers}, graph=graph)
    cache: dict = {}
    expected = np.stack([vector_of(model, triples, layers, e, cache) for e in range(ENTITIES)])
    got = model.encode().vectors
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-9, atol=1e-9)


@both_depths
@every_variant
def test_blocks_graph_and_pieces_of_it_agree(options, layers, graph, monkeypatch):
    model = make({**options, "layers": layers}, graph=graph)
    whole = model.encode().vectors.detach()
    nodes = torch.tensor([5, ISOLATED, 0, 11])
    blocks = model.encoder.blocks_for(nodes)
    assert len(blocks) == layers
    torch.testing.assert_close(model.encode(nodes, blocks).vectors.detach(), whole[nodes])
    torch.testing.assert_close(model.encode(nodes).vectors.detach(), whole[nodes])
    everyone = torch.arange(ENTITIES)
    blocks = model.encoder.blocks_for(everyone)
    torch.testing.assert_close(model.encode(everyone, blocks).vectors.detach(), whole)
    for floats, fewest in ((1, ENTITIES), (600, 2), (1 << 30, 1)):
        monkeypatch.setattr(neighbor_encoder, "CHUNK_FLOATS", floats)
        assert fewest <= sum(1 for _ in model.encoder._graph_in_blocks()) <= ENTITIES
        with torch.no_grad():
            torch.testing.assert_close(model.encode().vectors, whole)


@every_variant
def test_sampled_blocks_are_a_smaller_neighbourhood(options, graph):
    """Blocks drawn by anyone's DGL sampler serve, as long as edges carry relation ids."""
    model = make({**options, "layers": 2}, graph=graph)
    sampler = dgl.dataloading.NeighborSampler([3, 2], prefetch_edge_feats=[])
    nodes = torch.tensor([4, 1, 7])
    _, _, blocks = sampler.sample(graph, nodes)
    for block in blocks:
        block.edata["relation"] = graph.edata["relation"][block.edata[dgl.EID]]
    got = model.encode(nodes, blocks).vectors
    assert got.shape == (3, DIM)
    assert not torch.allclose(got, model.encode(nodes).vectors)
    got.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.encoder.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_variant
def test_a_batch_without_its_own_edges_is_a_graph_without_them(options, dtype, graph, triples):
    """The blocks of training: message passing must not see the answer."""
    hidden = torch.tensor([0, 5, 9])
    facts = triples.to_array()
    kept = ~(facts[:, None] == facts[hidden.numpy()]).all(-1).any(-1)
    rest = build_graph(triples[kept], ENTITIES, inverse=True, num_relations=RELATIONS)
    model = make({**options, "layers": 2, "fanouts": [-1, -1]}, graph=rest, dtype=dtype)
    expected = model.encode().vectors
    nodes = torch.randperm(ENTITIES, generator=torch.Generator().manual_seed(0))
    blocks = NeighborBlocks(graph, model.encoder.fanouts).sample(nodes, hidden)
    torch.testing.assert_close(model.encode(nodes, blocks).vectors, expected[nodes])


@both_depths
@every_variant
def test_gradients_are_those_of_finite_differences(options, layers, graph):
    model = make({**options, "layers": layers}, graph=graph)
    nodes = torch.tensor([5, 2, ISOLATED])
    encoder = model.encoder
    names = [key for key, _ in encoder.named_parameters()]
    blocks = encoder.blocks_for(nodes)

    def encode(*weights):
        return torch.func.functional_call(encoder, dict(zip(names, weights)), (nodes, blocks))

    weights = tuple(p.detach().clone().requires_grad_() for p in encoder.parameters())
    assert torch.autograd.gradcheck(encode, weights, fast_mode=True)


@every_variant
def test_the_table_gets_row_gradients_and_the_layers_dense_ones(options, graph):
    nodes = torch.tensor([5, 2, ISOLATED])
    dense, sparse = (make({**options, "layers": 2}, graph=graph) for _ in range(2))
    dense.encode(nodes).vectors.square().sum().backward()
    sparse.set_row_sparse(entities=True, relations=True)
    sparse.encode(nodes).vectors.square().sum().backward()
    assert sparse.encoder.weight.grad is None
    total = torch.zeros_like(dense.encoder.weight)
    for ids, rows in sparse.encoder.weight.row_gradients:
        total.index_add_(0, ids, rows)
    torch.testing.assert_close(total, dense.encoder.weight.grad)
    for (key, one), other in zip(dense.encoder.named_parameters(), sparse.encoder.parameters()):
        if key != "weight":
            torch.testing.assert_close(other.grad, one.grad)
    sparse.encode().vectors.square().sum().backward()
    assert torch.isfinite(sparse.encoder.weight.grad).all()


@pytest.mark.parametrize("name", SCORE_FUNCTIONS)
@pytest.mark.parametrize("composition", ["rgcn_basis", "compgcn"])
def test_works_under_every_score_function(name, composition, graph, triples):
    model = make({"composition": composition}, graph=graph, name=name, entity_bias=True)
    head, relation, tail = (torch.from_numpy(c).long() for c in triples.to_array().T)
    forward_edges = dgl.edge_subgraph(graph, torch.arange(len(triples)), relabel_nodes=False)
    own = model(forward_edges)
    rows = torch.arange(len(triples))
    for got in (
        model.score_all(head, relation, "tail")[rows, tail],
        model.score_all(tail, relation, "head")[rows, head],
        model.score_triples(head, relation, tail),
    ):
        torch.testing.assert_close(got, own)
    with model.frozen():
        torch.testing.assert_close(model.score_all(head, relation, "tail")[rows, tail], own)
    own.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("composition", ["rgcn_basis", "compgcn"])
def test_the_start_keeps_the_scale_of_the_score_function(composition, graph):
    for name in ("ComplEx", "TransE"):
        for operation in ("subtract", "multiply", "correlate"):
            options = {"composition": composition, "layers": 2, "operation": operation}
            config = ModelConfig(name=name, dim=32, encoder="neighbor", encoder_options=options)
            model = build_model(config, ENTITIES, RELATIONS, graph=graph)
            model.reset(0)
            ratio = model.encode().vectors.std() / model.encoder.weight.std()
            assert 0.3 < ratio < 6


def test_a_stored_model_needs_no_graph(graph, triples):
    options = {"layers": 2}
    trained = make(options, graph=graph)
    head, relation, _ = (torch.from_numpy(c).long() for c in triples.to_array().T)
    expected = trained.score_all(head, relation, "tail")
    trained.encoder.store_encoded()
    loaded = make(options)
    loaded.load_state_dict(trained.state_dict())
    torch.testing.assert_close(loaded.score_all(head, relation, "tail"), expected)
    nodes = torch.tensor([3, 9])
    assert torch.equal(loaded.encode(nodes).vectors, trained.encoder.encoded[nodes])
    assert loaded.encoder.blocks_for(nodes) is None
    loaded.encoder.store_encoded()  # nothing to encode: what was stored stays
    torch.testing.assert_close(loaded.score_all(head, relation, "tail"), expected)
    loaded.encoder.attach(graph)
    with torch.no_grad():
        loaded.encoder.weight.mul_(2)
    assert not torch.allclose(loaded.score_all(head, relation, "tail"), expected)


def test_without_graph_and_stored_vectors_it_says_so():
    with pytest.raises(UserError, match="attach"):
        make().encode()


def test_dropout_changes_training_only(graph):
    model = make({"dropout": 0.5}, graph=graph)
    assert not torch.equal(model.encode().vectors, model.encode().vectors)
    with torch.no_grad():
        first = model.encode().vectors
        assert torch.equal(first, model.encode().vectors)
    model.eval()
    torch.testing.assert_close(model.encode().vectors.detach(), first)


def test_the_target_graph_may_be_another_than_the_attached_one(graph):
    """Scoring a graph never reads its edges: messages come from the attached graph alone."""
    model = make(graph=graph)
    question = dgl.graph(([1, 2], [3, ISOLATED]), num_nodes=ENTITIES)
    question.edata["relation"] = torch.tensor([0, 2])
    whole = model.encode().vectors
    relation = model.relation_weight[torch.tensor([0, 2])]
    expected = (whole[[1, 2]] * relation * whole[[3, ISOLATED]]).sum(1)
    torch.testing.assert_close(model(question), expected)


def test_fine_tuning_learns_through_the_neighbourhood(graph, triples):
    model = make({"composition": "compgcn"}, graph=graph, dtype=torch.float32)
    head, relation, tail = (torch.from_numpy(c).long() for c in triples.to_array().T)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = model.encoder.layers[0].direction.detach().clone()
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        difference = model.score_triples(head, relation, tail.roll(1)) - model.score_triples(
            head, relation, tail
        )
        loss = torch.nn.functional.softplus(difference).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert not torch.equal(model.encoder.layers[0].direction, before)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"layers": 0}, ["layers"]),
        ({"layers": 2, "fanouts": [5]}, ["fanouts", "[5]", "2 layers"]),
        ({"fanouts": [0]}, ["fanouts", "[0]"]),
        ({"composition": "gcn"}, ["composition", "'gcn'"]),
        ({"dropout": 1.0}, ["dropout"]),
        ({"base": 2}, ["'base'", "'bases'"]),
    ],
)
def test_mistakes_are_named(options, parts):
    with pytest.raises(UserError) as caught:
        make(options)
    for part in ["model.encoder_options", *parts]:
        assert part in str(caught.value)


def test_graphs_that_cannot_serve_are_refused(graph, triples):
    encoder = make().encoder
    for wrong, word in (
        (build_graph(triples, ENTITIES + 1, inverse=True), "nodes"),
        (build_graph(triples, ENTITIES), "inverse=True"),
        (build_graph(triples, ENTITIES, inverse=True, num_relations=9), "inverse=True"),
        (dgl.graph(graph.edges(), num_nodes=ENTITIES), "edata"),
    ):
        with pytest.raises(ValueError, match=word):
            encoder.attach(wrong)


def test_fanouts_have_a_default_per_layer():
    assert make({"layers": 3}).encoder.fanouts == [neighbor_encoder.FANOUT] * 3
    assert make({"layers": 2, "fanouts": [4, -1]}).encoder.fanouts == [4, -1]


# --- the table ----------------------------------------------------------------------------------


def test_lookup_is_a_table():
    model = build_model(ModelConfig(name="TransE", dim=DIM), ENTITIES, RELATIONS, torch.float64)
    model.reset(0)
    encoder = model.encoder
    nodes = torch.tensor([4, 0, 9])
    assert encoder(None) is encoder.weight
    assert torch.equal(encoder(nodes), encoder.weight[nodes])
    assert encoder.weight.shape == (ENTITIES, DIM) and encoder.weight.dtype == torch.float64
    assert not encoder.needs_blocks and encoder.blocks_for(nodes) is None


def test_every_encoder_serves_the_same_calls(graph):
    """What training and checkpoints ask of an encoder, asked of each in the registry."""
    for name in ENCODERS:
        config = ModelConfig(name="DistMult", dim=DIM, encoder=name.upper())
        model = build_model(config, ENTITIES, RELATIONS, graph=graph)
        model.reset(1)
        model.encoder.store_encoded()
        model.encoder.attach(None)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        again = build_model(config, ENTITIES, RELATIONS)
        within = {key.removeprefix("encoder."): value for key, value in state.items()}
        again.encoder.take_sizes(within)
        again.load_state_dict(state)
        assert torch.equal(again.encode().vectors, model.encode().vectors)
        floats = DIM if model.has_vectors else 1
        assert again.encode(torch.tensor([2])).vectors.shape == (1, floats)
        asked = torch.tensor([2]), torch.tensor([1]), "head"
        assert torch.equal(again.score_all(*asked), model.score_all(*asked))
        assert model.encoder.num_entities == ENTITIES
