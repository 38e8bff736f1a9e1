"""The script that holds verdicts against long searches."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from distill_fixtures import write_clock
from scripts import imported

import dglke_distill as kd
from dglke_distill.base.errors import UserError

SCRIPT = Path(__file__).parent.parent / "experiments" / "verdicts.py"


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    """The script, imported."""
    return imported(SCRIPT)


def called(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Run the script with these words of a command line."""
    monkeypatch.setattr(sys, "argv", ["verdicts.py", *words])
    script.main()


def facts_of(path: Path) -> list[tuple[str, ...]]:
    """Return the lines of a file of triples."""
    return [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_graph_is_judged_and_searched_once(
    verdicts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row has the verdict's own figures and those of the model of the long search."""
    write_clock(tmp_path / "clock")
    table, runs = tmp_path / "out" / "v.csv", tmp_path / "runs"
    words = ["--data", str(tmp_path / "clock"), "--dims", "8,4", "--search", "none"]
    words += ["--epochs", "2"]
    words += ["--factor", "0", "--least", "0.1", "--runs", str(runs), "--csv", str(table)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "exit", lambda code: None)  # whatever comes out of so short a search
        called(verdicts, patch, *words)
    with table.open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    place = runs / "clock"
    results = json.loads((place / "run" / "results.json").read_text(encoding="utf-8"))
    (size,) = results["verdict"]["sizes"]
    for key in ("claim", "outcome"):
        assert row[key] == size[key]
    assert (row["graph"], row["floats"], row["train"]) == ("clock", "4", "60")
    assert float(row["student_mrr"]) == pytest.approx(size["student_mrr"], abs=6e-5)
    best = place / "direct-4" / "best" / "checkpoint"
    again = kd.evaluate(best, dataset=str(tmp_path / "clock"), split="test")
    assert float(row["long_mrr"]) == pytest.approx(again.mrr, abs=6e-5)
    with (place / "direct-4" / "study" / "trials.csv").open(newline="") as stream:
        trials = list(csv.DictReader(stream))
    assert int(row["long_trials"]) == len(trials) >= 1
    total = sum(float(trial["seconds"]) for trial in trials)
    assert float(row["long_seconds"]) == pytest.approx(total, abs=0.06)
    assert (
        row["command"] == "dglke-distill run clock --epochs 2 --dims 8,4 --search none --threads 1"
    )
    (model,) = (
        stage["results"]["model"]["name"]
        for stage in results["stages"]
        if stage["name"] == size["student"]
    )
    long = f"dglke-distill tune clock --model {model} --dim 4 --epochs 2 --time 0.1s --threads 1"
    assert row["long_command"] == long

    models = sorted(runs.rglob("*.safetensors"))
    times, before = [path.stat().st_mtime_ns for path in models], table.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "exit", lambda code: None)
        called(verdicts, patch, *words)
    assert sorted(runs.rglob("*.safetensors")) == models
    assert [path.stat().st_mtime_ns for path in models] == times
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("outcome", "student", "control", "long", "wrong"),
    [
        ("better", 0.5, 0.4, 0.51, True),
        ("better", 0.5, 0.4, 0.5, False),
        ("better", 0.5, 0.4, 0.49, False),
        ("direct", 0.5, 0.49, 0.48, True),
        ("direct", 0.5, 0.49, 0.51, False),
        ("direct", 0.5, 0.6, 0.49, False),  # the control that it names is better
        ("alike", 0.5, 0.4, 0.9, False),
        ("none", 0.5, 0.4, 0.1, False),
    ],
)
def test_a_verdict_is_contradicted_by_the_other_order(
    verdicts: ModuleType, outcome: str, student: float, control: float, long: float, wrong: bool
) -> None:
    assert verdicts.contradicts(outcome, student, control, long) is wrong


