"""A chain end to end: its stages and results, and how it goes on after anything."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from distill_fixtures import chain_tree, run_or_resume, write_clock

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.config import Config, read_toml
from dglke_distill.distill.chain import run_chain, saved_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.estimate import estimate
from dglke_distill.distill.plan import plan
from dglke_distill.distill.watcher import Watcher
from dglke_distill.training import loop as train
from dglke_distill.training.objective import Objectives

STAGES = [
    "0-teacher-complex-dim16",
    "1-complex-dim8",
    "2-complex-dim4",
    "direct-complex-dim8",
    "direct-complex-dim4",
]


def seconds_of(stages: list[dict[str, Any]]) -> float:
    """All that stages say they took."""
    keys = ("seconds", "validation_seconds", "setup_seconds")
    return sum(stage["results"]["training"][key] for stage in stages for key in keys)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clock(tmp_path_factory.mktemp("data") / "clock")


def chain_of(clock: Path, *changes: dict[str, Any], **training: Any) -> ChainConfig:
    tree = chain_tree(clock, **training)
    for change in changes:
        tree.update(change)
    return ChainConfig.from_mapping(tree, "test")


@pytest.fixture(scope="module")
def finished(clock: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An undisturbed chain, and what it returned."""
    directory = tmp_path_factory.mktemp("chain") / "run"
    return directory, run_chain(chain_of(clock), directory).to_tree()


def weights(directory: Path) -> dict[str, str]:
    return {
        place.name: sha256_file(place / "checkpoint" / "model.safetensors")
        for place in sorted((directory / "stages").iterdir())
    }


