"""The NodePiece encoder against its formula, and in everything that a model is used for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import pytest
import torch
from distill_fixtures import chain_tree, write_clock
from model_formulas import one_thread  # noqa: F401 (a fixture)
from ogb_fixtures import write_wikikg2
from zoo_fixtures import home

from dglke_distill import zoo
from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state
from dglke_distill.config import Config, ModelConfig, compose
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Triples
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.models import SCORE_FUNCTIONS, build_model, node_piece, node_piece_tokens
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.memory import memory_need
from dglke_distill.runs.memory_parts import DataSize
from dglke_distill.runs.train_run import rank_loaded, train_run
from dglke_distill.training.optim import OPTIMIZERS

__all__ = ["home"]

ENTITIES, RELATIONS, DIM = 40, 3, 8
OPTIONS = {"anchors": 6, "per_entity": 3, "context": 2, "max_distance": 4, "token_dim": 5}


@pytest.fixture(scope="module")
def triples() -> Triples:
    """Facts of all but the last two entities."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 38, 90), rng.integers(0, RELATIONS, 90), rng.integers(0, 38, 90)
    return Triples.from_array(np.stack(columns, axis=1))


@pytest.fixture(scope="module")
def graph(triples: Triples) -> dgl.DGLGraph:
    return build_graph(triples, ENTITIES, inverse=True, num_relations=RELATIONS)


def make(graph=None, options=None, *, name="DistMult", dtype=torch.float64, **settings) -> KGEModel:
    config = ModelConfig(
        name=name,
        dim=settings.pop("dim", DIM),
        encoder="node_piece",
        encoder_options={**OPTIONS, **(options or {})},
        **settings,
    )
    model = build_model(config, ENTITIES, RELATIONS, dtype, graph=graph)
    model.reset(0, 1.0)
    return model


def by_definition(model: KGEModel) -> np.ndarray:
    """Encode every entity token by token."""
    encoder = model.encoder
    weight = {name: value.detach().numpy() for name, value in encoder.named_parameters()}
    out = np.zeros((ENTITIES, DIM))
    for entity in range(ENTITIES):
        tokens = [
            weight["anchor_weight"][anchor] + weight["distance_weight"][distance]
            for anchor, distance in zip(encoder.nearest[entity], encoder.distance[entity])
        ]
        tokens += [weight["context_weight"][relation] for relation in encoder.context[entity]]
        hidden = weight["hidden_bias"].copy()
        for slot, token in enumerate(tokens):
            hidden += token @ weight["hidden_weight"][slot]
        out[entity] = np.maximum(hidden, 0) @ weight["out_weight"] + weight["out_bias"]
    return out


# --- the formula --------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [0, 2])
def test_vectors_are_the_formula_however_they_are_asked_for(graph, context, monkeypatch):
    model = make(graph, {"context": context})
    with torch.no_grad():
        for bias in (model.encoder.hidden_bias, model.encoder.out_bias):
            bias.normal_()
    few = torch.tensor([7, 39, 0])
    model.encoder.store_encoded()
    assert model.encoder._tables(len(few)) is None  # direct products for few entities
    assert model.encoder._tables(ENTITIES) is not None  # tables of products for all
    expected = torch.from_numpy(by_definition(model))
    for chunk in (3, 1 << 14):
        monkeypatch.setattr(node_piece, "CHUNK_ROWS", chunk)
        torch.testing.assert_close(model.encode().vectors.detach(), expected)
        torch.testing.assert_close(model.encode(few).vectors.detach(), expected[few])
        with torch.no_grad():
            model.train()
            torch.testing.assert_close(model.encode().vectors, expected)
            model.eval()
            torch.testing.assert_close(model.encode().vectors, expected)
            torch.testing.assert_close(model.encode(few).vectors, expected[few])
            everyone = torch.arange(ENTITIES)
            torch.testing.assert_close(model.encode(everyone).vectors, expected)


