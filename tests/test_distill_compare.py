"""Methods compared: one teacher for all, every figure that of its own chain, nothing done twice."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from clock_fixtures import clock_chain, write_clock

from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.distill.compare import ComparisonConfig, run_comparison, saved_comparison
from dglke_distill.distill.tuner import Searches, Tuned
from dglke_distill.report import table_of, write_comparison
from dglke_distill.report.comparison_results import read_comparison
from dglke_distill.runs import train_run as pipeline

METHODS = ["iterde", "bkd", "direct"]


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clock(tmp_path_factory.mktemp("data") / "clock")


def comparison_of(clock: Path, **changes: Any) -> ComparisonConfig:
    settings: dict[str, Any] = {"methods": METHODS, "seeds": [0, 1], "chain": clock_chain(clock)}
    return ComparisonConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def finished(clock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compare") / "run"
    run_comparison(comparison_of(clock), directory)
    return directory


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def weights(directory: Path) -> dict[str, bytes]:
    found = sorted(directory.rglob("model.safetensors"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def test_every_row_holds_the_figures_of_its_own_chain(finished: Path) -> None:
    results = read(finished / "results.json")
    assert (results["schema"], results["kind"]) == (1, "comparison")
    rows = {(row["method"], row["seed"]): row for row in results["rows"]}
    assert list(rows) == [(method, seed) for seed in (0, 1) for method in METHODS]
    teacher = results["teacher"]["results"]["metrics"]["test"]["mrr"]
    for (method, seed), row in rows.items():
        chain = read(finished / "chains" / f"{method}-seed{seed}" / "results.json")
        stages = chain["stages"]
        last = stages[-1]["results"]
        assert [s["results"]["model"]["dim"] for s in stages] == (
            [8, 4] if method == "iterde" else [4]
        )
        assert {s["results"]["training"]["seed"] for s in stages} == {seed}
        test = last["metrics"]["test"]
        assert [row[f"hits_at_{k}"] for k in (1, 3, 10)] == [test[f"hits@{k}"] for k in (1, 3, 10)]
        assert row["mrr"] == test["mrr"]
        assert row["valid_mrr"] == last["metrics"]["valid"]["mrr"]
        assert row["bytes_per_entity"] == 4 * row["floats_per_entity"] == 16
        assert row["parameters"] == (30 + 4) * 4
        assert row["training_seconds"] == last["training"]["seconds"]
        spent = [s["results"]["training"] for s in stages]
        assert row["chain_seconds"] == pytest.approx(
            sum(t["seconds"] + t["validation_seconds"] + t["setup_seconds"] for t in spent)
        )
        assert row["share_of_teacher"] == pytest.approx(row["mrr"] / teacher)
        assert row["epochs"] == last["training"]["epochs"]
    assert sorted(results["gains"]) == sorted(set(METHODS) - {"direct"})
    for method, gain in results["gains"].items():
        ours, control = (
            sum(rows[name, seed]["mrr"] for seed in (0, 1)) for name in (method, "direct")
        )
        assert gain["gain"] == pytest.approx((ours - control) / control, rel=1e-5)
        assert gain["low"] <= gain["gain"] <= gain["high"]
        assert gain["seeds"] == 2
    assert rows["bkd", 0]["mrr"] != rows["bkd", 1]["mrr"]


def test_the_report_says_that_direct_training_was_not_searched_for(finished: Path) -> None:
    write_comparison(finished)
    for name in ("table.md", "report.html"):
        assert "ettings of direct training were not searched for" in (
            finished / "report" / name
        ).read_text(encoding="utf-8")


def test_every_method_is_searched_for_as_long_by_its_first_seed(
    clock: Path, tmp_path: Path
) -> None:
    asked: list[tuple[str, int, float, bool]] = []

    def race(*given: Any) -> Tuned:
        config, _, seconds, _, _, teachers, _ = given
        method = config.distillation.method if config.distillation else "direct"
        asked.append((method, config.model.dim, seconds, bool(teachers)))
        rate = {"iterde": 0.1, "bkd": 0.2, "direct": 0.3}[method]
        optimizer = config.optimizer.model_copy(update={"learning_rate": rate})
        return Tuned(config.model_copy(update={"optimizer": optimizer}), 6.5, 9)

    def never(*_: Any, **__: Any) -> Tuned:
        raise AssertionError("no control is tuned")

    comparison = comparison_of(clock, search_seconds=7.0)
    with pytest.raises(UserError, match="need a search"):
        run_comparison(comparison, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    results = run_comparison(
        comparison, tmp_path / "run", searches=Searches(never, race)
    ).to_tree()  # fmt: skip
    assert asked == [("iterde", 4, 7.0, True), ("bkd", 4, 7.0, True), ("direct", 4, 7.0, False)]
    for row in results["rows"]:
        assert (row["search_seconds"], row["search_trials"]) == (6.5, 9)
        chain = read(
            tmp_path / "run" / "chains" / f"{row['method']}-seed{row['seed']}" / "results.json"
        )
        for stage in chain["stages"]:
            config = stage["results"]["config"]
            rate = {"iterde": 0.1, "bkd": 0.2, "direct": 0.3}[row["method"]]
            assert config["optimizer"]["learning_rate"] == rate
            assert config["training"]["seed"] == row["seed"]
    again = run_comparison(
        comparison, tmp_path / "run", resume=True, searches=Searches(never, never)
    ).to_tree()
    assert again["rows"] == results["rows"]
    write_comparison(tmp_path / "run")
    text = (tmp_path / "run" / "report" / "table.md").read_text(encoding="utf-8")
    assert "were searched for, at most 6.5 s each" in text and "| Search seconds |" in text


@pytest.mark.slow
def test_a_comparison_races_for_the_settings_of_each_method(
    clock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command: settings that a user has stated stay, and the report says who searched."""
    out = tmp_path / "run"
    asked = ["compare", str(clock), "--model", "transe", "--dims", "8,4", "--methods", "bkd,direct"]
    stated = ["--set", "student.training.batch_size=32", "--epochs", "9", "--threads", "1"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*asked, *stated, "--recipe", "none", "--search", "2s", "--out", str(out)])
    said = capsys.readouterr()
    assert "settings of every method" in " ".join((said.out + said.err).split())
    for row in read(out / "results.json")["rows"]:
        assert row["search_seconds"] > 0 and row["search_trials"] is not None
        chain = out / "chains" / f"{row['method']}-seed0"
        (stage,) = read(chain / "results.json")["stages"]
        assert stage["results"]["config"]["training"]["batch_size"] == 32
        assert stage["results"]["config"]["training"]["epochs"] == 9


