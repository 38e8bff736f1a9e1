"""The error for a folder that lacks a split: what it holds instead, and the way on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import check_regular
from dglke_distill.data.file_kinds import FileKind
from dglke_distill.data.packings import without_packing
from dglke_distill.data.split_names import files_in, parse_split_name, split_sets
from dglke_distill.data.text import kind_of_file
from dglke_distill.data.zipped_splits import holds_splits

_DEPTH = 3
_MOST_FOLDERS = 200
_LISTED = 6
_NOT_TRIPLES = ("readme", "license", "licence", "changelog", "notice", "citation")
_PACKED = (".tar", ".tgz", ".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".z")
_ONE_FILE_ENDINGS = (".txt", ".tsv", ".csv", ".sif", ".del", ".tab", ".triples")


def missing_file(folder: Path, split: str) -> UserError:
    """Return the error that says which file is missing and what to do.

    Args:
        folder: where it is looked for.
        split: ``train``, ``valid`` or ``test``.
    """
    for path in folder.glob(f"{split}.*"):
        if not path.is_dir() and path.exists():
            check_regular(path)  # a pipe or a device is there and no file
    files = files_in(folder)
    sets = [one for one in split_sets(files) if split in one.files or split != "train"]
    lacks = f"{folder} has no {split}.txt, .tsv or .csv"
    unread = [f for one in sets for f in one.files.get(split, ()) if not f.readable]
    if unread:
        path = unread[0].path
        kind = kind_of_file(path) or _by_ending(path)
        names = ", ".join(name for one in sets for name in one.names)
        return UserError(f"{lacks}, but {names}: {path.name} {kind}")
    if split != "train":
        return UserError(f"{lacks}: {_rest(folder, split, files)}")
    nearest = _folders_with_splits(folder)
    if len(nearest) == 1:
        return UserError(f"{lacks}; its triples lie in {nearest[0]}: give that folder")
    if nearest:
        listed = ", ".join(map(str, nearest[:_LISTED]))
        return UserError(f"{lacks}, but these folders have: {listed}; give one of them")
    if sets:
        listed = "; ".join(", ".join(one.names) for one in sets)
        return UserError(
            f"{lacks} with valid and test files beside it, but {listed}: rename what belongs "
            f"together to train.txt, valid.txt and test.txt (these two may be empty)"
        )
    others = split_sets(files)
    if others:
        listed = ", ".join(name for one in others for name in one.names)
        return UserError(f"{lacks}, but {listed}: add the train file")
    return UserError(f"{lacks}: {_single(files)}")


def _rest(folder: Path, split: str, files: Sequence[Path]) -> str:
    """Say what to do without a valid or test file; a given split is never advised away."""
    given = [file for file in map(parse_split_name, files) if file is not None]
    other = "test" if split == "valid" else "valid"
    named = [file.path.name for file in given if file.split == split]
    if named:
        return f"it has {', '.join(named)}; rename the right one to {split}.txt"
    if any(file.split == other for file in given):
        return "add it (it may be empty)"
    train = next((file.path for file in given if file.split == "train"), folder / "train.txt")
    return f"add it (it may be empty), or give {train} alone to have it split"


def _by_ending(path: Path) -> FileKind:
    return FileKind(
        f"a {Path(without_packing(path.name)).suffix} file",
        "if its lines are head, relation and tail with tabs between them, rename it to .tsv",
    )


def _single(files: Sequence[Path]) -> str:
    """Say which file of a folder may be given by itself."""
    for path in files:
        if holds_splits(path):
            return f"{path.name} holds them: give {path}"
        kind = kind_of_file(path)
        # Compressed tables are none of these; JSON and web pages lie about in many a folder.
        if kind is not None and kind.name.startswith(("a zip", "a tar", "a 7z", "a RAR", "a Par")):
            return f"{path.name} {kind}"
    tables = [
        path
        for path in files
        if without_packing(path.name).lower().endswith(_ONE_FILE_ENDINGS)
        and not path.name.lower().startswith(_NOT_TRIPLES)
    ]
    if len(tables) == 1:
        return f"if {tables[0].name} holds all facts, give {tables[0]} to have it split"
    if tables:
        names = ", ".join(path.name for path in tables[:_LISTED])
        more = f" and {len(tables) - _LISTED} more" if len(tables) > _LISTED else ""
        return (
            f"it has {names}{more}; give the path of a single file that holds all facts to have "
            f"it split, or rename the splits to train.txt, valid.txt and test.txt"
        )
    for path in files:
        kind = kind_of_file(path)
        if kind is not None and not path.name.lower().endswith((".json", ".toml", ".md")):
            return f"{path.name} {kind}"
    packed = [path.name for path in files if path.name.lower().endswith(_PACKED)]
    if packed:
        return f"unpack {', '.join(packed[:_LISTED])}, and give what was in it"
    return "give the path of a single file to have it split"


def _folders_with_splits(folder: Path) -> list[Path]:
    """Return the nearest folders below one that hold a set of splits, at most three levels down."""
    level, seen = [folder], 0
    for _ in range(_DEPTH):
        below: list[Path] = []
        for place in level:
            below += _folders(place)
        seen += len(below)
        if seen > _MOST_FOLDERS:
            return []
        found = [place for place in below if _has_splits(place)]
        if found:
            return found
        level = below
    return []


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            found = [
                place / e.name
                for e in entries
                if e.is_dir(follow_symlinks=False) and e.name[0] not in "._"
            ]
    except OSError:
        return []
    return sorted(found)


def _has_splits(place: Path) -> bool:
    try:
        files = files_in(place)
    except UserError:
        return False
    openke = any(without_packing(path.name).lower() == "train2id.txt" for path in files)
    return openke or any(
        one.complete or (one.frame == "{}" and "train" in one.files) for one in split_sets(files)
    )
