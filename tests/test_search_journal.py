"""The journal of a study: no process waits for one that is dead, and what is asked for is kept."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_search import main_exits, study_of

from dglke_distill.search.agenda import allowed, unfinished
from dglke_distill.search.journal import Journal, JournalLock
from dglke_distill.search.study import _open, saved_study, tune

HELD = """
import sys, time
from pathlib import Path
from dglke_distill.search.journal import JournalLock
JournalLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_process_that_was_killed_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("journal.log")  # relative, as a user names a study
    Journal(place).append_logs([{"number": 0}])
    holder = subprocess.Popen(
        [sys.executable, "-c", HELD, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    begun = time.monotonic()
    journal = Journal(place)
    journal.append_logs([{"number": 1}])
    assert time.monotonic() - begun < 5
    assert list(journal.read_logs(0)) == [{"number": 0}, {"number": 1}]


def test_a_link_that_an_earlier_process_left_is_nobody(tmp_path: Path) -> None:
    """Optuna's lock was such a link; in a study that was moved it leads nowhere."""
    os.symlink("gone/journal.log", tmp_path / "journal.log.lock")
    journal = Journal(tmp_path / "journal.log")
    journal.append_logs([{"number": 0}])
    assert list(journal.read_logs(0)) == [{"number": 0}]


def _write(path: Path, writer: int) -> None:
    journal = Journal(path)
    for number in range(20):
        journal.append_logs([{"writer": writer, "number": number, "text": "x" * 5000}])


@pytest.mark.slow
def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    place = tmp_path / "journal.log"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(place, writer)) for writer in range(2)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    lines = list(Journal(place).read_logs(0))
    for writer in range(2):
        assert [line["number"] for line in lines if line["writer"] == writer] == list(range(20))


def test_one_at_a_time(tmp_path: Path) -> None:
    from dglke_distill.base.files import try_lock

    place = tmp_path / "journal.log"
    lock = JournalLock(place)
    assert lock.acquire()
    with open(place, "rb") as stream:
        assert try_lock(stream.fileno()) is False
        lock.release()
        assert try_lock(stream.fileno()) is True


def test_a_time_that_was_interrupted_goes_on_and_one_that_is_over_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial of the time asked for takes of it; the trials of other calls do not."""
    out = tmp_path / "study"
    tune(study_of(tmp_path), out, trials=2)

    def stop(after: float) -> None:
        def stopped(*arguments: Any, **options: Any) -> None:
            time.sleep(after)
            raise KeyboardInterrupt

        monkeypatch.setattr("dglke_distill.search.study.run_stage", stopped)

    stop(0.2)
    assert not unfinished(out)
    with pytest.raises(KeyboardInterrupt):
        tune(saved_study(out), out, seconds=600)
    assert unfinished(out)
    with pytest.raises(KeyboardInterrupt):  # nothing is asked for: the time left
        tune(saved_study(out), out)
    assert unfinished(out)
    study = _open(out, saved_study(out), [])
    seconds = [t.user_attrs["seconds"] for t in study.get_trials() if "seconds" in t.user_attrs]
    left = allowed(study, saved_study(out), None, None)
    assert left == pytest.approx(600 - sum(seconds[2:]), abs=0.01)
    late = tmp_path / "late"  # its trial is stopped after its time
    stop(2.0)
    with pytest.raises(KeyboardInterrupt):
        tune(study_of(tmp_path), late, seconds=2.0)
    assert not unfinished(late)


def test_an_interrupted_search_says_how_to_go_on_only_if_something_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my study"
    tune(study_of(tmp_path), out, trials=1)

    def stopped(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dglke_distill.search.study.leave", stopped)
    capsys.readouterr()
    main_exits(["tune", "--resume", f"--out={out}"], code=130)
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    monkeypatch.setattr("dglke_distill.search.study.run_stage", stopped)
    main_exits(["tune", "--resume", f"--out={out}", "--trials=1"], code=130)
    command = capsys.readouterr().err.splitlines()[-1].partition("go on with: ")[2]
    assert shlex.split(command) == ["dglke-distill", "tune", "--resume", "--out", str(out)]
