"""The study's journal: a line that a kill or a full disk has cut short is no end of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

__all__ = ["Journal"]


class Journal(JournalFileBackend):  # type: ignore[misc,unused-ignore]
    """Optuna's journal, fixed before it is read for the first time and before each line.

    What is written after a cut line would lengthen it, and nothing could read the journal again.

    Args:
        path: its file; processes may share it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it."""
        self._path, self._ours = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self._ours)
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


def _is_cut(stream: Any) -> bool:
    if not stream.seek(0, 2):
        return False
    stream.seek(-1, 2)
    return bool(stream.read(1) != b"\n")
