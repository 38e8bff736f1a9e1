"""Places looked at before the work that would end in them: what may and can be written there."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Optional

from dglke_distill.base.disk import ON_A_MOUNT_POINT, NotWritten, writing

_LONGEST_NAME = 200


def check_file_place(path: Path) -> None:
    """Check that a file may be written to a place, before it costs any work.

    Args:
        path: the place; nothing is left there.

    Raises:
        NotWritten: it cannot be written, or ``path`` is a device, a pipe or a folder.
    """
    final = Path(os.path.realpath(path))
    if os.path.isdir(final):
        raise NotWritten(f"{path}: is a folder; name a file")
    check_ordinary(path, final)
    check_writable(path, final.parent)


def check_free(
    path: Path, overwrite: bool = False, ours: Callable[[Path], bool] = lambda path: True
) -> None:
    """Check that nothing is in a place, or that it may be replaced.

    An empty folder is nothing; an empty file is replaced whoever made it.

    Args:
        path: the place.
        overwrite: whether the user has agreed that what is there is replaced.
        ours: given a file that would be replaced, tells whether it is such a file as would be
            written; what others have written is not deleted.

    Raises:
        NotWritten: something is there.
    """
    if not os.path.exists(path):  # or a link to a place that is still free
        return
    if overwrite:
        with writing(path):
            if os.path.isfile(path) and os.path.getsize(path) and not ours(path):
                raise NotWritten(
                    f"{path}: is no file that such a command writes, so --overwrite does not "
                    "replace it; remove it, or choose another place"
                )
        return
    what = "is there already"
    if os.path.isdir(path):
        with writing(path):
            if anything(path) is None:
                return
        what = "holds something already"
    raise NotWritten(f"{path}: {what}; add --overwrite to replace it, or choose another place")


def begins(pattern: bytes, size: int = 4096) -> Callable[[Path], bool]:
    """Return what tells whether a file begins as a regular expression says.

    Args:
        pattern: the expression.
        size: bytes that are looked at.
    """
    wanted = re.compile(pattern, re.DOTALL)

    def found(path: Path) -> bool:
        with open(path, "rb") as stream:
            return wanted.match(stream.read(size)) is not None

    return found


def check_writable(path: Path, folder: Path) -> None:
    """Check that something can be made in a folder, or where that is to be made.

    Permissions do not say it all: some is made there, and removed.

    Args:
        path: what is to be written, which an error names.
        folder: where its parts are made first.

    Raises:
        NotWritten: nothing can be made there.
    """
    final = Path(os.path.realpath(path))
    above = next(part for part in (folder, *folder.absolute().parents) if os.path.lexists(part))
    with writing(path, final, above):
        with suppress(FileNotFoundError):
            os.lstat(final)  # it is too long, or leads through a file
        if max(len(os.fsencode(part)) for part in final.parts) > os.pathconf(above, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(final))
        probe = name_aside(above / final.name, "tmp")
        os.mkdir(probe)
        with suppress(FileNotFoundError):  # another writer took it for a dead one's
            os.rmdir(probe)


@contextmanager
def folders_made(folder: Path) -> Iterator[None]:
    """Make a folder, and those above it; of these, none stays that is empty when the block ends.

    Args:
        folder: the folder; one that is there already stays.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            for place in new:
                place.rmdir()


def name_aside(final: Path, ending: str) -> Path:
    """Return a new name beside a place, by which the next writer knows what a dead one left.

    Args:
        final: the place.
        ending: tmp, or old of what is on its way out.
    """
    return final.with_name(f".{name_within(final)}.{secrets.token_hex(6)}.{ending}")


def name_within(final: Path) -> str:
    """Return what names aside have of a place's own name: all, or a digest of a long one."""
    name = os.fsencode(final.name)
    return final.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def check_ordinary(path: Path, final: Path) -> None:
    """Check that a file would not take the place of a device, a pipe or a folder.

    Args:
        path: the place, as the user wrote it.
        final: where that leads.

    Raises:
        NotWritten: it would.
    """
    if os.path.lexists(final) and not os.path.isfile(final):
        raise NotWritten(f"{path}: is no ordinary file; choose another name")


def nothing_foreign(folder: Path) -> Optional[str]:
    """Say of a directory that only this program writes to, as of a cache, that all is ours."""
    return None


def anything(folder: Path) -> Optional[str]:
    """Return the name of the first thing in a directory; None where it is empty."""
    with os.scandir(folder) as entries:
        return min((entry.name for entry in entries), default=None)


def check_replaceable(path: Path, foreign: Callable[[Path], Optional[str]] = anything) -> None:
    """Check that a directory can be put in a place, and may be where something is there.

    Args:
        path: the place.
        foreign: given a directory, returns the name of something in it that is not ours to delete,
            or None; not called for an empty one.

    Raises:
        NotWritten: a file, a mount point, or something that is not ours is there, or nothing can
            be written.
    """
    check_writable(path, Path(os.path.realpath(path)).parent)
    if not os.path.exists(path):  # or a link to a place that is still free
        return
    if not os.path.isdir(path):
        raise NotWritten(f"{path}: is a file; name a directory")
    if os.path.ismount(os.path.realpath(path)):
        raise NotWritten(f"{path}: {ON_A_MOUNT_POINT}")
    with writing(path):
        stranger = None if anything(path) is None else foreign(path)
    if stranger is not None:
        raise NotWritten(
            f"{path}: holds {stranger!r}, which would be deleted; choose another directory, or "
            "move it away"
        )
