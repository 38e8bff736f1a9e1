"""Which format a folder or file of triples is in, and which of its files plays which part."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from dglke_distill.data.dictionaries import find_one, is_dictionary, read_dictionary
from dglke_distill.data.text import first_rows
from dglke_distill.errors import UserError

__all__ = [
    "FORMAT_NAMES",
    "NEGATIVE_SPLITS",
    "SPLITS",
    "Format",
    "detect_file",
    "detect_folder",
    "dictionaries",
    "missing_split",
    "openke_file",
    "parse_format",
    "split_files",
]

FORMAT_NAMES = ("auto", "names_hrt", "raw_udd_hrt", "udd_hrt", "openke")
"""The formats as users type them; the letters may come in any order."""

SPLITS = ("train", "valid", "test")
NEGATIVE_SPLITS = ("valid_negatives", "test_negatives")
_TRIPLE_ENDINGS = (".txt", ".tsv", ".csv")
_ORDERS = frozenset(map("".join, itertools.permutations("hrt")))
_PEEK = 1000


@dataclass(frozen=True)
class Format:
    """How triples are written down.

    Attributes:
        family: names, ids with dictionaries (``udd``), or OpenKE's layout.
        order: the columns' order, a permutation of ``hrt``.
    """

    family: Literal["names", "udd", "openke"]
    order: str = "hrt"


def parse_format(text: str) -> Optional[Format]:
    """Return the format that a user named, or None for ``auto``.

    Raises:
        UserError: there is no such format.
    """
    word = text.strip().lower()
    if word == "auto":
        return None
    if word == "openke":
        return Format("openke", "htr")
    for prefix, family in (("raw_udd", "names"), ("names", "names"), ("udd", "udd")):
        if word.startswith(prefix):
            order = word[len(prefix) :].lstrip("_") or "hrt"
            if order in _ORDERS:
                return Format("udd" if family == "udd" else "names", order)
    raise UserError(
        f"unknown format {text!r}: choose one of {', '.join(FORMAT_NAMES)}, where the letters may "
        f"come in any order"
    )


def detect_folder(folder: Path) -> Format:
    """Return the format that a folder's files show.

    Raises:
        UserError: there is no train file, or it can be read in two ways.
    """
    if all(openke_file(folder, stem) for stem in ("entity", "relation", "train")):
        return Format("openke", "htr")
    train = split_files(folder, Format("names")).get("train")
    if train is None:
        raise missing_split(folder, "train", Format("names"))
    return detect_file(train)


def detect_file(path: Path) -> Format:
    """Return the format that one file of triples and the dictionaries beside it show.

    Raises:
        UserError: the file can be read in two ways.
    """
    if path.name.endswith(("2id.txt", "2id.txt.gz")):
        return Format("openke", "htr")
    entity_file, relation_file = dictionaries(path.parent)
    if entity_file is None or relation_file is None:
        return Format("names")
    rows = [row for row in first_rows(path, _PEEK) if len(row) == 3]
    cells = {cell for row in rows for cell in row}
    in_words = cells <= {*read_dictionary(entity_file), *read_dictionary(relation_file)}
    in_numbers = all(cell.isascii() and cell.isdigit() for cell in cells)
    if in_words and in_numbers and cells:
        raise UserError(
            f"{path}: its numbers can be ids or names of {entity_file.name}; say which with "
            f"--format udd_hrt or --format names_hrt"
        )
    return Format("udd" if in_numbers else "names")


def split_files(folder: Path, layout: Format) -> dict[str, Path]:
    """Return the files of triples in a folder by split, those that are there.

    Raises:
        UserError: a split has several files.
    """
    if layout.family == "openke":
        found = {split: openke_file(folder, split) for split in SPLITS}
    else:
        found = {
            split: find_one(folder, (split,), _TRIPLE_ENDINGS) for split in SPLITS + NEGATIVE_SPLITS
        }
    return {split: path for split, path in found.items() if path is not None}


def dictionaries(folder: Path) -> tuple[Optional[Path], Optional[Path]]:
    """Return the files that number entities and relations, each None where there is none.

    These are ``entities.dict`` and ``relations.dict``, or the ``.tsv`` files that DGL-KE makes of
    raw data; other ``.tsv`` files of these names are left alone.

    Raises:
        UserError: there are several.
    """
    found = [find_one(folder, (stem,), (".dict",)) for stem in ("entities", "relations")]
    if found == [None, None]:
        found = [find_one(folder, (stem,), (".tsv",)) for stem in ("entities", "relations")]
        if not all(path is not None and is_dictionary(path) for path in found):
            return None, None
    return found[0], found[1]


def openke_file(folder: Path, stem: str) -> Optional[Path]:
    """Return ``<stem>2id.txt`` in a folder, plain or ``.gz``; None without one."""
    return find_one(folder, (f"{stem}2id",), (".txt",))


def missing_split(folder: Path, split: str, layout: Format) -> UserError:
    """Return the error that says which file is missing and what to do."""
    if layout.family == "openke":
        return UserError(
            f"{folder} has no {split}2id.txt: OpenKE needs train2id, valid2id, test2id"
        )
    other = {"valid": ("dev", "val"), "test": (), "train": ()}[split]
    alias = find_one(folder, other, _TRIPLE_ENDINGS)
    if alias is not None:
        return UserError(f"{folder} has {alias.name} but no {split}.txt: rename it to {split}.txt")
    mend = (
        "give the path of a single file to have it split"
        if split == "train"
        else f"add it (it may be empty), or give {folder / 'train.txt'} alone to have it split"
    )
    return UserError(f"{folder} has no {split}.txt, .tsv or .csv: {mend}")
