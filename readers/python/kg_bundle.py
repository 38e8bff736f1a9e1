"""Answers from an edge bundle with NumPy alone; this file works wherever it is copied to.

    bundle = Bundle("model.bundle")
    bundle.predict_tails("Latvia", "uses_currency", k=5)   # [(name, score), ...]

FORMAT.md in the repository describes the file.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Iterable
from typing import Any, Optional, Union

import numpy as np

__all__ = ["Bundle"]

_MAGIC = b"KGBUNDLE"
_DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1", "uint32": "<u4"}
_FLOATS = ("float32", "float16")
_KERNELS = ("dot", "l1", "l2", "l2_squared", "complex_modulus")
_BLOCK = 4096  # candidates decoded at a time, few enough for a cache
_LONGEST, _DEEPEST, _MOST_ARRAYS = 1 << 20, 16, 64  # of a header, in bytes; brackets; arrays
_GREATEST = 3.4028234663852886e38  # of float32
_ENDS = ("inner", "outer")  # of a hidden layer
Array = np.ndarray[Any, Any]
Name = Union[str, int]
"""A name, or an id where no name is a number."""
Names = Optional[Iterable[Name]]
Answers = list[tuple[str, float]]


class Bundle:
    """A model read from a bundle. Entities and relations go by name, or by id where int.

    Args:
        path: the file; its arrays are mapped, not read.

    Attributes:
        header: what the file says about itself.
        labels: names that people know for the entities, empty where one has none; None without any.

    Raises:
        ValueError: the file is no bundle, or damaged.
    """

    def __init__(self, path: Any) -> None:
        """Read the header and look whether the arrays are whole."""
        if isinstance(path, (str, os.PathLike)) and not os.path.isfile(path):
            raise ValueError(f"{path}: no file")
        try:
            data = np.memmap(path, dtype=np.uint8, mode="r")
        except ValueError:  # it is empty
            raise ValueError(f"{path}: no bundle") from None
        if len(data) < 16 or data[:8].tobytes() != _MAGIC:
            raise ValueError(f"{path}: no bundle")
        version, length = (int(number) for number in data[8:16].view("<u4"))
        if not 1 <= version <= 3 or length % 16 or not length <= min(len(data) - 16, _LONGEST):
            raise ValueError(f"{path}: damaged, or of version {version}; this reader knows 1 to 3")
        try:
            self.header: dict[str, Any] = _parsed(data[16 : 16 + length].tobytes())
            body = data[16 + length :]
            _check(self.header, len(body), version)
            self._arrays: dict[str, Array] = {}
            for name, about in self.header["arrays"].items():
                start, stop = _span(about, len(body))
                array = body[start:stop].view(_DTYPES[about["dtype"]])
                self._arrays[name] = array.reshape(about["shape"])
            self._entity = self._arrays["entity"]
            self._ids: dict[str, dict[str, int]] = {}
            self.entities = self._names("entities")
            self.relations = self._names("relations")
            self.labels = self._texts(self.header["labels"]) if self.header.get("labels") else None
        except ValueError as error:
            raise ValueError(f"{path}: damaged ({error})") from None
        self._numerals: dict[str, bool] = {}

    def _names(self, kind: str) -> list[str]:
        found, count = self.header["names"][kind], self.header[kind]
        names = [str(i) for i in range(count)] if found is None else self._texts(found)
        self._ids[kind] = {name: i for i, name in enumerate(names)}
        _demand(len(self._ids[kind]) == count, f"two {kind} have one name")
        return names

    def _texts(self, found: dict[str, str]) -> list[str]:
        text, ends = self._arrays[found["text"]].tobytes(), self._arrays[found["ends"]]
        _demand((ends[1:] >= ends[:-1]).all() and ends[-1] == len(text), "names end elsewhere")
        return [text[start:end].decode() for start, end in zip([0, *ends.tolist()], ends.tolist())]

    def entity_id(self, entity: Name) -> int:
        """Return the id of an entity by its name, or by a label that it has alone; or KeyError."""
        return self._id(entity, "entities")

    def relation_id(self, relation: Name) -> int:
        """Return the id of a relation by its name; or KeyError."""
        return self._id(relation, "relations")

    def _id(self, name: Name, kind: str) -> int:
        names = getattr(self, kind)
        if isinstance(name, str):
            found = self._ids[kind].get(name)
            return self._labelled(name, kind) if found is None else found
        found = -1 if isinstance(name, (bool, float)) else operator.index(name)
        if not 0 <= found < len(names):
            raise KeyError(f"{name!r} is none of the {len(names)} {kind}")
        if self._misleading(kind):
            raise KeyError(
                f"{name!r} may be a name or an id, since names here are numbers: give the name as "
                f"text, {str(found)!r}, or for the id its name, {names[found]!r}"
            )
        return found

    def _labelled(self, text: str, kind: str) -> int:
        """Return the id of the one entity that people call by a text, in any letter case."""
        names, labels = getattr(self, kind), self.labels if kind == "entities" else None
        found = [i for i, label in enumerate(labels or ()) if label.casefold() == text.casefold()]
        if text and len(found) == 1:
            return found[0]
        lack = ", and the bundle has no labels" if labels is None else ", nor the label of one"
        told = f"is none of the {len(names)} {kind}" + (lack if kind == "entities" else "")
        if text and found:
            told = f"is the label of {', '.join(names[i] for i in found[:6])}: give one of these"
        raise KeyError(f"{text!r} {told}")

    def _misleading(self, kind: str) -> bool:
        """Return whether a name is a number other than its id."""
        if kind not in self._numerals:
            names = enumerate(getattr(self, kind))
            self._numerals[kind] = any(_is_number(name) and name != str(i) for i, name in names)
        return self._numerals[kind]

    def vectors(self, start: int, stop: int) -> Array:
        """Return entity vectors of ids start to stop, (stop - start, dim) float32."""
        rows = self._entity[start:stop]
        if rows.dtype == np.int8:
            rows = rows * self._arrays["entity_scale"][start:stop, None]
        if rows.dtype == np.uint8:  # codes
            books = self._arrays["entity_codebooks"]
            if books.shape[1] == 16:  # two in a byte
                rows = np.stack([rows & 15, rows >> 4], axis=2).reshape(len(rows), -1)
            places = rows[:, : len(books)] + np.arange(len(books)) * books.shape[1]
            rows = books.reshape(-1, books.shape[2]).take(places, axis=0).reshape(len(rows), -1)
            if self.header.get("normalize"):
                rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        return rows.astype(np.float32)

    def scores(self, known: Name, relation: Name, side: str = "tail") -> Array:
        """Score every entity, the best highest: (entities,) float32; ``side`` is what is asked."""
        entity, row = self.entity_id(known), self.relation_id(relation)
        query = self._mapped("query", self.vectors(entity, entity + 1), row, side)
        total = np.empty(self.header["entities"], np.float32)
        for start in range(0, len(total), _BLOCK):
            rows = self.vectors(start, start + _BLOCK)
            if self.header["candidate"] is not None:
                rows = self._mapped("candidate", rows, row, side)
            total[start : start + _BLOCK] = _similarity(self.header["kernel"], query, rows)
        return total + self._arrays["entity_bias"] if "entity_bias" in self._arrays else total

    def _mapped(self, kind: str, vectors: Array, relation: int, side: str) -> Array:
        parts = self.header[kind][side]
        if "matrix" in parts:
            moved = vectors @ self._part(parts["matrix"], relation)
        else:
            half = vectors.shape[1] // 2
            swapped = vectors if vectors.shape[1] % 2 else np.roll(vectors, half, axis=1)
            moved = vectors * self._part(parts["scale"], relation)
            moved = moved + swapped * self._part(parts["cross"], relation)
        moved = moved + self._part(parts["shift"], relation)
        if kind == "query" and "hidden" in self.header:
            layer = self.header["hidden"]
            inner, outer = (self._arrays[layer[end]].astype(np.float32) for end in _ENDS)
            units = vectors @ inner.T + self._part(layer["bias"][side], relation)
            moved = moved + np.maximum(units, 0) @ outer
        return moved

    def _part(self, part: dict[str, Any], relation: int) -> Any:
        if "constant" in part:
            return np.float32(part["constant"])
        row = self._arrays[part["array"]][relation].astype(np.float32)
        row = row.T if part.get("transpose") else row
        return -row if part.get("negate") else row

    def score(self, head: Name, relation: Name, tail: Name) -> float:
        """Return a triple's score as an answer to (head, relation, ?), which may have another."""
        return float(self.scores(head, relation, "tail")[self.entity_id(tail)])

    def predict_tails(
        self, head: Name, relation: Name, k: int = 10, exclude: Names = (), candidates: Names = None
    ) -> Answers:
        """Return the k best answers to (head, relation, ?) of all, or candidates, not excluded."""
        return self._best(self.scores(head, relation, "tail"), k, exclude, candidates)

    def predict_heads(
        self, relation: Name, tail: Name, k: int = 10, exclude: Names = (), candidates: Names = None
    ) -> Answers:
        """Return the k best answers to (?, relation, tail), likewise."""
        return self._best(self.scores(tail, relation, "head"), k, exclude, candidates)

    def _best(self, scores: Array, k: int, exclude: Names, candidates: Names) -> Answers:
        may = np.full(len(scores), candidates is None)
        for names, flag in ((candidates, True), (exclude, False)):
            may[[self.entity_id(name) for name in names or ()]] = flag
        scores[~may] = -np.inf
        order = np.argsort(-scores, kind="stable")[: max(0, min(k, int(may.sum())))]
        return [(self.entities[i], float(scores[i])) for i in order]


