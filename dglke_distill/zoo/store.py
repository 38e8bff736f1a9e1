"""Where published models lie: what every store can do, and the folder as a store.

A store holds

    zoo.toml                          the registry that readers read
    entries/<name>/<version>.toml     what each publisher wrote, the registry's only source
    models/<name>/<content>/...       files of a model
    vocabularies/<content>/...        names, shared by all models of a dataset

where ``<content>`` is the beginning of a sha256, so that no file is ever overwritten by another.
"""

from __future__ import annotations

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Optional, TypeVar

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import (
    atomic_write_bytes,
    create_file,
    file_aside,
    sha256_file,
    try_lock,
)
from dglke_distill.base.places import folders_made
from dglke_distill.base.regular_files import check_regular, open_regular, read_bytes
from dglke_distill.zoo.entry_files import EntryFolder
from dglke_distill.zoo.schema import FileEntry

Data = TypeVar("Data", bytes, bytearray)

INDEX_FILE = "zoo.toml"
MAX_INDEX_BYTES = 64 << 20
"""The largest registry that is read."""

LOCK_SECONDS = 3.0
"""How long a publisher waits for others."""

BLOCK_BYTES = 1 << 20
"""Files are copied in pieces of this size."""


class Store(ABC):
    """A place that holds published models.

    Args:
        place: as the user named it, for messages.
    """

    remote = True
    """Whether files must be downloaded before they can be read."""

    def __init__(self, place: str) -> None:
        """Remember the name."""
        self.place = place

    @abstractmethod
    def read_index(self) -> Optional[bytes]:
        """Return the registry, None where there is none yet.

        Raises:
            UserError: the store cannot be reached or read.
        """

    @abstractmethod
    def fetch(self, file: FileEntry, target: Path) -> None:
        """Bring a file to ``target``, which appears only once its size and sha256 agree.

        Raises:
            UserError: it is not there, cannot be read, or is another file.
        """

    def in_place(self, path: str) -> Path:
        """Return where a file lies; only for stores that are not ``remote``."""
        raise NotImplementedError

    def put(self, path: str, source: Path) -> None:
        """Bring a file into the store, under a path that names its content."""
        raise self._read_only()

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that does not exist yet; return False, changing nothing, where it does."""
        raise self._read_only()

    def read_entries(self) -> dict[str, bytes]:
        """Return the content of all files below ``entries/`` by path."""
        raise self._read_only()

    def replace_index(self, data: bytes) -> None:
        """Put a registry in the place of the one that is there, all at once."""
        raise self._read_only()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other publishers waiting meanwhile, where that can be had; nothing relies on it."""
        yield

    def _read_only(self) -> UserError:
        return UserError(
            f"{self.place}: this store can only be read; publish to the folder or bucket behind it"
        )


class LocalStore(Store):
    """A folder; its files are used where they lie.

    Args:
        root: the folder.
        place: its name in messages, by default the path.
        index: the registry, by default ``zoo.toml`` in the folder.
    """

    remote = False

    def __init__(
        self, root: Path, *, place: Optional[str] = None, index: Optional[Path] = None
    ) -> None:
        """Look at nothing yet."""
        super().__init__(str(root) if place is None else place)
        self.root = root
        self.index = root / INDEX_FILE if index is None else index
        self._entries = EntryFolder(root)

    def read_index(self) -> Optional[bytes]:
        """Return the registry; see ``Store``."""
        try:
            self.index.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return read_bytes(self.index, MAX_INDEX_BYTES, text=True)

    def in_place(self, path: str) -> Path:
        """Return where a file lies.

        Raises:
            UserError: a symbolic link stands in the way, which could lead out of the store; or
                there is no such file.
        """
        place = self.root / path
        if os.path.realpath(place) != os.path.join(os.path.realpath(self.root), path):
            raise UserError(f"{place}: a symbolic link leads elsewhere; put the file itself there")
        check_regular(place, missing=f"no such file; the store {self.place} is incomplete")
        return place

    def fetch(self, file: FileEntry, target: Path) -> None:
        """Copy a file; see ``Store``."""
        with open_regular(self.in_place(file.path)) as stream:
            receive(stream, file, target, self.place)

    def put(self, path: str, source: Path) -> None:
        """Copy a file into the folder; see ``Store``."""
        place = self.root / path
        if place.is_file() and sha256_file(place) == sha256_file(source):
            return
        with file_aside(place) as aside, open(source, "rb") as stream, open(aside, "wb") as out:
            while block := stream.read(BLOCK_BYTES):
                out.write(block)

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file by a hard link, which appears complete or not at all; see ``Store``."""
        return create_file(self.root / path, data)

    def read_entries(self) -> dict[str, bytes]:
        """Return the entries; see ``Store``."""
        return self._entries.read()

    def replace_index(self, data: bytes) -> None:
        """Replace the registry; see ``Store``."""
        atomic_write_bytes(self.index, data)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for a lock, but not for ever: it may be held by one who is stopped.

        Without it publishers undo each other's work on the registry, and do it again.
        """
        folder = self.root / "entries"
        descriptor: Optional[int] = None
        with ExitStack() as held:
            with suppress(OSError):
                held.enter_context(folders_made(folder))
                descriptor = os.open(folder, os.O_RDONLY)
                held.callback(os.close, descriptor)
            until = time.monotonic() + LOCK_SECONDS
            while descriptor is not None and try_lock(descriptor) is False:
                if time.monotonic() > until:
                    break
                time.sleep(0.01)
            yield


def receive(stream: Any, file: FileEntry, target: Path, place: str) -> None:
    """Copy a stream to ``target`` if it is the file; stop where it gets too long.

    Raises:
        UserError: it is another file; the message has both digests.
    """
    digest, size = hashlib.sha256(), 0
    with file_aside(target) as aside, open(aside, "wb") as out:
        while size <= file.bytes and (block := stream.read(BLOCK_BYTES)):
            digest.update(block)
            size += len(block)
            out.write(block)
        if size != file.bytes or digest.hexdigest() != file.sha256:
            raise UserError(
                f"{place}/{file.path}: {size} bytes with sha256 {digest.hexdigest()} are not the "
                f"{file.bytes} with {file.sha256} that were published; nothing was kept, ask the "
                "store's owner"
            )


def limited(data: Data, source: str) -> Data:
    """Return the bytes of a registry that is not absurdly large.

    Raises:
        UserError: it is.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise UserError(f"{source}: the registry is larger than {MAX_INDEX_BYTES >> 20} MiB")
    return data
