"""Predictions against every score sorted by Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from cli_fixtures import called
from hypothesis import example, given
from hypothesis import strategies as st
from model_formulas import (
    ENTITIES,
    RELATIONS,
    every_variant,
    graph_of,
    make,
    one_thread,  # noqa: F401 (a fixture)
    some_triples,
)
from typer.testing import CliRunner

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.cli import app, main
from dglke_distill.config import Config
from dglke_distill.data import catalog
from dglke_distill.data.triples import Triples, Vocabulary
from dglke_distill.models import build_model
from dglke_distill.predict import NamedModel, top_k
from dglke_distill.predict.top_k import TopK, search

NAMES = Vocabulary(["Riga", "Latvia", "Euro", "Oslo", "Norway", "Krone", *"abcde"])
LINKS = Vocabulary(["capital_of", "uses_currency", "borders"], kind="relation")
assert (len(NAMES), len(LINKS)) == (ENTITIES, RELATIONS)


def named(name: str = "ComplEx", options=None, **settings) -> NamedModel:
    model = make(name, options, **settings)
    model.eval()
    tree = {"model": {"name": name, "dim": 6, "options": options or {}}}
    config = Config.from_mapping(tree, "test")
    return NamedModel(checkpoint.LoadedModel(model, config, NAMES, LINKS, {"a": 1}), card="# Card")


def sorted_scores(scores: torch.Tensor, without=()) -> list[tuple[int, float]]:
    pairs = [(i, s) for i, s in enumerate(scores.tolist()) if i not in without]
    return sorted(pairs, key=lambda pair: -pair[1])


def close(got, expected) -> None:
    assert [i for i, _ in got] == [i for i, _ in expected]
    assert [s for _, s in got] == pytest.approx([s for _, s in expected])


# --- the best of many ---------------------------------------------------------------------------


@given(
    candidates=st.integers(1, 5000),
    width=st.integers(1, 3000),
    k=st.integers(1, 20),
    hidden=st.floats(0, 1),
    levels=st.sampled_from([3, 10**9]),
    compiled=st.booleans(),
    seed=st.integers(0, 2**20),
)
@example(candidates=2, width=1, k=2, hidden=0.0, levels=3, compiled=False, seed=1)
def test_search_by_blocks_is_topk_of_all(candidates, width, k, hidden, levels, compiled, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels, (2, candidates), generator=generator).float()
    scores[torch.rand(2, candidates, generator=generator) < hidden] = -torch.inf
    asked = []

    def score(start, stop):
        asked.append((start, stop))
        return scores[:, start:stop].clone()

    with pytest.MonkeyPatch.context() as patch:
        if compiled:
            patch.setattr(top_k, "FEW_SCORES", 0)
            patch.setattr(top_k, "CACHED_SCORES", 3000)
        found = search(score, 2, candidates, k, width)
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])]
    assert asked[-1][1] == candidates and all(b - a <= width for a, b in asked)
    k = min(k, candidates)
    assert found.ids.shape == found.scores.shape == (2, k)
    padded = torch.nn.functional.pad(scores, (0, k), value=-torch.inf)
    assert torch.equal(found.scores, padded.topk(k).values)
    real = found.ids >= 0
    assert torch.equal(real, found.scores > -torch.inf)
    assert torch.equal(padded.gather(1, found.ids.clamp(min=0))[real], found.scores[real])
    for row in found.ids.tolist():
        named = [i for i in row if i >= 0]
        assert len(set(named)) == len(named)


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reciprocal", [False, True])
@every_variant
def test_answers_are_the_best_of_all_scores(name, options, reciprocal):
    model = named(name, options, reciprocal=reciprocal, entity_bias=True)
    one, relation = torch.tensor([1]), torch.tensor([2])
    expected = sorted_scores(model.model.score_all(one, relation, "tail")[0])
    got = model.predict_tails("Latvia", "borders", 4)
    close([(p.id, p.score) for p in got], expected[:4])
    assert [p.name for p in got] == [NAMES[p.id] for p in got]
    expected = sorted_scores(model.model.score_all(one, relation, "head")[0])
    close([(p.id, p.score) for p in model.predict_heads("borders", "Latvia", 99)], expected)
    scores = model.score([("Riga", link, "Latvia") for link in LINKS])
    got = model.predict_relations("Riga", "Latvia", 2)
    close([(p.id, p.score) for p in got], sorted_scores(scores)[:2])
    assert [p.name for p in got] == [LINKS[p.id] for p in got]


def test_batches_answer_like_single_questions():
    model = named()
    head, relation, tail = some_triples(600)  # more than are asked at once
    tails = model.top_tails(head, relation, 3)
    heads = model.top_heads(relation, tail, 3)
    links = model.top_relations(head, tail, 2)
    assert tails.ids.shape == heads.ids.shape == (600, 3) and links.ids.shape == (600, 2)
    for i in (0, 255, 256, 599):
        h, r, t = int(head[i]), int(relation[i]), int(tail[i])
        for found, single in (
            (tails, model.predict_tails(h, r, 3)),
            (heads, model.predict_heads(r, t, 3)),
            (links, model.predict_relations(h, t, 2)),
        ):
            expected = [(p.id, p.score) for p in single]
            close(list(zip(found.ids[i].tolist(), found.scores[i].tolist())), expected)


def test_known_facts_are_left_out():
    model = named()
    facts = [("Riga", "capital_of", "Latvia"), ("Riga", "capital_of", 5), (3, 0, "Norway")]
    left = {1, 5}
    scores = model.model.score_all(torch.tensor([0]), torch.tensor([0]), "tail")[0]
    expected = sorted_scores(scores, without=left)
    for given_as in (facts, torch.tensor([[0, 0, 1], [0, 0, 5], [3, 0, 4]])):
        got = model.predict_tails("Riga", "capital_of", 99, exclude_known=given_as)
        close([(p.id, p.score) for p in got], expected)
    heads = model.predict_heads("capital_of", "Norway", 99, exclude_known=facts)
    assert {p.name for p in heads} == set(NAMES) - {"Oslo"}
    links = model.predict_relations("Riga", "Latvia", 99, exclude_known=facts)
    assert {p.name for p in links} == set(LINKS) - {"capital_of"}
    batch = model.top_tails(torch.tensor([0, 3]), torch.tensor([0, 0]), 10, exclude_known=facts)
    assert batch.ids[0].tolist().count(-1) == 1 and batch.ids[1].tolist().count(-1) == 0
    assert batch.scores[0, -1] == -torch.inf
    everything = [(0, 0, t) for t in range(ENTITIES)]
    assert model.predict_tails("Riga", "capital_of", 3, exclude_known=everything) == []


def test_the_nearest_have_the_greatest_cosine():
    model = named("TransE")
    vectors = model.entity_embeddings.numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = torch.from_numpy(unit @ unit[3])
    got = [(p.id, p.score) for p in model.nearest_entities("Oslo", 5)]
    close(got, sorted_scores(cosine, without={3})[:5])


def test_scores_of_triples_by_names_ids_tensors_and_columns():
    model = named()
    array = np.array([[0, 0, 1], [3, 0, 4], [1, 1, 2]])
    names = [(NAMES[h], LINKS[r], NAMES[t]) for h, r, t in array]
    expected = model.model.score_triples(*torch.from_numpy(array.T.copy())).detach()
    for given_as in (names, array.tolist(), torch.from_numpy(array), Triples.from_array(array)):
        assert torch.equal(model.score(given_as), expected)
    assert not model.score(names).requires_grad
    assert model.score([]).shape == (0,)


def test_frames_hold_answers_in_the_order_of_questions():
    model = named()
    questions = [("Riga", "capital_of", None), (None, "borders", "Norway"), (0, None, 1)]
    frame = model.predict_frame([*questions, questions[0]], k=2)
    assert list(frame.columns) == ["question", "rank", "head", "relation", "tail", "score"]
    assert frame["question"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame["rank"].tolist() == [1, 2] * 4
    first = model.predict_tails("Riga", "capital_of", 2)
    assert frame["tail"][:2].tolist() == [p.name for p in first]
    assert frame["head"][2:4].tolist() == [
        p.name for p in model.predict_heads("borders", "Norway", 2)
    ]
    triples = list(zip(frame["head"], frame["relation"], frame["tail"]))
    assert triples[4][0] == "Riga" and triples[4][2] == "Latvia"
    relation_rows = model.score(triples).tolist()
    assert frame["score"].tolist() == pytest.approx(relation_rows)
    for bad in [("Riga", None, None), (None, None, None), ("Riga", None)]:
        with pytest.raises(UserError, match="one of them None"):
            model.predict_frame([bad])


@pytest.mark.parametrize("sign", [None, float("nan"), np.nan, pandas.NA, pandas.NaT, "?"])
@pytest.mark.parametrize("dtype", [None, object, "string"])
def test_what_is_missing_in_a_frame_is_asked(sign, dtype):
    model = named()
    questions = [("Riga", "capital_of", sign), (sign, "borders", "Norway"), ("Riga", sign, "Oslo")]
    plain = [tuple(None if part is sign else part for part in row) for row in questions]
    expected = model.predict_frame(plain, k=2)
    assert model.predict_frame(questions, k=2).equals(expected)
    frame = pandas.DataFrame(questions, columns=["head", "relation", "tail"], dtype=dtype)
    assert model.predict_frame(frame, k=2).equals(expected)
    with pytest.raises(UserError, match="unknown entity ''"):  # as a file's line is refused
        model.predict_frame([("Riga", "borders", "")])


def test_a_question_mark_that_is_a_name_is_that_name():
    found = named().loaded
    names = Vocabulary(["?", *list(NAMES)[1:]])
    model = NamedModel(checkpoint.LoadedModel(found.model, found.config, names, LINKS, {"a": 1}))
    assert model.predict_frame([("?", "borders", None)], k=2)["head"].tolist() == ["?", "?"]
    assert model.predict_frame([("?", "?", "Oslo")], k=2)["head"].tolist() == ["?", "?"]


def rank_by_hand(scores: list[float], answer: int, rivals: set[int]) -> float:
    others = [scores[i] for i in rivals - {answer}]
    greater = sum(score > scores[answer] for score in others)
    return 1 + greater + sum(score == scores[answer] for score in others) / 2


@pytest.mark.parametrize("block_rows", [None, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_ranks_of_triples(block_rows, tied, monkeypatch):
    model = named(reciprocal=True)
    with torch.no_grad():  # whole numbers: in any order of a sum, equal vectors have equal scores
        for weight in model.model.parameters():
            weight.copy_((8 * weight).round())
    if tied:
        with torch.no_grad():
            model.model.encoder.weight[2:9] = model.model.encoder.weight[2]
    if block_rows is not None:
        monkeypatch.setattr(type(model.model), "block_rows", block_rows)
    triples = [(h, r, t) for h in NAMES for r in LINKS for t in NAMES]
    facts = [(h, r, t) for h, r, t in triples if (ord(h[0]) + ord(r[0]) + ord(t[0])) % 3 == 0]
    known = set(facts)
    few = ["Euro", "Oslo", "c", "e"]
    for options, among in (({}, NAMES), ({"candidates": few}, few)):
        for told in ((), facts):
            ranks = model.rank(triples, exclude_known=told, **options)
            assert ranks.dtype == torch.float64
            for (h, r, t), rank in zip(triples, ranks.tolist()):
                asked = model.entity_ids([h]), model.relation_ids([r])
                scores = model.model.score_all(*asked, "tail")[0].tolist()
                left_out = {(h, r, name) for name in among} & (known if told else set())
                rivals = {NAMES.id(name) for name in among if (h, r, name) not in left_out}
                assert rank == rank_by_hand(scores, NAMES.id(t), rivals), (h, r, t)
    assert model.rank([]).tolist() == []


def test_ranks_are_those_of_the_answers():
    model = named("TransE")
    answers = model.predict_tails("Riga", "borders", 99)
    triples = [("Riga", "borders", answer.name) for answer in answers]
    assert model.rank(triples).tolist() == list(range(1, len(NAMES) + 1))
    asked = [("Riga", "borders", None), *triples[::-1]]
    frame = model.predict_frame(asked, k=1)
    assert frame["question"].tolist() == list(range(len(asked)))
    assert frame["rank"].tolist() == [1, *range(len(NAMES), 0, -1)]
    assert frame["tail"].tolist() == [answers[0].name, *(a.name for a in answers[::-1])]
    assert frame["score"].tolist()[1:] == pytest.approx([a.score for a in answers[::-1]])


@pytest.mark.parametrize(("tied", "rank"), [(1, 1), (2, 1.5), (3, 2), (4, 2.5)])
def test_equal_scores_share_the_mean_of_their_ranks_in_every_form(tied, rank, tmp_path, capsys):
    """As words, JSON, CSV, JSON lines, Parquet and frames."""
    config = Config.from_mapping({"model": {"name": "DistMult", "dim": 6}}, "test")
    made = build_model(config.model, ENTITIES, RELATIONS).eval()
    model = NamedModel(checkpoint.LoadedModel(made, config, NAMES, LINKS, {"a": 1}))
    with torch.no_grad():
        model.model.encoder.weight[:] = -1
        model.model.encoder.weight[:tied] = 1
        model.model.relation_weight[:] = 1
    place = tmp_path / "model"
    results = {"a": 1, "dataset": {"name": "none", "fingerprint": "none"}}
    checkpoint.save_model(place, model.model, model.config, NAMES, LINKS, results)
    whole = ["--head", NAMES[0], "--relation", LINKS[0], "--tail", NAMES[0]]
    assert json.loads(called(capsys, "predict", place, *whole, "--json").out)["rank"] == rank
    frame = model.predict_frame([(NAMES[0], LINKS[0], NAMES[0])])
    assert frame["rank"].tolist() == [rank]
    asked = tmp_path / "asked.tsv"
    asked.write_text(f"{NAMES[0]}\t{LINKS[0]}\t{NAMES[0]}\n{NAMES[0]}\t{LINKS[0]}\t?\n")
    forms = {"csv": "{},{},", "jsonl": '{{"question": {}, "rank": {}, '}
    for format, begin in forms.items():
        done = called(capsys, "predict", place, "--file", asked, "-k", 1, "--format", format)
        lines = done.out.splitlines()
        assert lines[-2].startswith(begin.format(1, rank))
        assert lines[-1].startswith(begin.format(2, 1))
    out = tmp_path / "o.parquet"
    assert called(capsys, "predict", place, "--file", asked, "-k", 1, "--out", out).code == 0
    assert pandas.read_parquet(out)["rank"].tolist() == [rank, 1]


def test_names_and_ids_both_ways():
    model = named()
    assert model.entity_ids(["Oslo", 4, "Riga"]).tolist() == [3, 4, 0]
    assert model.relation_ids(["borders"]).tolist() == [2]
    assert model.entity_names(torch.tensor([3, 0])) == ["Oslo", "Riga"]
    assert model.relation_names([1]) == ["uses_currency"]
    assert model.card == "# Card" and model.results == {"a": 1}
    assert "ComplEx" in repr(model)
    for ask, message in (
        (lambda: model.predict_tails("Latvai", "borders"), "'Latvai'; did you mean 'Latvia'"),
        (lambda: model.predict_tails("RIGA", "borders"), "did you mean 'Riga'"),
        (lambda: model.predict_heads("border", "Riga"), "relation 'border'; did you mean"),
        (lambda: model.predict_tails(11, 0), "entity id 11: ids go from 0 to 10"),
        (lambda: model.predict_tails(-1, 0), "entity id -1"),
        (lambda: model.predict_tails(0, 0, k=0), "k is 0"),
        (lambda: model.nearest_entities(0, k=0), "k is 0"),
    ):
        with pytest.raises(UserError, match=message):
            ask()


def test_it_is_a_module_that_can_be_fine_tuned():
    model = named(dtype=torch.float32)
    assert [id(p) for p in model.parameters()] == [id(p) for p in model.model.parameters()]
    graph = graph_of(*some_triples(20))
    before = model(graph).mean()
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        (-model(graph).mean()).backward()
        optimizer.step()
    assert model(graph).mean() > before + 0.1
    expected = model.model.score_all(torch.tensor([0]), torch.tensor([0]), "tail").max()
    assert model.predict_tails("Riga", "capital_of", 1)[0].score == pytest.approx(float(expected))


# --- a dataset's own facts, and the command line ------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the embedded dataset."""
    dataset = catalog.load("cldr")
    config = Config.from_mapping({"model": {"name": "DistMult", "dim": 8}}, "test")
    model = build_model(config.model, dataset.num_entities, dataset.num_relations)
    model.reset(0)
    directory = tmp_path_factory.mktemp("predict") / "checkpoint"
    checkpoint.save_model(directory, model, config, dataset.entities, dataset.relations, {})
    return directory


