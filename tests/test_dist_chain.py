"""A whole chain by two trainers with a part each; the walk by two hosts made of namespaces."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dist_fixtures import parts as parts
from documents import ROOT
from scripts import imported
from typer.testing import CliRunner

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.cli import launched_run
from dglke_distill.cli.app import app
from dglke_distill.distill import many
from dglke_distill.runs.launching.agent import _check_shared

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="DGL's engine needs /dev/shm")

HOSTS = ROOT / "examples" / "two_hosts"
RUN = ["--recipe", "none", "--model", "transe", "--dims", "8,4", "--epochs", "2", "--threads", "1"]


def refused(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["dist", "launch", *map(str, arguments)])
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    return str(result.exception)


def test_a_stopped_chain_says_how_to_go_on_and_goes_on(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a launch does is not looked at here: a stage is stopped, then gone on with."""
    out, asked = tmp_path / "run", list[tuple[str, bool]]()

    def stops(task: Any, how: Any, **more: Any) -> Any:
        asked.append((Path(task.out).name, task.resume))
        place = Path(task.out)
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.toml").write_text(task.settings)
        (place / "resume.safetensors").touch()
        raise many.Ended

    monkeypatch.setattr(many, "launch", stops)
    monkeypatch.setattr(many, "check_run", lambda *given: None)
    words = ["dist", "launch", "--local", "2", "--", "run", str(parts), *RUN, "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 130, result.output
    again = f"dist launch --local 2 -- run {parts} --resume --out {out}"
    assert f"go on with: dglke-distill {again}" in result.output
    result = CliRunner().invoke(app, again.split())
    assert result.exit_code == 130, result.output
    assert asked == [("0-teacher-transe-dim8", False), ("0-teacher-transe-dim8", True)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--method", "dgkd", "--dims", "8,4,2"], "has 2 teachers, and a student by many"),
        (["--more-teachers", "rotate"], "has 2 teachers"),
        (["--method", "dualde"], "distillation.method dualde is for one machine"),
        (["--control", "tuned"], "settings are searched for on one machine"),
        (["--set", "control=tuned"], "settings are searched for on one machine"),
        (["--search", "5s"], "--search is not taken"),
        (["--processes", "2"], "--processes is not taken"),
        (["--set", "teacher.training.mode=k_vs_all", "--set", "teacher.loss.name=bce"],
         "stage 0-teacher-transe-dim8: dist launch: training.mode k_vs_all is for one machine; "
         "give --set teacher.training.mode=negatives"),
        (["--set", "student.distillation.soft.candidates=top"],
         "give --set student.distillation.soft.candidates=batch"),
        (["--set", "shared.optimizer.name=sgd"], "adagrad, rowwise_adagrad or adam alone"),
        (["--dims", "8"], "needs two sizes or more"),
        (["--dims", "8,x"], "write whole numbers"),
        (["--model", "transx"], "transx"),
        (["--teacher", "EMPTY"], "neither a checkpoint"),
        (["--out", "FILE"], "is no folder"),
        (["--out", "FULL"], "holds 'mine'"),
        (["--resume", "--out", "EMPTY"], "there is no chain to resume"),
        (["--resume"], "say which run by --out"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_a_process_starts(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], words: str
) -> None:
    monkeypatch.setattr(launched_run, "run_shown", lambda *given, **more: pytest.fail("was run"))
    for name in ("EMPTY", "FULL"):
        (tmp_path / name).mkdir()
    (tmp_path / "FILE").touch()
    (tmp_path / "FULL" / "mine").touch()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    own = [str(tmp_path / word) if word.isupper() else word for word in more]
    out = [] if "--out" in own or "--resume" in own else ["--out", tmp_path / "run"]
    settings = [] if "--resume" in own else RUN
    assert words in refused("--local", 2, "--", "run", parts, *settings, *out, *own)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_chain_of_other_data_or_by_torchrun_is_refused(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "chain.toml").write_text('control = "none"\n[data]\ndataset = "umls"\n')
    said = refused("--local", 2, "--", "run", parts, "--resume", "--out", tmp_path)
    assert f"the chain is of umls, and {parts} of cldr" in said
    assert "--torchrun starts one training" in refused("--torchrun", "--", "run", parts, *RUN)
    said = refused("--local", 2, "--teacher", tmp_path, "--", "run", parts, *RUN)
    assert "--teacher is of `-- train`" in said


def test_a_dry_run_names_the_stages(parts: Path, tmp_path: Path) -> None:
    words = ["--local", "2", "--", "run", str(parts), *RUN, "--out", str(tmp_path / "x")]
    result = CliRunner().invoke(app, ["dist", "launch", *words, "--dry-run"])
    assert result.exit_code == 0, result.output
    told = "3 stages, each by 2 trainers on 2 parts: 0-teacher-transe-dim8, 1-transe-dim4, direct-"
    assert told in result.output
    assert not (tmp_path / "x").exists()


def test_a_first_host_that_does_not_see_the_chain_is_told(tmp_path: Path) -> None:
    path = tmp_path / "chain.toml"
    with pytest.raises(UserError, match="is not the launcher's; start a chain on the first"):
        _check_shared(str(path), "0" * 64)
    path.write_text("x")
    with pytest.raises(UserError, match="is not the launcher's"):
        _check_shared(str(path), "0" * 64)
    _check_shared(str(path), sha256_file(path))


def test_two_hosts_walk_from_a_file_to_a_student(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hindered = imported(HOSTS / "network.py").obstacle()
    if hindered is not None:
        pytest.skip(hindered)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    place = tmp_path / "walk"
    command = [sys.executable, str(HOSTS / "walk.py"), "--quick", "--out", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("ranked alike by two hosts and by one process")
    assert len(re.findall(r"^dk\d+n[01] has sent [\d.]+ MB$", done.stdout, re.M)) == 2
    out = place / "runs" / "countries"
    results = json.loads((out / "results.json").read_text())
    teacher, student = results["stages"]
    for stage in (teacher, student):
        folder = out / stage["directory"]
        assert stage["results"]["training"]["machines"] == 2
        assert not list(folder.glob("resume.*")) and not (folder / "latest").exists()
    (named,) = student["results"]["distillation"]["teachers"]
    assert named["name"] == teacher["name"] == "0-teacher-transe-dim64"
    weights = out / teacher["directory"] / "checkpoint" / "model.safetensors"
    assert named["weights"] == sha256_file(weights)
    again = f"-- run {place / 'parts'} --recipe none --config {out / 'chain.toml'}"
    assert results["command"].endswith(again)
    assert (out / "report" / "report.html").is_file() and (out / "zoo.toml").is_file()


def test_the_page_has_the_commands_of_the_walk() -> None:
    walk = imported(HOSTS / "walk.py")
    page = (ROOT / "docs" / "how-to" / "many-machines.md").read_text(encoding="utf-8")
    for command in (walk.CUT, walk.RUN, walk.RANK, walk.ASK):
        assert command in page
