"""Which files of a folder are its train, valid and test split, by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.data.packings import without_packing

TABLE_ENDINGS = (
    *(".txt", ".tsv", ".csv", ".del"),
    *(".nt", ".ntriples", ".nq", ".nquads", ".ttl", ".turtle", ".parquet", ".pq"),
    "",
)
"""Endings of files of triples: tables, of which LibKGE's is ``.del``, RDF and Parquet; or none."""

OTHER_ENDINGS = tuple(
    """
    .rdf .xml .owl .n3 .hdt .jsonld .json .jsonl .ndjson
    .feather .arrow .orc .avro .xlsx .xls .ods .db .sqlite .sqlite3
    .npy .npz .pt .pth .pkl .pickle .h5 .hdf5 .7z .rar .tar .tgz .tbz2 .txz
    .zstd .lz4 .lz .lzma .z .dat .data .tab .psv .sif .triples .graphml .html
    """.split()
)
"""Endings that a split's file may have which is not read as it is."""

_NO_DATA = frozenset(
    """
    .py .ipynb .sh .bat .js .c .cpp .java .r .md .rst .log .yaml .yml .toml .ini .cfg .conf .lock
    .pdf .png .jpg .jpeg .svg .gif .sha256 .md5 .bak .swp .tmp .out .err .pyc .lua .go .rs
    """.split()
)
"""Endings of what lies about in folders of data, and is none."""

_SPLIT_OF = {
    "train": "train", "training": "train", "trn": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "development": "valid",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
_NOT_FACTS = frozenset(
    """
    negative negatives neg false corrupted corrupt nodes node entities entity ents relations rels
    types type labels label ids id names descriptions vocab mapping dict queries candidates stats
    filter hr t head tail
    """.split()
)
_WORD = re.compile(r"[A-Za-z]+|[0-9]+")


@dataclass(frozen=True)
class SplitFile:
    """A file whose name says which split it is.

    Attributes:
        path: the file.
        split: ``train``, ``valid`` or ``test``.
        word: the word in its name that says so.
        frame: the rest of the name, ``{}`` in the place of that word, in small letters.
        ending: its ending in small letters, without that of a compression that is read.
    """

    path: Path
    split: str
    word: str
    frame: str
    ending: str

    @property
    def readable(self) -> bool:
        """Whether its ending is one of tables of triples."""
        return self.ending in TABLE_ENDINGS


@dataclass
class SplitSet:
    """Files of one folder whose names differ in the split's word alone.

    Attributes:
        frame: what they have in common.
        files: by split; several where endings or spellings differ.
    """

    frame: str
    files: dict[str, list[SplitFile]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all three splits are there."""
        return len(self.files) == 3

    @property
    def names(self) -> list[str]:
        """The files' names in the order train, valid, test."""
        return [f.path.name for s in ("train", "valid", "test") for f in self.files.get(s, ())]


def files_in(folder: Path) -> list[Path]:
    """Return the regular files of a folder by name, hidden ones left out.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [folder / e.name for e in entries if e.name[0] not in ".~"]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(filter(Path.is_file, found))  # a link to itself is none


def parse_split_name(path: Path) -> Optional[SplitFile]:
    """Return what a file's name says of its split; None if nothing, or two things."""
    bare = without_packing(path.name)
    lower = bare.lower()
    ending = next((e for e in TABLE_ENDINGS + OTHER_ENDINGS if e and lower.endswith(e)), None)
    if ending is None:
        ending = Path(lower).suffix
        ending = "" if ending[1:] in _SPLIT_OF else ending  # wn18rr.train
        if ending in _NO_DATA or (not ending[1:].isalnum() and ending):
            return None
    stem = lower[: len(lower) - len(ending)]
    inner = next((e for e in TABLE_ENDINGS if e and stem.endswith(e)), "")
    stem = stem[: len(stem) - len(inner)]  # train.txt.zip
    words = [match for match in _WORD.finditer(stem)]
    said = [match for match in words if match[0] in _SPLIT_OF]
    if len(said) != 1 or any(match[0] in _NOT_FACTS for match in words):
        return None
    word = said[0]
    frame = f"{stem[: word.start()]}{{}}{stem[word.end() :]}"
    return SplitFile(path, _SPLIT_OF[word[0]], word[0], frame, ending)


def split_sets(paths: Sequence[Path]) -> list[SplitSet]:
    """Group files by what their names have in common beside the split's word."""
    sets: dict[str, SplitSet] = {}
    for file in _parsed(paths):
        found = sets.setdefault(file.frame, SplitSet(file.frame))
        found.files.setdefault(file.split, []).append(file)
    return [sets[frame] for frame in sorted(sets)]


def _parsed(paths: Sequence[Path]) -> Iterator[SplitFile]:
    for path in paths:
        file = parse_split_name(path)
        if file is not None:
            yield file
