"""--track: what trackers hear of a training and of a chain, and what is said where one fails."""

from __future__ import annotations

import csv
import importlib.util
import json
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from clock_fixtures import write_clock

from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.runs import tracking
from dglke_distill.runs.tracking import Tracker, open_tracker


def call(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert not stopped.value.code


SMALL = ["--dim", "8", "--threads", "1", "--recipe", "none", "--set", "training.evaluate_every=2"]


class Recorder(Tracker):
    name, package = "recorder", "json"
    made: dict[str, dict[int, float]]
    about: Mapping[str, Any]
    ended = False

    def start(self, settings: Mapping[str, Any]) -> None:
        Recorder.made, Recorder.about, Recorder.ended = {}, settings, False

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            assert step not in Recorder.made.setdefault(name, {}) or "live" in name
            Recorder.made[name][step] = value

    def stop(self) -> None:
        Recorder.ended = True


@pytest.fixture
def recorder():
    tracking.TRACKERS.register(Recorder)
    yield Recorder
    tracking.TRACKERS.unregister("recorder")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clock(tmp_path_factory.mktemp("data") / "clock"))


def history(place: Path, column: str) -> dict[int, float]:
    with open(place / "history.csv") as stream:
        rows = list(csv.DictReader(stream))
    return {int(float(row["epoch"])): float(row[column]) for row in rows if row[column]}


def test_a_training_is_told_in_full(clock: str, tmp_path: Path, recorder) -> None:
    out = tmp_path / "run"
    call("train", clock, *SMALL, "--epochs", "5", "--out", str(out), "--track", "Recorder")
    made = recorder.made
    assert made["loss"] == history(out, "loss") and list(made["loss"]) == [1, 2, 3, 4, 5]
    assert made["learning_rate"] == history(out, "learning_rate")
    assert made["validation_mrr"] == history(out, "validation_mrr")
    assert list(made["validation_mrr"]) == [2, 4, 5]
    test = json.loads((out / "checkpoint" / "results.json").read_text())["metrics"]["test"]
    assert made["test_mrr"] == {5: test["mrr"]}
    assert made["test_hits_at_10"] == {5: test["hits@10"]}
    assert recorder.about["model"]["dim"] == 8 and recorder.ended


@pytest.mark.slow
def test_a_chain_is_told_stage_by_stage(clock: str, tmp_path: Path, recorder) -> None:
    out, more = tmp_path / "chain", ["--control", "none", "--recipe", "none", "--epochs", "2"]
    dims = ["--model", "transe", "--dims", "8,4", "--threads", "1"]
    call("run", clock, *dims, *more, "--out", str(out), "--track", "recorder")
    stages = sorted(path.name for path in (out / "stages").iterdir())
    assert len(stages) == 2
    for stage in stages:
        assert recorder.made[f"{stage}/loss"] == history(out / "stages" / stage, "loss")
        assert len(recorder.made[f"{stage}/test_mrr"]) == 1
    assert recorder.ended


def test_a_tracker_that_fails_is_told_once(
    clock: str, tmp_path: Path, recorder, monkeypatch, capsys
):
    def broken(self: Any, values: Mapping[str, float], step: int) -> None:
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(Recorder, "write", broken)
    out = tmp_path / "run"
    call("train", clock, *SMALL, "--epochs", "2", "--out", str(out), "--track", "recorder")
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("--track recorder failed (ConnectionError: no route)") == 1
    assert (out / "checkpoint" / "model.safetensors").exists()


@pytest.mark.parametrize("command", ["train", "run"])
def test_mistakes_are_one_line_before_anything_is_done(
    command: str, clock: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for name, words in (
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("MLflow", "needs the package mlflow, which is not installed: pip install 'dglke-distill["),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([command, clock, "--out", str(tmp_path / "run"), "--track", name])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and words in error and error.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_no_tracker_without_a_name(tmp_path: Path) -> None:
    assert open_tracker(None, tmp_path, {}, print) is None
    with pytest.raises(UserError, match="unknown tracker"):
        open_tracker("aim", tmp_path, {}, print)


def is_here(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@is_here("tensorboard")
def test_tensorboard_reads_what_is_written(clock: str, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    call("train", clock, *SMALL, "--epochs", "3", "--out", str(out), "--track", "tensorboard")
    found = EventAccumulator(str(out / "tensorboard")).Reload()
    losses = {event.step: event.value for event in found.Scalars("loss")}
    assert losses == pytest.approx(history(out, "loss"))
    assert [event.step for event in found.Scalars("test_mrr")] == [3]
    assert "settings/text_summary" in found.Tags()["tensors"]


@is_here("wandb")
def test_wandb_offline_keeps_files(clock: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    call("train", clock, *SMALL, "--epochs", "3", "--out", str(out), "--track", "wandb")
    (log,) = (out / "wandb").glob("offline-run-*/*.wandb")
    told = list(logged(log.read_bytes()))
    losses = {row["step"]: row["loss"] for row in told if "loss" in row}
    assert losses == history(out, "loss")
    test = json.loads((out / "checkpoint" / "results.json").read_text())["metrics"]["test"]
    assert [row["test_mrr"] for row in told if "test_mrr" in row] == [test["mrr"]]


def logged(data: bytes) -> Iterator[dict[str, float]]:
    """What a file of wandb says was logged: LevelDB's log format, of wandb's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    block, at, record = 32768, 7, b""  # seven bytes of wandb's own come first
    while at + 7 <= len(data):
        if block - at % block < 7:  # what is left of a block holds no header
            at += block - at % block
            continue
        length, part = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # whole, or the last part
            message, record = Record.FromString(record), b""
            row = {item.key or item.nested_key[0]: item for item in message.history.item}
            if row:
                yield {name: json.loads(item.value_json) for name, item in row.items()}


@pytest.mark.slow
def test_the_time_of_a_tracker_is_no_training(
    clock: str, tmp_path: Path, recorder, monkeypatch
) -> None:
    def slow(self: Any, settings: Mapping[str, Any]) -> None:
        Recorder.made, Recorder.about = {}, settings
        time.sleep(3)

    monkeypatch.setattr(Recorder, "start", slow)
    out = tmp_path / "run"
    call("train", clock, *SMALL, "--epochs", "2", "--out", str(out), "--track", "recorder")
    training = json.loads((out / "checkpoint" / "results.json").read_text())["training"]
    assert recorder.made["loss"] == history(out, "loss")
    assert 0 < training["seconds"] + training["validation_seconds"] < 3