@pytest.mark.parametrize("nodes", [None, [7, 39, 0]])
def test_gradients_are_those_of_finite_differences(graph, nodes):
    encoder = make(graph).encoder
    names = [name for name, _ in encoder.named_parameters()]
    ids = None if nodes is None else torch.tensor(nodes)

    def encode(*weights):
        return torch.func.functional_call(encoder, dict(zip(names, weights)), (ids,))

    weights = tuple(w.detach().clone().requires_grad_() for w in encoder.parameters())
    assert torch.autograd.gradcheck(encode, weights, fast_mode=True)


def test_gradients_reach_the_tokens_of_an_entity_and_no_others(graph):
    nodes = torch.tensor([7, 39, 0])
    model = make(graph)
    model.encode(nodes).vectors.square().sum().backward()
    encoder = model.encoder
    for weight, tokens in (
        (encoder.anchor_weight, encoder.nearest[nodes]),
        (encoder.distance_weight, encoder.distance[nodes]),
        (encoder.context_weight, encoder.context[nodes]),
    ):
        touched = torch.nonzero(weight.grad.abs().sum(1)).flatten().tolist()
        assert touched == sorted(set(tokens.flatten().tolist()))
    assert (encoder.nearest[39] == 6).all()  # an entity without facts has a token all the same
    model.encode().vectors.square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in encoder.parameters())


@pytest.mark.parametrize("name", SCORE_FUNCTIONS)
def test_works_under_every_score_function(name, graph, triples):
    model = make(graph, name=name, entity_bias=True, reciprocal=name == "ComplEx")
    head, relation, tail = (torch.from_numpy(c).long() for c in triples.to_array().T)
    facts = dgl.edge_subgraph(graph, torch.arange(len(triples)), relabel_nodes=False)
    own, rows = model(facts), torch.arange(len(triples))
    torch.testing.assert_close(model.score_all(head, relation, "tail")[rows, tail], own)
    if not model.reciprocal:
        torch.testing.assert_close(model.score_all(tail, relation, "head")[rows, head], own)
    with model.frozen():
        torch.testing.assert_close(model.score_all(head, relation, "tail")[rows, tail], own)
    own.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", ["ComplEx", "TransE", "RotatE", "AutoSF"])
def test_vectors_start_at_the_scale_of_the_score_function(name, graph):
    model = make(graph, {"token_dim": 32}, name=name, dim=64)
    for scale in (None, 0.3):
        model.reset(1, scale)
        table = torch.zeros(500, 64, dtype=torch.float64)
        model.score_function.init_entity(table, scale, torch.Generator().manual_seed(0))
        assert 0.6 < model.encode().vectors.std() / table.std() < 1.7


def test_dropout_changes_training_only(graph):
    model = make(graph, {"dropout": 0.5})
    assert not torch.equal(model.encode().vectors, model.encode().vectors)
    with torch.no_grad():
        first = model.encode().vectors
        assert torch.equal(first, model.encode().vectors)
    model.eval()
    torch.testing.assert_close(model.encode().vectors.detach(), first)


# --- size ---------------------------------------------------------------------------------------


def test_parameters_do_not_grow_with_the_entities():
    """At the size of ogbl-wikikg2, with the settings of the paper's leaderboard entry."""
    config = ModelConfig(name="AutoSF", dim=200, encoder="node_piece")
    counts = []
    for entities in (2_500_604, 5_000_000):
        with torch.device("meta"):
            model = build_model(config, entities, 535)
        counts.append(sum(p.numel() for p in model.parameters()))
    mlp = (20 + 12) * 200 * 400 + 400 + 400 * 200 + 200
    assert counts[0] == counts[1] == (20_001 + 22 + 1_071 + 535) * 200 + mlp
    assert 6e6 < counts[0] < 20e6
    assert model.bytes_per_entity == 20 * (2 + 1) + 12 * 2
    assert model.floats_per_entity == 200


