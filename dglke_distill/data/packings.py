"""Compressed files that are read as they are: gzip, bzip2, xz, Zstandard, and a zip of one file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular, shown
from dglke_distill.data.file_kinds import PACKINGS

_CHUNK = 1 << 10
_LARGEST_WINDOW = 1 << 27
_MOST_MEMBERS = 10_000

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)
"""What reading a compressed file raises that is not whole."""


class Packing(NamedTuple):
    """A way to compress.

    Attributes:
        name: what it is called.
        magic: its first bytes.
        open: makes a stream of unpacked bytes of one of packed bytes.
    """

    name: str
    magic: bytes
    open: Callable[..., Any]


def without_packing(name: str) -> str:
    """Return a file's name without the ending of a compression that is read."""
    for ending in PACKINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def packing_of(path: Path) -> Optional[Packing]:
    """Return how a file is compressed, as its name says."""
    lower = path.name.lower()
    return next((PACKED[ending] for ending in PACKED if lower.endswith(ending)), None)


def inner_name(path: Path) -> str:
    """Return the name of what a file holds, unpacked; of a zip of one file, that one's name."""
    bare = without_packing(path.name)
    if path.name.lower().endswith(".zip") and "." not in bare:
        try:
            with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
                files = zip_files(archive)
        except (UserError, OSError, ValueError, *DAMAGED):
            return bare
        if len(files) == 1:
            return files[0].filename.rpartition("/")[2]
    return bare


def zip_files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of a zip archive, without those that operating systems leave in it.

    Raises:
        UserError: there are too many.
    """
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise UserError(f"it has {len(members)} files; unpack it yourself")
    return [
        member
        for member in members
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and member.filename.rpartition("/")[2][:1] not in ("", ".")
    ]


def _open_zip(stream: Any, mode: str = "rb") -> Any:
    """Return a stream of the one file of a zip archive."""
    archive = zipfile.ZipFile(stream)
    files = zip_files(archive)
    if len(files) != 1:
        names = ", ".join(shown(member.filename)[:60] for member in files[:4]) or "none"
        raise UserError(
            f"is a zip archive of {len(files)} files ({names}), where one is needed; unpack it, or "
            "give the archive by itself if it holds the splits"
        )
    try:
        return archive.open(files[0])
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f"cannot be unpacked ({shown(error)}); unpack it yourself") from None


class _Zstandard:
    """Unpacks Zstandard frames; unlike the library's own stream it tells where data are cut off."""

    def __init__(self, stream: Any, mode: str = "rb") -> None:
        try:
            import zstandard
        except ImportError:
            raise UserError(
                "is Zstandard-compressed, which needs the package zstandard: pip install "
                "'dglke-distill[formats]', or unpack it: zstd -d"
            ) from None
        self._stream, self._error = stream, zstandard.ZstdError
        self._make = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj
        self._frame: Any = None
        self._ready = b""

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end.

        Raises:
            EOFError: data are damaged or cut off.
        """
        while not self._ready:
            packed = self._rest()
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return b""
            self._frame = self._make() if self._frame is None else self._frame
            try:
                self._ready = self._frame.decompress(packed)
            except self._error:
                raise EOFError from None
            if self._frame.eof:
                self._left = self._frame.unused_data
                self._frame = None
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    _left = b""

    def _rest(self) -> bytes:
        """Return packed bytes; few, since few can be many."""
        left, self._left = self._left, b""
        data: bytes = left or self._stream.read(_CHUNK)
        return data

    def close(self) -> None:
        """Let go of what is unpacked."""
        self._ready = b""


PACKED: dict[str, Packing] = {
    ".gz": Packing("gzip", b"\x1f\x8b", gzip.open),
    ".bz2": Packing("bzip2", b"BZh", bz2.open),
    ".xz": Packing("xz", b"\xfd7zXZ\0", lzma.open),
    ".zst": Packing("Zstandard", b"\x28\xb5\x2f\xfd", _Zstandard),
    ".zip": Packing("zip", b"PK", _open_zip),
}