def test_seconds_to_the_direct_models_quality_count_the_teacher(finished: Path) -> None:
    results = read(finished / "results.json")
    for row in results["rows"]:
        folder = finished / "chains" / f"{row['method']}-seed{row['seed']}"
        goal = read(
            finished / "chains" / f"direct-seed{row['seed']}" / "results.json"
        )["stages"][-1]["results"]["training"]["best_validation_mrr"]  # fmt: skip
        stages = read(folder / "results.json")["stages"]
        with (folder / stages[-1]["directory"] / "history.csv").open(encoding="utf-8") as stream:
            seen = [each for each in csv.DictReader(stream) if each["validation_mrr"]]
        there = [i for i, each in enumerate(seen) if float(each["validation_mrr"]) >= goal]
        if not there:
            assert row["seconds_to_direct"] is None
            continue
        last = stages[-1]["results"]["training"]
        expected = float(seen[there[0]]["seconds"]) + last["setup_seconds"]
        expected += last["validation_seconds"] * (there[0] + 1) / len(seen)
        for stage in stages[:-1]:
            spent = stage["results"]["training"]
            expected += sum(spent[f"{of}seconds"] for of in ("", "validation_", "setup_"))
        expected += 0 if row["method"] == "direct" else results["teacher_seconds"]
        assert row["seconds_to_direct"] == pytest.approx(expected)
    assert all(
        row["seconds_to_direct"] is not None for row in results["rows"] if row["method"] == "direct"
    )
    table = table_of(finished)
    assert table.headings[-1] == "To direct's MRR" and "never" not in table.rows[-1].cells


