"""JSON and TOML that anyone may have written, parsed within limits.

Whatever stands there, the answer is its content or one ``UserError`` that names its source:
neither nesting, long numbers nor long keys cost more than reading the file does.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from typing import Any, Optional, Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import AnyPath, read_bytes, read_text, reason

MAX_JSON_BYTES = 1 << 24
"""The largest JSON file that is read; results of hundreds of stages take a tenth."""
MAX_TOML_BYTES = 1 << 22
"""The largest file of settings that is read."""

_MAX_DEPTH = 64
_MAX_KEY_PARTS = 16
_MAX_DIGITS = 40
_MAX_TOML_INTEGER = 1 << 63


def read_json(
    path: AnyPath,
    limit: int = MAX_JSON_BYTES,
    *,
    missing: str = "no such file",
    hint: str = "restore the file",
) -> Any:
    """Read a JSON file; see ``parse_json``.

    Args:
        path: the file.
        limit: its largest size in bytes.
        missing: as for ``check_regular``.
        hint: what to do where it is no JSON.

    Raises:
        UserError: as ``read_bytes`` and ``parse_json``.
    """
    return parse_json(read_bytes(path, limit, missing=missing), str(path), hint=hint)


def read_object(
    path: AnyPath,
    limit: int = MAX_JSON_BYTES,
    *,
    missing: str = "no such file",
    hint: str = "restore the file",
) -> dict[str, Any]:
    """Read a JSON file that holds an object; see ``read_json``.

    Raises:
        UserError: as ``read_json``, or it holds something else.
    """
    value = read_json(path, limit, missing=missing, hint=hint)
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object; {hint}")
    return value


def read_toml(
    path: AnyPath, limit: int = MAX_TOML_BYTES, *, missing: str = "no such file"
) -> dict[str, Any]:
    """Read a TOML file; see ``parse_toml``.

    Raises:
        UserError: as ``read_text`` and ``parse_toml``.
    """
    return parse_toml(read_text(path, limit, missing=missing), str(path))


def parse_json(
    text: Union[str, bytes],
    source: str,
    *,
    hint: str = "restore the file",
    finite: bool = True,
) -> Any:
    """Parse JSON that anyone may have written.

    Args:
        text: it, as text or UTF-8.
        source: where it stands, for the message.
        hint: what to do where it is wrong.
        finite: whether ``NaN``, ``Infinity`` and numbers beyond all floats are errors.

    Raises:
        UserError: it is no JSON; or nested more than 64 deep, with an integer of more than 40
            digits, a key twice in an object, a NUL or half a surrogate pair in a text, or, with
            ``finite``, a number that is not finite.
    """

    def number(literal: str) -> float:
        value = float(literal)
        if finite and not math.isfinite(value):
            raise ValueError(f"{literal[:40]} is no finite number")
        return value

    try:
        content = text if isinstance(text, str) else text.decode("utf-8")
        if content.startswith("\ufeff"):
            content = content[1:]
        _check_brackets(content.replace("\\\\", "").replace('\\"', "").split('"')[::2])
        tree = json.loads(
            content,
            parse_int=_integer,
            parse_float=number,
            parse_constant=number,
            object_pairs_hook=_object,
        )
        _check_tree(tree, "\\u" in content or "\0" in content, finite)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not valid JSON ({_problem(error)}); {hint}") from None
    return tree


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Parse TOML that anyone may have written.

    Raises:
        UserError: it is no TOML; or nested more than 64 deep, with a key of more than 16 parts, an
            integer beyond 64 bits, a number that is not finite, or a NUL in a text.
    """
    try:
        return _toml(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not valid TOML: {_problem(error)}") from None


def parse_toml_value(text: str, source: str) -> Any:
    """Parse one value of TOML; what is none is a text as it stands, so words need no quotes.

    Raises:
        UserError: as ``parse_toml``, or there is a line break or another control character.
    """
    try:
        if any(ord(letter) < 32 and letter != "\t" for letter in text):
            raise ValueError("a value has no line breaks and no control characters")
        return _toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: {_problem(error)}") from None


def _toml(text: str) -> dict[str, Any]:
    # The parser takes time by the cube of a key's parts, and stack by the depth of brackets.
    if _looks_deep(text):
        _check_toml_shape(text)
    tree = tomllib.loads(text)
    _check_tree(tree, "\\" in text or "\0" in text, True, _MAX_TOML_INTEGER)
    return tree


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested more than {_MAX_DEPTH} deep"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is not UTF-8"
    return reason(error)


def _integer(literal: str) -> int:
    if len(literal) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(literal)} digits")
    return int(literal)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice in an object")
    return found


def _check_brackets(parts: list[str]) -> None:
    depth = 0
    for part in parts:
        for bracket in re.findall(r"[\[\]{}]", part):
            depth += 1 if bracket in "[{" else -1
            if depth > _MAX_DEPTH:
                raise RecursionError


def _check_tree(tree: Any, escapes: bool, finite: bool, most: Optional[int] = None) -> None:
    """Check what was parsed; ``escapes``: whether a text could hold what a file cannot."""
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, (dict, list)):
            if depth > _MAX_DEPTH:
                raise RecursionError
            waiting.extend((each, depth + 1) for each in node)
            if isinstance(node, dict):
                waiting.extend((each, depth + 1) for each in node.values())
        elif isinstance(node, str):
            if escapes and "\0" in node:
                raise ValueError("a text holds a NUL character")
            if escapes:
                try:
                    node.encode()
                except UnicodeEncodeError:
                    raise ValueError("a text holds half a surrogate pair") from None
        elif isinstance(node, float):
            if finite and not math.isfinite(node):
                raise ValueError(f"{node} is no finite number")
        elif most is not None and isinstance(node, int) and not -most <= node < most:
            raise ValueError("an integer needs more than 64 bits")


def _looks_deep(text: str) -> bool:
    """Return whether brackets or dots could be too many, strings and comments not told apart."""
    if any(line.count(".") >= _MAX_KEY_PARTS for line in text.split("\n")):
        return True
    try:
        _check_brackets([text])
    except RecursionError:
        return True
    return False


_TOML_TOKEN = re.compile("\"\"\"|'''|[\"'#\n.=,\\[\\]{}]")
_TOML_ENDS = {
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    "'''": re.compile("'''"),
    '"': re.compile(r'\\.|"|\n'),
    "'": re.compile("'|\n"),
    "#": re.compile("\n"),
}


def _check_toml_shape(text: str) -> None:
    """Check the depth of brackets and the parts of keys, outside strings and comments."""
    place = depth = dots = 0
    while token := _TOML_TOKEN.search(text, place):
        mark, place = token[0], token.end()
        ends = _TOML_ENDS.get(mark)
        if ends is not None:
            while end := ends.search(text, place):
                place = end.end()
                if not end[0].startswith("\\"):
                    break
            else:
                return  # a string that does not end: the parser says so
            mark = end[0]
        if mark == ".":
            dots += 1
            if dots >= _MAX_KEY_PARTS:
                raise ValueError(f"a key of more than {_MAX_KEY_PARTS} parts")
        elif mark in "\n=,[]{}":
            dots = 0
            depth += (mark in "[{") - (mark in "]}")
            if depth > _MAX_DEPTH:
                raise RecursionError
