"""Writes that are complete or did not happen, and digests.

What is written lies in a hidden folder beside its place until it is whole. Its writer holds a lock
on that folder; one whose writer was killed is removed by the next writer to the same place.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from dglke_distill.base.disk import ON_A_DISK, NotWritten, writing

try:
    import fcntl
except ImportError:  # not on every system
    fcntl = None  # type: ignore[assignment]

from dglke_distill.base.places import (
    anything,
    check_free,
    check_ordinary,
    check_replaceable,
    folders_made,
    name_aside,
    name_within,
    nothing_foreign,
)
from dglke_distill.base.regular_files import open_regular

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_STALE_SECONDS = 24 * 3600
"""Where nothing can be locked, what nobody has touched for so long has no writer any more."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def file_aside(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a path to write to; what is written there takes the place of ``path`` at the end.

    If the block raises, ``path`` stays as it was. Where ``path`` is a symbolic link, the file that
    it points to is replaced. The parent directory is made if it is missing.

    Args:
        path: its place.
        overwrite: whether a file that is there by then is replaced; else two writers at once to
            the same place cannot both succeed.

    Raises:
        NotWritten: it cannot be written, or ``path`` is a device, a pipe or a folder, or must not
            be replaced.
    """
    final = Path(os.path.realpath(path))
    check_ordinary(path, final)
    with _folder_aside(final, path) as folder:
        aside = folder / final.name
        yield aside
        _flush_to_disk(aside)
        if not overwrite:
            check_free(path)
            try:
                os.link(aside, final)
            except FileExistsError:
                check_free(path)
            except OSError:
                pass  # a file system without hard links
        os.replace(aside, final)
        _flush_folder(final.parent)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file that holds either its old or its new content, whatever happens meanwhile."""
    with file_aside(path) as aside:
        aside.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with its line ends as they are; see ``atomic_write_bytes``."""
    atomic_write_bytes(path, text.encode("utf-8"))


def create_file(path: Path, data: bytes) -> bool:
    """Write a new file, all at once; return False, changing nothing, where there is one already.

    Raises:
        NotWritten: it cannot be written.
    """
    with _folder_aside(path, path) as folder:
        aside = folder / "file"
        aside.write_bytes(data)
        _flush_to_disk(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        _flush_folder(path.parent)
    return True


@contextmanager
def directory_aside(
    path: Path, *, foreign: Callable[[Path], Optional[str]] = anything, overwrite: bool = False
) -> Iterator[Path]:
    """Yield an empty directory to fill; it takes the place of ``path`` at the end.

    If the block raises, ``path`` stays as it was.

    Args:
        path: its place.
        foreign: see ``check_replaceable``; if not given, only an empty directory is replaced.
        overwrite: whether a directory is replaced that holds no name which the new one lacks;
            ``foreign`` is then not asked.

    Raises:
        NotWritten: it cannot be written, or ``path`` must not be replaced.
    """
    check_replaceable(path, nothing_foreign if overwrite else foreign)
    final = Path(os.path.realpath(path))
    with _folder_aside(final, path) as folder:
        yield folder
        last = partial(_only_there, folder) if overwrite else foreign
        replace_directory(folder, final, partial(check_replaceable, path, last))


def _only_there(new: Path, old: Path) -> Optional[str]:
    """Return the name of the first thing in a directory that a newer one has not, if any."""
    strange = {path.name for path in old.iterdir()} - {path.name for path in new.iterdir()}
    return min(strange, default=None)


def replace_directory(new: Path, final: Path, check: Callable[[], None] = lambda: None) -> None:
    """Put the directory ``new`` in the place of ``final``, which may exist.

    ``final`` is at no time half-written. Linux exchanges the two in one step; elsewhere ``final``
    is absent for a moment, and comes back if the exchange fails. The old content is deleted.

    Args:
        new: a complete directory on the same file system.
        final: its place; everything below it is deleted.
        check: raises where what is there must stay; not called for an empty directory.

    Raises:
        NotADirectoryError: ``final`` is a file.
    """
    for folder, _, files in os.walk(new):
        for name in files:
            _flush_to_disk(Path(folder, name))
        _flush_folder(Path(folder))
    if not _first_there(new, final):
        check()
        _change_places(new, final)
    _flush_folder(final.parent)


def _change_places(new: Path, final: Path) -> None:
    """Put a directory in the place of another, and delete that one."""
    if not final.is_dir():
        raise NotADirectoryError(20, "is a file; a directory is to be written there", str(final))
    if _exchange(new, final):
        shutil.rmtree(new, ignore_errors=True)
    else:
        old = name_aside(final, "old")
        held = _locked(final)  # so that no other writer takes it for a dead one's
        try:
            os.rename(final, old)
            try:
                os.rename(new, final)
            except OSError:
                os.rename(old, final)
                raise
            shutil.rmtree(old, ignore_errors=True)
        finally:
            _close(held)


def _first_there(new: Path, final: Path) -> bool:
    """Rename a folder to a place that is free or empty; return False where it is not."""
    try:
        os.rename(new, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def sha256_file(path: Path) -> str:
    """Return the sha256 hex digest of a file's content."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def try_lock(descriptor: int) -> Optional[bool]:
    """Lock an open file or folder for this process alone, until it is closed or the process ends.

    Returns:
        True: locked. False: another holds the lock. None: nothing can be locked there.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def _folder_aside(final: Path, path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``final``, locked, after dead writers' were removed.

    It is gone at the end, with what is still in it. Errors name ``path``, as the user wrote it.
    """
    with ExitStack() as made:
        with writing(path, final.parent):
            made.enter_context(folders_made(final.parent))
            _clear_up(final)
            folder, held = _made_aside(final)
        try:
            with writing(path, final, folder):
                yield folder
        except NotWritten as error:  # a part of it, which named a folder that nobody has seen
            raise NotWritten(str(error).replace(str(folder), str(path))) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _close(held)