def test_bytes_of_an_entity_are_those_of_its_tokens(graph):
    model = make(graph, entity_bias=True)
    assert model.bytes_per_entity == 3 * (1 + 1) + 2 * 1 + 8
    tokens = (model.encoder.nearest, model.encoder.distance, model.encoder.context)
    assert sum(t.numel() * t.element_size() for t in tokens) == ENTITIES * 8


def test_a_run_says_what_memory_tokens_take():
    size = DataSize(1_000_000, 50, 3_000_000, 1000, 1000)
    tree = {"model": {"name": "ComplEx", "dim": 100}, "negatives": {"count": 1000}}
    lookup = memory_need(Config.from_mapping(tree, "test"), size)
    tree["model"]["encoder"] = "node_piece"
    need = memory_need(Config.from_mapping(tree, "test"), size)
    weights = (20_001 + 22 + 101 + 100) * 100 + 32 * 100 * 200 + 200 + 200 * 100 + 100
    weights -= 50 * 100  # relations without inverse ones in the score function's own table
    tokens = 1_000_000 * (20 * (2 + 1) + 12 * 1) + 20_000 * 8
    assert need.lasting["tables"] == 4 * weights + tokens
    met = 2 * 1024 + 1000
    assert need.passing["batches"] - lookup.passing["batches"] == 5 * met * 32 * 100 * 4
    assert need.passing["ranking"] > lookup.passing["ranking"] + 1_000_000 * 100 * 4


# --- state --------------------------------------------------------------------------------------


def refuse(*arguments: Any, **options: Any) -> None:
    raise AssertionError("tokens are looked for again")


def test_a_loaded_model_needs_neither_graph_nor_search(graph, triples, monkeypatch):
    trained = make(graph)
    trained.encoder.store_encoded()
    head, relation, _ = (torch.from_numpy(c).long() for c in triples.to_array().T)
    expected = trained.score_all(head, relation, "tail")
    monkeypatch.setattr(node_piece_tokens, "tokenise", refuse)
    for given in (None, graph):
        loaded = make(given)
        loaded.load_state_dict(trained.state_dict())
        assert torch.equal(loaded.score_all(head, relation, "tail"), expected)
        loaded.encoder.store_encoded()
        assert loaded.encoder.blocks_for(torch.tensor([1])) is None


def test_a_copy_has_tokens_and_no_graph(graph):
    model = make(graph)
    copied = copy.deepcopy(model)
    assert copied.encoder._graph is None
    assert torch.equal(copied.encode().vectors, model.encode().vectors)


def test_without_graph_and_tokens_it_says_so():
    with pytest.raises(UserError, match="attach"):
        make().encode()
    empty = make()
    empty.load_state_dict(make().state_dict())
    with pytest.raises(UserError, match="attach"):
        empty.encode()


def test_tokens_are_a_matter_of_their_own_seed(graph):
    def tokens(model: KGEModel) -> list[torch.Tensor]:
        model.encoder.store_encoded()
        return list(model.encoder.buffers())

    first, again, other = make(graph), make(graph), make(graph, {"seed": 1})
    again.reset(5)
    assert all(map(torch.equal, tokens(first), tokens(again)))
    assert not all(map(torch.equal, tokens(first), tokens(other)))
    assert not torch.equal(first.encoder.anchor_weight, again.encoder.anchor_weight)


@pytest.mark.parametrize(
    ("name", "value"), [("anchors", 40), ("nearest", 7), ("distance", 6), ("context", 7)]
)
def test_tokens_of_a_file_that_name_nothing_are_refused(name, value, graph):
    model = make(graph)
    model.encoder.store_encoded()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state[f"encoder.{name}"].view(-1)[1] = value
    with pytest.raises(UserError, match="do not exist"):
        make().load_state_dict(state)