def _is_number(name: str) -> bool:
    try:
        return float(name).is_integer()
    except (ValueError, OverflowError):
        return False


def _demand(right: Any, message: str) -> None:
    if not right:
        raise ValueError(message)


def _whole(value: Any, least: int = 0) -> bool:
    """Return whether a value is a whole number that JavaScript holds exactly."""
    return type(value) is int and least <= value < 2**53


def _parsed(text: bytes) -> Any:
    """Read JSON as the reader in JavaScript does: no key twice, no NaN, not deep."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text.decode())
    depth = 0
    for bracket in re.findall(r"[][{}]", outside):
        depth += 1 if bracket in "[{" else -1
        _demand(depth <= _DEEPEST, "the header is nested too deep")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        _demand(len(made) == len(pairs), "the header has a key twice")
        return made

    def number(digits: str) -> Any:
        value = float(digits)
        _demand(abs(value) < np.inf, f"{digits:.20} is no number, or too large")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    hooks: Any = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), number)
    return json.loads(text.decode(), object_pairs_hook=unique, **hooks)


def _check(header: Any, size: int, version: int) -> None:
    """Refuse a header that does not describe ``size`` bytes of arrays."""
    needed = ("entities", "relations", "dim", "kernel", "arrays", "query", "candidate", "names")
    _demand(isinstance(header, dict) and set(needed) <= set(header), "the header lacks a key")
    _demand(version == 3 or ("hidden" in header) == (version == 2), "a layer makes version 2")
    entities, relations, dim, kernel, arrays, query, candidate, names = map(header.get, needed)
    _demand(_whole(entities, 1) and _whole(relations, 1) and _whole(dim, 1), "a count is wrong")
    _demand(relations <= max(size, 65536), "there are more relations than bytes")
    _demand(kernel in _KERNELS, "the kernel is unknown")
    _demand(type(arrays) is type(names) is dict, "arrays or names are wrong")
    _demand(len(arrays) <= _MOST_ARRAYS, "there are too many arrays")
    spans = sorted(_span(about, size) for about in arrays.values())
    for (_, stop), (start, _) in zip(spans, spans[1:]):
        _demand(stop <= start, "two arrays overlap")

    def shape_of(name: Any, *dtypes: str) -> list[int]:
        about = arrays.get(name) if isinstance(name, str) else None
        return about["shape"] if about is not None and about["dtype"] in dtypes else []

    def part(about: Any, *shape: int) -> bool:
        about = about if isinstance(about, dict) else {}
        if set(about) == {"constant"}:
            value = about["constant"]
            return type(value) in (int, float) and abs(value) <= _GREATEST and len(shape) == 1
        negate, turn = about.get("negate", False), about.get("transpose", False)
        plain = set(about) <= {"array", "negate", "transpose"}
        rows = [relations, *(reversed(shape) if turn else shape)]
        known = plain and {type(negate), type(turn)} == {bool}
        return known and shape_of(about.get("array"), *_FLOATS) == rows

    def width(parts: Any) -> int:
        _demand(isinstance(parts, dict), "a map is no object")
        if "matrix" not in parts:
            whole = part(parts.get("scale"), dim) and part(parts.get("cross"), dim)
            _demand(whole and part(parts.get("shift"), dim), "a map is wrong")
            return int(dim)
        matrix = parts["matrix"] if isinstance(parts["matrix"], dict) else {}
        shape = shape_of(matrix.get("array"), *_FLOATS)
        _demand(len(shape) == 3, "a matrix is wrong")
        out = shape[1 if matrix.get("transpose") else 2]
        _demand(out and part(matrix, dim, out) and part(parts.get("shift"), out), "a map is wrong")
        return out

    books, kinds, each = shape_of("entity_codebooks", "float32"), [*_FLOATS, "int8"], dim
    if version == 3:
        fits = len(books) == 3 and books[1] in (16, 256) and books[0] * books[2] == dim
        _demand(fits and type(header.get("normalize", False)) is bool, "codebooks are wrong")
        kinds, each = ["uint8"], books[0] if books[1] == 256 else -(-books[0] // 2)
    _demand(shape_of("entity", *kinds) == [entities, each], "entity vectors are wrong")
    scaled = shape_of("entity_scale", "float32") == [entities]
    _demand(scaled or arrays["entity"]["dtype"] != "int8", "entity_scale is wrong")
    biases = shape_of("entity_bias", "float16" if version == 3 else "float32")
    _demand("entity_bias" not in arrays or biases == [entities], "entity_bias is wrong")
    for maps in (query, query if candidate is None else candidate):
        _demand(isinstance(maps, dict) and maps and set(maps) <= {"head", "tail"}, "maps are wrong")
        _demand(set(maps) == set(query), "maps are wrong")
    layer = header.get("hidden", {"bias": {}})
    _demand(isinstance(layer, dict) and isinstance(layer.get("bias"), dict), "the layer is wrong")
    inner, outer = (shape_of(layer.get(end), *_FLOATS) for end in _ENDS)
    units = inner[0] if inner else 0
    for side in query:
        out = width(query[side])
        fits = units and inner == [units, dim] and outer == [units, out]
        fits = fits and part(layer["bias"].get(side), units)
        _demand("hidden" not in header or fits, "the layer is wrong")
        _demand(out == (dim if candidate is None else width(candidate[side])), "widths differ")
        _demand(kernel != "complex_modulus" or out % 2 == 0, "a vector is no complex one")
    texts = [(names.get(kind, False), header[kind]) for kind in ("entities", "relations")]
    for found, count in [*texts, (header.get("labels"), entities)]:
        if found is not None:
            whole = isinstance(found, dict) and shape_of(found.get("ends"), "uint32") == [count]
            _demand(whole and len(shape_of(found.get("text"), "uint8")) == 1, "names are wrong")


def _span(about: Any, size: int) -> tuple[int, int]:
    """Return where an array begins and ends."""
    _demand(isinstance(about, dict), "an array is no object")
    dtype, shape, start = (about.get(key) for key in ("dtype", "shape", "offset"))
    _demand(isinstance(dtype, str) and dtype in _DTYPES, "a dtype is unknown")
    sizes = isinstance(shape, list) and 1 <= len(shape) <= 3 and all(map(_whole, shape))
    _demand(sizes, "a shape is wrong")
    _demand(_whole(start) and start % 16 == 0, "an offset is wrong")
    stop = start + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    _demand(stop <= size, "an array lies outside the file")
    return start, stop


def _similarity(kernel: str, query: Array, rows: Array) -> Array:
    if kernel == "dot":
        return rows @ query[0]
    difference = rows - query
    if kernel == "l1":
        return -np.abs(difference).sum(axis=1)
    squares = difference * difference
    if kernel in ("l2", "l2_squared"):
        total = squares.sum(axis=1)
        return -np.sqrt(total) if kernel == "l2" else -total
    half = squares.shape[1] // 2
    return -np.sqrt(squares[:, :half] + squares[:, half:]).sum(axis=1)
