"""The study's journal: a line that a kill or a full disk has cut short is no end of a study."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dglke_distill.base.files import try_lock

STUDY = "tune"
"""The name of the one study in a journal."""
_PAUSE = 0.002  # seconds between two looks at who holds the journal


class JournalLock:
    """A lock of the journal itself, which ends with the process that holds it.

    Optuna's own is a link beside the journal: one that a killed process has left is waited for
    without end where it leads nowhere, as in a study that was moved, or named by a relative path.

    Args:
        path: the journal.
    """

    def __init__(self, path: Path) -> None:
        """Take nothing yet."""
        self._path = path
        self._held = -1

    def acquire(self) -> bool:
        """Wait until no other process, and no other thread, holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while try_lock(descriptor) is False:
                time.sleep(_PAUSE)
        except BaseException:
            os.close(descriptor)
            raise
        self._held = descriptor
        return True

    def release(self) -> None:
        """Let others have it."""
        descriptor, self._held = self._held, -1
        os.close(descriptor)


class Journal(JournalFileBackend):  # type: ignore[misc,unused-ignore]
    """Optuna's journal, fixed before it is read for the first time and before each line.

    What is written after a cut line would lengthen it, and nothing could read the journal again.

    Args:
        path: its file; processes may share it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it."""
        self._path, self._ours = path, JournalLock(path)
        super().__init__(str(path), self._ours)  # type: ignore[arg-type,unused-ignore]
        self._mend()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines; see optuna."""
        self._mend()
        super().append_logs(logs)

    def _mend(self) -> None:
        with open(self._path, "rb+") as stream:
            if not _is_cut(stream):
                return
            self._ours.acquire()  # so that nobody is still at it
            try:
                if _is_cut(stream):
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
            finally:
                self._ours.release()


def storage_of(directory: Path) -> JournalStorage:
    """Return the storage of a study, which is its journal.

    Args:
        directory: of the study.
    """
    return JournalStorage(Journal(directory / "journal.log"))


def _is_cut(stream: Any) -> bool:
    if not stream.seek(0, 2):
        return False
    stream.seek(-1, 2)
    return bool(stream.read(1) != b"\n")