def test_vectors_of_all_entities_are_kept_while_the_weights_stay(graph, monkeypatch):
    """For questions one by one; whatever changes the weights, they are new."""
    model = make(graph).eval()
    encoder = model.encoder

    def fresh() -> torch.Tensor:
        encoder._kept = None
        return model.entity_embeddings.clone()

    before = model.entity_embeddings
    assert model.entity_embeddings.data_ptr() == before.data_ptr()
    with torch.no_grad():
        encoder.anchor_weight.mul_(2)
    assert torch.equal(model.entity_embeddings, fresh())
    encoder.out_bias.detach().numpy()[0] += 1  # as weights are read from a file, unseen by torch
    assert torch.equal(model.entity_embeddings, fresh())
    optimizer = OPTIMIZERS["adam"](model.parameters(), lr=0.1)
    for nodes in (None, torch.tensor([3, 4])):
        before = model.entity_embeddings.clone()
        optimizer.zero_grad()
        model.encode(nodes).vectors.square().sum().backward()
        optimizer.step()
        assert not torch.equal(model.entity_embeddings, before)
        assert torch.equal(model.entity_embeddings, fresh())
    before = model.entity_embeddings.clone()
    model.load_state_dict({**make(graph).state_dict(), **dict(encoder.named_buffers("encoder"))})
    assert not torch.equal(model.entity_embeddings, before)
    assert torch.equal(model.entity_embeddings, fresh())


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"anchors": 0}, ["anchors"]),
        ({"per_entity": 0}, ["per_entity"]),
        ({"max_distance": 255}, ["max_distance"]),
        ({"degree_share": 0.8, "pagerank_share": 0.3}, ["degree_share 0.8", "lower one"]),
        ({"anchor": 5}, ["'anchor'", "'anchors'"]),
    ],
)
def test_mistakes_are_named(options, parts):
    with pytest.raises(UserError) as caught:
        make(None, options)
    for part in ["model.encoder_options", *parts]:
        assert part in str(caught.value)


def test_graphs_that_cannot_serve_are_refused(graph, triples):
    encoder = make().encoder
    for wrong, word in (
        (build_graph(triples, ENTITIES + 1, inverse=True), "nodes"),
        (build_graph(triples, ENTITIES), "inverse=True"),
        (dgl.graph(graph.edges(), num_nodes=ENTITIES), "edata"),
    ):
        with pytest.raises(ValueError, match=word):
            encoder.attach(wrong)


def test_more_anchors_than_entities_are_all_entities(graph):
    assert make(graph, {"anchors": 1000}).encoder.num_anchors == ENTITIES
    assert make(graph, {"anchors": 1000}).encode().vectors.shape == (ENTITIES, DIM)


# --- runs ---------------------------------------------------------------------------------------


def config_of(dataset: str, *changes: dict[str, Any], **training: Any) -> Config:
    tree = {
        "data": {"dataset": dataset},
        "model": {"name": "ComplEx", "dim": 32, "encoder": "node_piece"},
        "loss": {"name": "softmax"},
        "optimizer": {"name": "adam", "learning_rate": 0.005},
        "training": {"threads": 1, "batch_size": 512, **training},
    }
    return compose([tree, *changes], recipe=None)


def test_it_learns_cldr_in_a_few_epochs(tmp_path: Path):
    """In sampled training. A random model's MRR is below .005."""
    negatives = {"negatives": {"count": 256, "sides": "both"}}
    results = train_run(config_of("cldr", negatives, epochs=6), tmp_path / "run").to_tree()
    assert results["metrics"]["test"]["mrr"] > 0.2
    table = 1684 * 32
    assert results["model"]["parameters"] < 3 * table  # mostly the layers, at such a size


