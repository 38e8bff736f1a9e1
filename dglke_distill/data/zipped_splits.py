"""A zip archive that holds the files of a dataset: unpacked beside nobody's files, then read."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular, shown
from dglke_distill.data.opening import most_bytes
from dglke_distill.data.packings import DAMAGED, zip_files
from dglke_distill.data.split_names import parse_split_name
from dglke_distill.data.triples import Dataset

_BLOCK_BYTES = 1 << 20


def holds_splits(path: Path) -> bool:
    """Return whether a file is a zip archive of several files, one of them a train split."""
    if not path.name.lower().endswith(".zip"):
        return False
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            names = [Path(member.filename) for member in zip_files(archive)]
    except (OSError, ValueError, UserError, *DAMAGED):
        return False  # what reads it as one file says why
    parsed = [parse_split_name(name) for name in names]
    train2id = any(name.name.lower() == "train2id.txt" for name in names)
    return len(names) > 1 and (train2id or any(one and one.split == "train" for one in parsed))


def read_zip(path: Path, read: Callable[[Path], Dataset]) -> Dataset:
    """Read the dataset in a zip archive.

    Args:
        path: the archive.
        read: reads a folder. Its messages are made to name the archive.

    Raises:
        UserError: the archive is damaged or locked, expands to too much, holds several folders of
            splits, or is read with an error.
    """
    with tempfile.TemporaryDirectory(prefix="dglke-zip-") as made:
        folder = Path(made) / "unpacked"
        folder.mkdir()
        try:
            place = _unpacked(path, folder)
            found = read(place)
        except UserError as error:
            raise UserError(_renamed(str(error), folder, path)) from None
        told = tuple(_renamed(line, folder, path) for line in found.warnings)
    return dataclasses.replace(found, warnings=told)


def _renamed(text: str, folder: Path, path: Path) -> str:
    return text.replace(str(folder), str(path))


def _unpacked(path: Path, folder: Path) -> Path:
    """Unpack the files that lie beside the train split; return where they are."""
    left = most_bytes(path)
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            members = zip_files(archive)
            chosen = _with_splits(path, members)
            for member in members:
                above, _, name = member.filename.rpartition("/")
                if above != chosen:
                    continue
                if not name or "\\" in name or "\0" in name or (folder / name).exists():
                    raise UserError(f"{path}: {shown(member.filename)[:100]!r} cannot be unpacked")
                with archive.open(member) as source, open(folder / name, "xb") as out:
                    while block := source.read(_BLOCK_BYTES):
                        left -= len(block)
                        if left < 0:
                            raise UserError(
                                f"{path}: expands to far more than its size, which no triples do; "
                                "where you trust it, unpack it yourself"
                            )
                        out.write(block)
    except (RuntimeError, NotImplementedError, ValueError, *DAMAGED) as error:
        raise UserError(f"{path}: cannot be unpacked ({shown(error)[:200]})") from None
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise UserError(
            f"{path}: cannot be unpacked into {tempfile.gettempdir()} ({error.strerror}; {free:,} "
            "bytes free); unpack it yourself"
        ) from None
    return folder


def _with_splits(path: Path, members: list[zipfile.ZipInfo]) -> str:
    """Return the one folder of an archive that holds a train split."""
    found = set()
    for member in members:
        above, _, name = member.filename.rpartition("/")
        one = parse_split_name(Path(name or "x"))
        if name.lower() == "train2id.txt" or (one is not None and one.split == "train"):
            found.add(above)
    if len(found) != 1:
        listed = ", ".join(sorted(shown(above) or "its top" for above in found)[:6])
        raise UserError(
            f"{path}: several of its folders hold a train split ({listed}): unpack it, and give one"
        )
    return found.pop()
