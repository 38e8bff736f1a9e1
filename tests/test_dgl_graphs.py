"""Graphs as users of DGL have them: datasets out of them, scores by names, loaders of batches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import dgl
import numpy as np
import pytest
import torch
from conftest import ROOT

import dglke_distill as kd
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.config import Config, ModelConfig
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.models import build_model
from dglke_distill.models.edge_predictor import EdgePredictor
from dglke_distill.sampling.edges import RelationSampler
from dglke_distill.sampling.negatives import NEGATIVE_SAMPLERS, build_sampler

BINDS, TREATS, LIKE = ("drug", "binds", "gene"), ("drug", "treats", "ill"), ("gene", "like", "gene")


def hetero() -> dgl.DGLGraph:
    """Edge types that DGL numbers in another order than they are given in."""
    return dgl.heterograph(
        {
            TREATS: ([0, 1, 2, 0], [0, 1, 1, 1]),
            BINDS: ([0, 1, 2, 2], [0, 1, 2, 3]),
            LIKE: ([0, 1, 2], [1, 2, 3]),
        },
        {"drug": 3, "gene": 4, "ill": 2},
    )


def named_facts(dataset: Dataset, *splits: str) -> set[tuple[str, str, str]]:
    return {
        (dataset.entities[h], dataset.relations[r], dataset.entities[t])
        for split in splits or ("train", "valid", "test")
        for h, r, t in dataset.split(split).to_array().tolist()
    }


def model_of(dataset: Dataset, name: str = "ComplEx") -> kd.NamedModel:
    """A model of these names, its ids in an order of its own, not the graph's."""
    entities = Vocabulary(list(dataset.entities)[::-1])
    relations = Vocabulary(list(dataset.relations)[::-1], kind="relation")
    config = Config(model=ModelConfig(name=name, dim=8))
    model = build_model(config.model, len(entities), len(relations), torch.float64)
    model.reset(3)
    return kd.NamedModel(LoadedModel(model, config, entities, relations, {}))


def expected_scores(model: kd.NamedModel, facts: list[tuple[str, str, str]]) -> torch.Tensor:
    return model.score(facts)


# --- from_dgl -------------------------------------------------------------------------------------


def test_a_heterograph_keeps_names_and_types() -> None:
    data = kd.from_dgl(hetero(), split_fractions=(1.0, 0.0, 0.0))
    assert named_facts(data) == {
        ("drug:0", "treats", "ill:0"), ("drug:1", "treats", "ill:1"), ("drug:2", "treats", "ill:1"),
        ("drug:0", "treats", "ill:1"), ("drug:0", "binds", "gene:0"), ("drug:1", "binds", "gene:1"),
        ("drug:2", "binds", "gene:2"), ("drug:2", "binds", "gene:3"), ("gene:0", "like", "gene:1"),
        ("gene:1", "like", "gene:2"), ("gene:2", "like", "gene:3"),
    }  # fmt: skip
    assert data.entity_type is not None
    types = [data.entity_type_names[i] for i in data.entity_type]
    assert all(name.startswith(f"{kind}:") for name, kind in zip(data.entities, types))
    back = kd.to_dgl(data, heterograph=True)
    assert set(back.canonical_etypes) == {TREATS, BINDS, LIKE}
    for edge_type in back.canonical_etypes:
        found = sorted(zip(*(ends.tolist() for ends in back.edges(etype=edge_type))))
        given = sorted(zip(*(ends.tolist() for ends in hetero().edges(etype=edge_type))))
        assert found == given
    assert kd.from_dgl(back, split_fractions=(1.0, 0.0, 0.0)).fingerprint == data.fingerprint