@pytest.mark.parametrize("mode", ["negatives", "one_vs_all", "k_vs_all"])
def test_a_run_that_is_cut_ends_with_the_same_bits(tmp_path: Path, mode: str, monkeypatch):
    """And its tokens are those that it saved."""
    folder = str(write_clock(tmp_path / "clock"))
    options = {"model": {"encoder_options": {"anchors": 8, "per_entity": 4, "dropout": 0.2}}}
    config = config_of(folder, options, mode=mode, epochs=4, batch_size=16, checkpoint_minutes=1e-9)
    train_run(config, tmp_path / "whole")
    save, saves = checkpoint.training_tensors, []

    def cut(*arguments: Any) -> Any:
        saves.append(1)
        if len(saves) == 6:
            raise RuntimeError("power cut")
        return save(*arguments)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(checkpoint, "training_tensors", cut)
        train_run(config, tmp_path / "cut")
    monkeypatch.setattr(node_piece_tokens, "tokenise", refuse)
    train_run(config, tmp_path / "cut", resume=True)
    whole, resumed = (load_state(tmp_path / n / "resume.safetensors")[0] for n in ("whole", "cut"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    files = [tmp_path / n / "checkpoint" / "model.safetensors" for n in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_it_is_ranked_among_given_candidates(tmp_path: Path):
    """On a graph in OGB's layout; its checkpoint alone gives the same figures."""
    write_wikikg2(tmp_path)
    folder = str(tmp_path / "ogbl_wikikg2")
    options = {"model": {"name": "TripleRE", "encoder_options": {"anchors": 6, "per_entity": 3}}}
    config = config_of(folder, options, epochs=3, batch_size=16)
    results = train_run(config, tmp_path / "run").to_tree()
    loaded = checkpoint.load_model(tmp_path / "run" / "checkpoint")
    here = [{"data": {"dataset": folder}}]
    again, _ = rank_loaded(loaded, "test", name="it", settings=here)
    was = results["metrics"]["test"]
    assert again.mrr == pytest.approx(was["mrr"], abs=1e-12)
    assert again.hits_at_1 == pytest.approx(was["hits@1"], abs=1e-12)


def test_it_teaches_and_is_taught(tmp_path: Path):
    """A NodePiece teacher, NodePiece students; a lookup student of the same teacher."""
    tree = chain_tree(write_clock(tmp_path / "clock"))
    tree["shared"]["optimizer"] = {"name": "adam", "learning_rate": 0.01}
    small = {"anchors": 8, "per_entity": 4, "context": 3}
    for stages in ("teacher", "student"):
        tree.setdefault(stages, {})["model"] = {"encoder": "node_piece", "encoder_options": small}
    tree["student"]["distillation"]["initialization"] = "random"
    tree["sizes"] = {"4": {"model": {"encoder": "lookup"}}}
    run_chain(ChainConfig.from_mapping(tree, "test"), tmp_path / "run")
    encoders = {}
    for folder in sorted((tmp_path / "run" / "stages").iterdir()):
        loaded = checkpoint.load_model(folder / "checkpoint")
        encoders[folder.name] = loaded.config.model.encoder
        results = json.loads((folder / "checkpoint" / "results.json").read_text())
        assert np.isfinite(results["metrics"]["test"]["mrr"])
        assert results["model"]["bytes_per_entity"] == loaded.model.bytes_per_entity
    assert sorted(encoders.values())[-2:] == ["node_piece", "node_piece"]
    assert "lookup" in encoders.values()


def test_a_student_with_tokens_cannot_start_from_a_projection(tmp_path: Path):
    tree = chain_tree(write_clock(tmp_path / "clock"))
    tree["student"]["model"] = {"encoder": "node_piece"}
    tree["student"]["distillation"]["initialization"] = "pca"
    with pytest.raises(UserError, match="needs a student whose encoder takes vectors"):
        run_chain(ChainConfig.from_mapping(tree, "test"), tmp_path / "run")


def test_the_zoo_gives_it_back(tmp_path: Path, home: Path, monkeypatch):
    folder = str(write_clock(tmp_path / "clock"))
    train_run(config_of(folder, epochs=2, batch_size=16), tmp_path / "run")
    (entry,) = zoo.publish(tmp_path / "run" / "checkpoint", store=tmp_path / "store")
    monkeypatch.setattr(node_piece_tokens, "tokenise", refuse)
    named = zoo.load(entry.name, store=tmp_path / "store")
    saved = checkpoint.load_model(tmp_path / "run" / "checkpoint").model
    assert torch.equal(named.model.entity_embeddings, saved.entity_embeddings)
    assert len(named.predict_tails("hour3", "plus2", k=3)) == 3
