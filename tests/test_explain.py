from __future__ import annotations

import itertools
import json
from pathlib import Path

import networkx
import pytest
import torch
from clock_fixtures import write_clock
from fact_fixtures import Fact, fact_lists, triples
from hypothesis import given, settings
from hypothesis import strategies as st

import dglke_distill as kd
from dglke_distill import cli
from dglke_distill.base.errors import UserError
from dglke_distill.predict import paths as paths_module
from dglke_distill.predict.paths import TrainGraph
from dglke_distill.predict.support import PathKinds

ENTITIES, RELATIONS = 6, 2
facts = fact_lists(ENTITIES, RELATIONS, 14)


def graph_of(rows: list[Fact], entities: int = ENTITIES) -> TrainGraph:
    return TrainGraph(triples(rows), entities, RELATIONS)


def multigraph(rows: list[Fact]) -> networkx.MultiDiGraph:
    """Every fact once, and its inverse."""
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from(range(ENTITIES))
    for head, relation, tail in set(rows):
        graph.add_edge(head, tail, key=relation)
        graph.add_edge(tail, head, key=relation + RELATIONS)
    return graph


@settings(max_examples=60, deadline=None)
@given(facts, st.integers(0, ENTITIES - 1), st.integers(0, RELATIONS - 1),
       st.integers(0, ENTITIES - 1), st.integers(1, 3))  # fmt: skip
def test_paths_are_those_of_networkx(
    rows: list[Fact], head: int, relation: int, tail: int, longest: int
) -> None:
    found = graph_of(rows).paths(head, relation, tail, longest)
    assert found.whole
    graph = multigraph([row for row in rows if row != (head, relation, tail)])
    wanted = []
    if head != tail:
        for path in networkx.all_simple_edge_paths(graph, head, tail, cutoff=longest):
            wanted.append((tuple(key for *_, key in path), (head, *(to for _, to, _ in path))))
    assert sorted((p.steps, p.nodes) for p in found.paths) == sorted(wanted)
    assert [len(p.steps) for p in found.paths] == sorted(len(p.steps) for p in found.paths)


@settings(max_examples=40, deadline=None)
@given(facts, st.lists(st.integers(0, 2 * RELATIONS - 1), min_size=1, max_size=3),
       st.integers(0, ENTITIES - 1), st.integers(0, ENTITIES - 1))  # fmt: skip
def test_confidence_is_that_of_all_pairs(
    rows: list[Fact], steps: list[int], head: int, tail: int
) -> None:
    held = {(h, r, t) for h, r, t in rows} | {(t, r + RELATIONS, h) for h, r, t in rows}
    pairs = {
        (nodes[0], nodes[-1])
        for nodes in itertools.permutations(range(ENTITIES), len(steps) + 1)
        if all((a, s, b) in held for a, s, b in zip(nodes, steps, nodes[1:]))
    } - {(head, tail)}
    found = graph_of(rows).confidence(steps, 1, (head, tail))
    assert found.whole
    assert found.pairs == len(pairs)
    assert found.hits == sum((h, 1, t) in held for h, t in pairs)


def test_hubs_are_left_out_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """0-2-3-1 passes nobody; 0-4-5-1 passes entity 4, whose 30 edges are more than allowed."""
    rows = [(0, 0, 2), (2, 0, 3), (3, 0, 1), (0, 0, 4), (4, 0, 5), (5, 0, 1)]
    rows += [(4, 1, 10 + i) for i in range(30)] + [(5, 1, 50 + i) for i in range(40)]
    graph = graph_of(rows, 100)
    nodes = {path.nodes for path in graph.paths(0, 1, 1).paths}
    assert nodes == {(0, 2, 3, 1), (0, 4, 5, 1)}
    monkeypatch.setattr(paths_module, "EDGES_AT_ONCE", 20)
    found = graph.paths(0, 1, 1)
    assert not found.whole
    assert {path.nodes for path in found.paths} == {(0, 2, 3, 1)}


def test_many_starts_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(i, 0, 50 + i) for i in range(50)] + [(i, 1, 50 + i) for i in range(0, 50, 2)]
    graph = graph_of(rows, 100)
    assert graph.confidence([0], 1, (0, 50)) == (49, 24, True)
    monkeypatch.setattr(paths_module, "STARTS", 10)
    sample = graph.confidence([0], 1, (0, 50))
    assert not sample.whole and sample.pairs in (9, 10)