def test_the_teacher_is_trained_once_and_is_everybodys(finished: Path) -> None:
    results = read(finished / "results.json")
    assert [path.name for path in (finished / "stages").iterdir()] == ["0-teacher-transe-dim16"]
    trained = results["teacher"]["results"]["training"]
    assert results["teacher_seconds"] == pytest.approx(
        trained["seconds"] + trained["validation_seconds"] + trained["setup_seconds"]
    )
    for method in ("iterde", "bkd"):
        for seed in (0, 1):
            chain = read(finished / "chains" / f"{method}-seed{seed}" / "results.json")
            first = chain["stages"][0]["results"]["distillation"]["teachers"][0]
            assert first["model"] == results["teacher"]["results"]["model"]
            assert all(stage["role"] == "student" for stage in chain["stages"])


def test_a_loaded_teacher_gives_the_same_students(
    finished: Path, clock: Path, tmp_path: Path
) -> None:
    place = finished / "stages" / "0-teacher-transe-dim16" / "checkpoint"
    comparison = comparison_of(clock, loaded=[str(place)], seeds=[1])
    results = run_comparison(comparison, tmp_path / "run").to_tree()
    assert not (tmp_path / "run" / "stages").exists()
    ours, theirs = weights(tmp_path / "run" / "chains"), weights(finished / "chains")
    assert ours == {name: theirs[name] for name in theirs if "seed1" in name}
    before = [row for row in read(finished / "results.json")["rows"] if row["seed"] == 1]
    assert [row["mrr"] for row in results["rows"]] == [row["mrr"] for row in before]


