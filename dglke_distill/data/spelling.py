"""What did you mean? Near spellings among millions of names."""

from __future__ import annotations

import difflib
import heapq
import re
import unicodedata
from collections.abc import Collection, Iterable

__all__ = ["folded", "likely_names", "near_spellings"]

SHORTLIST = 200
_MOST_BY_WORD = 200_000
"""Names whose single words are looked at too, where nothing else is alike."""


def folded(text: str) -> str:
    """Return text without letter case and accents, on one line."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(char for char in parts if not unicodedata.combining(char))
    return text.casefold().replace("\n", " ")


def likely_names(text: str, names: Collection[str], count: int = 3) -> list[str]:
    """Return the names that a text probably means: ``dog`` for ``dog face``, or ``dig``.

    First the names that hold the text as a word of its own, the shortest first; then near
    spellings; else, of up to 200,000 names, those that hold a word spelled alike.

    Args:
        text: what was typed, which is none of the names.
        names: the right ones.
        count: most names to return.
    """
    wanted = folded(text.strip())
    holding: list[tuple[int, int, str]] = []
    if wanted:
        word = re.compile(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])")
        fitting = (
            (len(name), number, name)
            for number, name in enumerate(names)
            if wanted in (low := folded(name)) and word.search(low)
        )
        holding = heapq.nsmallest(count, fitting)
    found = [name for _, _, name in holding]
    found += [name for name in near_spellings(text, names, count) if name not in found]
    if wanted and not found and len(names) <= _MOST_BY_WORD:
        words: dict[str, str] = {}
        for name in names:
            for part in re.findall(r"[^\W_]{4,}", folded(name)):
                words.setdefault(part, name)
        found = list(dict.fromkeys(words[part] for part in near_spellings(wanted, words, count)))
    return found[:count]


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