FAMILY = """ann\tmother_of\tbob
ann\tmarried_to\tcarl
carl\tfather_of\tbob
dora\tmother_of\teve
dora\tmarried_to\tfred
fred\tfather_of\teve
gina\tmother_of\thans
gina\tmarried_to\tivo
ivo\tfather_of\thans
jane\tmarried_to\tkarl
karl\tfather_of\tlena
eve\tfriend_of\thans
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset and a model of it."""
    folder = tmp_path_factory.mktemp("family")
    (folder / "train.txt").write_text(FAMILY, encoding="utf-8")
    (folder / "valid.txt").write_text("jane\tmother_of\tlena\n", encoding="utf-8")
    (folder / "test.txt").write_text("ann\tmother_of\tlena\n", encoding="utf-8")
    out = folder / "run"
    kd.train(folder, model="distmult", recipe="none", dim=4, epochs=2, threads=1, out=out)
    return folder, out


def test_the_married_mother(family: tuple[Path, Path]) -> None:
    """Of three other couples with a child two say who is the mother; one is the question itself."""
    model = kd.load(family[1])
    model.load_support(dataset=str(family[0]))
    why = model.explain("jane", "mother_of", "lena")
    assert not why.in_train and why.whole
    path = why.paths[0]
    assert path.rule == "(h, married_to, x) and (x, father_of, t)"
    assert [(f.head, f.relation, f.tail) for f in path.facts] == [
        ("jane", "married_to", "karl"), ("karl", "father_of", "lena")
    ]  # fmt: skip
    assert (path.confidence, path.pairs, path.hits, path.count) == (1.0, 3, 3, 1)
    assert why.score == pytest.approx(float(model.score([("jane", "mother_of", "lena")])[0]))


def test_a_fact_is_no_support_of_itself(family: tuple[Path, Path]) -> None:
    model = kd.load(family[1])
    model.load_support(dataset=str(family[0]))
    why = model.explain("ann", "mother_of", "bob", k=50)
    assert why.in_train
    said = [(f.head, f.relation, f.tail) for f in why.all_facts()]
    assert said and ("ann", "mother_of", "bob") not in said
    assert (why.paths[0].pairs, why.paths[0].hits) == (3, 2)  # of Jane nobody knows
    assert {a.fact.head for a in why.facts} == {"dora", "gina"}


def test_analogies_are_the_greatest_cosines(family: tuple[Path, Path]) -> None:
    model = kd.load(family[1])
    model.load_support(dataset=str(family[0]))
    vectors = torch.nn.functional.normalize(model.entity_embeddings.double(), dim=1)
    place = {name: i for i, name in enumerate(model.entities)}

    def cosine(one: str, other: str) -> float:
        return float(vectors[place[one]] @ vectors[place[other]])

    mothers = [line.split("\t") for line in FAMILY.splitlines() if "mother_of" in line]
    wanted = sorted(((cosine("jane", h) + cosine("lena", t)) / 2, h, t) for h, _, t in mothers)[
        ::-1
    ]
    found = model.explain("jane", "mother_of", "lena", k=2).facts
    assert [(a.fact.head, a.fact.tail) for a in found] == [(h, t) for _, h, t in wanted[:2]]
    assert [a.similarity for a in found] == pytest.approx([s for s, _, _ in wanted[:2]])
    assert found[0].head_similarity == pytest.approx(cosine("jane", found[0].fact.head))


def test_nothing_to_say_is_said(family: tuple[Path, Path]) -> None:
    model = kd.load(family[1])
    model.load_support(dataset=str(family[0]))
    model.use_support(triples([]))
    why = model.explain("ann", "mother_of", "lena")
    assert (why.facts, why.paths, why.in_train, why.whole) == ((), (), False, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"head": "anne"}, "unknown entity 'anne'; did you mean 'ann'"),
        ({"relation": "mother"}, "unknown relation"),
        ({"k": 0}, "at least 1"),
        ({"longest": 4}, "1 to 3"),
        ({"tail": 99}, "ids go from"),
    ],
)
def test_bad_questions(family: tuple[Path, Path], change: dict[str, object], says: str) -> None:
    model = kd.load(family[1])
    model.load_support(dataset=str(family[0]))
    asked = {"head": "ann", "relation": "mother_of", "tail": "bob", **change}
    with pytest.raises(UserError, match=says):
        model.explain(**asked)  # type: ignore[arg-type]