def test_facts_of_the_models_own_dataset(saved: Path):
    model = NamedModel(checkpoint.load_model(saved))
    dataset = catalog.load("cldr")
    head, relation = int(dataset.test.head[0]), int(dataset.test.relation[0])
    answers = set()
    for split in ("train", "valid", "test"):
        of = dataset.split(split)
        answers |= set(of.tail[(of.head == head) & (of.relation == relation)].tolist())
    got = model.predict_tails(head, relation, 10**4, exclude_known=True)
    assert {p.id for p in got} == set(range(dataset.num_entities)) - answers


def test_facts_of_another_dataset_are_refused(saved: Path):
    loaded = checkpoint.load_model(saved)
    names = Vocabulary([f"other {name}" for name in loaded.entities])
    other = checkpoint.LoadedModel(loaded.model, loaded.config, names, loaded.relations, {})
    with pytest.raises(UserError, match="not the"):
        NamedModel(other).predict_tails(0, 0, exclude_known=True)


def test_the_command_line_answers(saved: Path):
    dataset = catalog.load("cldr")
    head, relation = dataset.entities[5], dataset.relations[1]
    model = NamedModel(checkpoint.load_model(saved))
    ask = ["predict", str(saved), "--relation", relation, "-k", "3"]
    shown = CliRunner().invoke(app, [*ask, "--head", head, "--json"])
    assert shown.exit_code == 0, shown.output
    result = json.loads(shown.output)
    assert (result["head"], result["relation"], result["tail"]) == (head, relation, None)
    expected = model.predict_tails(head, relation, 3)
    assert [p["name"] for p in result["predictions"]] == [p.name for p in expected]
    shown = CliRunner().invoke(app, [*ask, "--tail", head], env={"COLUMNS": "200"})
    for answer in model.predict_heads(relation, head, 3):
        assert answer.name in shown.output and f"{answer.score:.4f}" in shown.output
    shown = CliRunner().invoke(app, [*ask[:-2], "--head", head, "--tail", head])  # without -k
    assert float(shown.output) == pytest.approx(
        float(model.score([(head, relation, head)])), abs=1e-4
    )