def test_given_names_are_kept_and_told_apart() -> None:
    graph = hetero()
    names = {"drug": ["a", "b", "c"], "gene": ["g1", "g2", "g3", "g4"], "ill": ["x", "y"]}
    whole = {"split_fractions": (1.0, 0.0, 0.0)}
    data = kd.from_dgl(graph, node_names=names, **whole)
    assert ("a", "treats", "x") in named_facts(data)
    for kind in graph.ntypes:
        graph.nodes[kind].data["id"] = torch.arange(graph.num_nodes(kind)) + 10
    data = kd.from_dgl(graph, node_names="id", relation_names={"treats": "cures"}, **whole)
    assert ("drug:10", "cures", "ill:10") in named_facts(data)  # 10 is a node of each type


def test_two_canonical_types_of_one_name_are_one_relation() -> None:
    graph = dgl.heterograph(
        {("u", "likes", "i"): ([0, 1], [1, 0]), ("u", "likes", "u"): ([0], [1])}
    )
    data = kd.from_dgl(graph, split_fractions=(1.0, 0.0, 0.0))
    assert list(data.relations) == ["likes"]
    back = kd.to_dgl(data, heterograph=True)
    assert set(back.canonical_etypes) == set(graph.canonical_etypes)


def test_a_homogeneous_graph_with_etype_ids() -> None:
    graph = dgl.graph(([0, 1, 2, 3], [1, 2, 3, 0]), num_nodes=5)
    graph.edata["etype"] = torch.tensor([2, 0, 2, 1])
    whole = {"split_fractions": (1.0, 0.0, 0.0)}
    plain = kd.from_dgl(graph, **whole)
    assert named_facts(plain) == {
        ("0", "2", "1"), ("1", "0", "2"), ("2", "2", "3"), ("3", "1", "0"),
    }  # fmt: skip
    assert plain.num_entities == 5
    named = kd.from_dgl(graph, node_names=list("abcde"), relation_names=["on", "in", "at"], **whole)
    assert ("a", "at", "b") in named_facts(named)
    graph.edata["kind"] = graph.edata.pop("etype")
    assert kd.from_dgl(graph, relation_key="kind", **whole).fingerprint == plain.fingerprint


def test_masks_and_graphs_give_the_splits() -> None:
    graph = dgl.graph(([0, 1, 2, 3, 1], [1, 2, 3, 0, 0]))
    graph.edata["etype"] = torch.tensor([0, 0, 0, 0, 1])
    for key, rows in (
        ("train", [1, 1, 0, 0, 0]),
        ("val", [0, 0, 1, 0, 0]),
        ("test", [0, 0, 0, 1, 0]),
    ):
        graph.edata[f"{key}_mask"] = torch.tensor(rows, dtype=torch.bool)
    data = kd.from_dgl(graph)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [2, 1, 1]
    assert named_facts(data, "test") == {("3", "0", "0")}
    assert any("1 edges are in no split's mask" in line for line in data.warnings)
    train = dgl.edge_subgraph(graph, [0, 1], relabel_nodes=False)
    test = dgl.edge_subgraph(graph, [3], relabel_nodes=False)
    for part in (train, test):
        for key in [k for k in part.edata if k != "etype"]:
            del part.edata[key]
    again = kd.from_dgl(train, test=test)
    assert named_facts(again, "test") == {("3", "0", "0")}
    assert len(again.valid) == 0
    both = kd.to_dgl(data, "all")
    assert kd.from_dgl(both).file_order_fingerprint == data.file_order_fingerprint


