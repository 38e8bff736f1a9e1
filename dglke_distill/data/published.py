"""Whether a copy of a dataset of the catalog is the published one."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from dglke_distill.data.download import identify
from dglke_distill.data.layout import SPLITS, Format, split_files
from dglke_distill.data.manifest import Manifest
from dglke_distill.data.triples import Dataset


def count_difference(manifest: Manifest, dataset: Dataset) -> Optional[str]:
    """Return the first count that is not the published one, in words; None if all are."""
    expected = manifest.counts
    found = {
        "entities": (dataset.num_entities, expected.entities),
        "relations": (dataset.num_relations, expected.relations),
        **{
            f"{split} triples": (len(dataset.split(split)), getattr(expected, split))
            for split in SPLITS
        },
    }
    for what, (count, published) in found.items():
        if count != published:
            return f"{count} {what} where {manifest.title} has {published}"
    return None


def doubts(manifest: Manifest, folder: Path) -> list[str]:
    """Say which files are not byte for byte the published ones, though all counts agree."""
    found = []
    files = split_files(folder, Format("names"))
    for role, path in files.items():
        file = {str(known): file for known, file in manifest.files.items()}.get(role)
        if file is not None and identify(path, file) == "differs":
            found.append(
                f"{path} differs from the published file ({file.verified_by}), though all counts "
                f"agree: the order of lines, or names, may be others"
            )
    return found
