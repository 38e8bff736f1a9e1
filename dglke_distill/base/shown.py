"""Text of others as people see it: what a terminal or a page would obey is shown escaped.

Names, paths and messages may come from a downloaded file. A terminal obeys control characters and
ANSI sequences, and characters that turn the direction of writing make one name look like another.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# Control characters (C0, delete, C1), soft hyphen, marks and turns of direction, invisible
# operators and spaces, line and paragraph ends, lone halves of characters, and tags that are read
# as nothing at all. The joiners that words and emoji are written with (200C, 200D) stay.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e001f"
)
_ANY = re.compile(f"[{_HIDDEN}]")


def visible(text: str, keep: str = "") -> str:
    r"""Return a text with its control and direction characters escaped, as ``\x1b`` or ``\u202e``.

    Args:
        text: of whatever origin.
        keep: characters that stay as they are, such as line ends.
    """
    return _ANY.sub(
        lambda found: (
            found[0] if found[0] in keep else found[0].encode("unicode_escape").decode("ascii")
        ),
        text,
    )


def plural(count: float, noun: str, nouns: str = "") -> str:
    """Return the count with its noun, as in ``1 line`` and ``2,000 lines``.

    Args:
        count: how many; a rate perhaps.
        noun: of one.
        nouns: of several; empty: the noun with an s, or ``entities`` for ``entity``.
    """
    if count == 1:
        return f"1 {noun}"
    several = nouns or (f"{noun[:-1]}ies" if noun.endswith("ty") else f"{noun}s")
    return f"{count:,g} {several}" if isinstance(count, float) else f"{count:,} {several}"


def percent_text(value: float) -> str:
    """Return a share as a number of percent, such as ``3.1`` or ``-0.4``; never ``-0.0``."""
    return f"{100 * value + 0.0:.1f}".replace("-0.0", "0.0")


_INTERVAL = r"\[-?\d+\.\d, -?\d+\.\d\](?![(\[:])"
"""An interval as our sentences write it: Markdown makes no link of it."""


def markdown_text(text: str, *, emphasis: str = "*_~") -> str:
    """Return a text on one line of Markdown that begins no link, tag, cell or emphasis there.

    Args:
        text: what to show as it is; an interval such as ``[4.1, 6.3]`` stays readable.
        emphasis: characters that are escaped beside those of links, tags, cells and code; none
            where the text is also read in terminals.
    """

    def escaped(found: re.Match[str]) -> str:
        return found[0] if len(found[0]) > 1 else f"\\{found[0]}"

    special = f"[{re.escape(emphasis)}\\\\`|<>\\[\\]]"
    return visible(re.sub(f"{_INTERVAL}|{special}", escaped, " ".join(text.split())))


def fenced(text: str, language: str = "") -> list[str]:
    """Return the lines of a code block in Markdown that the text cannot end.

    Args:
        text: what to show as it is.
        language: of the text.
    """
    runs = [len(run) for run in re.findall(r"`+", text)]
    fence = "`" * max(3, 1 + max(runs, default=0))
    return [f"{fence}{language}", visible(text, keep="\n\t"), fence]


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """Return JSON of exactly this value that does nothing to a terminal.

    Numbers that JSON has no word for, NaN and the infinite ones, are null.

    Args:
        value: what to write.
        indent: see ``json.dumps``.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _in_string(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(of) for key, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def toml_text(text: str) -> str:
    """Return TOML that means the same and does nothing to a terminal."""
    return _in_string(text, wide=True)


def _in_string(text: str, *, wide: bool = False) -> str:
    """Escape what ``visible`` escapes; in these formats it can only stand inside a string."""

    def escaped(found: re.Match[str]) -> str:
        if found[0] in "\n\r\t":
            return found[0]
        code = ord(found[0])
        if code <= 0xFFFF:
            return f"\\u{code:04x}"
        if wide:
            return f"\\U{code:08x}"
        return json.dumps(found[0])[1:-1]

    return _ANY.sub(escaped, text)


def capitalised(line: str) -> str:
    """Return a line with a capital for its first letter, and all others as they are."""
    return line[:1].upper() + line[1:]
