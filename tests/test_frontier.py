"""The scripts that lay quality beside what it cost."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import imported

import dglke_distill as kd
from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.artifacts.results_files import read_training_results
from dglke_distill.base.errors import UserError
from dglke_distill.config import compose
from dglke_distill.distill.plan import Stage

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def frontier() -> ModuleType:
    """The script of methods, imported."""
    return imported(EXPERIMENTS / "frontier.py")


@pytest.fixture(scope="module")
def iteration() -> ModuleType:
    """The script of ways to iterate, imported."""
    return imported(EXPERIMENTS / "iteration.py")


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graph: the next and the last one of each on a ring."""
    folder = tmp_path_factory.mktemp("ring")
    facts = [f"e{n}\tnext\te{(n + 1) % 24}\n" for n in range(24)]
    facts += [f"e{(n + 1) % 24}\tlast\te{n}\n" for n in range(24)]
    parts = {"train": facts[:40], "valid": facts[40:44], "test": facts[44:]}
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text("".join(part), encoding="utf-8")
    return folder


def called(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Run the script with these words of a command line."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *words])
    script.main()


def checkpoints(place: Path) -> dict[str, TrainingResults]:
    """Return the results of all models below a folder, by the name of their stage."""
    found = sorted(place.glob("stages/*/checkpoint/results.json"))
    return {path.parent.parent.name: read_training_results(path) for path in found}


def seconds(*results: TrainingResults) -> float:
    """Return what trainings took, added up part by part."""
    total = 0.0
    for each in results:
        assert each.training is not None
        total += each.training.seconds
        total += each.training.validation_seconds + each.training.setup_seconds
    return total


@pytest.mark.slow
def test_seconds_count_teacher_and_search_and_a_finished_run_stays(
    frontier: ModuleType, ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows agree with what the runs left, and a second call trains nothing."""
    table, runs = tmp_path / "out" / "f.csv", tmp_path / "runs"
    words = ["--dataset", str(ring), "--methods", "direct,one_shot,iterde,direct_tuned"]
    words += ["--fractions", "0.04,0.1", "--seeds", "1", "--search", "0.2s"]
    words += ["--runs", str(runs), "--csv", str(table)]
    called(frontier, monkeypatch, *words)
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["fraction"], row["method"]) for row in rows] == [
        (fraction, method)
        for fraction in ("0.04", "0.1")
        for method in ("direct", "one_shot", "iterde", "direct_tuned")
    ]
    assert table.with_suffix(".png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for row in rows:
        place = runs / ring.name / f"fraction-{row['fraction']}"
        own = checkpoints(place / "seed0" / row["method"])
        (teacher,) = checkpoints(place / "teacher").values()
        last = list(own.values())[-1]
        assert last.model is not None and last.model.floats_per_entity == 32
        taught = row["method"] in ("one_shot", "iterde")
        expected = seconds(*own.values(), *([teacher] if taught else []))
        searched = float(row["search_seconds"])
        # A search in almost no time may round to none.
        assert searched == 0 or row["method"] == "direct_tuned"
        assert float(row["total_seconds"]) == pytest.approx(expected + searched, abs=0.11)
        assert len(own) == (3 if row["method"] == "iterde" else 1)
    ranked = next(runs.glob("*/fraction-0.1/seed0/one_shot/stages/*/checkpoint"))
    (row,) = [each for each in rows if each["fraction"] == "0.1" and each["method"] == "one_shot"]
    again = kd.evaluate(ranked, dataset=str(ring), split="test")
    assert float(row["test_mrr"]) == pytest.approx(again.mrr, abs=6e-5)

    models = sorted(runs.rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in models]
    before = table.read_bytes()
    called(frontier, monkeypatch, *words)
    assert [path.stat().st_mtime_ns for path in models] == times
    assert sorted(runs.rglob("*.safetensors")) == models
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("fraction", "epochs", "every"), [(1.0, 80, 10), (0.25, 20, 2), (0.05, 4, 1), (0.001, 1, 1)]
)
def test_a_share_of_the_epochs_is_validated_as_often(
    frontier: ModuleType, fraction: float, epochs: int, every: int
) -> None:
    """Epochs and the distance of validations shrink alike, to one at least; nothing else does."""
    config = compose([{"training": {"epochs": 80, "evaluate_every": 10}}])
    stage = frontier.shortened(Stage("s", "student", config, ("t",)), fraction)
    assert (stage.name, stage.role, stage.teachers) == ("s", "student", ("t",))
    wanted = {"training": {"epochs": epochs, "evaluate_every": every}}
    assert stage.config == compose([wanted])


def test_a_point_is_the_mean_over_seeds(frontier: ModuleType) -> None:
    """Means of seconds and MRR, the deviation, and points by rising seconds."""

    def row(method: str, fraction: str, total: float, mrr: float) -> dict[str, object]:
        return {
            "method": method, "fraction": fraction, "total_seconds": total, "test_mrr": mrr,
        }  # fmt: skip

    rows = [row("iterde", "1", 30, 0.5), row("direct", "1", 8, 0.3), row("direct", "1", 12, 0.5)]
    rows += [row("direct", "0.5", 5, 0.2)]
    found = frontier.points(rows)
    assert list(found) == ["direct", "iterde"]
    assert found["direct"][0] == (5, 0.2, 0.0)
    assert found["direct"][1] == pytest.approx((10, 0.4, 0.02**0.5))
    assert found["iterde"] == [(30, 0.5, 0.0)]


def test_lines_of_other_runs_stay_in_the_table(frontier: ModuleType, tmp_path: Path) -> None:
    """A run that is made again replaces its own line alone; a strange table is refused."""
    table = tmp_path / "f.csv"

    def row(method: str, mrr: float) -> dict[str, object]:
        return {"dataset": "d", "method": method, "fraction": "1", "seed": 0, "test_mrr": mrr}

    frontier.write([row("direct", 0.1)], table)
    frontier.write([row("iterde", 0.2)], table)
    frontier.write([row("direct", 0.3)], table)
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ["d,direct,1,0,0.3", "d,iterde,1,0,0.2"]
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"f\.csv: is no table of this script"):
        frontier.write([row("direct", 0.1)], table)
    assert table.read_text(encoding="utf-8") == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--methods", "direct,bkt"), "--methods: no method 'bkt'"),
        (("--fractions", "0.5,x"), "--fractions '0.5,x'"),
        (("--fractions", "0,1"), "--fractions '0,1'"),
        (("--fractions", "nan"), "--fractions 'nan'"),
        (("--seeds", "0"), "--seeds 0"),
        (("--search", "soon"), "--search 'soon'"),
    ],
)
def test_bad_words_are_named_before_anything_is_made(
    frontier: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, str], says: str,
) -> None:  # fmt: skip
    """The message names the option; no folder appears."""
    places = ["--runs", str(tmp_path / "runs"), "--csv", str(tmp_path / "f.csv")]
    with pytest.raises(UserError) as caught:
        called(frontier, monkeypatch, *words, *places)
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_ways_to_iterate_have_the_seconds_of_one_shot(iteration: ModuleType) -> None:
    """Epochs follow from shares of what is left when every stage is prepared."""
    chain = iteration.recipe_chain("cldr", 1)
    settings = iteration.Settings(chain, Path("nowhere"), 0.5, None, "valid")
    price = {
        "32 floats, 1 teachers": iteration.Price(10.0, 2.0),
        "64 floats, 1 teachers": iteration.Price(14.0, 3.0),
        "32 floats, 2 teachers": iteration.Price(16.0, 2.0),
    }
    # Half of the recipe's 80 epochs: 10 + 40 * 2 = 90 seconds; 60 of them train two sizes.
    for name, epochs in (("one_shot", [40]), ("dense", [8, 18]), ("dense_short", [4, 24])):
        way = iteration.WAYS[name]
        stages = iteration.stages_of(settings, way, 3, "teacher")
        assert [stage.config.training.seed for stage in stages] == [3] * len(epochs)
        made = iteration.cut(settings, way, stages, price)
        assert [stage.config.training.epochs for stage in made] == epochs
        assert iteration.paid(made, price) == pytest.approx(90.0)
    assert all(sum(way.shares) == pytest.approx(1.0) for way in iteration.WAYS.values())
    assert all(len(way.shares) == len(way.sizes) for way in iteration.WAYS.values())
    assert all(way.sizes[-1] == iteration.LAST for way in iteration.WAYS.values())


def test_a_price_is_never_that_of_a_finished_run(
    iteration: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where measuring was interrupted, all is trained again: what is there costs nothing."""
    calls: list[bool] = []

    def spent(stage: Stage, place: Path, settings: object) -> float:
        if len(calls) == 5:
            calls.append(False)
            raise KeyboardInterrupt
        calls.append((place / stage.name).exists())
        (place / stage.name).mkdir(parents=True, exist_ok=True)
        return 3.0 + 0.5 * float(stage.config.training.epochs)

    monkeypatch.setattr(iteration, "_spent", spent)
    chain = iteration.recipe_chain("cldr", 1)
    settings = iteration.Settings(chain, tmp_path, 0.5, None, "valid")
    with pytest.raises(KeyboardInterrupt):
        iteration.prices(settings, "teacher")
    assert not list(tmp_path.iterdir())
    found = iteration.prices(settings, "teacher")
    assert not any(calls)
    assert set(found.values()) == {iteration.Price(3.0, 0.5)}
    assert [path.name for path in tmp_path.iterdir()] == ["prices.json"]
    count = len(calls)
    assert iteration.prices(settings, "teacher") == found and len(calls) == count


@pytest.mark.slow
def test_ways_to_iterate_are_measured_once_and_chosen_on_valid(
    iteration: ModuleType, ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test is ranked for the ways that are named, and a second call trains nothing."""
    table, runs = tmp_path / "i.csv", tmp_path / "runs"
    words = ["--dataset", str(ring), "--fraction", "0.04", "--seeds", "1"]
    words += ["--runs", str(runs), "--csv", str(table)]
    called(iteration, monkeypatch, *words, "--ways", "one_shot,dense")
    called(iteration, monkeypatch, *words, "--test", "dense")
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["way"], row["split"]) for row in rows] == [
        ("one_shot", "valid"),
        ("dense", "valid"),
        ("dense", "test"),
    ]
    for row in rows:
        folder = f"fraction-0.04/{row['split']}/seed0/{row['way']}"
        own = checkpoints(runs / ring.name / folder)
        assert len(own) == (1 if row["way"] == "one_shot" else 2)
        last = list(own.values())[-1]
        assert ("test" in last.metrics) == (row["split"] == "test")
        assert float(row["mrr"]) == pytest.approx(last.metrics[row["split"]].mrr, abs=6e-5)
    before, models = table.read_bytes(), sorted(runs.rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in models]
    called(iteration, monkeypatch, *words, "--test", "dense")
    assert [path.stat().st_mtime_ns for path in models] == times
    assert sorted(runs.rglob("*.safetensors")) == models and table.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ways", "mystery"], "--ways: no way 'mystery'"),
        (["--test", "dense,mystery"], "--test: no way 'mystery'"),
        (["--fraction", "2"], "--fraction"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_ways_that_cannot_be(
    iteration: ModuleType, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=said):
        called(iteration, monkeypatch, *words)
