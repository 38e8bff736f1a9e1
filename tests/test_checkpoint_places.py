"""A folder that is no checkpoint says which one was meant, wherever a model is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dglke_distill import cli
from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.artifacts.checkpoint_places import (
    checkpoints_below,
    meant_checkpoint,
    no_checkpoint,
)
from dglke_distill.base.errors import UserError
from dglke_distill.distill.saved import check_teacher


def checkpoint(place: Path) -> Path:
    """Make what looks like one from outside."""
    place.mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "results.json"):
        (place / name).write_text("{}")
    return place


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The folder of a run: its own results beside the checkpoint."""
    checkpoint(tmp_path / "runs" / "x" / "checkpoint")
    for name in ("config.toml", "results.json"):
        (tmp_path / "runs" / "x" / name).write_text("{}")
    return tmp_path / "runs" / "x"


@pytest.fixture
def chain_folder(tmp_path: Path) -> Path:
    for stage in ("student-32", "teacher", "student-64"):
        checkpoint(tmp_path / "chain" / "stages" / stage / "checkpoint")
    (tmp_path / "chain" / "results.json").write_text("{}")
    return tmp_path / "chain"


COMMANDS = {
    "evaluate": ["evaluate", "{}"],
    "predict": ["predict", "{}", "--head", "a", "--relation", "r"],
    "compress": ["compress", "{}", "--to", "int8", "--out", "out"],
    "export": ["export", "{}", "--format", "npz", "--out", "out"],
    "serve": ["serve", "{}", "--port", "0"],
    "publish": ["zoo", "publish", "{}", "--store", "store"],
    "teacher": ["run", "cldr", "--teacher", "{}", "--dims", "16,8", "--out", "out"],
    "compare": ["compare", "cldr", "--teacher", "{}", "--dims", "16,8", "--out", "out"],
    "tune": ["tune", "cldr", "--teacher", "{}", "--method", "bkd", "--dim", "8", "--out", "out"],
}


ASKED = ("evaluate", "predict", "compress", "export", "serve")
"""Commands that take the folder of a run for its checkpoint."""


@pytest.mark.parametrize("command", ASKED)
def test_a_run_is_taken_for_its_checkpoint(
    run_folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal([part.format(run_folder) for part in COMMANDS[command]], capsys)
    assert f"error: {run_folder / 'checkpoint' / 'config.json'}: is none of" in error


@pytest.mark.parametrize("command", ASKED)
def test_a_finished_chain_is_taken_for_its_last_student(
    chain_folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = {"teacher": "teacher", "student-64": "student", "student-32": "student", "d": "direct"}
    stages = [{"name": name, "role": role} for name, role in roles.items()]
    (chain_folder / "results.json").write_text(json.dumps({"stages": stages}))
    error = refusal([part.format(chain_folder) for part in COMMANDS[command]], capsys)
    assert f"error: {chain_folder}/stages/student-32/checkpoint/config.json: is none of" in error


def test_what_a_chain_is_about(chain_folder: Path, tmp_path: Path) -> None:
    def meant(results: str) -> Path:
        (chain_folder / "results.json").write_text(results)
        return meant_checkpoint(chain_folder)

    for results in ("{}", '{"stages": 3}', '{"stages": [1]}', '{"stages": [{"name": []}]}',
                    '{"stages": [{"name": "../other", "role": "student"}]}'):  # fmt: skip
        assert meant(results) == chain_folder
    direct = '{"stages": [{"name": "student-64", "role": "direct"}]}'
    assert meant(direct) == chain_folder / "stages" / "student-64" / "checkpoint"
    with pytest.raises(UserError, match=r"results\.json"):
        meant("{")
    assert meant_checkpoint(tmp_path / "nothing") == tmp_path / "nothing"
    assert meant_checkpoint(tmp_path) == tmp_path  # a folder of runs is about none of them


@pytest.mark.parametrize("command", ["teacher", "compare", "tune"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_run_as_a_teacher_is_taken_for_its_checkpoint(
    run_folder: Path,
    command: str,
    relative: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run_folder.parent.parent)
    given = Path("runs/x") if relative else run_folder
    error = refusal([part.format(given) for part in COMMANDS[command]], capsys)
    assert f"error: {run_folder / 'checkpoint'}/" in error
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["teacher", "compare", "tune"])
def test_a_chain_as_a_teacher_is_taken_for_its_last_student(
    chain_folder: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(chain_folder.parent)
    stages = [{"name": "teacher", "role": "teacher"}, {"name": "student-64", "role": "student"}]
    (chain_folder / "results.json").write_text(json.dumps({"stages": stages}))
    error = refusal([part.format(chain_folder) for part in COMMANDS[command]], capsys)
    assert f"error: {chain_folder}/stages/student-64/checkpoint/" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_the_students_of_a_chain_are_listed(
    chain_folder: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(chain_folder.parent)
    error = refusal([part.format(chain_folder) for part in COMMANDS[command]], capsys)
    stages = chain_folder / "stages"
    listed = [stages / name / "checkpoint" for name in ("student-32", "student-64", "teacher")]
    assert f"did you mean one of {', '.join(map(str, listed))}?" in error


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of a command that is refused."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0]


def message_of(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_model(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_places(tmp_path: Path, run_folder: Path, chain_folder: Path) -> None:
    assert no_checkpoint(run_folder / "checkpoint") is None
    assert "did you mean" in message_of(run_folder.parent)  # a folder of runs
    assert f"did you mean {run_folder}/checkpoint?" in message_of(run_folder / "chekpoint")
    weights = run_folder / "checkpoint" / "model.safetensors"
    assert f"it is a file; did you mean {weights.parent}?" in message_of(weights)
    (tmp_path / "empty").mkdir()
    assert "the folder is empty" in message_of(tmp_path / "empty")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "config.json").write_text("{}")
    assert "the checkpoint is incomplete" in message_of(tmp_path / "part")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "resume.safetensors").write_text("")
    assert f"train --resume --out {tmp_path / 'begun'}" in message_of(tmp_path / "begun")
    (tmp_path / "drkg").mkdir()
    (tmp_path / "drkg" / "DRKG_TransE_l2_entity.npy").write_text("")
    assert f"dglke-distill import {tmp_path / 'drkg'}" in message_of(tmp_path / "drkg")


def test_a_comparison_of_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many, some are listed."""
    for method in range(5):
        for stage in ("teacher", "student"):
            checkpoint(tmp_path / f"m{method}" / "stages" / stage / "checkpoint")
    assert len(checkpoints_below(tmp_path)) == 10
    assert "or 4 more?" in message_of(tmp_path)
    called: list[Any] = []
    place = "dglke_distill.artifacts.checkpoint.load_files"
    monkeypatch.setattr(place, lambda *a: called.append(a))
    with pytest.raises(UserError):
        check_teacher(tmp_path)
    assert called == []


def test_a_stage_is_found_by_the_name_in_the_table(tmp_path: Path) -> None:
    stage = tmp_path / "run" / "stages" / "1-complex-dim16"
    stage.mkdir(parents=True)
    error = no_checkpoint(tmp_path / "run" / "1-complex-dim16")
    assert str(error).endswith(f"no such checkpoint directory; did you mean {stage}?")