def test_a_split_made_here_is_that_of_a_file_of_facts(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    facts = sorted({tuple(row) for row in rng.integers(0, 30, (300, 3)).tolist()})
    path = tmp_path / "facts.tsv"
    path.write_text("".join(f"{h}\t{r}\t{t}\n" for h, r, t in facts))
    graph = dgl.graph(([h for h, _, _ in facts], [t for _, _, t in facts]), num_nodes=30)
    graph.edata["etype"] = torch.tensor([r for _, r, _ in facts])
    assert kd.from_dgl(graph).fingerprint == kd.load_dataset(path).fingerprint


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda g: g, {"node_names": ["a"]}, "one list, the graph has the node types"),
        (lambda g: g, {"node_names": {"drug": ["a"]}}, "node type 'gene' has no names"),
        (lambda g: g, {"node_names": {t: ["a"] for t in ("drug", "gene", "ill")}},
         "1 names for 3 nodes of type 'drug'"),
        (lambda g: g, {"node_names": "id"}, r"have no ndata\['id'\]"),
        (lambda g: g, {"relation_names": ["a"]}, "relation_names is a list, the graph has edge"),
        (dgl.to_homogeneous, {}, "dgl.to_homogeneous made of several node types"),
        (dgl.to_homogeneous, {"node_names": list("abcdefghi")}, "numbered in its own order"),
        (lambda g: dgl.graph(([0], [1])), {}, "no edata of relation or etype"),
        (lambda g: dgl.to_block(dgl.graph(([0], [1]))), {}, "the graph is a block"),
        (lambda g: dgl.graph(([], [])), {}, "the graph has no edges"),
    ],
)  # fmt: skip
def test_graphs_that_do_not_say_what_they_hold(
    change: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(kd.UserError, match=message):
        kd.from_dgl(change(hetero()), **options)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (torch.tensor([0.0, 1.0]), None, "one whole number each"),
        (torch.tensor([0, -1]), None, "count from 0 on"),
        (torch.tensor([0, 10**9]), None, "number the relations from 0 on"),
        (torch.tensor([0, 2]), ["a", "b"], "relation_names has 2 names"),
        (torch.tensor([0, 1]), ["a", "a"], "occurs twice"),
        (torch.tensor([0, 1]), ["a", "b\tc"], "tab or line end"),
        (torch.tensor([0, 1]), ["a", 7], "is no text"),
    ],
)
def test_numbers_of_relations_that_are_none(values: Any, names: Any, message: str) -> None:
    graph = dgl.graph(([0, 1], [1, 2]))
    graph.edata["etype"] = values
    with pytest.raises(kd.UserError, match=message):
        kd.from_dgl(graph, relation_names=names)


# --- scores by names ------------------------------------------------------------------------------


def test_a_heterograph_is_scored_by_names() -> None:
    graph = hetero()
    model = model_of(kd.from_dgl(graph, split_fractions=(1.0, 0.0, 0.0)))
    scores = model(graph)
    assert set(scores) == set(graph.canonical_etypes)
    for edge_type in graph.canonical_etypes:
        head, tail = (ends.tolist() for ends in graph.edges(etype=edge_type))
        facts = [
            (f"{edge_type[0]}:{h}", edge_type[1], f"{edge_type[2]}:{t}") for h, t in zip(head, tail)
        ]
        torch.testing.assert_close(scores[edge_type].detach(), expected_scores(model, facts))
    assert scores[TREATS].requires_grad
    part = dgl.edge_subgraph(graph, {TREATS: [3], BINDS: [2, 3], LIKE: [1]})
    for edge_type, those in model(part).items():  # nodes are renumbered, dgl.NID says from what
        assert torch.isin(those.detach(), scores[edge_type].detach()).all()


def test_given_names_and_stated_ids_score_alike() -> None:
    names = {"drug": ["a", "b", "c"], "gene": ["g1", "g2", "g3", "g4"], "ill": ["x", "y"]}
    data = kd.from_dgl(hetero(), node_names=names, split_fractions=(1.0, 0.0, 0.0))
    model = model_of(data)
    scores = model(hetero(), node_names=names)
    torch.testing.assert_close(
        scores[TREATS].detach(),
        expected_scores(
            model, [("a", "treats", "x"), ("b", "treats", "y"), ("c", "treats", "y"),
                    ("a", "treats", "y")],
        ),
    )  # fmt: skip
    graph = hetero()
    for kind, own in names.items():
        graph.nodes[kind].data["entity"] = model.entity_ids(own)
    for edge_type, those in model(graph).items():
        torch.testing.assert_close(those, scores[edge_type])


