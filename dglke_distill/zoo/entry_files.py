"""The files of entries in a folder: of thousands, only those that are new are read again."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from dglke_distill.base.regular_files import read_bytes

MAX_ENTRY_BYTES = 1 << 20
"""The largest file of one entry that is read."""

_SETTLED_SECONDS = 2.0
"""File systems tell times apart by ticks: what is younger may change and look the same."""


class _Seen(NamedTuple):
    """What was seen of the versions of a name: when its folder changed, and the files by path."""

    changed: int
    files: dict[str, tuple[tuple[int, ...], bytes]]


class EntryFolder:
    """The folder ``entries/`` of a store.

    Args:
        root: the folder of the store.
    """

    def __init__(self, root: Path) -> None:
        """Look at nothing yet."""
        self._root = root
        self._seen: dict[str, _Seen] = {}

    def read(self) -> dict[str, bytes]:
        """Return the content of all files by path, sorted.

        Raises:
            UserError: one is no regular file, too large, or no text.
        """
        found: dict[str, _Seen] = {}
        try:
            with os.scandir(self._root / "entries") as names:
                for name in names:
                    if name.is_dir():
                        found[name.name] = self._versions(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        self._seen = found
        files = [(path, data) for seen in found.values() for path, (_, data) in seen.files.items()]
        return dict(sorted(files))

    def _versions(self, folder: os.DirEntry[str]) -> _Seen:
        changed = os.stat(folder.path).st_mtime_ns  # that of the entry may be kept from before
        known = self._seen.get(folder.name)
        settled = changed < time.time_ns() - _SETTLED_SECONDS * 1e9
        if known is not None and known.changed == changed and settled:
            return known
        files: dict[str, tuple[tuple[int, ...], bytes]] = {}
        with os.scandir(folder.path) as versions:
            for version in versions:
                if not version.name.endswith(".toml") or version.name.startswith("."):
                    continue
                path = f"entries/{folder.name}/{version.name}"
                about = version.stat()
                state = about.st_ino, about.st_size, about.st_mtime_ns
                before = known.files.get(path) if known is not None else None
                if before is not None and before[0] == state and settled:
                    files[path] = before
                else:
                    files[path] = state, _read(version.path, about)
        return _Seen(changed, files)


def _read(path: str, about: os.stat_result) -> bytes:
    if stat.S_ISREG(about.st_mode) and about.st_size <= MAX_ENTRY_BYTES:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read(MAX_ENTRY_BYTES + 1)
        if len(data) == about.st_size and 0 not in data:
            return data
    return read_bytes(path, MAX_ENTRY_BYTES, text=True)  # which says what is wrong