def test_a_model_extended_in_memory_knows_its_train_facts(family: tuple[Path, Path]) -> None:
    """Those that it was extended by too, and none of valid and test."""
    model = kd.load(family[1])
    grown = model.add_entities(
        [
            ("nora", "married_to", "otto"),
            ("otto", "father_of", "paul"),
            ("dora", "friend_of", "nora"),
        ],
        dataset=str(family[0]),
    )
    why = grown.explain("nora", "mother_of", "paul", k=9)
    (path,) = (p for p in why.paths if p.rule == "(h, married_to, x) and (x, father_of, t)")
    assert (path.pairs, path.hits) == (4, 3)  # Jane is no mother in train
    assert {a.fact.head for a in why.facts} == {"ann", "dora", "gina"}
    best = grown.predict_heads("mother_of", "paul", k=9, candidates="observed")
    assert {answer.name for answer in best} == {"ann", "dora", "gina"}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code: object = 0
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code or 0
    assert isinstance(code, int)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_what_is_left_out_is_counted(
    family: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds are those of all simple paths; which tell of the relation, confidences say."""
    folder, place = family
    named = kd.load(place)
    graph = named.load_support(dataset=str(folder))
    ids, relation = named.entities.id, named.relations.id("mother_of")
    jane, lena, size = ids("jane"), ids("lena"), len(named.relations)
    net = networkx.MultiDiGraph()
    for head, step, tail in graph.facts.to_array().tolist():
        net.add_edge(head, tail, key=step)
        net.add_edge(tail, head, key=step + size)
    kinds = {
        tuple(key for *_, key in path)
        for path in networkx.all_simple_edge_paths(net, jane, lena, cutoff=3)
    } - {(relation,)}
    telling = {kind for kind in kinds if graph.confidence(kind, relation, (jane, lena)).hits}
    why = named.explain("jane", "mother_of", "lena", k=100)
    assert (why.kinds.found, why.kinds.judged) == (len(kinds), len(kinds))
    assert why.kinds.telling == len(telling) == len(why.paths) >= 1
    monkeypatch.setattr(paths_module, "KINDS", 0)
    none = named.explain("jane", "mother_of", "lena")
    assert not none.paths and none.kinds == PathKinds(len(kinds), 0, 0)
    asked = ["predict", place, "--dataset", folder, "--head", "jane", "--relation", "mother_of"]
    asked += ["--tail", "lena", "--explain"]
    plural = "kind" if len(kinds) == 1 else "kinds"
    _, out, _ = run(capsys, *asked)
    assert f"note: {len(kinds)} further {plural} of paths, of most paths, not looked at" in out
    told = json.loads(run(capsys, *asked, "--json")[1])["explanation"]["kinds"]
    assert told == {"found": len(kinds), "judged": 0, "telling": 0}
    assert PathKinds(9, 8, 6).notes(5) == [
        "1 further kind of paths, of lower confidence, not shown",
        "2 further kinds of paths, of which no pair has the relation",
        "1 further kind of paths, of most paths, not looked at",
    ]


def test_the_command_explains(
    family: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = family
    asked = ["predict", model, "--dataset", folder, "--head", "jane", "--relation", "mother_of"]
    code, out, _ = run(capsys, *asked, "--tail", "lena", "--explain")
    assert code == 0
    assert "(jane, married_to, karl)" in out and "3 of 3" in out and "cosine" in out
    code, out, _ = run(capsys, *asked, "--tail", "lena", "--explain", "--json")
    named = kd.load(model)
    named.load_support(dataset=str(folder))
    wanted = json.loads(json.dumps(named.explain("jane", "mother_of", "lena", k=10).to_dict()))
    assert code == 0 and json.loads(out)["explanation"] == wanted
    code, out, _ = run(capsys, *asked, "--explain", "--json", "-k", 3)
    told = json.loads(out)
    assert code == 0 and told["explanation"]["tail"] == told["predictions"][0]["name"]
    code, out, _ = run(capsys, "predict", model, "--dataset", folder, "--head", "jane", "--tail",
                       "lena", "--explain")  # fmt: skip
    assert code == 0 and "train facts that support (jane, " in out


def test_where_no_facts_are_it_says_how_to_give_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    clock = write_clock(tmp_path / "clock")
    out = tmp_path / "run"
    kd.train(clock, model="distmult", recipe="none", dim=4, epochs=1, threads=1, out=out)
    clock.rename(tmp_path / "moved")
    asked = ["predict", out, "--head", "n0", "--relation", "plus1", "--tail", "n1"]
    code, _, err = run(capsys, *asked, "--explain")
    (line,) = (line for line in err.splitlines() if not line.startswith("model: "))
    assert code == 2 and line.startswith("error: ") and "--dataset" in line
    code, _, err = run(capsys, *asked, "--explain", "--dataset", tmp_path / "moved")
    assert code == 0, err
    questions = tmp_path / "questions.tsv"
    questions.write_text("n0\tplus1\t?\n", encoding="utf-8")
    code, _, err = run(capsys, "predict", out, "--file", questions, "--explain")
    assert code == 2 and "--explain" in err and len(err.splitlines()) == 1
