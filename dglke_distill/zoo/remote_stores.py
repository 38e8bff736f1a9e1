"""Stores that must be reached over a network: by fsspec, or a plain web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from dglke_distill.errors import UserError
from dglke_distill.zoo.schema import FileEntry
from dglke_distill.zoo.store import (
    BLOCK_BYTES,
    INDEX_FILE,
    MAX_INDEX_BYTES,
    Store,
    limited,
    receive,
)

__all__ = ["RemoteStore", "WebStore", "download"]

_TIMEOUT_SECONDS = 30.0


class RemoteStore(Store):
    """A bucket, or whatever else fsspec reaches.

    Two publishers lose nothing where the file system can refuse to write a file that is there:
    ``s3`` and ``gs`` do so in one step. Others look first and write then: of two who publish the
    same name there at one moment, only the later one's entry may stay.

    Args:
        url: address of its root, with one of the ``SCHEMES``.
    """

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        super().__init__(url.rstrip("/"))

    def read_index(self) -> Optional[bytes]:
        """Return the registry; see ``Store``."""
        return self._read(INDEX_FILE)

    def fetch(self, file: FileEntry, target: Path) -> None:
        """Download a file; see ``Store``."""
        with self._reached(file.path) as (files, path), files.open(path, "rb") as stream:
            receive(stream, file, target, self.place)

    def put(self, path: str, source: Path) -> None:
        """Upload a file unless one of its size is there; see ``Store``."""
        with self._reached(path) as (files, place):
            if not (files.exists(place) and files.size(place) == source.stat().st_size):
                files.makedirs(files._parent(place), exist_ok=True)
                files.put_file(str(source), place)

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file, and look whether it is ours; see ``Store``."""
        with self._reached(path) as (files, place):
            files.makedirs(files._parent(place), exist_ok=True)
            try:
                files.pipe_file(place, data, mode="create")
            except FileExistsError:
                return False
            return bool(files.cat_file(place) == data)

    def read_entries(self) -> dict[str, bytes]:
        """Return the entries; see ``Store``."""
        with self._reached("entries") as (files, place):
            found = files.find(place)
            begin = len(place) - len("entries")
            return {path[begin:]: files.cat_file(path) for path in sorted(found)}

    def replace_index(self, data: bytes) -> None:
        """Replace the registry, which object stores do in one step; see ``Store``."""
        with self._reached(INDEX_FILE) as (files, place):
            files.pipe_file(place, data)

    def _read(self, path: str) -> Optional[bytes]:
        with self._reached(path) as (files, place):
            try:
                with files.open(place, "rb") as stream:
                    return limited(stream.read(MAX_INDEX_BYTES + 1), self.place)
            except FileNotFoundError:
                return None

    @contextmanager
    def _reached(self, path: str) -> Iterator[tuple[Any, str]]:
        """Yield the file system and a path in it; what goes wrong names the store."""
        import fsspec

        try:
            files, root = fsspec.core.url_to_fs(self.place)
            files.invalidate_cache()
            yield files, f"{root.rstrip('/')}/{path}"
        except FileNotFoundError:
            raise UserError(f"{self.place}/{path}: no such file; the store is incomplete") from None
        except (ImportError, OSError, ValueError) as error:
            raise UserError(f"{self.place}: cannot reach {path}: {error}") from None


class WebStore(Store):
    """A folder behind a web server; it can only be read.

    Args:
        url: address of its root.
    """

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        super().__init__(url.rstrip("/"))

    def read_index(self) -> Optional[bytes]:
        """Return the registry; see ``Store``."""
        import requests

        url = f"{self.place}/{INDEX_FILE}"
        try:
            with requests.get(url, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
                if answer.status_code == 404:
                    return None
                answer.raise_for_status()
                data = b""
                for block in answer.iter_content(BLOCK_BYTES):
                    data = limited(data + block, url)
                return data
        except requests.RequestException as error:
            raise UserError(
                f"{url}: cannot be read ({error}); check the address and the network, or use "
                "--offline"
            ) from None

    def fetch(self, file: FileEntry, target: Path) -> None:
        """Download a file; see ``Store``."""
        download(f"{self.place}/{file.path}", file, target)


def download(url: str, file: FileEntry, target: Path) -> None:
    """Download a file from the web; see ``Store.fetch``.

    Raises:
        UserError: the server refuses, cannot be reached, or sends another file.
    """
    from dglke_distill.data.download import fetch
    from dglke_distill.data.manifest import DatasetFile

    known = DatasetFile(path=file.name, sha256=file.sha256, bytes=file.bytes)
    fetch(url, target, known, otherwise="ask the store's owner")