def test_edge_types_in_the_models_own_names_score_a_flat_graph() -> None:
    """The silent fault of old: DGL's numbers of types taken for the model's relations."""
    data = kd.from_dgl(hetero(), split_fractions=(1.0, 0.0, 0.0))
    model, graph = model_of(data), hetero()
    flat = dgl.to_homogeneous(graph)
    with pytest.raises(ValueError, match=r"dgl\.ETYPE"):
        model(flat)
    names = [f"{kind}:{i}" for kind in graph.ntypes for i in range(graph.num_nodes(kind))]
    scores = model(flat, node_names=names, relation_names=graph.etypes)
    want = model(graph)
    joined = torch.cat([want[edge_type] for edge_type in graph.canonical_etypes])
    torch.testing.assert_close(scores, joined)


def test_a_homogeneous_graph_with_etypes_is_scored_by_its_numbers_names() -> None:
    graph = dgl.graph(([0, 1, 2, 3], [1, 2, 3, 0]))
    graph.edata["etype"] = torch.tensor([2, 0, 2, 1])
    names = {"node_names": list("abcd"), "relation_names": ["on", "in", "at"]}
    model = model_of(kd.from_dgl(graph, split_fractions=(1.0, 0.0, 0.0), **names))
    facts = [("a", "at", "b"), ("b", "on", "c"), ("c", "at", "d"), ("d", "in", "a")]
    torch.testing.assert_close(model(graph, **names).detach(), expected_scores(model, facts))
    with pytest.raises(kd.UserError, match="give node_names"):
        model(graph)
    with pytest.raises(kd.UserError, match="give relation_names"):
        model(graph, node_names=list("abcd"))


def test_numbers_that_could_be_others_are_refused() -> None:
    graph = hetero()
    model = model_of(kd.from_dgl(graph, split_fractions=(1.0, 0.0, 0.0)))
    fewer = dgl.heterograph({TREATS: ([0, 1], [0, 1]), BINDS: ([0], [0])})
    with pytest.raises(kd.UserError, match="2 nodes of type 'drug', the model more"):
        model(fewer)
    reverse = dgl.heterograph({("ill", "rev_treats", "drug"): ([0], [0])})
    with pytest.raises(kd.UserError, match=r"rev_treats.*did you mean 'treats'"):
        model(reverse, node_names={"ill": ["ill:0"], "drug": ["drug:0"]})
    graph.edges[TREATS].data["relation"] = torch.full((4,), model.relations.id("binds"))
    with pytest.raises(kd.UserError, match=r"is relation .* of the model, but its edata"):
        model(graph)
    with pytest.raises(kd.UserError, match="the graph is a block"):
        model(dgl.to_block(dgl.graph(([0], [1]))))
    numeral = model_of(
        Dataset(
            "n", Vocabulary(["7", "8", "9"]), Vocabulary(["r"]),
            *[Triples.from_array(np.array([[0, 0, 1]]))] * 3,
        )
    )  # fmt: skip
    one_type = dgl.heterograph({("n", "r", "n"): ([0, 1], [1, 2])})
    with pytest.raises(kd.UserError, match="need not be the numbers of the graph's nodes"):
        numeral(one_type)


# --- loaders --------------------------------------------------------------------------------------


def loader(data: Dataset, sampler: str, workers: int = 0, **settings: Any) -> tuple[Any, Any]:
    graph = kd.to_dgl(data)
    types = np.arange(data.num_entities, dtype=np.int32) % 2
    options = {"entity_type": types} if sampler == "typed" else {}
    negatives = build_sampler(sampler, graph, count=6, seed=1, **options, **settings)
    edges = torch.arange(graph.num_edges())
    return graph, dgl.dataloading.DataLoader(
        graph, edges, RelationSampler(negatives), batch_size=32, shuffle=True, num_workers=workers
    )


