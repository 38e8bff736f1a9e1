"""The journal of a study that processes share: none waits for one that is dead."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dglke_distill.search.journal import Journal, JournalLock

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
