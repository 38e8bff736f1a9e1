"""The best new facts against all scores sorted by Python; questions in files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from cli_fixtures import called as call
from model_formulas import RELATIONS
from zoo_fixtures import home as home
from zoo_fixtures import trained as trained

from dglke_distill.base.errors import UserError
from dglke_distill.compression import Storage, compress
from dglke_distill.config import ModelConfig
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import Triples
from dglke_distill.models import build_model
from dglke_distill.predict import NamedModel, discovering
from dglke_distill.predict.discovering import best_triples

MODEL = "complex-cldr-dim32"


def model_of(kind: str, entities: int = 40) -> Any:
    config = ModelConfig(name="ComplEx" if kind == "int8" else kind, dim=12)
    model = build_model(config, entities, RELATIONS, torch.float32)
    model.reset(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(generator=generator)
    return compress(model, config, Storage.of("int8", {})) if kind == "int8" else model


def brute_force(
    model: Any, relation: int, k: int, known: set[tuple[int, int]], heads: Any, tails: Any
) -> list[tuple[int, int, float]]:
    """Every pair in a list, sorted; a reverse that scores the same is struck out."""
    count = model.num_entities
    table = model.score_all(
        torch.arange(count), torch.full((count,), relation), "tail"
    ).double().tolist()  # fmt: skip
    rows = [
        (h, t, table[h][t])
        for h in (range(count) if heads is None else heads.tolist())
        for t in (range(count) if tails is None else tails.tolist())
        if (h, t) not in known
    ]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    said: dict[tuple[int, int], float] = {}
    for h, t, score in rows:
        if len(said) == k:
            break
        if h != t and (t, h) in said and said[t, h] == pytest.approx(score, rel=1e-5, abs=0):
            continue
        said[h, t] = score
    return [(h, t, score) for (h, t), score in said.items()]


@pytest.mark.parametrize("kind", ["DistMult", "ComplEx", "TransE", "RotatE", "TransR", "int8"])
@pytest.mark.parametrize("k", [1, 7, 300, 10_000])
@pytest.mark.parametrize("few", [False, True])
def test_the_best_are_those_of_all_scores(
    kind: str, k: int, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovering, "HEADS_AT_ONCE", 7)
    model = model_of(kind)
    rng = np.random.default_rng(k)
    facts = np.stack([rng.integers(0, n, 300) for n in (40, RELATIONS, 40)], axis=1)
    known = KnownAnswers.build([Triples.from_array(facts)], 40)
    heads, tails = (np.unique(rng.integers(0, 40, 25)) if few else None for _ in range(2))
    for relation in range(RELATIONS):
        pairs = {(h, t) for h, r, t in facts.tolist() if r == relation}
        expected = brute_force(model, relation, k, pairs, heads, tails)
        found = best_triples(model, relation, k, known=known, heads=heads, tails=tails)
        np.testing.assert_allclose(found.score, [row[2] for row in expected], rtol=1e-4, atol=1e-5)
        got = list(zip(found.head.tolist(), found.tail.tolist()))
        assert len(set(got)) == len(got) and not pairs & set(got)
        # Blocks of another shape round otherwise: which way round a symmetric pair stands is free.
        loose = (lambda p: tuple(sorted(p))) if kind == "DistMult" else (lambda p: p)
        assert {loose(p) for p in got} == {loose(row[:2]) for row in expected}


def test_what_is_kept_is_bounded_and_ties_go_by_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "SCORES_AT_ONCE", 1)
    model = model_of("TransE", 1200)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    widest = []
    score = model.score

    def watched(*given: Any, **more: Any) -> Any:
        found = score(*given, **more)
        widest.append(found.numel())
        return found

    monkeypatch.setattr(model, "score", watched)
    found = best_triples(model, 0, 3)
    assert list(zip(found.head, found.tail)) == [(0, 0), (0, 1), (0, 2)]
    assert max(widest) <= 256 * 1024
    assert list(best_triples(model, 0, 2, loops=False).tail) == [1, 2]


@pytest.fixture(scope="module")
def model() -> NamedModel:
    import dglke_distill as kd

    found = kd.load(MODEL)
    assert isinstance(found, NamedModel)
    return found


def test_each_relation_has_its_own_list(model: NamedModel) -> None:
    frame = model.discover(["uses_currency", "main_script", "uses_currency"], 4)
    assert frame["relation"].tolist() == ["uses_currency"] * 4 + ["main_script"] * 4
    assert frame["rank"].tolist() == [1, 2, 3, 4] * 2
    known = model.load_known()
    for h, r, t in frame[["head", "relation", "tail"]].itertuples(index=False):
        ids = model.entities.id(h), model.relations.id(r), model.entities.id(t)
        assert ids[2] not in known.answers(ids[0], ids[1], "tail")
    scores = model.score(list(frame[["head", "relation", "tail"]].itertuples(index=False)))
    np.testing.assert_allclose(frame["score"], scores, rtol=1e-5)
    every = model.discover("uses_currency", 1, known=False)
    assert every["score"][0] >= frame["score"][0]


@pytest.mark.parametrize("k", [0, -1, discovering.MOST + 1])
def test_a_number_out_of_range(model: NamedModel, k: int) -> None:
    with pytest.raises(UserError, match=f"k is {k}: ask for 1 to"):
        model.discover("uses_currency", k)


def test_other_candidates_are_refused(model: NamedModel) -> None:
    with pytest.raises(UserError, match="give observed or typed"):
        model.discover("uses_currency", 1, candidates=["Euro"])


# --- the commands -------------------------------------------------------------------------------


def test_all_formats_say_the_same(
    model: NamedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["discover", MODEL, "--relation", "uses_currency", "-k", 5]
    expected = model.discover("uses_currency", 5)
    code, out, _ = call(capsys, *command)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["head"] for row in rows] == expected["head"].tolist()
    code, out, _ = call(capsys, *command, "--format", "jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [row["score"] for row in lines] == expected["score"].tolist()
    for ending, read in (
        ("csv", pandas.read_csv),
        ("jsonl", lambda path: pandas.read_json(path, lines=True)),
        ("parquet", pandas.read_parquet),
    ):
        assert call(capsys, *command, "--out", tmp_path / f"a.{ending}")[0] == 0
        found = read(tmp_path / f"a.{ending}")
        pandas.testing.assert_frame_equal(
            found[list(expected)], expected.to_pandas(), check_dtype=False, rtol=1e-9
        )


def test_a_file_of_questions(
    model: NamedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.tsv"
    file.write_text("Latvia\tuses_currency\t?\n\n?\tuses_currency\tEuro\nLatvia\t?\tEuro\n")
    code, out, _ = call(capsys, "predict", MODEL, "--file", file, "-k", 2)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["question"] for row in rows] == ["1", "1", "2", "2", "3", "3"]
    assert [r["tail"] for r in rows[:2]] == [
        a.name for a in model.predict_tails("Latvia", "uses_currency", 2)
    ]
    assert [r["head"] for r in rows[2:4]] == [
        a.name for a in model.predict_heads("uses_currency", "Euro", 2)
    ]
    assert [r["relation"] for r in rows[4:]] == [
        a.name for a in model.predict_relations("Latvia", "Euro", 2)
    ]


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("", [], "is empty"),
        ("a\tb\n", [], "line 1: 2 columns"),
        ("?\t?\t?\n", [], "line 1: 3 parts are ?"),
        ("?\tuses_currency\t?\n", [], "line 1: 2 parts are ?"),
        ("\nLatwia\tuses_currency\t?\n", [], "line 2: unknown entity 'Latwia'"),
        ("Latvia\tuses\t?\n", [], "line 1: unknown relation 'uses'"),
        ("Latvia\t?\tEuro\n", ["--candidates", "observed"], "line 1: asks for a relation"),
        ("Latvia\tuses_currency\t?\n", ["--head", "Latvia"], "--file: holds the questions"),
        ("Latvia\tuses_currency\t?\n", ["--json"], "--format jsonl"),
        ("Latvia\tuses_currency\t?\n", ["--out", "x.docx"], "the ending '.docx'"),
        ("Latvia\tuses_currency\t?\n", ["--format", "xml"], "no such format"),
        ("Latvia\tuses_currency\t?\n", ["--format", "parquet"], "name a file by --out"),
        ("Latvia\tuses_currency\t?\n", ["--out", "."], "--out ."),
    ],
)
def test_bad_files_of_questions(
    text: str, more: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.tsv"
    file.write_text(text)
    code, out, error = call(capsys, "predict", MODEL, "--file", file, *more)
    assert (code, out) == (2, "")
    assert told in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--relation", "uses"], "unknown relation 'uses'"),
        (["--candidates", "Euro"], "give observed or typed"),
        (["--types", "types.tsv"], "--candidates typed"),
        (["--format", "parquet"], "name a file by --out"),
        (["--out", "found.txt"], "the ending '.txt'"),
    ],
)
def test_bad_wishes(more: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = call(capsys, "discover", MODEL, *more)
    assert (code, out) == (2, "")
    assert told in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("command", ["discover", "predict"])
def test_facts_that_are_read_are_not_replaced(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts, questions = tmp_path / "facts.tsv", tmp_path / "questions.tsv"
    facts.write_text("a\tr\tb\n")
    questions.write_text("Latvia\tuses_currency\t?\n")
    asked = ["--file", questions] if command == "predict" else []
    words = [MODEL, *asked, "--dataset", facts, "--out", facts, "--format", "csv", "--overwrite"]
    code, _, error = call(capsys, command, *words)
    assert code == 2 and "is read by this command, too" in error
    assert facts.read_text() == "a\tr\tb\n"
