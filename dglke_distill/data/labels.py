"""Names that people know for the ids of a dataset: ``labels.tsv``, read beside the triples.

A line is an id, a label and, if there is one, a description, separated by tabs; or by commas in a
file ``labels.csv``, which is read where there is no ``labels.tsv``. Labels are for
reading alone: neither ids nor fingerprints of a dataset know of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home
from dglke_distill.base.shown import plural
from dglke_distill.base.spelling import likely_names
from dglke_distill.data.file_kinds import PACKINGS
from dglke_distill.data.headings import split_line
from dglke_distill.data.line_errors import separator_of
from dglke_distill.data.manifest import Manifest, datasets_dir, load_manifest
from dglke_distill.data.text import lines
from dglke_distill.data.triples import Vocabulary

LABELS_FILE = "labels.tsv"
_READ = (LABELS_FILE, "labels.csv")
_FIX = "write id{0}label{0}description, the description only where there is one"
_MOST = 4096
"""Characters of a label; names of things are shorter."""


@dataclass(frozen=True)
class Labels:
    """Labels and descriptions by id.

    Attributes:
        labels: id to label; ids without one are left out.
        descriptions: id to description, likewise.
        shipped: whether they come with the package, so that no checkpoint need keep them.
    """

    labels: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    shipped: bool = False

    def of(self, name: str) -> str:
        """Return the label of an id; empty if it has none."""
        return self.labels.get(name, "")

    def shown(self, name: str) -> str:
        """Return an id as people read it, ``Barack Obama (/m/02mjmr)``; itself without a label."""
        label = self.labels.get(name)
        return name if label is None or label == name else f"{label} ({name})"

    @cached_property
    def _by_label(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, label in self.labels.items():
            found.setdefault(label.casefold(), []).append(name)
        return found

    def name_of(self, text: str, names: Container[str]) -> str:
        """Return the id that a text stands for: an id, or the label of a single one.

        What is neither is returned as it is, unless labels are alike.

        Args:
            text: what the user typed.
            names: the ids that there are.

        Raises:
            UserError: several ids have the label; or none, but labels hold the text or are spelled
                alike.
        """
        if text in names:
            return text
        found = [name for name in self._by_label.get(text.casefold(), ()) if name in names]
        if len(found) == 1:
            return found[0]
        if found:
            told = ", ".join(self._told(name) for name in found[:6])
            more = f" and {len(found) - 6} more" if len(found) > 6 else ""
            raise UserError(f"entity {text!r}: is the label of {told}{more}; give the id")
        if near := self.likely(text, names):
            meant = ", ".join(self._told(name, label=True) for name in near)
            raise UserError(f"unknown entity {text!r:.200}; did you mean {meant}?")
        return text

    def likely(self, text: str, names: Container[str], count: int = 3) -> list[str]:
        """Return the ids whose labels a text probably means; see ``spelling.likely_names``.

        Args:
            text: what the user typed.
            names: the ids that there are; labels of others are passed over.
            count: most ids to return.
        """
        by_label = {
            label: found[0]
            for label, ids in self._by_label.items()
            if (found := [name for name in ids if name in names])
        }
        return [by_label[label] for label in likely_names(text.casefold(), by_label, count)]

    def _told(self, name: str, *, label: bool = False) -> str:
        said = self.descriptions.get(name, "")
        said = f" ({said[:60]})" if said and not label else ""
        return f"{self.shown(name) if label else name}{said}"

    def of_names(self, names: Iterable[str]) -> Labels:
        """Return those of some ids alone."""
        wanted = set(names)
        return Labels(
            {name: label for name, label in self.labels.items() if name in wanted},
            {name: text for name, text in self.descriptions.items() if name in wanted},
            self.shipped,
        )

    def write(self, folder: Path, names: Iterable[str]) -> None:
        """Write those of some ids into a folder, unless they ship with the package.

        Args:
            folder: where ``labels.tsv`` is written.
            names: the ids.
        """
        if not self.shipped:
            text = self.of_names(names).text()
            (folder / LABELS_FILE).write_text(text, encoding="utf-8", newline="")

    def text(self) -> str:
        """Return them as a file holds them."""
        rows = []
        for name, label in self.labels.items():
            more = self.descriptions.get(name)
            rows.append(f"{name}\t{label}\n" if more is None else f"{name}\t{label}\t{more}\n")
        return "".join(rows)


def read_labels(path: Path, entities: Optional[Vocabulary] = None) -> Labels:
    """Read a file of labels; a heading of ``id`` and ``label`` is passed over.

    Args:
        path: the file, compressed or not; in .csv commas separate columns, elsewhere tabs.
        entities: the ids that it should be about; None: any.

    Raises:
        UserError: it is missing or damaged; a line has no label or another number of columns; an id
            stands twice; or none of the entities is labelled. The message names the line.
    """
    labels: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    separator = separator_of(path)
    fix = _FIX.format("<TAB>" if separator == "\t" else separator)
    for number, line in lines(path):
        columns = split_line(line, separator)
        if number == 1 and [column.lower() for column in columns[:2]] == ["id", "label"]:
            continue
        if not 2 <= len(columns) <= 3:
            raise UserError(f"{path}, line {number}: has {plural(len(columns), 'column')}; {fix}")
        if any("\t" in column for column in columns):  # a model keeps them in labels.tsv
            raise UserError(f"{path}, line {number}: holds a tab; write a blank in its place")
        name, label = columns[:2]
        if not name or not label or len(label) > _MOST:
            what = "no id" if not name else "no label" if not label else "a label that is too long"
            raise UserError(f"{path}, line {number}: has {what}; {fix}")
        if name in labels:
            raise UserError(f"{path}, line {number}: {name[:200]!r} stands twice; keep one line")
        labels[name] = label
        if columns[2:] and columns[2]:
            descriptions[name] = columns[2]
    if entities is not None and labels and not any(name in entities for name in labels):
        raise UserError(
            f"{path}: none of its {len(labels):,} ids is an entity of the dataset, such as "
            f"{entities[0]!r:.100}; the first column holds the ids of the triples"
        )
    return Labels(labels, descriptions)


def find_labels(
    name: str,
    *,
    place: Optional[str] = None,
    data_root: Optional[Path] = None,
    entities: Optional[Vocabulary] = None,
) -> Optional[Labels]:
    """Find the labels of a dataset; nothing is downloaded.

    They lie beside the triples (in the folder that the user names, in the data root, or where a
    download put them), or come with the package.

    Args:
        name: of the dataset.
        place: folder or file of the dataset, as the user gives it; None: found by its name.
        data_root: folder of datasets already there.
        entities: the ids that they should be about.

    Returns:
        None where there are none.

    Raises:
        UserError: a file of labels is malformed; see ``read_labels``.
    """
    if place is not None and (given := in_home(place)).exists():
        found = labels_in(given if given.is_dir() else given.parent, entities)
        if found is not None:
            return found
    from dglke_distill.data import catalog  # a model that has labels of its own needs none of it

    manifest = load_manifest(name)
    if manifest is None:
        return None
    folder = catalog.locate(manifest, data_root=data_root).folder
    for where in (folder, catalog.default_cache_dir() / manifest.name):
        found = labels_in(where, entities)
        if found is not None:
            return found
    if manifest.labels is None or manifest.labels.url is not None:
        return None
    shipped = read_labels(datasets_dir() / manifest.labels.path)
    return Labels(shipped.labels, shipped.descriptions, shipped=True)


def fetch_labels(manifest: Manifest) -> Optional[Path]:
    """Download the labels of a dataset into the cache, where its manifest says where they are.

    Args:
        manifest: of the dataset.

    Returns:
        Where they lie now; None where there are none to download.

    Raises:
        UserError: they cannot be had, or are not those that were published.
    """
    if manifest.labels is None or manifest.labels.url is None:
        return None
    from dglke_distill.data import catalog
    from dglke_distill.data.download import fetch

    target = catalog.default_cache_dir() / manifest.name / LABELS_FILE
    fetch(
        manifest.labels.url,
        target,
        manifest.labels,
        otherwise=f"place {LABELS_FILE} beside the triples in a data root",
    )
    return target


def labels_in(folder: Path, entities: Optional[Vocabulary] = None) -> Optional[Labels]:
    """Return the labels that lie in a folder; None without any.

    Args:
        folder: the folder.
        entities: the ids that they should be about.

    Raises:
        UserError: their file is malformed; see ``read_labels``.
    """
    found = _in_folder(folder)
    return None if found is None else read_labels(found, entities)


def _in_folder(folder: Path) -> Optional[Path]:
    """Return the file of labels in a folder, compressed or not; None without one."""
    names = (name + ending for name in _READ for ending in ("", *PACKINGS))
    return next((folder / name for name in names if (folder / name).is_file()), None)
