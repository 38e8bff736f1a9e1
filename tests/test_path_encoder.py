"""The path encoder, against loops over edges; what it leaves out; on disk; as a teacher."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fixtures import called, exit_code
from model_formulas import one_thread  # noqa: F401 (a fixture)

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state, read_tensors, save_state, write_tensors
from dglke_distill.config import ModelConfig
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import SIDES, Triples
from dglke_distill.distill.teacher import freeze
from dglke_distill.models import build_model, path_model
from dglke_distill.models.base import KGEModel
from dglke_distill.predict.batches import nearest_entities
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.sampling.whole_graph import WholeGraph
from dglke_distill.training.losses import SoftmaxLoss
from dglke_distill.training.objective import HardObjective

ENTITIES, RELATIONS, DIM = 9, 3, 4
ISOLATED = 8

VARIANTS: list[dict[str, Any]] = [
    {"aggregation": "sum"},
    {"aggregation": "mean", "by_query": False, "layers": 2},
    {"aggregation": "pna", "layers": 2},
    {"frontier": 2},
    {"frontier": 3, "aggregation": "pna", "by_query": False},
    {"frontier": 100, "aggregation": "mean"},
]
IDS = ["-".join(str(v) for v in options.values()) for options in VARIANTS]
every_variant = pytest.mark.parametrize("options", VARIANTS, ids=IDS)

Facts = list[tuple[int, int, int]]


@pytest.fixture(scope="module")
def facts() -> Facts:
    random = np.random.default_rng(0)
    columns = [random.integers(0, n, 14).tolist() for n in (ISOLATED, RELATIONS, ISOLATED)]
    rows = list(zip(*columns))
    return [*rows, rows[0]]  # a fact twice


def graph_of(facts: Facts) -> Any:
    triples = Triples.from_array(np.array(facts).reshape(-1, 3))
    return build_graph(triples, ENTITIES, inverse=True, num_relations=RELATIONS)


def make(facts: Facts, options: dict[str, Any] | None = None, **settings: Any) -> KGEModel:
    config = ModelConfig(
        name=settings.pop("name", "DistMult"),
        dim=DIM,
        encoder="path",
        encoder_options=options or {},
        **settings,
    )
    model = build_model(config, ENTITIES, RELATIONS, torch.float64, graph=graph_of(facts))
    model.reset(0)
    with torch.no_grad():  # so that nothing is forgotten because it is 0 or 1
        for name, weight in model.named_parameters():
            if "shift" in name or "norm" in name or "bias" in name:
                weight.add_(torch.randn(weight.shape, dtype=weight.dtype) / 4)
    return model


def by_hand(model: KGEModel, facts: Facts, entity: int, relation: int, side: str) -> list[float]:
    """Scores of all entities by loops over facts, of one query on plain floats."""
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    options, axes = model.encoder.options, range(DIM)
    asked = state["relation_weight"][relation + (RELATIONS if side == "head" else 0)]
    edges = [(h, r, t) for h, r, t in facts] + [(t, r + RELATIONS, h) for h, r, t in facts]
    start = [[asked[k] if v == entity else 0.0 for k in axes] for v in range(ENTITIES)]
    states = [list(row) for row in start]

    def judge(row: list[float]) -> float:
        total = 0.0
        for j in range(2 * DIM):
            value = state["encoder.shift"][j]
            for i in axes:
                value += row[i] * state["encoder.of_state"][i][j]
                value += asked[i] * state["encoder.of_query"][i][j]
            total += max(value, 0.0) * state["encoder.last"][j]
        return total

    reached = {entity}
    for number in range(options.layers):
        part = f"encoder.layers.{number}."
        weight = [list(row) for row in state[part + "relation"]]
        if options.by_query:
            for kind in range(2 * RELATIONS):
                for k in axes:
                    weight[kind][k] += sum(
                        asked[i] * state[part + "of_query"][kind][i][k] for i in axes
                    )
        senders, share = set(range(ENTITIES)), [1.0] * ENTITIES
        if options.frontier is not None:
            score = [judge(row) for row in states]
            senders = set(sorted(reached, key=lambda v: -score[v])[: options.frontier])
            share = [1 / (1 + math.exp(-s)) for s in score]
        received: list[list[list[float]]] = [[] for _ in range(ENTITIES)]
        for source, kind, target in edges:
            if source in senders:
                received[target].append(
                    [share[source] * states[source][k] * weight[kind][k] for k in axes]
                )
        if options.frontier is not None:
            updated = {v for v in range(ENTITIES) if received[v]}
            reached |= updated
        else:
            updated = set(range(ENTITIES))
        everywhere = [sum(target == v for _, _, target in edges) for v in range(ENTITIES)]
        usual = max(sum(math.log(n + 1) for n in everywhere) / ENTITIES, 1e-2)
        after = [list(row) for row in states]
        for v in updated:
            some = [*received[v], start[v]]
            columns = [[row[k] for row in some] for k in axes]
            mean = [sum(column) / len(some) for column in columns]
            if options.aggregation == "sum":
                joined = [sum(column) for column in columns]
            elif options.aggregation == "mean":
                joined = mean
            else:
                spread = [
                    math.sqrt(max(sum(x * x for x in column) / len(some) - m * m, 1e-6))
                    for column, m in zip(columns, mean)
                ]
                plain = [*mean, *map(max, columns), *map(min, columns), *spread]
                scale = math.log(len(some)) / usual
                joined = [
                    *plain,
                    *(x * scale for x in plain),
                    *(x / max(scale, 1e-2) for x in plain),
                ]
            whole = [*states[v], *joined]
            made = [
                state[part + "shift"][k]
                + sum(x * row[k] for x, row in zip(whole, state[part + "join"]))
                for k in axes
            ]
            centre = sum(made) / DIM
            width = math.sqrt(sum((x - centre) ** 2 for x in made) / DIM + 1e-5)
            for k in axes:
                normed = (made[k] - centre) / width * state[part + "norm_scale"][k]
                after[v][k] = states[v][k] + max(normed + state[part + "norm_shift"][k], 0.0)
        states = after
    bias = state.get("bias_weight", [[0.0]] * ENTITIES)
    return [judge(row) + bias[v][0] for v, row in enumerate(states)]


@every_variant
@pytest.mark.parametrize("side", SIDES)
def test_scores_are_those_of_loops_over_facts(facts, options, side) -> None:
    model = make(facts, options, entity_bias=True)
    entity, relation = torch.tensor([0, 5, ISOLATED, 5]), torch.tensor([1, 0, 2, 2])
    scores = model.score_all(entity, relation, side)
    for row, e, r in zip(scores.tolist(), entity.tolist(), relation.tolist()):
        assert row == pytest.approx(by_hand(model, facts, e, r, side), abs=1e-9)


def test_a_graph_without_facts_still_scores() -> None:
    for options in VARIANTS:
        model = make([], options)
        scores = model.score_all(torch.tensor([2]), torch.tensor([0]), "tail")[0].tolist()
        assert scores == pytest.approx(by_hand(model, [], 2, 0, "tail"), abs=1e-9)


def test_blocks_of_queries_do_not_change_scores(facts, monkeypatch) -> None:
    model = make(facts)
    entity, relation = torch.arange(8), torch.arange(8) % RELATIONS
    whole = model.score_all(entity, relation, "head")
    monkeypatch.setattr(path_model, "CHUNK_FLOATS", 1)
    assert torch.allclose(model.score_all(entity, relation, "head"), whole, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS[:4], ids=IDS[:4])
def test_gradients_are_those_of_differences(facts, options) -> None:
    model = make(facts, options)
    head, relation, tail = torch.tensor([0, 3]), torch.tensor([1, 2]), torch.tensor([4, 7])

    def total() -> torch.Tensor:
        return model.score_triples(head, relation, tail).square().sum()

    total().backward()
    for name, weight in model.named_parameters():
        grad = weight.grad
        assert grad is not None, name
        place = int(grad.abs().argmax())
        step = torch.zeros_like(weight).view(-1)
        step[place] = 1e-6
        with torch.no_grad():
            weight.add_(step.view_as(weight))
            above = float(total())
            weight.sub_(2 * step.view_as(weight))
            below = float(total())
            weight.add_(step.view_as(weight))
        slope = (above - below) / 2e-6
        assert float(grad.view(-1)[place]) == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def test_triples_and_candidates_are_scored_as_all_entities_are(facts) -> None:
    model = make(facts, entity_bias=True)
    head, relation, tail = torch.tensor([0, 3, 3]), torch.tensor([1, 2, 0]), torch.tensor([4, 7, 1])
    table = model.score_all(head, relation, "tail")
    single = model.score_triples(head, relation, tail)
    assert torch.allclose(single, table.gather(1, tail[:, None])[:, 0], atol=1e-12)
    entities = model.encode(torch.tensor([7, 2, 0, 3]))
    query = model.query(entities, torch.tensor([2, 3]), relation[:2], "tail")
    shared = model.score(query, entities, torch.tensor([[1, 0, 0]]))
    assert torch.allclose(shared, table[:2][:, [2, 7, 7]], atol=1e-12)
    private = model.score(query, entities, torch.tensor([[1, 0], [3, 3]]))
    expected = torch.stack([table[0, [2, 7]], table[1, [3, 3]]])
    assert torch.allclose(private, expected, atol=1e-12)


@pytest.mark.parametrize("mode", ["one_vs_all", "k_vs_all"])
def test_a_step_does_not_see_its_own_facts(facts, mode) -> None:
    graph, model = graph_of(facts), make(facts)
    loader = BatchLoader(
        graph, RELATIONS, batch_size=3, mode=mode, neighbors=WholeGraph(graph), seed=2
    )
    seen = 0
    for batch in loader.epoch(0):
        asked = set(zip(*(column.tolist() for column in (batch.head, batch.relation, batch.tail))))
        left = [fact for fact in facts if fact not in asked]
        seen += len(facts) - len(left)
        entities = model.encode(batch.nodes, batch.blocks)
        for queries in batch.queries:
            query = model.query(entities, queries.entity, queries.relation, queries.side)
            for row, e, r in zip(
                model.score(query, entities).tolist(),
                queries.entity.tolist(),
                queries.relation.tolist(),
            ):
                expected = by_hand(model, left, e, r, queries.side)
                assert row == pytest.approx(expected, abs=1e-9)
    assert seen > len(facts)  # the double fact is left out whenever one of its copies is asked


def test_a_teacher_does_not_see_the_answers_to_what_it_is_asked(facts, monkeypatch) -> None:
    monkeypatch.setattr(path_model, "TOGETHER", 1)
    model = make(facts)
    teacher = freeze(model)
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert all(weight.requires_grad for weight in model.parameters())
    h, r, t = facts[0]
    for side, entity in (("tail", h), ("head", t)):
        own = [f for f in facts if f[1] == r and f[0 if side == "tail" else 2] == entity]
        left = [fact for fact in facts if fact not in own]
        assert len(own) >= 2 and left
        asked = torch.tensor([entity]), torch.tensor([r])
        found = teacher.score_all(*asked, side)[0].tolist()
        assert found == pytest.approx(by_hand(model, left, entity, r, side), abs=1e-9)
        found = model.score_all(*asked, side)[0].tolist()
        assert found == pytest.approx(by_hand(model, facts, entity, r, side), abs=1e-9)


def test_it_learns_a_rule_of_two_steps() -> None:
    # r2(x, z) holds where r0(x, y) and r1(y, z) do; z is never the same twice.
    facts, number = [], 16
    for i in range(number):
        x, y, z = 3 * i, 3 * i + 1, 3 * i + 2
        facts += [(x, 0, y), (y, 1, z)] + ([(x, 2, z)] if i < 10 else [])
    triples = Triples.from_array(np.array(facts))
    graph = build_graph(triples, 3 * number, inverse=True, num_relations=3)
    config = ModelConfig(name="DistMult", dim=8, encoder="path", encoder_options={"layers": 2})
    model = build_model(config, 3 * number, 3, torch.float32, graph=graph)
    model.reset(0)
    loader = BatchLoader(
        graph, 3, batch_size=8, mode="one_vs_all", neighbors=WholeGraph(graph), seed=0
    )
    objective = HardObjective(SoftmaxLoss(SoftmaxLoss.Options()))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(12):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            objective(model, batch).total.backward()
            optimizer.step()
    unseen = torch.arange(10, number)
    scores = model.score_all(3 * unseen, torch.full_like(unseen, 2), "tail")
    assert (scores.argmax(1) == 3 * unseen + 2).all()


def test_what_needs_vectors_is_refused(facts) -> None:
    model = make(facts)
    for what in (
        lambda: model.entity_embeddings,
        lambda: nearest_entities(model, torch.tensor([0]), 2),
    ):
        with pytest.raises(UserError, match="vector for each entity"):
            what()


def test_other_score_functions_are_refused(facts) -> None:
    with pytest.raises(UserError, match=r"RotatE does not have; set model.name to DistMult"):
        make(facts, name="RotatE")


def test_a_checkpoint_carries_its_facts(facts, tmp_path) -> None:
    model = make(facts)
    path = tmp_path / "state.safetensors"
    save_state(path, dict(model.state_dict()), {})
    config = ModelConfig(name="DistMult", dim=DIM, encoder="path")
    again = build_model(config, ENTITIES, RELATIONS, torch.float64)
    tensors = load_state(path)[0]
    again.encoder.take_sizes({"facts": tensors["encoder.facts"]})
    again.load_state_dict(tensors)
    asked = torch.tensor([3]), torch.tensor([1])
    assert torch.equal(again.score_all(*asked, "tail"), model.score_all(*asked, "tail"))


def small(folder: Path) -> Path:
    """A folder of four rings, whose every third edge of the second kind is held out."""
    folder.mkdir()
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for ring in range(4):
        for i in range(6):
            names = [f"e{ring}_{(i + step) % 6}" for step in range(3)]
            splits["train"].append(f"{names[0]}\tnext\t{names[1]}")
            split = ("train", "train", "valid", "train", "train", "test")[i]
            splits[split].append(f"{names[0]}\tsecond\t{names[2]}")
    for name, lines in splits.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


TEACHER = [
    "--recipe", "distmult-path", "--dim", "8", "--epochs", "20", "--threads", "1",
    "--set", "model.encoder_options.layers=2", "--set", "optimizer.learning_rate=0.02",
    "--set", "training.evaluate_every=10",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("rings") / "data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> Path:
    """A checkpoint that the command line left."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    assert exit_code("train", data, *TEACHER, "--out", run) == 0
    return run / "checkpoint"