@pytest.fixture(scope="module")
def dense() -> Dataset:
    """Most of what can be drawn is a fact: filtered draws are short of others."""
    rng = np.random.default_rng(1)
    keys = rng.permutation(12 * 3 * 12)[:330]
    facts = np.stack([keys // 36, keys // 12 % 3, keys % 12], 1)
    empty = Triples.from_array(np.zeros((0, 3), np.int64))
    return Dataset(
        "dense", Vocabulary(size=12), Vocabulary(size=3, kind="relation"),
        Triples.from_array(facts), empty, empty,
    )  # fmt: skip


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("sides", ["alternate", "both"])
@pytest.mark.parametrize("sampler", sorted(NEGATIVE_SAMPLERS))
def test_negatives_know_relation_and_positive(
    dense: Dataset, sampler: str, sides: str, filtered: bool
) -> None:
    graph, batches = loader(dense, sampler, sides=sides, filtered=filtered, sharing="private")
    facts = set(map(tuple, dense.train.to_array().tolist()))
    head, tail = graph.edges()
    seen, short = 0, False
    for nodes, positive, negative, blocks in batches:
        assert blocks == []
        eid = positive.edata[dgl.EID]
        entity = positive.ndata["entity"]
        assert torch.equal(nodes, entity)
        assert torch.equal(positive.edata["relation"], graph.edata["relation"][eid])
        assert torch.equal(entity[positive.edges()[0]], head[eid])
        whose = negative.edata["positive"]
        assert torch.equal(negative.edata["relation"], graph.edata["relation"][eid[whose]])
        source, target = (negative.ndata["entity"][ends] for ends in negative.edges())
        kept = (source == head[eid[whose]]) | (target == tail[eid[whose]])
        assert bool(kept.all())  # one end is the positive's own
        if filtered:
            rows = zip(source.tolist(), negative.edata["relation"].tolist(), target.tolist())
            assert not facts.intersection(rows)
            short |= len(whose) < len(eid) * (12 if sides == "both" else 6)
        else:
            assert torch.bincount(whose).unique().tolist() == [6 * (1 + (sides == "both"))] or (
                sampler == "bernoulli"
            )
        seen += len(eid)
    assert seen == len(dense.train)
    if filtered:
        assert short or sampler != "uniform"


@pytest.mark.parametrize("workers", [0, 2])
def test_both_graphs_of_a_batch_are_scored(dense: Dataset, workers: int) -> None:
    model = build_model(ModelConfig(name="TransE", dim=4), 12, 3)
    model.reset(0)
    _, batches = loader(dense, "uniform", workers)
    for _, positive, negative, _ in batches:
        ids = [positive.ndata["entity"][e] for e in positive.edges()]
        want = model.score_triples(ids[0], positive.edata["relation"], ids[1])
        torch.testing.assert_close(model(positive), want)
        source, target = (negative.ndata["entity"][e] for e in negative.edges())
        want = model.score_triples(source, negative.edata["relation"], target)
        torch.testing.assert_close(model(negative), want)


def test_pairs_are_those_that_dgl_is_given(dense: Dataset) -> None:
    graph = kd.to_dgl(dense)
    one, other = (build_sampler("uniform", graph, count=5, seed=4) for _ in range(2))
    pairs = one.draw_pairs(graph, torch.arange(20))
    source, target = other(graph, torch.arange(20))
    assert torch.equal(pairs.source, source)
    assert torch.equal(pairs.target, target)


def test_other_samplers_and_types_are_refused(dense: Dataset) -> None:
    with pytest.raises(kd.UserError, match="a PerSourceUniform, whose pairs do not say"):
        RelationSampler(dgl.dataloading.negative_sampler.Uniform(3))  # type: ignore[arg-type]
    graph = kd.to_dgl(dense)
    sampler = RelationSampler(build_sampler("uniform", graph, count=2))
    with pytest.raises(kd.UserError, match="edges are given by type"):
        sampler.sample(graph, {"_E": torch.arange(3)})  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_example_trains_a_zoo_model_on() -> None:
    script = ROOT / "examples" / "dgl_loop" / "train_on.py"
    body = script.read_text().partition('"""\n\n')[2]
    statements = [line for line in body.splitlines() if line and "import" not in line]
    assert len(statements) <= 22
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    losses = [float(found) for found in re.findall(r"loss ([\d.]+)", done.stdout)]
    assert len(losses) == 3, done.stderr
    assert losses[2] < losses[0]


# --- the predictors of dgl.nn ---------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("name", ["TransE", "TransR"])
def test_scores_are_those_of_dgl_nn(name: str, p: int) -> None:
    torch.manual_seed(0)
    head, tail = torch.randn(2, 30, 6)
    relation = torch.randint(0, 4, (30,))
    options: dict[str, Any] = {"norm": f"l{p}"}
    if name == "TransE":
        theirs = dgl.nn.TransE(4, 6, p)
        rows = theirs.rel_emb.weight
    else:
        options["relation_dim"] = 5
        theirs = dgl.nn.TransR(4, rfeats=5, nfeats=6, p=p)
        rows = torch.cat([theirs.rel_emb.weight, theirs.rel_project.weight], 1)
    ours = EdgePredictor(name, 6, 4, options=options)
    ours.model.relation_weight.data.copy_(rows.detach())
    scores = ours(head, tail, relation)
    assert scores.shape == (30, 1)
    torch.testing.assert_close(scores.squeeze(1), theirs(head, tail, relation))
    scores.sum().backward()
    assert ours.model.relation_weight.grad is not None
    one = ours(head, tail, 2)
    torch.testing.assert_close(one.squeeze(1), theirs(head, tail, torch.full((30,), 2)))


def test_distmult_of_ones_is_dgls_dot_product() -> None:
    head, tail = torch.randn(2, 7, 4)
    ours = EdgePredictor("distmult", 4)
    ours.model.relation_weight.data.fill_(1.0)
    torch.testing.assert_close(ours(head, tail), dgl.nn.EdgePredictor("dot")(head, tail))


def test_a_trained_models_predictor_scores_as_it_does() -> None:
    data = kd.from_dgl(hetero(), split_fractions=(1.0, 0.0, 0.0))
    for name in ("ComplEx", "TransE", "RotatE", "TransR", "PairRE"):
        model = model_of(data, name)
        predictor = EdgePredictor.of(model)
        head, tail = model.entity_ids(["drug:0", "drug:1"]), model.entity_ids(["ill:0", "ill:1"])
        vectors = model.model.encoder(None)
        scores = predictor(vectors[head], vectors[tail], "treats").detach().squeeze(1)
        facts = [("drug:0", "treats", "ill:0"), ("drug:1", "treats", "ill:1")]
        torch.testing.assert_close(scores, expected_scores(model, facts))
    with pytest.raises(kd.UserError, match="unknown relation 'treat'"):
        predictor(vectors[head], vectors[tail], "treat")
    for rels, message in (
        (None, "which of the 3 relations"),
        (torch.tensor([0, 3]), "go from 0 to 3"),
        (torch.tensor([0]), "one id an edge"),
    ):
        with pytest.raises(kd.UserError, match=message):
            predictor(vectors[head], vectors[tail], rels)
    with pytest.raises(kd.UserError, match=r"both must be \(edges, 8\)"):
        predictor(vectors[head, :3], vectors[tail, :3], 0)


@pytest.mark.parametrize("given", [None, 7, "graph", [(0, 1)]])
def test_what_is_no_graph_is_refused(given: Any) -> None:
    with pytest.raises(kd.UserError, match=r"^graph is .*: give a DGL graph"):
        kd.from_dgl(given)
