"""The contract of score functions, run over the whole registry.

A new model is tested by adding it to the registry and one written-out formula to ``REFERENCES``.
"""

from __future__ import annotations

import cmath
import math
from typing import Any

import dgl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.func import functional_call

from dglke_distill.config import ModelConfig
from dglke_distill.data.triples import SIDES
from dglke_distill.errors import UserError
from dglke_distill.models import SCORE_FUNCTIONS, build_model, build_score_function, canonical_name
from dglke_distill.models.base import KGEModel

ENTITIES, RELATIONS, DIM = 11, 3, 6


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors of a dozen rows: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- written-out formulas: vectors are lists of floats, loops are loops -------------------------


def norm(vector: list[float], name: str) -> float:
    if name == "l1":
        return sum(abs(x) for x in vector)
    return math.sqrt(sum(x * x for x in vector))


def unit(vector: list[float]) -> list[float]:
    return [x / norm(vector, "l2") for x in vector]


def complex_parts(vector: list[float]) -> list[complex]:
    half = len(vector) // 2
    return [complex(vector[k], vector[half + k]) for k in range(half)]


def trans_e(h, r, t, norm_name="l1", normalize=False):
    if normalize:
        h, r, t = unit(h), unit(r), unit(t)
    return -norm([a + b - c for a, b, c in zip(h, r, t)], norm_name)


def dist_mult(h, r, t):
    return sum(a * b * c for a, b, c in zip(h, r, t))


def compl_ex(h, r, t):
    products = zip(complex_parts(h), complex_parts(r), complex_parts(t))
    return sum(a * b * c.conjugate() for a, b, c in products).real


def simpl_e(h, r, t):
    half = len(h) // 2
    forward = sum(h[k] * r[k] * t[half + k] for k in range(half))
    backward = sum(t[k] * r[half + k] * h[half + k] for k in range(half))
    return (forward + backward) / 2


def rotat_e(h, r, t):
    rotated = [a * cmath.exp(1j * phase) for a, phase in zip(complex_parts(h), r)]
    return -sum(abs(a - b) for a, b in zip(rotated, complex_parts(t)))


def rescal(h, r, t):
    d = len(h)
    return sum(h[i] * r[i * d + j] * t[j] for i in range(d) for j in range(d))


def hol_e(h, r, t):
    d = len(h)
    return sum(r[k] * h[i] * t[(k + i) % d] for k in range(d) for i in range(d))


def trans_r(h, r, t, norm_name="l1", normalize=False, relation_dim=None):
    d, k = len(h), relation_dim or len(h)
    if normalize:
        h, t = unit(h), unit(t)
    translation = unit(r[:k]) if normalize else r[:k]
    matrix = [r[k + i * k : k + (i + 1) * k] for i in range(d)]
    difference = [
        sum(h[i] * matrix[i][j] for i in range(d))
        + translation[j]
        - sum(t[i] * matrix[i][j] for i in range(d))
        for j in range(k)
    ]
    return -norm(difference, norm_name)


def pair_re(h, r, t, normalize=True):
    if normalize:
        h, t = unit(h), unit(t)
    d = len(h)
    return -sum(abs(h[k] * r[k] - t[k] * r[d + k]) for k in range(d))


REFERENCES: dict[str, Any] = {
    "TransE": trans_e,
    "DistMult": dist_mult,
    "ComplEx": compl_ex,
    "SimplE": simpl_e,
    "RotatE": rotat_e,
    "RESCAL": rescal,
    "HolE": hol_e,
    "TransR": trans_r,
    "PairRE": pair_re,
}

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SCORE_FUNCTIONS),
    ("TransE", {"norm": "l2"}),
    ("TransE", {"normalize": True}),
    ("TransR", {"norm": "l2", "relation_dim": 4, "normalize": True}),
    ("TransR", {"relation_dim": 9}),
    ("PairRE", {"normalize": False}),
]
IDS = ["-".join([name, *(f"{k}={v}" for k, v in options.items())]) for name, options in VARIANTS]
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
every_model = pytest.mark.parametrize("name", SCORE_FUNCTIONS)


def reference(name: str, options: dict[str, Any], h, r, t) -> float:
    renamed = {"norm_name" if key == "norm" else key: value for key, value in options.items()}
    return float(
        REFERENCES[name](list(map(float, h)), list(map(float, r)), list(map(float, t)), **renamed)
    )


