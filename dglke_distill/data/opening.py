"""Files opened for reading, unpacked where their names say so, within limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular
from dglke_distill.data.file_kinds import HEAD_BYTES, FileKind, binary_kind
from dglke_distill.data.packings import DAMAGED, PACKED, Packing, packing_of, without_packing

_BLOCK_BYTES = 1 << 26
_MAX_RATIO = 200
_FREE_BYTES = 1 << 28
"""A file may expand to this size, or to ``_MAX_RATIO`` times its own, whichever is more."""


def most_bytes(path: Path) -> int:
    """Return to how many bytes a compressed file may expand."""
    return max(_FREE_BYTES, _MAX_RATIO * path.stat().st_size)


def expands(path: Path) -> UserError:
    """Return the error for a file that expands to more than it may."""
    return UserError(
        f"{path}: expands to more than {_MAX_RATIO} times its size, which no table does; "
        "where you trust it, unpack it yourself"
    )


class open_unpacked:
    """A stream of a file's unpacked bytes that ends with an error where they are too many.

    Args:
        path: the file.

    Raises:
        UserError: as for ``blocks``, but for what is no text.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, most_bytes(path)
        self._stream = open_stream(path)
        self.error: Optional[UserError] = None

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all of a block if it is negative."""
        try:
            data = read_stream(self._path, self._stream, _BLOCK_BYTES if size < 0 else size)
        except UserError as error:
            self.error = error  # a library that calls this may make another of it
            raise
        self._left -= len(data)
        if self._left < 0 and packing_of(self._path) is not None:
            self.error = expands(self._path)
            raise self.error
        return data

    def __enter__(self) -> open_unpacked:
        self._stream.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stream.__exit__(*raised)


def open_stream(path: Path) -> Any:
    """Return a stream of a file's unpacked bytes.

    Raises:
        UserError: the file is missing or damaged, no text, or otherwise packed than its name says.
    """
    stream = open_regular(path, missing="there is no file; check the name")
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        packing = packing_of(path)
        _check_start(path, head, packing)
        return stream if packing is None else _Unpacked(packing.open(stream, "rb"), stream)
    except UserError as error:
        stream.close()
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from None
    except DAMAGED:
        stream.close()
        raise _damaged(path) from None
    except OSError as error:
        stream.close()
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except BaseException:
        stream.close()
        raise


def _check_start(path: Path, head: bytes, packing: Optional[Packing]) -> None:
    """Refuse what its first bytes show to be no text, or otherwise packed than its name says."""
    if packing is not None:
        if not head.startswith(packing.magic):
            kind = binary_kind(path.with_name(without_packing(path.name)), head)
            if kind is not None:
                raise UserError(f"{path} is {kind.name} in spite of its name; rename it")
        return
    for ending, (name, magic, _) in PACKED.items():
        if ending == ".zip":  # an archive, a workbook or a file of arrays
            continue
        if head.startswith(magic) and (ending != ".bz2" or _is_bzip2(head)):
            raise UserError(
                f"{path} is {name}-compressed: rename it to {path.name}{ending}, or unpack it"
            )
    kind = binary_kind(path, head)
    if kind is not None:
        raise UserError(f"{path}: {kind}")


def _is_bzip2(head: bytes) -> bool:
    return head[3:4].isdigit() and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")


class _Unpacked:
    """A stream of unpacked bytes that closes the packed file with itself."""

    def __init__(self, stream: Any, packed: Any) -> None:
        self._stream, self._packed = stream, packed

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._packed.close()

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        return data


def read_stream(path: Path, stream: Any, size: int) -> bytes:
    """Return up to ``size`` bytes of a stream that ``open_stream`` gave; none at the end.

    Raises:
        UserError: they cannot be read or unpacked.
    """
    try:
        data: bytes = stream.read(size)
    except DAMAGED:
        raise _damaged(path) from None
    except MemoryError:
        raise UserError(f"{path}: needs too much memory to unpack; unpack it yourself") from None
    except OSError as error:
        if packing_of(path) is None or error.strerror:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        raise _damaged(path) from None
    return data


def _damaged(path: Path) -> UserError:
    packing = packing_of(path)
    name = packing.name if packing else ""
    return UserError(f"{path} is not whole {name} data: compress or download it again")


def packed_kind(path: Path, data: bytes) -> Optional[FileKind]:
    """Return what a compressed file holds that is no text."""
    if packing_of(path) is None:
        return None
    packed = any(data.startswith(p.magic) for e, p in PACKED.items() if e != ".zip")
    if packed and not _is_text(data):
        return FileKind("compressed twice", "unpack it once")
    kind = binary_kind(path.with_name(without_packing(path.name)), data[:HEAD_BYTES])
    if kind is not None and kind.name == "a tar archive":
        kind = binary_kind(path, data[:HEAD_BYTES])  # tar unpacks both at once
    return kind


def _is_text(data: bytes) -> bool:
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data[:HEAD_BYTES])
