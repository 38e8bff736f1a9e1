"""Scripts that train end as commands do."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from distill_fixtures import write_clock

from dglke_distill.artifacts.checkpoint_places import no_checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.cli.exits import resumable, script
from dglke_distill.data.own_files import read_own
from dglke_distill.data.table_options import TableOptions

SCRIPT = """
import os, signal, sys
from pathlib import Path
from dglke_distill.cli.exits import script
from dglke_distill.config import compose
from dglke_distill.runs.train_run import RESUME_FILE, train_run

def main():
    config = compose([{"model": {"name": "DistMult", "dim": 8}, "training": {"epochs": 400}}])
    place = Path(sys.argv[1])
    def report(progress):
        if progress.epoch >= 1:
            os.kill(os.getpid(), signal.SIGTERM)
    train_run(config, place, resume=(place / RESUME_FILE).exists(), report=report)

script(main)
"""


def test_a_stopped_script_says_that_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 130, ended.stderr
    assert "interrupted" in ended.stderr
    assert "go on with: the same command" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--only: none of that name"), "error: --only: none of that name\n"),
        (FileNotFoundError(2, os.strerror(2), "a.toml"), "error: a.toml: No such file"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        script(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(line)


def test_other_errors_are_not_hidden() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        script(main)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_printed_command_keeps_a_folder_with_a_space_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell reads the folder as one word, as it was given."""
    place = tmp_path / "my search"
    place.mkdir()
    (place / "study.toml").touch()
    with pytest.raises(typer.Exit), resumable("dglke-distill tune", place / "study.toml"):
        raise KeyboardInterrupt
    line = capsys.readouterr().err.splitlines()[-1]
    command = line.partition("go on with: ")[2]
    assert shlex.split(command) == ["dglke-distill", "tune", "--resume", "--out", str(place)]
    for file, words in (
        ("resume.safetensors", ["train", "--resume", "--out", str(place)]),
        ("toy_entity.npy", ["import", str(place), "--out", "NEW_FOLDER"]),
    ):
        (place / file).touch()
        command = str(no_checkpoint(place)).split("`")[1]
        assert shlex.split(command) == ["dglke-distill", *words]
        (place / file).unlink()
    (place / "partition.json").touch()
    with pytest.raises(UserError) as error:
        read_own(place, "auto", None, 0, (0.8, 0.1, 0.1), TableOptions())
    assert shlex.split(str(error.value).split("`")[1])[-1] == str(place)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_training_whose_terminal_goes(tmp_path: Path, ignored: bool) -> None:
    """It is stopped as by Ctrl-C; under nohup it goes on to its end and says nothing more."""
    clock, out = write_clock(tmp_path / "clock"), tmp_path / "run"
    arguments = [sys.executable, "-m", "dglke_distill", "train", str(clock), "--recipe", "none"]
    arguments += ["--epochs", "300" if ignored else "100000", "--threads", "1", "--dim", "8"]
    child, terminal = pty.fork()
    if child == 0:
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, [*arguments, "--out", str(out)])
    shown = b""
    while b"triples/s" not in shown:
        shown += os.read(terminal, 1 << 12)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (0 if ignored else 130)
    assert (out / "resume.safetensors").is_file()
    assert (out / "checkpoint").is_dir() == ignored
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


SLOW = """
import sys, time
print("importing", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("script_file", [False, True])
def test_ctrl_c_during_the_imports_is_quiet(tmp_path: Path, script_file: bool) -> None:
    (tmp_path / "typer.py").write_text(SLOW)  # stands for any import that takes a while
    command = tmp_path / "dglke-distill"
    command.write_text("from dglke_distill.cli import main\nmain()\n")
    words = [str(command)] if script_file else ["-m", "dglke_distill"]
    child = importing([*words, "--help"], tmp_path)
    assert child.wait(20) == 130
    assert child.stderr is not None and child.stderr.read() == ""


def test_programs_that_import_the_package_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(SLOW)
    child = importing(["-c", "from dglke_distill import cli"], tmp_path)
    assert child.wait(20) == -signal.SIGINT
    assert child.stderr is not None and "KeyboardInterrupt" in child.stderr.read()


def importing(words: list[str], first: Path) -> subprocess.Popen[str]:
    """Start Python, and send it SIGINT once it imports what lies in ``first``."""
    path = os.pathsep.join([str(first), str(Path(__file__).parents[1])])
    child = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None and child.stdout.readline() == "importing\n"
    child.send_signal(signal.SIGINT)
    return child
