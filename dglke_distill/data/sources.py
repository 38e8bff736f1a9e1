"""Datasets that plug-ins bring, beside those of the catalog."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.config.registry import Registry
from dglke_distill.data.checks import find_warnings
from dglke_distill.data.layout import NEGATIVE_SPLITS, SPLITS
from dglke_distill.data.manifest import datasets_dir, load_manifest, manifest_names, read_manifest
from dglke_distill.data.name_order import in_name_order
from dglke_distill.data.triples import Dataset, Triples


class DatasetSource:
    """Base of the datasets of plug-ins: a subclass sets ``name`` and writes ``load``.

    The same call must give the same triples everywhere: a model knows its dataset by them.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    homepage: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    """BibTeX."""

    def load(self) -> Dataset:
        """Return the dataset; the ids may be in any order, since names are put in theirs.

        Raises:
            UserError: it cannot be had.
        """
        raise NotImplementedError


def _catalog_names() -> Iterator[str]:
    for name in manifest_names():
        manifest = read_manifest(datasets_dir() / f"{name}.toml")
        yield from (name, *manifest.aliases)


DATASETS: Registry[type[DatasetSource]] = Registry(
    "dataset",
    "data.dataset",
    {},
    group="dglke_distill.datasets",
    base="dglke_distill.data.sources:DatasetSource",
    reserved=_catalog_names,
)


def is_named(name: str) -> bool:
    """Return whether a dataset of the catalog or of a plug-in has the name, in any letter case."""
    return load_manifest(name) is not None or DATASETS.knows(name)


def credits(name: str) -> tuple[str, str]:
    """Return the licence of a named dataset and its citation; empty where nothing is known.

    Args:
        name: of the catalog, of a plug-in, or anything else.
    """
    manifest = load_manifest(name)
    if manifest is not None:
        return manifest.licence, manifest.citation.strip()
    if DATASETS.knows(name):
        source = DATASETS.find(name)
        return source.licence, source.citation.strip()
    return "", ""


def load_source(name: str) -> Dataset:
    """Load a dataset of a plug-in.

    Raises:
        UserError: there is none of that name, it cannot be had, or it is not well-formed.
    """
    spelled = DATASETS.spell(name)
    who = f"dataset {spelled!r} of {DATASETS.origin(spelled)}"
    try:
        found = DATASETS.find(spelled)().load()
    except UserError as error:
        raise UserError(f"{who}: {error}") from error
    if not isinstance(found, Dataset):
        raise UserError(f"{who}: load() must return a Dataset, not {type(found).__name__}")
    splits = {split: getattr(found, split) for split in SPLITS + NEGATIVE_SPLITS}
    for split, triples in splits.items():
        if triples is not None:
            _check(triples, found, f"{who}: {split}")
    if not len(found.train):
        raise UserError(f"{who}: train has no triples")
    given = {split: triples for split, triples in splits.items() if triples is not None}
    warnings = find_warnings(given, found.entities, found.relations)
    told = tuple(dict.fromkeys((*found.warnings, *warnings)))
    return in_name_order(dataclasses.replace(found, name=spelled, warnings=told))


def _check(triples: Triples, dataset: Dataset, where: str) -> None:
    sizes = len(dataset.entities), len(dataset.relations), len(dataset.entities)
    columns = {"head": triples.head, "relation": triples.relation, "tail": triples.tail}
    for (name, ids), size in zip(columns.items(), sizes):
        if not np.issubdtype(ids.dtype, np.integer):
            raise UserError(f"{where}: {name} must hold whole numbers, not {ids.dtype}")
        if len(ids) and not 0 <= ids.min() <= ids.max() < size:
            raise UserError(f"{where}: {name} must hold ids from 0 to {size - 1}")