def _made_aside(final: Path) -> tuple[Path, Optional[int]]:
    """Make a folder, and return it with the descriptor of its lock, None where there are none."""
    for _ in range(8):  # another writer can think it dead before it is locked, but not for ever
        folder = name_aside(final, "tmp")
        os.mkdir(folder)
        held = _locked(folder)
        if held is not None and folder.exists():
            return folder, held
        _close(held)
        with suppress(OSError):
            os.rmdir(folder)
    os.mkdir(folder)
    return folder, None


def _locked(path: Path) -> Optional[int]:
    """Return a descriptor that is locked as far as can be; None where another process has it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    except OSError:
        return None
    if try_lock(descriptor) is False:
        os.close(descriptor)
        return None
    return descriptor


def _close(descriptor: Optional[int]) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _clear_up(final: Path) -> None:
    """Remove what killed writers to ``final`` have left; a folder on its way out is put back."""
    ours = re.compile(rf"\.{re.escape(name_within(final))}\.[0-9a-f]{{12}}\.(?:tmp|old)")
    with suppress(OSError), os.scandir(final.parent) as entries:
        for name in [entry.name for entry in entries if ours.fullmatch(entry.name)]:
            with suppress(OSError):  # no harm: it only takes room
                _clear_up_one(final.with_name(name), final)


def _clear_up_one(path: Path, final: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    try:
        locked, touched = try_lock(descriptor), os.fstat(descriptor).st_mtime
        if locked is False or (locked is None and time.time() - touched < _STALE_SECONDS):
            return
        if path.suffix == ".old" and not os.path.lexists(final):
            os.rename(path, final)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(path: Path) -> None:
    """Flush a folder's list of names, where its file system can and we may."""
    try:
        _flush_to_disk(path)
    except OSError as error:
        if error.errno in ON_A_DISK:
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step by renameat2(2); False where kernel or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
