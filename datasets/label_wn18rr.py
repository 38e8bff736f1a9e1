"""Name the synsets of WN18RR from WordNet 3.0: makes ``datasets/wn18rr/labels.tsv.gz``.

The entities of WN18RR are places in WordNet's data files, such as 02084071. Debian and Ubuntu ship
WordNet 3.0 as the package ``wordnet-base`` (files below ``/usr/share/wordnet``), in which some
corrected glosses moved the places after them; these are moved back::

    python datasets/label_wn18rr.py FOLDER_OF_WN18RR [FOLDER_OF_WORDNET]

A label is the synset's usual name: its first word, part of speech and number of the sense, as in
``dog.n.01``. The description is its gloss without the examples. A place can occur in the files of
several parts of speech; the one whose pointers to other synsets the facts repeat is meant.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
CORRECTED = {"v": (613411, 2423762, 18), "a": (1686440, 99999999, 1)}
"""By part of speech: the first place that Debian's files moved, the next that they did not, and by
how many bytes those between were moved."""
HERE = Path(__file__).resolve().parent


def synsets(wordnet: Path) -> Iterator[tuple[str, str, str, set[str]]]:
    """Yield place, name, gloss and places pointed to of each synset.

    Args:
        wordnet: the folder of ``data.noun`` and ``index.noun``.
    """
    moved: dict[str, tuple[int, int, int]] = {}
    for file, part in PARTS.items():
        places = {line[:8] for line in (wordnet / f"data.{file}").open(encoding="ascii")}
        if part in CORRECTED and f"{CORRECTED[part][0]:08d}" in places:
            moved[part] = CORRECTED[part]

    def published(place: str, part: str) -> str:
        first, last, by = moved.get("a" if part == "s" else part, (0, 0, 0))
        return f"{int(place) - by:08d}" if first <= int(place) < last else place

    for file, part in PARTS.items():
        senses: dict[tuple[str, str], int] = {}
        for line in (wordnet / f"index.{file}").read_text(encoding="ascii").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                places = fields[-int(fields[2]) :]
                senses.update({(fields[0], place): i for i, place in enumerate(places, 1)})
        for line in (wordnet / f"data.{file}").read_text(encoding="ascii").splitlines():
            if line.startswith(" "):  # the licence
                continue
            data, _, gloss = line.partition(" | ")
            fields = data.split()
            place, kind, words = fields[0], fields[2], int(fields[3], 16)
            word = fields[4].partition("(")[0].lower()
            rest = fields[4 + 2 * words :]
            pointers = (rest[2 + 4 * i : 4 + 4 * i] for i in range(int(rest[0])))
            pointed = {published(*pointer) for pointer in pointers}
            name = f"{word}.{kind}.{senses[word, place]:02d}"
            yield published(place, part), name, gloss.partition('; "')[0].strip(), pointed


def main(dataset: Path, wordnet: Path) -> None:
    """Write the labels.

    Args:
        dataset: the folder with ``train.txt``, ``valid.txt`` and ``test.txt``.
        wordnet: the folder of WordNet's files.
    """
    others: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        for line in (dataset / f"{split}.txt").read_text(encoding="utf-8").splitlines():
            head, _, tail = line.split("\t")
            others.setdefault(head, set()).add(tail)
            others.setdefault(tail, set()).add(head)
    found: dict[str, tuple[int, str, str]] = {}
    several: Counter[str] = Counter()
    for place, name, gloss, pointed in synsets(wordnet):
        if place in others:
            several[place] += 1
            repeated = len(pointed & others[place])
            if repeated > found.get(place, (-1, "", ""))[0]:
                found[place] = repeated, name, gloss
    lines = [f"{place}\t{name}\t{gloss}\n" for place, (_, name, gloss) in sorted(found.items())]
    target = HERE / "wn18rr" / "labels.tsv.gz"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
    print(
        f"{len(found):,} of {len(others):,} synsets named, {sum(n > 1 for n in several.values())} "
        f"of them by their pointers; {target.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path((sys.argv[2:] or ["/usr/share/wordnet"])[0]))
