"""What is wrong with a value of a typed tree, in words of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dglke_distill.base.shown import plural

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "finite_number": "must be a finite number",
    "none_required": "must be left out",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of settings",
    "model_type": "must be a table of settings",
    "model_attributes_type": "must be a table of settings",
}
_BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "too_short": ("min_length", "must have at least {}"),
    "too_long": ("max_length", "must have at most {}"),
    "string_too_short": ("min_length", "must have at least {}"),
    "string_too_long": ("max_length", "must have at most {}"),
    "literal_error": ("expected", "must be {}"),
    "enum": ("expected", "must be {}"),
    "string_pattern_mismatch": ("pattern", "must be written as the pattern {} says"),
}
_COUNTED = {
    "too_short": ("entry", "entries"),
    "too_long": ("entry", "entries"),
    "string_too_short": ("character", ""),
    "string_too_long": ("character", ""),
}


def fault_words(fault: Mapping[str, Any]) -> str:
    """Return what a value must be, such as ``must be at least 1``.

    Args:
        fault: an item of ``ValidationError.errors()``.
    """
    kind, more = fault["type"], fault.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind]
    key, words = _BOUNDS.get(kind, ("", ""))
    if key in more:
        bound = more[key]
        whole = isinstance(bound, float) and bound.is_integer() and abs(bound) < 1e6
        noun, nouns = _COUNTED.get(kind, ("", ""))
        return words.format(plural(bound, noun, nouns) if noun else int(bound) if whole else bound)
    if kind == "value_error":  # of a validator of ours
        return str(more.get("error", fault["msg"])).removeprefix("Value error, ")
    return str(fault["msg"])