@pytest.mark.slow
def test_the_command_line_trains_ranks_and_asks_it(data, trained, tmp_path, capsys) -> None:
    place = trained
    loaded = checkpoint.load_model(place)
    assert loaded.figures.metrics["test"].mrr > 0.9  # a rule of two steps
    ranked = called(capsys, "evaluate", place, "--dataset", data)
    assert ranked.code == 0, ranked.err
    asked = ["--head", "e0_5", "--relation", "second", "-k", "1"]
    found = called(capsys, "predict", place, *asked)
    assert found.code == 0 and "e0_1" in found.out, found
    for refused in (
        ("export", place, "--format", "npz", "--out", tmp_path / "out"),
        ("compress", place, "--to", "int8", "--out", tmp_path / "out"),
    ):
        said = called(capsys, *refused)
        assert said.code == 2 and "vector for each entity" in said.err, (refused, said)
        assert said.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_it_explains_by_paths_alone(data, trained, capsys) -> None:
    asked = ["--head", "e0_5", "--relation", "second", "--explain", "--dataset", data]
    for tail, first in (("e0_1", "train facts that support (e0_5, second, e0_1):"),
                        ("e1_1", "no train fact supports (e0_5, second, e1_1)")):  # fmt: skip
        found = called(capsys, "predict", trained, *asked, "--tail", tail)
        assert found.code == 0, found.err
        assert first in found.out.splitlines()
        assert "with no vectors of entities to compare" in found.out
        assert ("confidence" in found.out) == first.endswith(":")


