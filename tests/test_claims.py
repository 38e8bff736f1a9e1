"""A run directory belongs to one process; what two have written is not mixed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from cli_fixtures import exit_code as call
from distill_fixtures import write_clock
from http_fixtures import server
from ogb_fixtures import write_wikikg2
from test_disk import REPLACING, WRITERS, Place, place, tree
from zoo_fixtures import home, trained

from dglke_distill import cli
from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base import claims, files, runtime
from dglke_distill.base.claims import LOCK_FILE, Kind, among, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state, save_state
from dglke_distill.config import Config
from dglke_distill.runs.run_files import BEST_FILE, CONFIG_FILE, RESUME_FILE
from dglke_distill.runs.train_run import train_run
from dglke_distill.training.loop import Interrupted

__all__ = ["home", "place", "server", "trained"]

SOME = Kind("run", "settings", ("settings",), among("results"))
CHILD = """
import sys, time
from pathlib import Path
from dglke_distill.base.claims import Kind, among, claimed
kind = Kind("run", "settings", ("settings",), among("results"))
with claimed(Path(sys.argv[1]), kind, "a", lambda: True, resume=False):
    print("claimed", flush=True)
    time.sleep(600)
"""


def claim(place: Path, *, resume: bool = False, **more: Any) -> Any:
    same = lambda: (place / "settings").read_text() == "a"  # noqa: E731
    return claimed(place, SOME, "a", same, resume=resume, **more)


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    return write_clock(tmp_path / "clock")


def config_of(clock: Path, **training: Any) -> Config:
    tree = {
        "data": {"dataset": str(clock)},
        "model": {"name": "TransE", "dim": 4},
        "negatives": {"count": 2},
        "training": {"epochs": 4, "batch_size": 30, "evaluate_every": 1, "threads": 1, **training},
    }
    return Config.from_mapping(tree, "test")


def test_the_second_process_is_told_of_the_first(tmp_path: Path) -> None:
    place = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "claimed\n"
        who = rf"run: process {child.pid} on {socket.gethostname()} \(since 2.*\) is writing to it"
        with pytest.raises(UserError, match=who), claim(place, resume=True):
            raise AssertionError("it is in use")
        child.send_signal(signal.SIGKILL)
    # The lock is gone with its process, though its file is not.
    assert (place / LOCK_FILE).exists()
    with claim(place, resume=True) as held:
        held.check()
    assert not (place / LOCK_FILE).exists()


@pytest.mark.parametrize("command", ["train", "run", "compare", "ogb"])
@pytest.mark.parametrize("resume", [False, True])
def test_every_command_that_runs_claims_its_directory(
    command: str,
    resume: bool,
    tmp_path: Path,
    clock: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    data = str(clock)
    if command == "ogb":
        write_wikikg2(tmp_path, negatives=5)
        data = str(tmp_path / "ogbl_wikikg2")
    arguments = {
        "train": ["train", data, "--recipe", "none"],
        "run": ["run", data, "--recipe", "none", "--dims", "4,2"],
        "compare": ["compare", data, "--recipe", "none", "--dims", "4,2", "--methods", "direct"],
        "ogb": ["ogb", "run", data, "--recipe", "none", "--dims", "4,2"],
    }[command]
    arguments += ["--out", str(out), "--epochs", "1", "--threads", "1"]
    if resume:
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0, capsys.readouterr().err
        group = ["ogb", "run"] if command == "ogb" else [command]
        arguments = [*group, "--resume", "--out", str(out)]
    capsys.readouterr()
    out.mkdir(exist_ok=True)
    with open(out / LOCK_FILE, "w+") as other:
        other.write("process 7 on elsewhere (since then)")
        other.flush()
        claims.try_lock(other.fileno())
        before = sorted(path.name for path in out.rglob("*"))
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        error = capsys.readouterr().err
        assert end.value.code == 2
        assert error == (
            f"error: {out}: process 7 on elsewhere (since then) is writing to it; wait until that "
            "ends, stop it, or choose another --out\n"
        )
        assert sorted(path.name for path in out.rglob("*")) == before


def test_without_locks_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Path
) -> None:
    monkeypatch.setattr(claims, "try_lock", lambda descriptor: None)
    lines: list[str] = []
    train_run(config_of(clock), tmp_path / "run", announce=lines.append)
    assert lines[0].startswith(f"warning: {tmp_path / 'run'} cannot be locked")
    assert load_model(tmp_path / "run" / "checkpoint").results["training"]["epochs"] == 4


def test_without_locks_nothing_of_another_run_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Path
) -> None:
    """A run begins, and ends, while another is at work in the same directory."""
    monkeypatch.setattr(claims, "try_lock", lambda descriptor: None)
    monkeypatch.setattr(claims, "_is_at", lambda descriptor, path: True)
    place, config = tmp_path / "run", config_of(clock)
    begun: list[str] = []

    def other(line: str) -> None:
        if line.startswith("needs about") and not begun:
            begun.append(line)
            train_run(config, place)

    with pytest.raises(UserError, match="is of another run that writes to the same directory"):
        train_run(config, place, announce=other)
    assert begun
    of_checkpoint = load_model(place / "checkpoint").results["provenance"]["run"]
    assert of_checkpoint == load_state(place / RESUME_FILE)[1]["run"]


def test_best_weights_of_another_run_are_not_taken(tmp_path: Path, clock: Path) -> None:
    place, config = tmp_path / "run", config_of(clock)
    train_run(config, place)
    (place / RESUME_FILE).rename(tmp_path / "state")
    train_run(config, tmp_path / "other")
    tensors, about = load_state(tmp_path / "state")
    save_state(tmp_path / "other" / RESUME_FILE, tensors, about)
    with pytest.raises(UserError, match=rf"{BEST_FILE}: is of another run"):
        train_run(config, tmp_path / "other", resume=True)


def test_results_say_which_validation_the_weights_are_from(tmp_path: Path, clock: Path) -> None:
    """As after a kill between the best weights and the state, where steps are not repeated."""
    place, config = tmp_path / "run", config_of(clock)
    train_run(config, place)
    tensors, about = load_state(place / BEST_FILE)
    epoch = 4 if about["epoch"] != 4 else 3
    save_state(place / BEST_FILE, tensors, {**about, "mrr": 0.875, "epoch": epoch})
    training = train_run(config, place, resume=True).to_tree()["training"]
    assert (training["best_epoch"], training["best_validation_mrr"]) == (epoch, 0.875)


def test_a_directory_that_was_removed_is_not_made_again(tmp_path: Path, clock: Path) -> None:
    place = tmp_path / "run"

    def lose(line: str) -> None:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()

    with pytest.raises(UserError, match=r"run: was removed or replaced"):
        train_run(config_of(clock), place, announce=lose_once(lose))
    assert not place.exists()


def lose_once(lose: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: lose(line) if line.startswith("needs about") else None


@pytest.mark.parametrize("name", ["config.toml", "best.safetensors", "history.csv"])
def test_files_of_the_user_are_not_taken_for_a_run(tmp_path: Path, clock: Path, name: str) -> None:
    place = tmp_path / "project"
    place.mkdir()
    (place / name).write_bytes(b"\xff mine")
    with pytest.raises(UserError, match=rf"project: holds '{name}' already, which is not of this"):
        train_run(config_of(clock), place)
    assert [path.name for path in place.iterdir()] == [name]
    assert (place / name).read_bytes() == b"\xff mine"


def test_a_start_that_came_to_nothing_leaves_nothing(tmp_path: Path, clock: Path) -> None:
    place = tmp_path / "runs" / "deep" / "run"
    with pytest.raises(UserError, match="there is neither a file"):
        train_run(config_of(tmp_path / "nowhere"), place)
    assert not (tmp_path / "runs").exists()

    def stop(line: str) -> None:
        if line.startswith("needs about"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config_of(clock, seed=1), place, announce=stop)
    assert not (tmp_path / "runs").exists()
    train_run(config_of(clock, seed=2), place)
    assert "seed = 2" in (place / CONFIG_FILE).read_text()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_signals_that_stop(tmp_path: Path, clock: Path, name: str) -> None:
    # Long enough to be reported of, which happens a few times a second.
    settings = {"batch_size": 1, "epochs": 60, "evaluate_every": 20}
    place, config = tmp_path / "run", config_of(clock, **settings)

    def hang_up(now: Any) -> None:
        os.kill(os.getpid(), getattr(signal, name))
        if name != "SIGINT":  # a shell whose terminal is closed sends it again
            os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(Interrupted):
        train_run(config, place, report=hang_up)
    assert 0 < load_state(place / RESUME_FILE)[1]["state"]["batch"] <= 60
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    train_run(config, place, resume=True)
    train_run(config, tmp_path / "whole")
    ends = [load_state(path / RESUME_FILE)[0] for path in (place, tmp_path / "whole")]
    assert all(ends[0][key].equal(tensor) for key, tensor in ends[1].items())


def test_nohup_stays(tmp_path: Path, clock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        results = train_run(
            config_of(clock),
            tmp_path / "run",
            report=lambda now: os.kill(os.getpid(), signal.SIGHUP),
        ).to_tree()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert results["training"]["epochs"] == 4


def test_a_run_goes_on_with_the_threads_it_was_begun_with(
    tmp_path: Path, clock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, config = tmp_path / "run", config_of(clock, threads=None, epochs=400, batch_size=1)
    cores = [2]
    monkeypatch.setattr(runtime, "available_cores", lambda: cores[0])

    def stop(now: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def resumed() -> list[str]:
        lines: list[str] = []
        with pytest.raises(Interrupted):
            train_run(config, place, resume=True, report=stop, announce=lines.append)
        return [line for line in lines if "thread" in line]

    with pytest.raises(Interrupted):
        train_run(config, place, report=stop)
    assert load_state(place / RESUME_FILE)[1]["threads"] == 2
    assert resumed() == []
    cores[0] = 4
    assert resumed() == ["going on with the 2 thread(s) that it was begun with"]
    assert torch.get_num_threads() == 2
    cores[0] = 1
    (line,) = resumed()
    assert line.startswith("warning: begun with 2 threads, going on with 1: the outcome can differ")


@pytest.mark.parametrize("name", [n for n in WRITERS if n.split()[0] in {"dist", "export"}
                                  or n in REPLACING])  # fmt: skip
def test_what_another_has_written_meanwhile_stays(
    name: str, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two commands at once with one ``--out``, the second to end replaces nothing."""
    arguments = WRITERS[name](place)
    out = Path(arguments[arguments.index("--out") + 1])
    assert call(*arguments) == 0
    theirs = out.rename(out.with_name("theirs"))
    before, made = tree(place.folder), files._made_aside

    def and_another_ends_first(final: Path) -> tuple[Path, Optional[int]]:
        folder = made(final)
        if final == out:
            theirs.rename(out)
        return folder

    with monkeypatch.context() as patched:
        patched.setattr(files, "_made_aside", and_another_ends_first)
        capsys.readouterr()
        assert call(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith(f"error: {out}: ") and re.search("choose another (place|dir)", line)
    out.rename(theirs)
    assert tree(place.folder) == before
