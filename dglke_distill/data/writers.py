"""Datasets written in the formats that ``dglke_distill.data.formats`` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import directory_aside
from dglke_distill.base.places import check_free, check_replaceable, nothing_foreign
from dglke_distill.data.dictionaries import ambiguous_dictionary
from dglke_distill.data.layout import NEGATIVE_SPLITS, SPLITS, Format, parse_format
from dglke_distill.data.text import strip_blanks
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

_ROWS = 1 << 17
_FORBIDDEN = {"\t": "a tab", "\n": "a line end", "\r": "a carriage return", "\0": "a zero byte"}


def write_dataset(
    dataset: Dataset, folder: Path, *, format: str = "names_hrt", overwrite: bool = False
) -> list[Path]:
    """Write a dataset's triples and, for formats of ids, its dictionaries.

    The folder appears complete or not at all. ``names_*`` does not say which id a name has: read
    again, ids follow the names' order. ``udd_*`` and ``openke`` keep ids. Given false triples are
    written except in ``openke``, which has no place for them.

    Args:
        dataset: what to write.
        folder: its new place; it must not exist, or be empty.
        format: ``names_hrt``, ``udd_hrt`` (letters in any order) or ``openke``.
        overwrite: whether a folder is replaced that holds such files alone.

    Returns:
        The files written.

    Raises:
        UserError: the folder holds something, the format is unknown, or a name cannot stand in
            such a file.
    """
    with dataset_aside(dataset, folder, format=format, overwrite=overwrite) as names:
        pass
    return [folder / name for name in names]


@contextmanager
def dataset_aside(
    dataset: Dataset, folder: Path, *, format: str = "names_hrt", overwrite: bool = False
) -> Iterator[list[str]]:
    """Write a dataset beside its place, which it takes at the end, if nothing fails within.

    Args:
        dataset: see ``write_dataset``.
        folder: see ``write_dataset``.
        format: see ``write_dataset``.
        overwrite: see ``write_dataset``.

    Yields:
        The names of the files, which are written already.

    Raises:
        UserError: see ``write_dataset``.
    """
    layout = writing_format(format)
    check_new(folder, overwrite)
    for vocabulary in (dataset.entities, dataset.relations):
        _check_names(vocabulary)
    splits = {split: dataset.split(split) for split in SPLITS}
    openke = layout.family == "openke"
    if not openke:
        splits.update(
            (split, triples)
            for split in NEGATIVE_SPLITS
            if (triples := getattr(dataset, split)) is not None
        )
    named = dataset.entities.__getitem__, dataset.relations.__getitem__
    cell = (str, str) if layout.family != "names" else named
    try:
        with directory_aside(folder, overwrite=overwrite) as aside:
            for split, triples in splits.items():
                name = f"{split}2id.txt" if openke else f"{split}.txt"
                separator = " " if openke else "\t"
                header = [str(len(triples))] if openke else []
                _write(aside / name, header, _rows(triples, layout.order, separator, *cell))
            if layout.family != "names":
                for stem, vocabulary in (
                    ("entity", dataset.entities),
                    ("relation", dataset.relations),
                ):
                    if openke:
                        rows = (f"{name}\t{i}\n" for i, name in enumerate(vocabulary))
                        _write(aside / f"{stem}2id.txt", [str(len(vocabulary))], rows)
                    else:
                        plural = "entities" if stem == "entity" else "relations"
                        rows = (f"{i}\t{name}\n" for i, name in enumerate(vocabulary))
                        # Read by itself, a file of numbers in both columns says nothing.
                        unclear = vocabulary.named and ambiguous_dictionary(vocabulary)
                        heading = ["id\tname"] if unclear else []
                        _write(aside / f"{plural}.dict", heading, rows)
            yield sorted(path.name for path in aside.iterdir())
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None


def writing_format(name: str) -> Format:
    """Return the format to write in.

    Args:
        name: such as ``names_hrt``.

    Raises:
        UserError: it is unknown.
    """
    layout = parse_format(name)
    if layout is None:
        raise UserError("format 'auto' is for reading: say which format to write, e.g. names_hrt")
    return layout


def check_new(folder: Path, overwrite: bool = False) -> None:
    """Check that data can be written into a folder, and may be.

    Args:
        folder: the place.
        overwrite: whether what is there may be replaced.

    Raises:
        UserError: it is no folder, or holds something, or cannot be written.
    """
    check_free(folder, overwrite)
    check_replaceable(folder, nothing_foreign)


def _check_names(vocabulary: Vocabulary) -> None:
    if not vocabulary.named:
        return
    for name in vocabulary:
        found = next((what for sign, what in _FORBIDDEN.items() if sign in name), None)
        found = found or ("nothing at all" if not name else None)
        found = found or ("blanks at its ends" if name != strip_blanks(name) else None)
        if found is not None:
            raise UserError(
                f"{vocabulary.kind} name {name!r} contains {found}, which cannot be written in a "
                f"text file of triples: rename it"
            )


def _rows(
    triples: Triples,
    order: str,
    separator: str,
    entity: Callable[[int], str],
    relation: Callable[[int], str],
) -> Iterator[str]:
    columns = {"h": triples.head, "r": triples.relation, "t": triples.tail}
    text = {"h": entity, "r": relation, "t": entity}
    for start in range(0, len(triples), _ROWS):
        part = np.s_[start : start + _ROWS]
        cells = (map(text[role], columns[role][part].tolist()) for role in order)
        yield "\n".join(map(separator.join, zip(*cells))) + "\n"


def _write(path: Path, header: Sequence[str], rows: Iterator[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in header)
        stream.writelines(rows)