def test_publishing_says_that_the_train_facts_go_with_it(trained, tmp_path, capsys) -> None:
    said = called(capsys, "zoo", "publish", trained, "--store", tmp_path / "zoo")
    assert said.code == 0, said.err
    (warned,) = (line for line in said.out.splitlines() if line.startswith("warning: "))
    assert "model.safetensors holds the train facts" in warned and "published" in warned
    (card,) = (tmp_path / "zoo").rglob("README.md")
    assert f"**Warning: {warned.removeprefix('warning: ')}**" in card.read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: facts.index_fill(1, torch.tensor([2]), 99), "head outside 0 to 23"),
        (lambda facts: facts - 1, "outside 0 to"),
        (lambda facts: facts[:2], "shape"),
        (lambda facts: facts.long(), "int64"),
        (lambda facts: facts.float().double(), "float64"),
    ],
)
def test_damaged_facts_are_refused(trained, tmp_path, change, said) -> None:
    place = tmp_path / "checkpoint"
    shutil.copytree(trained, place)
    tensors, header = read_tensors(place / "model.safetensors")
    tensors["encoder.facts"] = change(tensors["encoder.facts"])
    (place / "model.safetensors").unlink()
    write_tensors(place / "model.safetensors", tensors, header)
    with pytest.raises(UserError, match=said) as caught:
        checkpoint.load_model(place)
    assert str(place / "model.safetensors") in str(caught.value)