def test_a_file_of_questions_and_triples(saved: Path, tmp_path: Path):
    dataset = catalog.load("cldr")
    model = NamedModel(checkpoint.load_model(saved))
    (h, t), r = (dataset.entities[i] for i in (5, 9)), dataset.relations[1]
    (tmp_path / "asked.tsv").write_text(f"{h}\t{r}\t{t}\n{h}\t{r}\t?\n{t}\t{r}\t{h}\n")
    ask = ["predict", str(saved), "--file", str(tmp_path / "asked.tsv"), "-k", "2"]
    done = CliRunner().invoke(app, [*ask, "--format", "jsonl"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [row["question"] for row in rows] == [1, 2, 2, 3]
    for row, triple in zip((rows[0], rows[3]), ((h, r, t), (t, r, h))):
        assert (row["head"], row["relation"], row["tail"]) == triple
        assert row["score"] == pytest.approx(float(model.score([triple])[0]))
        assert row["rank"] == int(model.rank([triple])[0])
    whole = ["predict", str(saved), "--head", h, "--relation", r, "--tail", t]
    one = CliRunner().invoke(app, [*whole, "--json"])
    assert json.loads(one.output)["rank"] == rows[0]["rank"]
    filtered = CliRunner().invoke(app, [*ask, "--exclude-known"])
    assert filtered.exit_code == 0 and filtered.output.startswith("question,rank,head")
    first = int(filtered.output.splitlines()[1].split(",")[1])
    assert first == int(model.rank([(h, r, t)], exclude_known=True)[0]) <= rows[0]["rank"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--head", "x"], "at least two"),
        (["--head", "Latvai", "--relation", "borders"], "unknown entity 'Latvai'"),
    ],
)
def test_mistakes_are_one_line(saved: Path, flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(saved), *flags])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_answers_are_marked():
    found = search(lambda a, b: torch.full((1, b - a), -torch.inf), 1, 3, 2, 2)
    assert isinstance(found, TopK)
    assert found.ids.tolist() == [[-1] * 2]
