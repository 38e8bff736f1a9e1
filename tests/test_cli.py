from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_fixtures import Outcome, called
from safetensors.torch import load_file

from dglke_distill import __version__
from dglke_distill.cli.output import clock_text
from dglke_distill.cli.train import new_run_directory
from dglke_distill.config import RECIPES, Config, read_toml, recipe_names
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.settings import new_chain_directory
from dglke_distill.search.settings import new_study_directory, study_settings
from dglke_distill.training import loop as train

SMALL = ["--dim", "8", "--batch-size", "32", "--negatives", "8", "--threads", "1"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: Any) -> Outcome:
        return called(capsys, *arguments)

    return call


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """A folder of triples: 24 hours in a circle, with steps of one, two and twelve."""
    facts = [
        (f"hour {i}", f"plus {step}", f"hour {(i + step) % 24}")
        for step in (1, 2, 12)
        for i in range(24)
    ]
    chosen = {"valid": facts[30:34], "test": facts[40:46]}
    chosen["train"] = [f for f in facts if f not in chosen["valid"] + chosen["test"]]
    folder = tmp_path / "clock"
    folder.mkdir()
    for split, lines in chosen.items():
        text = "".join("\t".join(fact) + "\n" for fact in lines)
        (folder / f"{split}.txt").write_text(text)
    return folder


def test_version_and_help(run: Any) -> None:
    assert run("--version").out == f"dglke-distill {__version__}\n"
    shown = run("--help")
    assert shown.code == 0
    for command in ("train", "evaluate", "data", "config", "recipes"):
        assert command in shown.out


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys, dglke_distill.cli as cli\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'dgl', 'numba', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dglke_distill", "recipes", "show", "no-such"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no recipe 'no-such'; known:")
    assert len(done.stderr.splitlines()) == 1