def test_a_contradicted_verdict_ends_the_program_with_1(
    verdicts: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {
        "graph": "family-0", "floats": 16, "claim": "the student is better", "student_mrr": 0.5,
        "control_mrr": 0.4, "long_seconds": 60, "long_mrr": 0.6, "contradicted": True,
    }  # fmt: skip
    monkeypatch.setattr(verdicts, "rows_of", lambda *of: [row])
    places = ["--runs", str(tmp_path / "runs"), "--csv", str(tmp_path / "v.csv")]
    with pytest.raises(SystemExit) as ended:
        called(verdicts, monkeypatch, "--only", "family-0", *places)
    assert ended.value.code == 1
    assert "family-0, 16 floats: CONTRADICTED: the student is better" in capsys.readouterr().out
    row["contradicted"] = False
    called(verdicts, monkeypatch, "--only", "family-0", *places)
    assert capsys.readouterr().out.startswith("family-0, 16 floats: holds")


def test_lines_of_other_graphs_stay_in_the_table(verdicts: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "v.csv"
    verdicts.write([{"graph": "a", "floats": 64}, {"graph": "a", "floats": 32}], table)
    verdicts.write([{"graph": "b", "floats": 64}], table)
    verdicts.write([{"graph": "a", "floats": 16}], table)
    assert table.read_text(encoding="utf-8").splitlines() == ["graph,floats", "b,64", "a,16"]
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"v\.csv: is no table of this script"):
        verdicts.write([{"graph": "a", "floats": 16}], table)


def test_graphs_are_the_same_each_time_and_name_everything_in_train(
    verdicts: ModuleType, tmp_path: Path
) -> None:
    assert len(verdicts.GRAPHS) == 12
    for name in (*verdicts.GRAPHS, *verdicts.OWN):
        folder = verdicts.write_graph(name, tmp_path / name)
        parts = {split: facts_of(folder / f"{split}.txt") for split in ("train", "valid", "test")}
        facts = [fact for part in parts.values() for fact in part]
        assert max(Counter(facts).values()) == 1
        known = {word for fact in parts["train"] for word in fact}
        assert all(known.issuperset(fact) for fact in parts["valid"] + parts["test"])
        assert len(parts["valid"]) == pytest.approx(len(parts["test"]), abs=1)
        assert len(parts["test"]) == pytest.approx(len(facts) / 10, abs=1)
        if name == "50000-facts":
            assert len(facts) == pytest.approx(50_000, rel=0.1)
            continue  # a second of making; the same maker's smaller graphs are compared
        if name == "under-500-facts":
            assert len(facts) < 500
        again = verdicts.write_graph(name, tmp_path / "again" / name)
        for path in folder.iterdir():
            assert path.read_bytes() == (again / path.name).read_bytes()


def test_each_kind_of_relation_is_what_its_name_says(verdicts: ModuleType, tmp_path: Path) -> None:
    folder = verdicts.write_graph("each-kind", tmp_path)
    pairs: dict[str, set[tuple[str, str]]] = {}
    for split in ("train", "valid", "test"):
        for head, relation, tail in facts_of(folder / f"{split}.txt"):
            pairs.setdefault(relation, set()).add((head, tail))

    def most(relation: str, side: int) -> int:
        """Return how often an entity stands on a side at most."""
        return max(Counter(pair[side] for pair in pairs[relation]).values())

    assert most("next", 0) == most("next", 1) == 1
    assert most("reports_to", 0) == 1 < most("reports_to", 1)
    assert most("leads", 0) > 1 == most("leads", 1)
    assert most("knows", 0) > 1 and most("knows", 1) > 1
    assert pairs["leads"] == {(tail, head) for head, tail in pairs["reports_to"]}
    assert pairs["beside"] == {(tail, head) for head, tail in pairs["beside"]}
    boss = dict(pairs["reports_to"])
    assert pairs["boss_of_boss"] == {(low, boss[up]) for low, up in boss.items() if up in boss}
    below = pairs["below"]
    assert pairs["reports_to"] < below
    assert all((a, d) in below for a, b in below for c, d in below if b == c)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--only", "village"), "--only: no graph 'village'; there are: family-0"),
        (("--dims", "64,x"), "--dims"),
        (("--search", "soon"), "--search 'soon'"),
        (("--factor", "-1"), "--factor -1.0"),
        (("--least", "nan"), "--least nan"),
        (("--threads", "0"), "--threads 0"),
        (("--epochs", "-2"), "--epochs -2"),
    ],
)
def test_bad_words_are_named_before_anything_is_made(
    verdicts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, str], says: str,
) -> None:  # fmt: skip
    places = ["--runs", str(tmp_path / "runs"), "--csv", str(tmp_path / "v.csv")]
    with pytest.raises(UserError) as caught:
        called(verdicts, monkeypatch, *words, *places)
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())
