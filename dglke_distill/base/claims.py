"""A run directory belongs to one process at a time: trainings, chains, comparisons, all alike."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from dglke_distill.base.disk import writing
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text, try_lock
from dglke_distill.base.places import folders_made

LOCK_FILE = ".lock"
"""Names the process at work; what counts is the system's lock on it, which ends with a process."""


def among(*names: str) -> Callable[[Path], Optional[str]]:
    """Return what tells the first of some names that is there in a directory."""
    return lambda directory: next((n for n in names if os.path.lexists(directory / n)), None)


@dataclass(frozen=True)
class Kind:
    """What a directory is claimed for.

    Attributes:
        name: of it, for messages.
        settings: name of the file of its settings.
        begun: names of which one is there as soon as it has begun; the first is what a resume
            needs.
        foreign: given a directory in which it has not begun, returns the name of something there
            that is not its own and that it would replace, or None.
    """

    name: str
    settings: str
    begun: tuple[str, ...]
    foreign: Callable[[Path], Optional[str]]


@dataclass(frozen=True)
class Claim:
    """A directory that this process alone writes to.

    Attributes:
        directory: where.
        descriptor: of the lock file.
    """

    directory: Path
    descriptor: int

    def check(self) -> None:
        """Look whether the directory is still this process's, as before something is replaced.

        Raises:
            UserError: it was removed, or given to another process.
        """
        if not _is_at(self.descriptor, self.directory / LOCK_FILE):
            raise UserError(
                f"{self.directory}: was removed or replaced while this process was writing to it; "
                "nothing more was written. Begin anew in another --out"
            )


@contextmanager
def claimed(
    directory: Path,
    kind: Kind,
    settings: Optional[str],
    same: Callable[[], bool],
    *,
    resume: bool,
    announce: Callable[[str], None] = lambda line: None,
) -> Iterator[Claim]:
    """Claim a directory: begin something in it, or go on with what is there.

    Args:
        directory: where; it is made if it is missing.
        kind: what is begun.
        settings: what its file of settings shall hold; written only where it begins. None: the
            caller writes it.
        same: whether the file of settings that is there says the same.
        resume: go on with what is there.
        announce: hears a warning where nothing can be locked.

    Yields:
        The claim; it ends with the block, or with the process. If the block fails before it has
        left anything, the settings go as well.

    Raises:
        UserError: another process has it; it holds something already and ``resume`` was not asked
            for, or holds nothing and it was; or its settings are others.
    """
    _check(directory, kind, same, resume)  # before anything is written
    with ExitStack() as made:
        with writing(directory):
            made.enter_context(folders_made(directory))
            descriptor = _lock(directory, announce)
        try:
            _check(directory, kind, same, resume)  # what another process did meanwhile
            if settings is not None and not resume:
                atomic_write_text(directory / kind.settings, settings)
            try:
                yield Claim(directory, descriptor)
            except (UserError, OSError, ArithmeticError, MemoryError):
                # What failed before anything came of it could never be gone on with.
                if settings is not None and not resume and _nothing_but(directory, kind.settings):
                    with suppress(OSError):
                        (directory / kind.settings).unlink()
                raise
        finally:
            if _is_at(descriptor, directory / LOCK_FILE):
                with suppress(OSError):
                    (directory / LOCK_FILE).unlink()
            os.close(descriptor)


def _check(directory: Path, kind: Kind, same: Callable[[], bool], resume: bool) -> None:
    begun = any((directory / name).exists() for name in kind.begun)
    if resume:
        if not (directory / kind.begun[0]).exists():
            raise UserError(
                f"{directory}: there is no {kind.name} to resume ({kind.begun[0]} is missing)"
            )
        if not same():
            raise UserError(
                f"{directory / kind.settings}: the {kind.name} has other settings; --resume alone "
                "goes on with its own"
            )
    elif begun:
        raise UserError(
            f"{directory}: holds a {kind.name} already; add --resume to go on with it, remove it, "
            "or choose another --out"
        )
    elif directory.is_dir() and (stranger := kind.foreign(directory)) is not None:
        raise UserError(
            f"{directory}: holds {stranger!r} already, which is not of this {kind.name} and could "
            "be replaced; choose another --out, or move it away"
        )


def _nothing_but(directory: Path, settings: str) -> bool:
    with suppress(OSError):
        return {path.name for path in directory.iterdir()} <= {settings, LOCK_FILE}
    return False


def _lock(directory: Path, announce: Callable[[str], None]) -> int:
    path = directory / LOCK_FILE
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            locked = try_lock(descriptor)
            if locked is False:
                who = os.read(descriptor, 500).decode(errors="replace").strip()
                raise UserError(
                    f"{directory}: {who or 'another process'} is writing to it; wait until that "
                    "ends, stop it, or choose another --out"
                )
            if locked is None:
                announce(
                    f"warning: {directory} cannot be locked on its file system; see to it that no "
                    "other run writes there"
                )
            elif not _is_at(descriptor, path):  # whoever had it has just removed it
                os.close(descriptor)
                continue
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            text = f"process {os.getpid()} on {socket.gethostname()} (since {since})\n"
            with suppress(OSError):  # a courtesy: where it finds no room, the lock holds as well
                os.ftruncate(descriptor, 0)
                os.write(descriptor, text.encode())
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False
