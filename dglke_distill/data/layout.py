"""Which format a folder or file of triples is in, and which of its files plays which part."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.data.dictionaries import find_one, holds_both, is_dictionary, read_dictionary
from dglke_distill.data.headings import heading_order, split_line
from dglke_distill.data.line_errors import separator_of
from dglke_distill.data.missing_files import missing_file
from dglke_distill.data.name_tables import is_special
from dglke_distill.data.packings import without_packing
from dglke_distill.data.parquet_tables import PARQUET_ENDINGS
from dglke_distill.data.rdf import RDF_ENDINGS
from dglke_distill.data.split_names import SplitSet, files_in, parse_split_name, split_sets
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.text import first_bytes, first_rows

FORMAT_NAMES = ("auto", "names_hrt", "raw_udd_hrt", "udd_hrt", "openke")
"""The formats as users type them; the letters may come in any order."""

SPLITS = ("train", "valid", "test")
NEGATIVE_SPLITS = ("valid_negatives", "test_negatives")
_TIERS = ((".txt", ".tsv", ".csv"), (".del",), (*RDF_ENDINGS, *PARQUET_ENDINGS), ("",))
"""Endings of files of triples; where there are files of several tiers, the first one counts."""
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


def detect_folder(
    folder: Path, header: Optional[bool] = None, table: Optional[TableOptions] = None
) -> Format:
    """Return the format that a folder's files show.

    Args:
        folder: where the files are.
        header: whether files of triples begin with a heading; None: found out.
        table: what the user says of their tables.

    Raises:
        UserError: there is no train file, or it can be read in two ways.
    """
    if openke_file(folder, "train") and any(openke_file(folder, s) for s in ("entity", "relation")):
        return Format("openke", "htr")
    train = split_files(folder, Format("names")).get("train")
    if train is None:
        raise missing_split(folder, "train", Format("names"))
    return detect_file(train, header, table)


def detect_file(
    path: Path, header: Optional[bool] = None, table: Optional[TableOptions] = None
) -> Format:
    """Return the format that one file of triples and the dictionaries beside it show.

    Args:
        path: the file.
        header: whether it begins with a heading; None: found out. A heading that is known says
            in which order the columns are.
        table: what the user says of their tables.

    Raises:
        UserError: the file can be read in two ways.
    """
    if without_packing(path.name).lower().endswith("2id.txt"):
        return Format("openke", "htr")
    if is_special(path, table):
        return Format("names")
    order = None if header is False else stated_order(path)
    entity_file, relation_file = dictionaries(path.parent, path)
    if entity_file is None or relation_file is None:
        return Format("names", order or "hrt")
    if is_libkge(entity_file):
        return Format("udd", order or "hrt")
    rows = [row for row in first_rows(path, _PEEK) if len(row) == 3]
    rows = rows[1:] if order is not None or header else rows
    cells = {cell for row in rows for cell in row}
    in_words = cells <= {*read_dictionary(entity_file), *read_dictionary(relation_file)}
    in_numbers = all(cell.isascii() and cell.isdigit() for cell in cells)
    if in_words and in_numbers and cells:
        raise UserError(
            f"{path}: its numbers can be ids or names of {entity_file.name}; say which with "
            f"--set data.format=udd_hrt or --set data.format=names_hrt"
        )
    return Format("udd" if in_numbers else "names", order or "hrt")


def stated_order(path: Path) -> Optional[str]:
    """Return the columns' order that a file's heading states, if it has one that is known.

    Raises:
        UserError: the file is missing or damaged.
    """
    return heading_order(_first_cells(path))


def check_order(train: Path, layout: Format, warnings: list[str]) -> None:
    """Say in which order a heading has the columns, where it is not the usual one.

    Args:
        train: the file of the train split, or the only one.
        layout: how the files are read.
        warnings: receives it.
    """
    stated = stated_order(train)
    if stated is None or stated == layout.order == "hrt":
        return
    words = {"h": "head", "r": "relation", "t": "tail"}
    columns = ", ".join(words[letter] for letter in stated)
    if stated == layout.order:
        warnings.append(f"{train}, line 1: says that the columns are {columns}; they were read so")
    else:
        warnings.append(
            f"{train}, line 1: says that the columns are {columns}, but they were read in the "
            f"order {layout.order}; say --set data.format={layout.family}_{stated} if it is right"
        )


def is_ragged(path: Path) -> bool:
    """Whether a file's first line has other than three columns, so that it can be no fact.

    Raises:
        UserError: the file is missing or damaged.
    """
    return len(_first_cells(path)) not in (0, 3)


def _first_cells(path: Path) -> list[str]:
    line = first_bytes(path).partition(b"\n")[0].decode("utf-8", errors="replace").rstrip("\r")
    return split_line(line, separator_of(path)) if line else []


def split_files(
    folder: Path, layout: Format, warnings: Optional[list[str]] = None
) -> dict[str, Path]:
    """Return the files of triples in a folder by split, those that are there.

    The names are ``train``, ``valid`` and ``test`` in any letter case, with an ending of
    ``_TIERS`` or none. Else these words may be part of longer names, as in
    ``wikidata5m_transductive_train.txt``, where one set of three files is alike but for them.

    Args:
        folder: where they are.
        layout: the format.
        warnings: receives which files were taken where their names are others.

    Raises:
        UserError: a split has several files, or there are several sets of them.
    """
    if layout.family == "openke":
        found = {split: openke_file(folder, split) for split in SPLITS}
        return {split: path for split, path in found.items() if path is not None}
    sets = split_sets(files_in(folder))
    plain = next((one for one in sets if one.frame == "{}"), SplitSet("{}"))
    chosen = _of_set(folder, plain, warnings)
    if "train" not in chosen:
        whole = [(one, files) for one in sets if len(files := _of_set(folder, one)) == len(SPLITS)]
        if len(whole) > 1:
            listed = "; ".join(", ".join(p.name for p in files.values()) for _, files in whole)
            raise UserError(
                f"{folder} holds several sets of splits ({listed}): put one of them into a folder "
                f"of its own and give that"
            )
        if not whole:
            return {}
        chosen = whole[0][1]
        if warnings is not None:
            names = ", ".join(path.name for path in chosen.values())
            warnings.append(f"{folder}: {names} were read as train, valid and test")
    for split in NEGATIVE_SPLITS:
        negatives = find_one(folder, (split,), _TIERS[0])
        if negatives is not None:
            chosen[split] = negatives
    return chosen


def _of_set(folder: Path, one: SplitSet, warnings: Optional[list[str]] = None) -> dict[str, Path]:
    """Return the file of each split of a set; ``train`` and the files like it come first."""
    chosen: dict[str, Path] = {}
    tiers = list(_TIERS)
    for split in SPLITS:
        files = [file for file in one.files.get(split, ()) if file.readable]
        usual = [file for file in files if file.word == split]
        if usual and len(usual) < len(files) and warnings is not None:
            aside = ", ".join(file.path.name for file in files if file not in usual)
            warnings.append(f"{folder}: {aside} was left aside, since {split} files are there")
        files = usual or files
        for tier in tiers:
            found = [file.path for end in tier for file in files if file.ending == end]
            if len(found) > 1:
                raise holds_both(folder, found)
            if found:
                chosen[split] = found[0]
                tiers.sort(key=lambda other: other is not tier)
                if not usual and one.frame == "{}" and warnings is not None:
                    warnings.append(f"{folder}: {found[0].name} was read as {split}")
                break
    return chosen


def sibling_splits(path: Path) -> list[Path]:
    """Return the files beside one that are other splits of the same set, by their names."""
    own = parse_split_name(path)
    if own is None:
        return []
    sets = split_sets(files_in(path.parent))
    files = next((one.files for one in sets if one.frame == own.frame), {})
    return [file.path for split, those in files.items() if split != own.split for file in those]


def dictionaries(
    folder: Path, triples: Optional[Path] = None
) -> tuple[Optional[Path], Optional[Path]]:
    """Return the files that number entities and relations, each None where there is none.

    These are ``entities.dict`` and ``relations.dict``, or the ``.tsv`` files that DGL-KE makes of
    raw data; other ``.tsv`` files of these names are left alone. LibKGE's ``entity_ids.del`` and
    ``relation_ids.del`` number its triples in ``.del``.

    Args:
        folder: where they are.
        triples: a file of the triples that they belong to.

    Raises:
        UserError: there are several.
    """
    if triples is not None and without_packing(triples.name).lower().endswith(".del"):
        libkge = [find_one(folder, (f"{kind}_ids",), (".del",)) for kind in ("entity", "relation")]
        if all(libkge):
            return libkge[0], libkge[1]
    found = [find_one(folder, (stem,), (".dict",)) for stem in ("entities", "relations")]
    if found == [None, None]:
        found = [find_one(folder, (stem,), (".tsv",)) for stem in ("entities", "relations")]
        if not all(path is not None and is_dictionary(path) for path in found):
            return None, None
    return found[0], found[1]


def is_libkge(dictionary: Path) -> bool:
    """Whether a dictionary is LibKGE's, in which the id stands first."""
    return without_packing(dictionary.name).lower().endswith(".del")


def openke_file(folder: Path, stem: str) -> Optional[Path]:
    """Return ``<stem>2id.txt`` in a folder, in any letter case; None without one."""
    return find_one(folder, (f"{stem}2id",), (".txt",))


def missing_split(folder: Path, split: str, layout: Format) -> UserError:
    """Return the error that says which file is missing and what to do."""
    if layout.family == "openke":
        return UserError(
            f"{folder} has no {split}2id.txt: OpenKE needs train2id, valid2id, test2id"
        )
    return missing_file(folder, split)
