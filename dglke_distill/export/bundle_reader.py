"""Answers from an edge bundle with NumPy alone; this file works wherever it is copied to.

    bundle = Bundle("model.bundle")
    bundle.predict_tails("Latvia", "uses_currency", k=5)   # [(name, score), ...]

``export/bundle.py`` describes the file.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from typing import Any, Union

import numpy as np

__all__ = ["Bundle"]

_MAGIC = b"KGBUNDLE"
_DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1", "uint32": "<u4"}
_BLOCK = 65536  # candidates decoded at a time

Name = Union[str, int]
"""A name, or an id where no name is a number."""


class Bundle:
    """A model read from a bundle. Entities and relations go by name, or by id where int.

    Args:
        path: the file; its arrays are mapped, not read.

    Attributes:
        header: what the file says about itself.

    Raises:
        ValueError: the file is no bundle, or damaged.
    """

    def __init__(self, path: Any) -> None:
        """Read the header and look whether the arrays are whole."""
        data = np.memmap(path, dtype=np.uint8, mode="r")
        if len(data) < 16 or data[:8].tobytes() != _MAGIC:
            raise ValueError(f"{path}: no bundle")
        version, length = (int(number) for number in data[8:16].view("<u4"))
        if version != 1 or 16 + length > len(data):
            raise ValueError(f"{path}: damaged, or of version {version}; this reader knows 1")
        try:
            self.header: dict[str, Any] = json.loads(data[16 : 16 + length].tobytes())
            body = data[16 + length :]
            self._arrays = {
                name: _array(body, about) for name, about in self.header["arrays"].items()
            }
            self._entity = self._arrays["entity"]
            shape = (self.header["entities"], self.header["dim"])
            if self._entity.shape != shape:
                raise ValueError(f"entity vectors of shape {self._entity.shape}, not {shape}")
            self.entities = self._names("entities")
            self.relations = self._names("relations")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error})") from None
        self._ids: dict[str, dict[str, int]] = {}
        self._numerals: dict[str, bool] = {}

    def _names(self, kind: str) -> list[str]:
        found = self.header["names"][kind]
        count = self.header[kind]
        if found is None:
            return [str(i) for i in range(count)]
        text, ends = self._arrays[found["text"]].tobytes(), self._arrays[found["ends"]].tolist()
        if len(ends) != count:
            raise ValueError(f"{len(ends)} names of {kind}, not {count}")
        return [text[start:end].decode() for start, end in zip([0, *ends], ends)]

    def entity_id(self, entity: Name) -> int:
        """Return the id of an entity.

        Raises:
            KeyError: there is no such entity.
        """
        return self._id(entity, "entities")

    def relation_id(self, relation: Name) -> int:
        """Return the id of a relation.

        Raises:
            KeyError: there is no such relation.
        """
        return self._id(relation, "relations")

    def _id(self, name: Name, kind: str) -> int:
        names = getattr(self, kind)
        if kind not in self._ids:
            self._ids[kind] = {known: i for i, known in enumerate(names)}
        if isinstance(name, str):
            found = self._ids[kind].get(name)
        else:
            found = None if isinstance(name, (bool, float)) else operator.index(name)
        if found is None or not 0 <= found < len(names):
            raise KeyError(f"{name!r} is none of the {len(names)} {kind}")
        if not isinstance(name, str) and self._misleading(kind):
            raise KeyError(
                f"{name!r} may be a name or an id, since names here are numbers: give the name as "
                f"text, {str(found)!r}, or for the id its name, {names[found]!r}"
            )
        return found

    def _misleading(self, kind: str) -> bool:
        """Return whether a name is a number other than its id."""
        if kind not in self._numerals:
            names = enumerate(getattr(self, kind))
            self._numerals[kind] = any(_is_number(name) and name != str(i) for i, name in names)
        return self._numerals[kind]

    def vectors(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return entity vectors of ids start to stop, (stop - start, dim) float32."""
        rows = self._entity[start:stop].astype(np.float32)
        if self._entity.dtype == np.int8:
            rows *= self._arrays["entity_scale"][start:stop, None]
        return rows

    def scores(self, known: Name, relation: Name, side: str = "tail") -> np.ndarray[Any, Any]:
        """Score every entity as the answer to (known, relation, ?).

        Args:
            known: the known entity.
            relation: the relation.
            side: what is asked for; "head" for (?, relation, known).

        Returns:
            (entities,) float32, higher is more plausible.
        """
        entity, row = self.entity_id(known), self.relation_id(relation)
        query = self._mapped("query", self.vectors(entity, entity + 1), row, side)
        count = self.header["entities"]
        parts = []
        for start in range(0, count, _BLOCK):
            rows = self.vectors(start, min(count, start + _BLOCK))
            if self.header["candidate"] is not None:
                rows = self._mapped("candidate", rows, row, side)
            parts.append(_similarity(self.header["kernel"], query, rows))
        total = np.concatenate(parts)
        return total + self._arrays["entity_bias"] if "entity_bias" in self._arrays else total

    def _mapped(
        self, kind: str, vectors: np.ndarray[Any, Any], relation: int, side: str
    ) -> np.ndarray[Any, Any]:
        parts = self.header[kind][side]
        if "matrix" in parts:
            moved = vectors @ self._part(parts["matrix"], relation)
        else:
            half = vectors.shape[1] // 2
            swapped = vectors if vectors.shape[1] % 2 else np.roll(vectors, half, axis=1)
            moved = vectors * self._part(parts["scale"], relation)
            moved = moved + swapped * self._part(parts["cross"], relation)
        return moved + self._part(parts["shift"], relation)

    def _part(self, part: dict[str, Any], relation: int) -> Any:
        if "constant" in part:
            return np.float32(part["constant"])
        row = self._arrays[part["array"]][relation].astype(np.float32)
        row = row.T if part.get("transpose") else row
        return -row if part.get("negate") else row

    def score(self, head: Name, relation: Name, tail: Name) -> float:
        """Return the score of a triple, as an answer to (head, relation, ?).

        With reciprocal relations it has another as an answer to (?, relation, tail).
        """
        return float(self.scores(head, relation, "tail")[self.entity_id(tail)])

    def predict_tails(
        self, head: Name, relation: Name, k: int = 10, exclude: Iterable[Name] = ()
    ) -> list[tuple[str, float]]:
        """Return the k best answers to (head, relation, ?), but those to exclude."""
        return self._best(self.scores(head, relation, "tail"), k, exclude)

    def predict_heads(
        self, relation: Name, tail: Name, k: int = 10, exclude: Iterable[Name] = ()
    ) -> list[tuple[str, float]]:
        """Return the k best answers to (?, relation, tail), but those to exclude."""
        return self._best(self.scores(tail, relation, "head"), k, exclude)

    def _best(
        self, scores: np.ndarray[Any, Any], k: int, exclude: Iterable[Name]
    ) -> list[tuple[str, float]]:
        banned = [self.entity_id(name) for name in exclude]
        scores[banned] = -np.inf
        order = np.argsort(-scores, kind="stable")[: max(0, min(k, len(scores) - len(set(banned))))]
        return [(self.entities[i], float(scores[i])) for i in order]


def _is_number(name: str) -> bool:
    try:
        return float(name).is_integer()
    except (ValueError, OverflowError):
        return False


def _array(body: np.ndarray[Any, Any], about: dict[str, Any]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(_DTYPES[about["dtype"]])
    shape, start = tuple(about["shape"]), about["offset"]
    size = dtype.itemsize
    for number in shape:
        size *= number
    if start < 0 or any(number < 0 for number in shape) or start + size > len(body):
        raise ValueError("an array lies outside the file")
    return body[start : start + size].view(dtype).reshape(shape)


def _similarity(
    kernel: str, query: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    if kernel == "dot":
        return rows @ query[0]
    difference = rows - query
    if kernel == "l1":
        return -np.abs(difference).sum(axis=1)
    squares = difference * difference
    if kernel == "l2":
        return -np.sqrt(squares.sum(axis=1))
    if kernel == "l2_squared":
        return -squares.sum(axis=1)
    if kernel != "complex_modulus":
        raise ValueError(f"unknown kernel {kernel!r}")
    half = squares.shape[1] // 2
    return -np.sqrt(squares[:, :half] + squares[:, half:]).sum(axis=1)