def test_what_is_done_is_not_done_again(
    finished: Path, clock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    comparison = saved_comparison(copy)
    assert comparison == comparison_of(clock)
    # The chains ask for the teacher where it was trained.
    for chain in (copy / "chains").glob("*/chain.toml"):
        text = chain.read_text().replace(str(finished.resolve()), str(copy.resolve()))
        chain.write_text(text)
    before = weights(copy)
    trained: list[str] = []
    real = pipeline.train_run

    def noted(config: Any, directory: Path, **arguments: Any) -> Any:
        trained.append(f"{directory.parent.parent.name}/{directory.name}")
        return real(config, directory, **arguments)

    monkeypatch.setattr(pipeline, "train_run", noted)
    first = run_comparison(comparison, copy, resume=True).to_tree()
    assert trained == []
    assert first["rows"] == read(finished / "results.json")["rows"]
    lost = copy / "chains" / "iterde-seed1"
    (lost / "results.json").unlink()
    shutil.rmtree(lost / "stages" / "1-transe-dim4")
    second = run_comparison(comparison, copy, resume=True).to_tree()
    assert trained == ["iterde-seed1/1-transe-dim4"]
    assert weights(copy) == before
    assert [row["mrr"] for row in second["rows"]] == [row["mrr"] for row in first["rows"]]


@pytest.mark.parametrize("of", ["teacher", "student", "chain"])
@pytest.mark.parametrize(
    "keys",
    ["dataset", "dataset.fingerprint", "model", "model.dim", "training", "training.seconds",
     "metrics", "metrics.test", "metrics.test.mrr", "metrics.test.hits@3"],
)  # fmt: skip
def test_edited_results_are_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], of: str, keys: str
) -> None:
    """Whatever is taken out of a stage's or a chain's results: no traceback, and the key named."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    chain = copy / "chains" / "iterde-seed1"
    for path in (copy / "chains").glob("*/chain.toml"):
        text = path.read_text().replace(str(finished.resolve()), str(copy.resolve()))
        path.write_text(text)
    if of == "teacher":
        path = copy / "stages" / "0-teacher-transe-dim16" / "checkpoint" / "results.json"
    elif of == "student":
        (chain / "results.json").unlink()
        path = chain / "stages" / "1-transe-dim4" / "checkpoint" / "results.json"
    else:
        path = chain / "results.json"
    tree = read(path)
    part = tree["stages"][-1]["results"] if of == "chain" else tree
    *above, last = keys.split(".")
    for key in above:
        part = part[key]
    del part[last]
    path.write_text(json.dumps(tree))
    with pytest.raises(SystemExit) as end:
        main(["compare", "--resume", "--out", str(copy)])
    error = capsys.readouterr().err
    assert end.value.code == 2, error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert last in error or (keys == "metrics.test" and "test figures" in error)


def test_a_directory_in_use_or_with_other_settings_is_refused(finished: Path, clock: Path) -> None:
    with pytest.raises(UserError, match="add --resume"):
        run_comparison(comparison_of(clock), finished)
    with pytest.raises(UserError, match="other settings"):
        run_comparison(comparison_of(clock, seeds=[3]), finished, resume=True)
    with pytest.raises(UserError, match="no comparison to resume"):
        run_comparison(comparison_of(clock), finished / "chains", resume=True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"methods": ["iterde", "bdk"]}, "did you mean 'bkd'"),
        ({"methods": ["bkd", "bkd"]}, "twice"),
        ({"seeds": [1, 1]}, "twice"),
        ({"own": {"ta": {"training": {"epochs": 1}}}}, "not among --methods"),
        ({"own": {"bkd": {"distillation": {"options": {"x": 1}}}}}, "unknown setting"),
    ],
)
def test_bad_settings_are_told_before_anything_is_trained(
    clock: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        run_comparison(comparison_of(clock, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_comparison_needs_test_figures(clock: Path, tmp_path: Path) -> None:
    chain = clock_chain(clock, student={"evaluation": {"split": "valid"}})
    with pytest.raises(UserError, match=r"evaluation\.split"):
        run_comparison(comparison_of(clock, chain=chain), tmp_path / "run")


def test_a_comparison_needs_test_facts(tmp_path: Path) -> None:
    data = write_clock(tmp_path / "clock")
    (data / "test.txt").write_text("")
    with pytest.raises(UserError, match="clock: test has no triples, and methods are compared"):
        run_comparison(comparison_of(data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_report_reads_what_is_written(finished: Path) -> None:
    page = write_comparison(finished)
    assert "the teacher that all share" in page.read_text(encoding="utf-8")
    read_back = read_comparison(finished)
    written = read(finished / "results.json")
    assert read_back.teacher is not None
    assert read_back.results.teacher_seconds == written["teacher_seconds"]
    assert [row.chain_seconds for row in read_back.results.rows] == [
        row["chain_seconds"] for row in written["rows"]
    ]
    assert [row.cells[0] for row in table_of(finished).rows] == METHODS


def test_the_command(
    clock: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    place = finished / "stages" / "0-teacher-transe-dim16" / "checkpoint"
    out = tmp_path / "run"
    arguments = f"compare {clock} --model TransE --dims 16,8,4 --methods bkd,direct --seeds 2"
    arguments += f" --epochs 2 --threads 1 --recipe none --teacher {place} --out {out}"
    arguments += " --set bkd.training.epochs=1 --set student.negatives.count=4"
    for words in (arguments, f"compare --resume --out {out}"):
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        assert not ended.value.code
        printed, said = capsys.readouterr()
        told = "--seeds: one seed, number 2; for three seeds: --seeds 0,1,2"
        assert said.splitlines().count(told) == ("--seeds" in words)
        for heading in (
            "Hits@1",
            "Hits@10",
            "Bytes",
            "Parameters",
            "Over direct",
            "Epochs",
            "direct",
        ):
            assert heading in printed
    stages = {
        method: read(out / "chains" / f"{method}-seed2" / "results.json")["stages"][-1]["results"]
        for method in ("bkd", "direct")
    }
    assert stages["bkd"]["training"]["epochs"] == 1
    assert stages["direct"]["training"]["epochs"] == 2
    assert stages["bkd"]["config"]["negatives"]["count"] == 4
    assert (out / "report" / "report.html").is_file()