def make(name: str, options=None, *, dim=DIM, seed=0, dtype=torch.float64, **settings) -> KGEModel:
    config = ModelConfig(name=name, dim=dim, options=options or {}, **settings)
    model = build_model(config, ENTITIES, RELATIONS, dtype)
    model.reset(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():  # order-one numbers everywhere, biases too
            weight.normal_(generator=generator)
    return model


def some_triples(count: int = 12, seed: int = 5):
    generator = torch.Generator().manual_seed(seed)
    head, tail = torch.randint(0, ENTITIES, (2, count), generator=generator)
    return head, torch.randint(0, RELATIONS, (count,), generator=generator), tail


def graph_of(head, relation, tail) -> dgl.DGLGraph:
    graph = dgl.graph((head, tail), num_nodes=ENTITIES)
    graph.edata["relation"] = relation
    return graph


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


@pytest.mark.parametrize("dim", [1, 2, 5, 7])
@every_model
def test_small_and_odd_sizes(name, dim):
    try:
        model = make(name, dim=dim)
    except UserError as error:
        assert dim % 2 and "model.dim" in str(error) and str(dim + 1) in str(error)
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
    for chunks in (1, 3, 4, len(entity)):
        candidates = torch.randint(0, ENTITIES, (chunks, 5), generator=generator)
        expected = everything.gather(1, candidates.repeat_interleave(len(entity) // chunks, 0))
        for exact in (False, True):
            got = model.score(query, entities, candidates, exact=exact)
            torch.testing.assert_close(got.detach(), expected)
    torch.testing.assert_close(model.score(query, entities).detach(), everything)


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
    assert torch.autograd.gradcheck(scores, weights)


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


def test_relations_may_be_dgl_edge_types(graph):
    model = make("TransE")
    typed = {}
    for relation in range(RELATIONS):
        chosen = graph.edata["relation"] == relation
        typed["entity", f"relation {relation}", "entity"] = tuple(e[chosen] for e in graph.edges())
    hetero = dgl.heterograph(typed, {"entity": ENTITIES})
    flat = dgl.to_homogeneous(hetero)
    flat.edata["relation"] = flat.edata[dgl.ETYPE]
    assert set(flat.edata["relation"].tolist()) == set(range(RELATIONS))
    expected = model(flat)
    del flat.edata["relation"]
    torch.testing.assert_close(model(flat), expected)


def test_graphs_that_cannot_be_scored_say_why(graph):
    model = make("TransE")
    with pytest.raises(KeyError, match="relation"):
        model(dgl.graph(graph.edges()))
    hetero = dgl.heterograph({("drug", "binds", "protein"): ([0, 1], [0, 1])})
    with pytest.raises(ValueError, match='ndata\\["entity"\\]'):
        model(dgl.to_homogeneous(hetero))


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


# --- an independent implementation --------------------------------------------------------------


def pykeen_score(name: str, options: dict[str, Any], h, r, t) -> torch.Tensor:
    """Score rows of vectors (b, dim), (b, relation_floats), (b, dim) with PyKEEN's interactions."""
    from pykeen.nn import modules

    def parts(vectors):
        return torch.complex(*vectors.chunk(2, dim=-1))

    if name == "TransE":
        return modules.TransEInteraction(p=1 if options.get("norm", "l1") == "l1" else 2)(h, r, t)
    if name == "DistMult":
        return modules.DistMultInteraction()(h, r, t)
    if name == "ComplEx":
        return modules.ComplExInteraction()(parts(h), parts(r), parts(t))
    if name == "SimplE":
        # PyKEEN pairs first with first: the tail's roles are handed over the other way round.
        head, relation, tail = h.chunk(2, -1), r.chunk(2, -1), t.chunk(2, -1)
        return modules.SimplEInteraction()(head, relation, tail[::-1])
    if name == "RotatE":
        # PyKEEN takes the L2 norm over coordinates where the paper's code sums their moduli: the
        # two agree on each coordinate alone.
        rotation = torch.polar(torch.ones_like(r), r)
        each = modules.RotatEInteraction()(
            *(vectors.unsqueeze(-1) for vectors in (parts(h), rotation, parts(t)))
        )
        return each.sum(-1)
    if name == "RESCAL":
        return modules.RESCALInteraction()(h, r.view(-1, h.shape[1], h.shape[1]), t)
    if name == "HolE":
        return modules.HolEInteraction()(h, r, t)
    if name == "TransR":
        k = options.get("relation_dim") or h.shape[1]
        interaction = modules.TransRInteraction(
            p=1 if options.get("norm", "l1") == "l1" else 2,
            power_norm=False,
            max_projection_norm=1e9,
        )
        return interaction(h, (r[:, :k], r[:, k:].view(-1, h.shape[1], k)), t)
    if name == "PairRE":
        return modules.PairREInteraction(p=1, power_norm=False)(h, r.chunk(2, -1), t)
    raise NotImplementedError(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("TransE", {}),
        ("TransE", {"norm": "l2"}),
        ("DistMult", {}),
        ("ComplEx", {}),
        ("SimplE", {}),
        ("RotatE", {}),
        ("RESCAL", {}),
        ("HolE", {}),
        ("TransR", {"relation_dim": 5}),
        ("TransR", {"norm": "l2"}),
        ("PairRE", {"normalize": False}),
    ],
)
def test_agrees_with_pykeen(name, options):
    model = make(name, options, dim=16)
    head, relation, tail = some_triples()
    with torch.no_grad():
        weight = model.encoder.weight
        expected = pykeen_score(
            name, options, weight[head], model.relation_weight[relation], weight[tail]
        )
        torch.testing.assert_close(model.score_triples(head, relation, tail), expected)


# --- what each model is known for ---------------------------------------------------------------


def one_score(name, h, r, t, options=None, side="tail") -> float:
    """Score one triple of given vectors through query and kernel, from the side asked for."""
    from dglke_distill.models.kernels import pairwise

    h, r, t = (torch.as_tensor(v, dtype=torch.float64).reshape(1, -1) for v in (h, r, t))
    function = build_score_function(ModelConfig(name=name, dim=h.shape[1], options=options or {}))
    known, answer = (h, t) if side == "tail" else (t, h)
    return pairwise(function.kernel, function.query(known, r, side), answer, exact=True).item()


def vectors(size: int, count: int = 1):
    number = st.floats(-4, 4, allow_nan=False, width=32)
    return st.lists(
        st.lists(number, min_size=size, max_size=size), min_size=count, max_size=count
    ).map(lambda rows: torch.tensor(rows, dtype=torch.float64))


quickly = hypothesis_settings(max_examples=40, deadline=None)
close = pytest.approx


@quickly
@given(vectors(6, 4), st.sampled_from(["l1", "l2"]), st.sampled_from(SIDES))
def test_transe_does_not_change_when_everything_is_moved(rows, norm_name, side):
    h, r, t, shift = rows
    options = {"norm": norm_name}
    moved = one_score("TransE", h + shift, r, t + shift, options, side)
    assert moved == close(one_score("TransE", h, r, t, options, side), abs=1e-9)
    assert one_score("TransE", h, t - h, t, options, side) == close(0.0, abs=1e-9)


@quickly
@given(vectors(6, 3), st.sampled_from(SIDES))
def test_distmult_is_symmetric(rows, side):
    h, r, t = rows
    assert one_score("DistMult", h, r, t, side=side) == close(
        one_score("DistMult", t, r, h, side=side), abs=1e-9
    )


@quickly
@given(vectors(6, 3), st.sampled_from(SIDES))
def test_complex_is_symmetric_in_the_real_and_antisymmetric_in_the_imaginary_part(rows, side):
    h, r, t = rows
    real, imaginary = r.clone(), r.clone()
    real[3:], imaginary[:3] = 0, 0
    for relation, sign in ((real, 1), (imaginary, -1)):
        swapped = sign * one_score("ComplEx", t, relation, h, side=side)
        assert one_score("ComplEx", h, relation, t, side=side) == close(swapped, abs=1e-9)
    conjugate = r * torch.tensor([1, 1, 1, -1, -1, -1])
    assert one_score("ComplEx", h, r, t, side=side) == close(
        one_score("ComplEx", t, conjugate, h, side=side), abs=1e-9
    )


@quickly
@given(vectors(6, 3), st.sampled_from(SIDES))
def test_simple_with_swapped_relation_halves_is_the_inverse_relation(rows, side):
    h, r, t = rows
    inverse = torch.cat([r[3:], r[:3]])
    assert one_score("SimplE", h, r, t, side=side) == close(
        one_score("SimplE", t, inverse, h, side=side), abs=1e-9
    )


@quickly
@given(vectors(6, 2), vectors(3, 2), st.sampled_from(SIDES))
def test_rotate_inverts_and_composes(rows, phases, side):
    (h, t), (first, second) = rows, phases
    score = one_score("RotatE", h, first, t, side=side)
    assert score == close(one_score("RotatE", t, -first, h, side=side), abs=1e-9)
    assert score == close(one_score("RotatE", h, first + 2 * math.pi, t, side=side), abs=1e-9)
    turned = torch.view_as_real(
        torch.complex(h[:3], h[3:]) * torch.polar(torch.ones(3).double(), first)
    )
    halfway = torch.cat([turned[:, 0], turned[:, 1]])
    assert one_score("RotatE", halfway, second, t, side=side) == close(
        one_score("RotatE", h, first + second, t, side=side), abs=1e-9
    )


@quickly
@given(st.integers(1, 9).flatmap(lambda d: vectors(d, 3)), st.sampled_from(SIDES))
def test_hole_is_the_explicit_double_sum(rows, side):
    h, r, t = rows
    assert one_score("HolE", h, r, t, side=side) == close(
        hol_e(h.tolist(), r.tolist(), t.tolist()), abs=1e-6
    )


@quickly
@given(vectors(4, 2), vectors(16, 1), st.sampled_from(SIDES))
def test_rescal_with_the_transposed_matrix_is_the_inverse_relation(rows, matrices, side):
    (h, t), matrix = rows, matrices[0].view(4, 4)
    assert one_score("RESCAL", h, matrix, t, side=side) == close(
        one_score("RESCAL", t, matrix.T.reshape(-1), h, side=side), abs=1e-9
    )


def test_normalised_models_ignore_the_length_of_entities():
    for name, options in (("TransE", {"normalize": True}), ("PairRE", {})):
        model = make(name, options)
        before = model.score_all(*some_triples()[:2], "tail")
        with torch.no_grad():
            model.encoder.weight *= torch.rand(ENTITIES, 1) + 0.5
        torch.testing.assert_close(model.score_all(*some_triples()[:2], "tail"), before)


# --- tables -------------------------------------------------------------------------------------


@every_variant
def test_reset_is_a_function_of_the_seed_and_of_the_scale(name, options):
    config = ModelConfig(name=name, dim=32, options=options)
    tables = []
    for seed, scale in ((3, None), (3, None), (4, None), (3, 0.25)):
        model = build_model(config, 400, 5)
        model.reset(seed, scale)
        tables.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
        assert torch.isfinite(tables[-1]).all() and model.encoder.weight.std() > 0
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    spread = model.encoder.weight.detach()
    assert 0.2 < spread.abs().max() < 1.5 and 0.1 < spread.std() < 0.3


def test_rotations_start_all_round_the_circle_whatever_the_scale():
    model = build_model(ModelConfig(name="RotatE", dim=64), 5, 100)
    model.reset(0, 1e-3)
    phases = model.relation_weight.detach()
    assert phases.shape == (100, 32)
    assert phases.abs().max() <= math.pi
    assert phases.std().item() == close(math.pi / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("relation_dim", [4, 6, 9])
def test_transr_starts_as_a_translation(relation_dim):
    model = build_model(
        ModelConfig(name="TransR", dim=6, options={"relation_dim": relation_dim}), 5, 2
    )
    model.reset(0)
    row = model.relation_weight[1].detach()
    assert torch.equal(row[relation_dim:].view(6, relation_dim), torch.eye(6, relation_dim))
    assert 0 < row[:relation_dim].abs().max() < 11 / 6


@pytest.mark.parametrize("name", ["ComplEx", "RotatE"])
def test_magnitudes_of_complex_models_are_moduli(name):
    model = make(name)
    weight = model.encoder.weight.detach()
    moduli = torch.complex(*weight.chunk(2, dim=-1)).abs()
    torch.testing.assert_close(model.score_function.squared_magnitudes(weight), moduli.square())


def test_magnitudes_of_rotations_are_one_and_of_real_models_squares():
    rotate, distmult = make("RotatE"), make("DistMult")
    magnitudes = rotate.score_function.squared_magnitudes(rotate.relation_weight)
    assert torch.equal(magnitudes, torch.ones(RELATIONS, DIM // 2, dtype=torch.float64))
    weight = distmult.encoder.weight.detach()
    assert torch.equal(distmult.score_function.squared_magnitudes(weight), weight * weight)


@pytest.mark.parametrize(
    ("name", "floats"),
    [("TransE", 6), ("RotatE", 3), ("SimplE", 6), ("RESCAL", 36), ("TransR", 42), ("PairRE", 12)],
)
def test_floats_are_counted_as_stored(name, floats):
    model = make(name, reciprocal=True, entity_bias=True)
    assert model.relation_weight.shape == (2 * RELATIONS, floats)
    assert model.floats_per_entity == DIM + 1
    assert model.bytes_per_entity == 8 * (DIM + 1)


def test_frozen_entities_are_encoded_once_and_contexts_nest():
    model = make("TransE")
    query = some_triples()[:2]
    before = model.score_all(*query, "tail")
    with model.frozen() as outer:
        with model.frozen() as inner:
            assert inner is outer
        assert model.encode() is outer
        assert torch.equal(model.score_all(*query, "tail"), before)
    with torch.no_grad():
        model.encoder.weight.mul_(2)
    assert not torch.equal(model.score_all(*query, "tail"), before)


def test_embeddings_are_handed_out_detached():
    model = make("PairRE", reciprocal=True)
    assert model.entity_embeddings.shape == (ENTITIES, DIM)
    assert not model.entity_embeddings.requires_grad
    lengths = model.entity_embeddings.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(ENTITIES, dtype=torch.float64))
    assert model.relation_embeddings.shape == (2 * RELATIONS, 2 * DIM)
    assert not model.relation_embeddings.requires_grad


# --- names and mistakes -------------------------------------------------------------------------


@every_model
def test_names_are_found_in_any_letter_case(name):
    for spelled in (name, name.lower(), name.upper(), name.swapcase()):
        assert canonical_name(spelled) == name
        assert isinstance(make(spelled).score_function, SCORE_FUNCTIONS[name])


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"name": "complx"}, ["model.name", "'complx'", "ComplEx"]),
        ({"name": "zzz"}, ["model.name", "'zzz'", *SCORE_FUNCTIONS]),
        ({"encoder": "neighbour"}, ["model.encoder", "neighbor"]),
        ({"name": "ComplEx", "dim": 7}, ["model.dim", "7", "8"]),
        ({"name": "RotatE", "dim": 1}, ["model.dim", "1", "2"]),
        ({"name": "SimplE", "dim": 33}, ["model.dim", "33", "34"]),
        ({"name": "TransE", "options": {"nrm": "l1"}}, ["model.options", "TransE", "'norm'"]),
        ({"name": "TransE", "options": {"norm": "l3"}}, ["model.options", "norm", "'l3'"]),
        ({"name": "TransR", "options": {"relation_dim": 0}}, ["model.options", "relation_dim"]),
        ({"name": "DistMult", "options": {"norm": "l1"}}, ["model.options", "DistMult", "norm"]),
        ({"encoder_options": {"layers": 2}}, ["model.encoder_options", "lookup", "layers"]),
    ],
)
def test_mistakes_are_named(settings, parts):
    with pytest.raises(UserError) as caught:
        build_model(ModelConfig(**settings), ENTITIES, RELATIONS)
    for part in parts:
        assert part in str(caught.value)


def test_a_loss_of_precision_between_float32_and_float64_is_only_rounding():
    for name in SCORE_FUNCTIONS:
        double = make(name, dim=16)
        single = build_model(ModelConfig(name=name, dim=16), ENTITIES, RELATIONS, torch.float32)
        single.load_state_dict(double.state_dict())
        entity, relation, _ = some_triples()
        for side in SIDES:
            np.testing.assert_allclose(
                single.score_all(entity, relation, side).numpy(),
                double.score_all(entity, relation, side).numpy(),
                rtol=2e-5,
                atol=2e-5,
            )