def test_results_of_a_chain(finished: tuple[Path, dict[str, Any]]) -> None:
    directory, results = finished
    assert json.loads((directory / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (results["schema"], results["kind"]) == (1, "chain")
    assert (results["method"], results["seed"]) == ("iterde", 0)
    assert results["chain"]["dims"] == [16, 8, 4]
    assert results["dataset"]["entities"] == 24
    assert results["provenance"]["version"]
    assert [stage["name"] for stage in results["stages"]] == STAGES
    assert [stage["role"] for stage in results["stages"]] == [
        "teacher",
        "student",
        "student",
        "direct",
        "direct",
    ]
    assert [stage["teacher"] for stage in results["stages"]] == [None, *STAGES[:2], None, None]
    for stage in results["stages"]:
        place = directory / stage["directory"]
        assert place == directory / "stages" / stage["name"]
        saved = json.loads((place / "checkpoint" / "results.json").read_text())
        assert saved == stage["results"]
        config = Config.from_mapping(read_toml(place / "config.toml"), "test")
        assert config.model.dim == saved["model"]["dim"] == saved["model"]["floats_per_entity"]
        assert saved["metrics"]["test"]["mrr"] > 0
        assert ("distillation" in saved) == (stage["role"] == "student")
        assert sorted(p.name for p in place.iterdir()) == [
            "checkpoint",
            "config.toml",
            "history.csv",
            "test-ranks.safetensors",
        ]


def test_summary_of_a_chain(finished: tuple[Path, dict[str, Any]]) -> None:
    _, results = finished
    summary = results["summary"]
    mrr = [stage["results"]["metrics"]["test"]["mrr"] for stage in results["stages"]]
    assert summary["teacher_mrr"] == mrr[0]
    assert summary["student_mrr"] == mrr[2]
    assert summary["direct_mrr"] == mrr[4]
    assert summary["share_of_teacher"] == pytest.approx(mrr[2] / mrr[0])
    assert "gain_over_direct" not in summary  # a gain stands beside its interval
    first, last = results["verdict"]["sizes"]
    assert (first["student"], first["control"]) == (STAGES[1], STAGES[3])
    assert (last["student"], last["control"]) == (STAGES[2], STAGES[4])
    assert first["gain"] == pytest.approx(mrr[1] / mrr[3] - 1, rel=1e-5)
    assert last["gain"] == pytest.approx(mrr[2] / mrr[4] - 1, rel=1e-5)
    assert first["low"] < first["gain"] < first["high"]
    assert (last["questions"], last["seeds"]) == (12, 1)
    assert results["verdict"]["sentence"] == last["sentence"]
    assert "only 12 test questions: the interval is wide" in last["sentence"]
    assert summary["chain_seconds"] == pytest.approx(seconds_of(results["stages"][:3]))
    assert summary["direct_seconds"] == pytest.approx(seconds_of(results["stages"][4:]))
    assert summary["direct_budget_seconds"] == 0


def test_students_know_their_teacher_and_their_weight(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    directory, results = finished
    for stage in results["stages"][1:3]:
        about = stage["results"]["distillation"]
        (teacher,) = about["teachers"]
        assert teacher["name"] == stage["teacher"]
        assert teacher["weights"] == weights(directory)[stage["teacher"]]
        with (directory / stage["directory"] / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 5
        lambdas = [float(row["soft_weight"]) for row in rows]
        assert lambdas[3:] == [1.0, 1.0]  # two phases
        assert all(0.1 < value <= 1 for value in lambdas[:3])
        assert all(float(row["hard"]) > 0 and float(row["soft"]) > 0 for row in rows)


def test_what_is_done_is_not_done_again(
    clock: Path, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, results = finished
    files = [path for path in (directory / "stages").rglob("*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    monkeypatch.setattr(train, "step", None)  # nothing may be trained
    lines: list[str] = []
    again = run_chain(
        chain_of(clock), directory, resume=True, watcher=Watcher(announce=lines.append)
    ).to_tree()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == before
    assert lines == [f"{name}: done already" for name in STAGES]
    assert again["stages"] == results["stages"]
    assert again["summary"] == results["summary"]


def test_directories_in_use_and_other_settings_are_refused(
    clock: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    directory, _ = finished
    with pytest.raises(UserError, match="holds a chain already; add --resume"):
        run_chain(chain_of(clock), directory)
    with pytest.raises(UserError, match="the chain has other settings"):
        run_chain(chain_of(clock, {"dims": [16, 8]}), directory, resume=True)
    with pytest.raises(UserError, match="the chain has other settings"):
        teacher = directory / "stages" / STAGES[0] / "checkpoint"
        run_chain(chain_of(clock), directory, resume=True, loaded=[teacher])
    with pytest.raises(UserError, match="there is no chain to resume"):
        run_chain(chain_of(clock), tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_a_stage_with_other_settings_is_refused(clock: Path, tmp_path: Path) -> None:
    chain = chain_of(clock, {"dims": [8, 4], "control": "none"}, epochs=1)
    run_chain(chain, tmp_path / "run")
    config = tmp_path / "run" / "stages" / "0-teacher-complex-dim8" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 1", "epochs = 2"))
    with pytest.raises(UserError, match="the stage was run with other settings"):
        run_chain(chain, tmp_path / "run", resume=True)


def test_a_saved_chain_is_the_chain(clock: Path, tmp_path: Path) -> None:
    teacher = tmp_path / 'odd "name" \U0001f600'
    run_chain(chain_of(clock, {"dims": [8, 4], "control": "none"}, epochs=1), tmp_path / "first")
    (tmp_path / "first" / "stages" / "0-teacher-complex-dim8" / "checkpoint").rename(teacher)
    chain = chain_of(clock, {"dims": [8, 4], "control": "none"}, epochs=1)
    results = run_chain(chain, tmp_path / "second", loaded=[teacher]).to_tree()
    assert saved_chain(tmp_path / "second") == (chain, [str(teacher)])
    assert [stage["role"] for stage in results["stages"]] == ["student"]
    saved = json.loads((teacher / "results.json").read_text())
    assert results["summary"]["teacher_mrr"] == saved["metrics"]["test"]["mrr"]
    # the same teacher and seed give the same student, wherever the teacher lies
    (student,) = weights(tmp_path / "second").values()
    assert weights_of(tmp_path / "first" / "stages" / "1-complex-dim4") == student


def weights_of(stage: Path) -> str:
    return sha256_file(stage / "checkpoint" / "model.safetensors")


def test_a_teacher_of_other_entities_is_refused(clock: Path, tmp_path: Path) -> None:
    small = {"dims": [8, 4], "control": "none"}
    run_chain(chain_of(clock, small, epochs=1), tmp_path / "first")
    teacher = tmp_path / "first" / "stages" / "0-teacher-complex-dim8" / "checkpoint"
    other = write_clock(tmp_path / "other", hours=30)
    with pytest.raises(UserError, match="the teacher's entities are not those of"):
        run_chain(chain_of(other, small, epochs=1), tmp_path / "second", loaded=[teacher])


def test_the_control_gets_the_time_of_the_whole_chain(clock: Path, tmp_path: Path) -> None:
    chain = chain_of(clock, {"dims": [8, 4], "control": "both"}, epochs=3)
    results = run_chain(chain, tmp_path / "run").to_tree()
    direct, budget = results["stages"][2:]
    assert (direct["role"], budget["role"]) == ("direct", "direct_budget")
    assert budget["name"] == f"{direct['name']}-budget"
    share = seconds_of(results["stages"][:2]) / seconds_of([direct])
    epochs = read_toml(tmp_path / "run" / budget["directory"] / "config.toml")["training"]["epochs"]
    assert epochs == max(1, int(share * 3))
    assert results["summary"]["direct_budget_mrr"] == budget["results"]["metrics"]["test"]["mrr"]
    again = run_chain(chain, tmp_path / "run", resume=True).to_tree()
    assert again["stages"] == results["stages"]


def test_a_chain_without_a_teacher(clock: Path, tmp_path: Path) -> None:
    chain = chain_of(clock, {"method": "direct", "control": "both"}, epochs=2)
    results = run_chain(chain, tmp_path / "run").to_tree()
    assert [stage["name"] for stage in results["stages"]] == ["direct-complex-dim4"]
    summary = results["summary"]
    assert summary["student_mrr"] is summary["share_of_teacher"] is None
    assert results["verdict"]["sizes"] == []
    assert results["verdict"]["sentence"] is None
    assert summary["direct_mrr"] > 0


def test_students_of_other_kinds(clock: Path, tmp_path: Path) -> None:
    """A lookup student of an encoder that passes messages; a distance model of a product."""
    tree = chain_tree(clock, epochs=2)
    tree["dims"], tree["control"] = [8, 4], "none"
    tree["teacher"] = {"model": {"encoder": "neighbor"}}
    tree["student"]["model"] = {"name": "TransE"}
    results = run_chain(ChainConfig.from_mapping(tree, "test"), tmp_path / "run").to_tree()
    student = load_model(tmp_path / "run" / results["stages"][1]["directory"] / "checkpoint")
    assert type(student.model.score_function).__name__ == "TransE"
    assert results["stages"][1]["results"]["metrics"]["test"]["mrr"] > 0


def test_interrupted_in_the_second_stage(
    clock: Path,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, _ = finished
    begun: list[str] = []
    steps: list[str] = []
    take = train.step

    def interrupting(*arguments: Any, **options: Any) -> Objectives:
        steps.append(begun[-1])
        if steps.count(STAGES[1]) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return take(*arguments, **options)

    monkeypatch.setattr(train, "step", interrupting)
    watcher = Watcher(stage=lambda stage, number, total: begun.append(stage.name))
    with pytest.raises(train.Interrupted):
        run_chain(chain_of(clock), tmp_path / "cut", watcher=watcher)
    assert begun == STAGES[:2]
    assert not (tmp_path / "cut" / "results.json").exists()
    monkeypatch.setattr(train, "step", take)
    run_chain(chain_of(clock), tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(whole)


def test_killed_at_random_moments(
    clock: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Three times SIGKILL, the next process going on: the same bytes in every stage."""
    whole, results = finished
    context = multiprocessing.get_context("forkserver")
    # What a chain imports on its way, once for all processes.
    lazily = ["torch._dynamo", "sklearn.decomposition"]
    context.set_forkserver_preload(["distill_fixtures", *lazily])
    directory = tmp_path / "cut"
    moments = random.Random(20261123)
    arguments = (chain_tree(clock), directory)
    for _ in range(3):
        process = context.Process(target=run_or_resume, args=arguments)
        process.start()
        wait_for_saves(directory, process, moments.randint(1, 40))
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (directory / "results.json").exists()
    process = context.Process(target=run_or_resume, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert weights(directory) == weights(whole)
    mended = json.loads((directory / "results.json").read_text())
    for key in ("teacher_mrr", "student_mrr", "direct_mrr"):
        assert mended["summary"][key] == results["summary"][key]


def wait_for_saves(directory: Path, process: Any, count: int) -> None:
    """Wait until a process has saved its state some times; a few may pass unseen."""
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) <= count:  # one may be of the process before
        assert process.is_alive() and time.monotonic() < deadline
        for path in (directory / "stages").glob("*/resume.safetensors"):
            try:
                seen.add(path.stat().st_mtime_ns)
            except FileNotFoundError:  # its stage has just ended
                pass
        time.sleep(0.001)


def test_estimates(clock: Path) -> None:
    """Sizes are exact; the time of one batch per epoch is no less than its steps take."""
    chain = chain_of(clock, batch_size=10_000, epochs=1000)
    stages = plan(chain)
    found = estimate(stages)
    assert [size.floats_per_entity for size in found] == [16, 8, 4, 8, 4]
    assert [size.bytes_per_entity for size in found] == [64, 32, 16, 32, 16]
    assert [size.parameters for size in found] == [(24 + 3) * dim for dim in (16, 8, 4, 8, 4)]
    assert all(0.05 < size.seconds < 600 for size in found)
