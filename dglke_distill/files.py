"""Writes that are complete or did not happen, and digests."""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dglke_distill.regular_files import open_regular

__all__ = [
    "atomic_write_bytes",
    "atomic_write_text",
    "directory_aside",
    "file_aside",
    "replace_directory",
    "sha256_file",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def file_aside(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` at the end.

    If the block raises, ``path`` stays as it was. Where ``path`` is a symbolic link, the file that
    it points to is replaced. The parent directory is made if it is missing.
    """
    final = Path(os.path.realpath(path))
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = _name_aside(final)
    try:
        yield aside
        _flush_to_disk(aside)
        os.replace(aside, final)
    finally:
        aside.unlink(missing_ok=True)
    _flush_to_disk(final.parent)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file that holds either its old or its new content, whatever happens meanwhile."""
    with file_aside(path) as aside:
        aside.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with its line ends as they are; see ``atomic_write_bytes``."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextmanager
def directory_aside(final: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``final`` to fill; it takes its place at the end.

    If the block raises, ``final`` stays as it was.
    """
    final = Path(os.path.realpath(final))
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = _name_aside(final)
    aside.mkdir()
    try:
        yield aside
        replace_directory(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def replace_directory(new: Path, final: Path) -> None:
    """Put the directory ``new`` in the place of ``final``, which may exist.

    ``final`` is at no time half-written. Linux exchanges the two in one step; elsewhere ``final``
    is absent for a moment, and comes back if the exchange fails. The old content is deleted.

    Args:
        new: a complete directory on the same file system.
        final: its place; everything below it is deleted.

    Raises:
        NotADirectoryError: ``final`` is a file.
    """
    for folder, _, files in os.walk(new):
        for name in files:
            _flush_to_disk(Path(folder, name))
        _flush_to_disk(Path(folder))
    if not os.path.lexists(final):
        os.rename(new, final)
    elif not final.is_dir():
        raise NotADirectoryError(20, "is a file; a directory is to be written there", str(final))
    elif _exchange(new, final):
        shutil.rmtree(new)
    else:
        old = _name_aside(final)
        os.rename(final, old)
        try:
            os.rename(new, final)
        except OSError:
            os.rename(old, final)
            raise
        shutil.rmtree(old)
    _flush_to_disk(final.parent)


def sha256_file(path: Path) -> str:
    """Return the sha256 hex digest of a file's content."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _name_aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.{secrets.token_hex(6)}.tmp")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step by renameat2(2); False where kernel or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
