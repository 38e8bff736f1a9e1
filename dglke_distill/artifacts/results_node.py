"""What every object of ``results.json`` is: typed, immutable, with faults told in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.faults import fault_words
from dglke_distill.base.schema import BaseModel, ConfigDict, ValidationError

__all__ = ["FIX", "ResultsNode", "strict_json"]

FIX = "write it anew by resuming the run"
"""What to do where a file of results is no such file."""

Kind = TypeVar("Kind", bound="ResultsNode")


class ResultsNode(BaseModel):
    """An object in ``results.json``: immutable, its numbers finite, unknown keys kept."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True
    )

    @classmethod
    def of(cls: type[Kind], tree: Mapping[str, Any], source: Union[str, Path]) -> Kind:
        """Validate what a file holds.

        Args:
            tree: its content.
            source: the file, for messages.

        Raises:
            UserError: a key is missing or holds something else; the message names file and key.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise UserError(f"{source}: {_fault(error)}; {FIX}") from None

    def to_tree(self) -> dict[str, Any]:
        """Return the object as JSON holds it: the keys that it was made with, no others."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def strict_json(tree: Mapping[str, Any]) -> str:
    """Return a mapping as strict JSON: numpy scalars as Python's, NaN and infinities as null."""
    return json.dumps(_plain(tree), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return what strict JSON can hold: numpy scalars as Python's, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


_FAULTS = {
    "missing": "is missing",
    "model_type": "is no object",
    "dict_type": "is no object",
    "list_type": "is no list",
    "too_short": "is no list of at least one entry",
    "float_type": "is no number",
    "string_type": "is no string",
    "bool_type": "is neither true nor false",
    "finite_number": "is not finite",
}


def _fault(error: ValidationError) -> str:
    """Return the first fault, in words, after the place where it stands: ``stages[0].name``."""
    first = error.errors(include_url=False)[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    value, kind = first["input"], first["type"]
    if kind == "int_type":
        fault = "is no whole number" if isinstance(value, float) else "is no number"
    elif kind == "value_error":  # of our own, which names what it means
        return str(first["ctx"]["error"])
    elif kind == "literal_error":
        fault = f"is {value!r:.60}, not {first['ctx']['expected']}"
    else:
        fault = _FAULTS.get(kind, fault_words(first))
    return f"{place.lstrip('.') or 'the content'} {fault}"
