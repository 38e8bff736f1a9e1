"""What did you mean? Near spellings, among few words and among millions of names."""

from __future__ import annotations

import difflib
import heapq
import re
import unicodedata
from collections.abc import Collection, Iterable
from itertools import islice

ALIKE = 0.65
"""Similarity (difflib's) of a name that may be meant: one letter of three is another one."""
_WORDS_ALIKE = 0.76
"""The same of single words within names, of which there are many more."""
SHORTLIST = 200
_FEW = 5
_SHOWN = 60
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
        near = near_spellings(wanted, words, count, _WORDS_ALIKE)
        found = list(dict.fromkeys(words[part] for part in near))
    return found[:count]


def known_names(names: Collection[str], where: str = "") -> str:
    """Return the first few names that there are, for who wrote one that is like none of them.

    Args:
        names: the right ones.
        where: what lists them all, said if they are more than are shown.
    """
    if not names:
        return "there are none"
    first = islice(names, _FEW)
    shown = [repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...") for name in first]
    if len(names) <= _FEW:
        return f"known: {', '.join(shown)}"
    more = f" ({where} lists all)" if where else ""
    return f"known: {', '.join(shown)} and {len(names) - _FEW:,} more{more}"


def near_words(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the words that are spelled alike, best first; for lists of some hundred at most.

    Args:
        word: the misspelled word.
        known: the right ones.
        count: most words to return.
    """
    return difflib.get_close_matches(word[:100], list(known), n=count, cutoff=ALIKE)


def near_spellings(
    name: str, names: Iterable[str], count: int = 3, alike: float = ALIKE
) -> list[str]:
    """Return the names that are spelled most alike, whatever the letter case, best first.

    The 200 names with the greatest share of the pairs of letters are compared closely (difflib):
    about a second for 2.5 million names, minutes without that.

    Args:
        name: the misspelled name.
        names: the right ones.
        count: most names to return.
        alike: least similarity, of difflib, not below 0.6.
    """
    wanted = name.lower()
    pairs = sorted({wanted[i : i + 2] for i in range(max(1, len(wanted) - 1))})
    shortest, longest = 0.4 * len(wanted), 2.4 * len(wanted)  # others are less than 0.6 alike

    def shared(other: str) -> float:
        text = other.lower()
        return sum(pair in text for pair in pairs) / (len(pairs) + len(text))

    fitting = (other for other in names if shortest <= len(other) <= longest)
    shortlist = heapq.nlargest(SHORTLIST, fitting, key=shared)
    spelled: dict[str, list[str]] = {}
    for other in shortlist:
        spelled.setdefault(other.lower(), []).append(other)
    near = difflib.get_close_matches(wanted, spelled, n=count, cutoff=alike)
    return [other for text in near for other in spelled[text]][:count]
