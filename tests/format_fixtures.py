"""A few facts in files, for tests of reading."""

from __future__ import annotations

from pathlib import Path

from dglke_distill.data.triples import Dataset

TRAIN = "b\tr\ta\na\tr\tc\nc\ts\tb\n"
VALID = "a\ts\tb\n"
TEST = "c\tr\ta\n"


def write(folder: Path, **files: str | bytes) -> Path:
    """Write ``train="..."`` as train.txt; a double underscore in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        name = name.replace("__", ".") if "__" in name else f"{name}.txt"
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def facts(dataset: Dataset, split: str) -> list[tuple[str, str, str]]:
    """Return a split as names, through nothing but the vocabularies."""
    return [
        (dataset.entities[h], dataset.relations[r], dataset.entities[t])
        for h, r, t in dataset.split(split).to_array().tolist()
    ]
