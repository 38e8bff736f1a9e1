"""What goes wrong with files, said in one line that names the file and the fix."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, Union

from dglke_distill.base.errors import UserError

ON_A_MOUNT_POINT = "a mount point cannot be replaced: name a folder inside it"
_FIXES = {
    errno.ENOSPC: "free some space there, or choose another place",
    errno.EDQUOT: "free some of your quota, or choose another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or choose another file system",
    errno.EROFS: "choose another place, or mount it for writing",
    errno.EACCES: "change the permissions, or choose another place",
    errno.EPERM: "change the permissions, or choose another place",
    errno.ENOTDIR: "a part of the path is a file: choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EXDEV: ON_A_MOUNT_POINT,
    errno.EBUSY: ON_A_MOUNT_POINT,
    errno.EIO: "look at the disk, or at the connection to it",
    errno.ESTALE: "look at the connection to the file server",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
ON_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What a write can end in without saying where."""

_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy's words, without an errno
_OS_ERROR = re.compile(r"\((?:os error )?(\d{1,3})\)")
_Named = Union[str, bytes, int, None]


class NotWritten(UserError):
    """A file or folder could not be written; what was there before is as it was."""


def wrong(error: OSError, *, named: bool = True) -> str:
    """Return one line that says what is wrong and, where it is known, the fix.

    Args:
        error: what the system said.
        named: whether the line begins with the file's name.
    """
    said = error.strerror or str(error) or type(error).__name__
    if error.filename is not None and named:
        said = f"{_text(error.filename)}: {said}"
    elif error.errno == errno.ENOENT and not _has_working_folder():
        return "the working folder is gone: change to another one"
    if isinstance(error.filename, (str, bytes)) and (
        part := _file_inside(Path(_text(error.filename)), error.errno)
    ):
        return f"{_text(error.filename)}: {part} is a file, no folder; choose another place"
    fix = _FIXES.get(error.errno or 0)
    return said if fix is None else f"{said}; {fix}"


def _file_inside(path: Path, number: Optional[int]) -> Optional[Path]:
    """Return the part of a path that is a file where a folder is needed, if that was the error."""
    if number not in (errno.EEXIST, errno.ENOTDIR):
        return None
    try:
        return next((part for part in (path, *path.parents) if part.is_file()), None)
    except OSError:
        return None


@contextmanager
def writing(path: Path, *also: Path) -> Iterator[None]:
    """Turn what goes wrong with writing inside into ``NotWritten``, which names the path.

    Errors that name another file, and those of sockets, are left as they are.

    Args:
        path: what is written.
        also: other places that stand for it meanwhile.

    Raises:
        NotWritten: the disk is full, a limit is met, nothing may be written there ...
    """
    try:
        yield
    except OSError as error:
        number, named = error.errno, error.filename
        if named is None or isinstance(named, int):
            ours = number in ON_A_DISK or _CUT_SHORT.search(str(error)) is not None
        else:
            place = os.path.abspath(_text(named))
            ours = any(_holds(os.path.abspath(one), place) for one in (path, *also))
        if not ours:
            raise
        raise NotWritten(_not_written(path, number, error.strerror)) from error
    except Exception as error:
        # safetensors and torch have errors of their own for what the system says.
        found = _OS_ERROR.search(str(error))
        if found is None or os.strerror(int(found[1])) not in str(error):
            raise
        raise NotWritten(_not_written(path, int(found[1]), None)) from error


def _not_written(path: Path, number: Optional[int], words: Optional[str]) -> str:
    if number is None:
        return (
            f"{path}: not written: the disk is full, or a quota or limit on file sizes is met; "
            + _FIXES[errno.ENOSPC]
        )
    said = f"{path}: not written: {words or os.strerror(number)}"
    if part := _file_inside(path, number):
        return f"{path}: not written: {part} is a file, no folder; choose another place"
    if number == errno.ENOENT and (top := _kernel_folder(path)) is not None:
        return f"{path}: not written: no file can be made below {top}; choose another place"
    if number == errno.ENOENT:
        return f"{said}; the folder was removed meanwhile: make it anew, or choose another place"
    fix = _FIXES.get(number)
    return said if fix is None else f"{said}; {fix}"


def _kernel_folder(path: Path) -> Optional[Path]:
    """Return the part of a path that is there, if it is of a system without storage: /proc."""
    try:
        place = next(part for part in (path, *path.absolute().parents) if part.exists())
        return None if os.statvfs(place).f_blocks else place
    except (OSError, StopIteration, AttributeError):
        return None


def _holds(folder: str, place: str) -> bool:
    return place == folder or place.startswith(folder + os.sep) or folder.startswith(place + os.sep)


def _text(named: _Named) -> str:
    return os.fsdecode(named) if isinstance(named, (str, bytes)) else str(named)


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def preallocate(descriptor: int, size: int, path: Path) -> None:
    """Give an open file its size, with blocks on disk behind all of it.

    A mapped file without them ends the process by a signal when the disk is full.

    Raises:
        NotWritten: there is not that much room.
    """
    with writing(path):
        os.ftruncate(descriptor, size)
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot
                    raise
