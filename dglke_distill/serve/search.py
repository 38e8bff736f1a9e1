"""Names by what has been typed of them, fast enough for millions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.spelling import folded
from dglke_distill.data.triples import Vocabulary

_MOST = 5000
"""Occurrences that are looked at, of one kind: enough to choose from."""

_LETTERS = np.array([b >= 128 or chr(b).isalnum() for b in range(256)])
"""Which bytes of UTF-8 are, or are part of, what a word goes on with."""


class NameSearch:
    """Finds names by a part of them, whatever the letter case and accents.

    All names lie folded in one string of bytes, one a line, so that a search is one of the
    processor's own.

    Args:
        names: the names.
        weight: (names,) how prominent each is; of names that fit equally well, the weightiest
            come first. None: the first do.
    """

    def __init__(
        self, names: Union[Vocabulary, Sequence[str]], weight: Optional[NDArray[Any]] = None
    ) -> None:
        """Fold all names."""
        self._names = names
        self._weight = weight
        lines = [folded(name).encode() for name in names]
        self._text = b"\n" + b"\n".join(lines) + b"\n"
        lengths = np.fromiter((len(line) + 1 for line in lines), np.int64, len(lines))
        self._starts = 1 + np.concatenate([[0], np.cumsum(lengths)[:-1]]) if lines else lengths

    def find(self, text: str, limit: int) -> list[int]:
        """Return the ids of the names that fit best, best first.

        The name itself comes first, then names that begin so, names with a word that does, and
        names that hold the text anywhere.

        Args:
            text: what has been typed; without it, the most prominent names.
            limit: most ids to return.
        """
        if not len(self._names):
            return []
        wanted = folded(text.strip()).encode()
        if not wanted:
            return self._heaviest(np.arange(len(self._names)), limit)
        found: dict[int, None] = {}
        whole = self._rows(b"\n" + wanted + b"\n", shift=1)
        beginning = self._rows(b"\n" + wanted, shift=1)
        for rows in (whole, beginning):
            found.update(dict.fromkeys(self._heaviest(rows, limit)))
        if len(found) < limit:
            starts, inside = self._within(wanted)
            for rows in (starts, inside):
                found.update(dict.fromkeys(self._heaviest(rows, limit)))
        return list(found)[:limit]

    def _heaviest(self, rows: NDArray[np.int64], limit: int) -> list[int]:
        if self._weight is not None and len(rows) > 1:
            weight = self._weight[rows]
            if len(rows) > 10 * limit:  # no need to sort them all
                cut = np.partition(weight, len(rows) - limit)[len(rows) - limit]
                rows, weight = rows[weight >= cut], weight[weight >= cut]
            rows = rows[np.argsort(-weight, kind="stable")]
        return [int(row) for row in rows[:limit]]

    def _occurrences(self, wanted: bytes) -> Iterator[int]:
        place = self._text.find(wanted)
        while place >= 0:
            yield place
            place = self._text.find(wanted, place + 1)

    def _rows(self, wanted: bytes, shift: int) -> NDArray[np.int64]:
        """Return the distinct rows in which the first occurrences lie, ascending."""
        places = [p + shift for p, _ in zip(self._occurrences(wanted), range(_MOST))]
        rows = np.searchsorted(self._starts, np.array(places, np.int64), side="right") - 1
        return np.unique(rows)

    def _within(self, wanted: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows with a word that begins so, and those that only hold it."""
        places = np.array(
            [p for p, _ in zip(self._occurrences(wanted), range(_MOST))], dtype=np.int64
        )
        before = np.frombuffer(self._text, np.uint8)[places - 1]
        rows = np.searchsorted(self._starts, places, side="right") - 1
        starting = np.unique(rows[~_LETTERS[before]])
        return starting, np.setdiff1d(rows, starting)