def test_settings_are_composed_in_order(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nepochs = 7\nseed = 3\n[model]\nname = 'RotatE'\ndim = 6\n")
    shown = run(
        *("config", "show", "umls", "--config", file, "--recipe", "none"),
        *("--seed", "4", "--dim", "10", "--set", "model.dim=12", "--set", "loss.name=softplus"),
        *("--lr", "0.25", "--negatives", "9", "--dtype", "float64", "--device", "cpu"),
    )
    assert shown.code == 0, shown.err
    file.write_text(shown.out)
    config = Config.from_mapping(read_toml(file), "shown")
    assert (config.data.dataset, config.model.name) == ("umls", "RotatE")
    assert (config.training.epochs, config.training.seed, config.model.dim) == (7, 4, 12)
    assert (config.loss.name, config.optimizer.learning_rate) == ("softplus", 0.25)
    assert (config.negatives.count, config.training.dtype) == (9, "float64")
    # What is shown can be fed back, and says the same again.
    assert run("config", "show", "--config", file, "--recipe", "none").out == shown.out


def test_a_recipe_lies_below_the_flags(run: Any) -> None:
    name = recipe_names()[0]
    plain = tomllib.loads(run("config", "show", "--recipe", name).out)
    assert plain["recipe"] == name
    over = tomllib.loads(run("config", "show", "--recipe", name, "--epochs", "12345").out)
    assert plain["training"].pop("epochs") != over["training"].pop("epochs") == 12345
    assert over == plain


def test_every_recipe_is_listed_shown_and_valid(run: Any) -> None:
    listed = run("recipes", "list").out.split()
    chains = [f"chains/{name}" for name in recipe_names("chains")]
    assert listed == recipe_names() + chains
    for name in listed:
        shown = run("recipes", "show", name)
        assert shown.code == 0
        assert shown.out == (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
        if name not in chains:  # those have tests of their own
            assert run("config", "show", "--recipe", name).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config", "show", "--set", "training.epoch=3"], "did you mean 'epochs'"),
        (["config", "show", "--set", "epochs"], "section.key=value"),
        (["config", "show", "--dim", "0"], "model.dim"),
        (["config", "show", "--dtype", "float16"], "training.dtype"),
        (["config", "show", "--config", "missing.toml"], "missing.toml: no such file"),
        (["train", "--resume"], "--out RUN_DIR"),
        (["train", "--resume", "--out", "nowhere"], "nowhere: there is no run"),
        (["evaluate", "nowhere"], "nowhere: no such checkpoint"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [["--model", "TransX"], ["--device", "cuda:99"]])
def test_mistakes_that_show_later_leave_no_run(run: Any, clock: Path, change: list[str]) -> None:
    done = run("train", clock, *SMALL, *change, "--out", clock.parent / "run")
    assert done.code == 2
    assert change[1] in done.err
    assert len(done.err.splitlines()) == 1
    assert not (clock.parent / "run").exists()


def test_a_folder_that_cannot_be_written(run: Any, clock: Path) -> None:
    (clock.parent / "file").write_text("")
    out = clock.parent / "file" / "run"
    done = run("train", clock, *SMALL, "--epochs", "1", "--out", out)
    assert done.code == 2
    assert str(out) in done.err


def test_train_then_evaluate(run: Any, clock: Path) -> None:
    out = clock.parent / "run"
    flags = ["--model", "transe", *SMALL, "--epochs", "3", "--set", "training.evaluate_every=1"]
    done = run("train", clock, *flags, "--out", out)
    assert done.code == 0, done.err
    assert done.err == ""
    results = json.loads((out / "checkpoint" / "results.json").read_text())
    figures = results["metrics"]["test"]
    assert f"{figures['mrr']:.4f}" in done.out
    assert str(out / "checkpoint") in done.out
    assert results["config"]["model"]["dim"] == 8
    assert results["provenance"]["version"] == __version__
    again = run("evaluate", out / "checkpoint", "--dataset", clock, "--json")
    assert again.code == 0, again.err
    measured = json.loads(again.out)
    for key in ("mrr", "mr", "hits@1", "hits@3", "hits@10", "count", "by_side"):
        assert measured[key] == figures[key]
    assert f"{figures['mrr']:.4f}" in run("evaluate", out / "checkpoint", "--dataset", clock).out
    valid = run(
        "evaluate",
        out / "checkpoint",
        "--dataset",
        clock,
        "--split",
        "valid",
        "--json",
        "--threads",
        "1",
    )
    assert json.loads(valid.out)["count"] == 8
    taken = run("train", clock, *flags, "--out", out)
    assert taken.code == 2
    assert "--resume" in taken.err


def test_false_triples_are_told_apart_where_they_ship(run: Any, clock: Path) -> None:
    false = [("hour 0", "plus 12", "hour 1"), ("hour 7", "plus 2", "hour 2")]
    for split in ("valid", "test"):
        text = "".join("\t".join(fact) + "\n" for fact in false)
        (clock / f"{split}_negatives.txt").write_text(text)
    out = clock.parent / "run"
    assert run("train", clock, *SMALL, "--epochs", "2", "--out", out).code == 0
    shown = run("evaluate", out / "checkpoint", "--dataset", clock, "--json")
    figures = json.loads(shown.out)["classification"]
    assert (figures["true_triples"], figures["false_triples"]) == (6, 2)
    assert 0 <= figures["roc_auc"] <= 1
    shown = run("evaluate", out / "checkpoint", "--dataset", clock)
    assert f"ROC-AUC {figures['roc_auc']:.4f}" in shown.out
    assert (
        "classification"
        not in run(
            "evaluate", out / "checkpoint", "--dataset", clock, "--split", "valid", "--json"
        ).out
    )


def test_evaluate_refuses_other_data(run: Any, clock: Path) -> None:
    out = clock.parent / "run"
    assert run("train", clock, *SMALL, "--epochs", "1", "--out", out).code == 0
    text = (clock / "train.txt").read_text()
    (clock / "train.txt").write_text(text.replace("hour 3\t", "three o'clock\t"))
    done = run("evaluate", out / "checkpoint", "--dataset", clock)
    assert done.code == 2
    assert "24 entities" in done.err
    assert run("evaluate", out / "checkpoint", "--dataset", clock, "--split", "tset").code == 2


def test_ctrl_c_then_resume_gives_the_same_weights(
    run: Any, clock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = clock.parent / "whole", clock.parent / "parts"
    flags = ["--model", "complex", *SMALL, "--epochs", "6", "--seed", "5"]
    assert run("train", clock, *flags, "--out", whole).code == 0
    step, steps = train.step, [0]

    def step_with_ctrl_c(*arguments: Any) -> Any:
        steps[0] += 1
        if steps[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(train, "step", step_with_ctrl_c)
    stopped = run("train", clock, *flags, "--out", parts)
    assert stopped.code == 130
    assert f"dglke-distill train --resume --out {parts}" in stopped.err
    assert not (parts / "checkpoint").exists()
    other = run("train", "--resume", "--out", parts, "--seed", "6")
    assert other.code == 2
    assert "other settings" in other.err
    done = run("train", "--resume", "--out", parts)
    assert done.code == 0, done.err
    want = load_file(whole / "checkpoint" / "model.safetensors")
    have = load_file(parts / "checkpoint" / "model.safetensors")
    assert set(have) == set(want)
    assert all(have[name].equal(want[name]) for name in want)


def test_ctrl_c_before_training_promises_nothing(
    run: Any, clock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dglke_distill.runs import workspace

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workspace, "prepare", interrupt)
    done = run("train", clock, *SMALL, "--out", clock.parent / "run")
    assert done.code == 130
    assert "interrupted" in done.err
    assert "--resume" not in done.err


def test_each_run_gets_a_directory_of_its_own(tmp_path: Path) -> None:
    config = Config.from_mapping({"data": {"dataset": "some/where/Mine"}}, "test")
    first = new_run_directory(config, tmp_path)
    assert first == tmp_path / f"transe-mine-dim{config.model.dim}"
    first.mkdir()
    second = new_run_directory(config, tmp_path)
    assert second.name == first.name + "-2"
    second.mkdir()
    assert new_run_directory(config, tmp_path).name == first.name + "-3"


@pytest.mark.parametrize("file", ["my.facts.tsv", "my.facts.tsv.gz", "My.Facts.txt"])
def test_a_run_of_a_file_is_named_without_its_ending(tmp_path: Path, file: str) -> None:
    (tmp_path / file).touch()
    place = str(tmp_path / file)
    config = Config.from_mapping({"data": {"dataset": place}}, "test")
    chain = ChainConfig.from_mapping({"data": {"dataset": place}, "dims": [8, 4]}, "test")
    study = study_settings({"dataset": place}, [], space=None, method=None, teachers=())
    assert new_run_directory(config, tmp_path).name == f"transe-my.facts-dim{config.model.dim}"
    assert new_chain_directory(chain, tmp_path).name == "iterde-transe-my.facts"
    assert new_study_directory(study, tmp_path).name == "tune-transe-my.facts"


def test_a_study_of_bad_settings_leaves_nothing(run: Any, tmp_path: Path) -> None:
    done = run("tune", "cldr", "--set", "training.epoch=3", "--out", tmp_path / "study")
    assert done.code == 2 and "did you mean 'epochs'" in done.err
    assert not (tmp_path / "study").exists()


def test_durations() -> None:
    assert [clock_text(s) for s in (-1, 0, 59.6, 61, 3599, 3661)] == [
        *("0:00", "0:00", "1:00", "1:01", "59:59", "1:01:01")
    ]
