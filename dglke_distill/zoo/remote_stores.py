"""Stores by path or address, and those that must be reached over a network: by fsspec, or HTTP."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, TypeVar, Union, cast

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.regular_files import check_path, in_home, reason
from dglke_distill.data import web
from dglke_distill.zoo.entry_files import MAX_ENTRY_BYTES
from dglke_distill.zoo.schema import FileEntry
from dglke_distill.zoo.store import (
    BLOCK_BYTES,
    INDEX_FILE,
    MAX_INDEX_BYTES,
    LocalStore,
    Store,
    limited,
    receive,
)

Found = TypeVar("Found")


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
        self._entries: dict[str, bytes] = {}

    def read_index(self) -> Optional[bytes]:
        """Return the registry; see ``Store``."""
        return self._read(INDEX_FILE)

    def fetch(self, file: FileEntry, target: Path) -> None:
        """Download a file; see ``Store``."""

        def copy(files: Any, place: str) -> None:
            with files.open(place, "rb") as stream:
                receive(stream, file, target, self.place)

        self._do(file.path, copy, file.bytes)

    def put(self, path: str, source: Path) -> None:
        """Upload a file unless the very same is there; see ``Store``."""
        size, digest = source.stat().st_size, sha256_file(source)

        def upload(files: Any, place: str) -> None:
            if files.exists(place) and files.size(place) == size:
                with files.open(place, "rb") as stream:
                    if _sha256(stream) == digest:
                        return
            files.makedirs(files._parent(place), exist_ok=True)
            files.put_file(str(source), place)

        self._do(path, upload, 2 * size)

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file, and look whether it is ours; see ``Store``."""

        def write(files: Any, place: str) -> bool:
            files.makedirs(files._parent(place), exist_ok=True)
            try:
                files.pipe_file(place, data, mode="create")
            except FileExistsError:
                return False
            return bool(files.cat_file(place) == data)

        return self._do(path, write)

    def read_entries(self) -> dict[str, bytes]:
        """Return the entries, each of them read once; see ``Store``."""

        def read(files: Any, place: str) -> dict[str, bytes]:
            begin = len(place) - len("entries")
            found = files.find(place, detail=True)
            sizes = {path: int(about.get("size") or 0) for path, about in found.items()}
            large = [path for path, size in sizes.items() if size > MAX_ENTRY_BYTES]
            if large:
                raise UserError(f"{self.place}: {large[0][begin:]} is larger than any entry")
            new = [path for path in sizes if path not in self._entries]
            if new:
                self._entries.update(files.cat(new, recursive=False))
            return {path[begin:]: self._entries[path] for path in sorted(sizes)}

        return self._do("entries", read, MAX_INDEX_BYTES)

    def replace_index(self, data: bytes) -> None:
        """Replace the registry, which object stores do in one step; see ``Store``."""
        self._do(INDEX_FILE, lambda files, place: files.pipe_file(place, data), len(data))

    def _read(self, path: str) -> Optional[bytes]:
        def read(files: Any, place: str) -> Optional[bytes]:
            try:
                with files.open(place, "rb") as stream:
                    return limited(stream.read(MAX_INDEX_BYTES + 1), self.place)
            except FileNotFoundError:
                return None

        return self._do(path, read, MAX_INDEX_BYTES)

    def _do(self, path: str, work: Callable[[Any, str], Found], size: int = 0) -> Found:
        """Call with the file system and a path in it; what goes wrong names the store.

        It is given up when it takes too long for ``size`` bytes. Its thread is left behind then.
        """
        import fsspec

        outcome: list[Any] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                files, root = fsspec.core.url_to_fs(self.place)
                files.invalidate_cache()
                outcome.append(work(files, f"{root.rstrip('/')}/{path}"))
            except BaseException as error:  # raised in the thread that waits
                failure.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(web.GRACE_SECONDS + size / web.LEAST_BYTES_PER_SECOND)
        try:
            if failure:
                raise failure[0]
            if not outcome:
                raise UserError(f"{self.place}: {path} takes too long; try again later")
            return cast(Found, outcome[0])
        except FileNotFoundError:
            raise UserError(f"{self.place}/{path}: no such file; the store is incomplete") from None
        except (ImportError, OSError, ValueError) as error:
            raise UserError(f"{self.place}: cannot reach {path}: {reason(error)}") from None


def _sha256(stream: Any) -> str:
    digest = hashlib.sha256()
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


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
        url = f"{self.place}/{INDEX_FILE}"
        try:
            with web.ask(url, {}) as reply:
                if reply.status == 404:
                    return None
                if reply.status != 200:
                    raise web.BrokenOffError(f"the server answers {reply.status} {reply.reason}")
                data = bytearray()
                for block in reply.blocks():
                    data += block
                    limited(data, url)
                return bytes(data)
        except web.BrokenOffError as error:
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


SCHEMES: dict[str, type[Union[RemoteStore, WebStore]]] = {
    "http": WebStore,
    "https": WebStore,
    "memory": RemoteStore,
    "s3": RemoteStore,
    "gs": RemoteStore,
    "hf": RemoteStore,
}
"""What addresses may begin with, besides ``file``."""


def open_store(place: Union[str, Path]) -> Store:
    """Return the store at a path or address, which is not looked at yet.

    Raises:
        UserError: the address begins with something else than ``file`` or one of ``SCHEMES``,
            or no file can be called so.
    """
    text = str(place)
    check_path(text)
    scheme, colon, rest = text.partition("://")
    if isinstance(place, Path) or not colon:
        return LocalStore(in_home(place))
    if scheme == "file":
        return LocalStore(Path(rest), place=text)
    if scheme not in SCHEMES:
        raise UserError(
            f"{text}: a store cannot be at {scheme}://; give a folder, or an address that begins "
            f"with file, {', '.join(SCHEMES)}"
        )
    return SCHEMES[scheme](text)
