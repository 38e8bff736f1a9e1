"""A bundle packed by hand from FORMAT.md, and answers worked out by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kg_bundle import Bundle

NAMES = ("Latvia", "Euro", "Rīga")
RELATIONS = ("uses", "capital")


LAYER = {
    "inner": np.array([[1, 1]], "<f4"),
    "outer": np.array([[1, -1]], "<f4"),
    "bias": np.array([[-2], [0]], "<f4"),
}


def packed(entity: dict[str, np.ndarray[Any, Any]], layered: bool = False) -> bytes:
    """TransE under L1: the tail's vector is about the head's and the relation's together."""
    arrays = {**entity, "shift": np.array([[1, 1], [-1, 3]], "<f4"), **(LAYER if layered else {})}
    names = {}
    for kind, words in (("entities", NAMES), ("relations", RELATIONS)):
        encoded = [word.encode() for word in words]
        arrays[f"{kind}_text"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{kind}_ends"] = np.cumsum([len(word) for word in encoded]).astype("<u4")
        names[kind] = {"text": f"{kind}_text", "ends": f"{kind}_ends"}
    about: dict[str, Any] = {}
    body = b""
    for name, array in arrays.items():
        shape, dtype = list(array.shape), array.dtype.name
        about[name] = {"dtype": dtype, "shape": shape, "offset": len(body)}
        body += array.tobytes() + b"\0" * (-array.nbytes % 16)
    one, none = {"constant": 1}, {"constant": 0}
    tail = {"scale": one, "cross": none, "shift": {"array": "shift"}}
    head = {"scale": one, "cross": none, "shift": {"array": "shift", "negate": True}}
    header = {
        "model": "TransE", "dataset": "small", "dim": 2, "entities": 3, "relations": 2,
        "kernel": "l1", "arrays": about, "query": {"tail": tail, "head": head},
        "candidate": None, "names": names,
    }  # fmt: skip
    if layered:
        bias = {"tail": {"array": "bias"}, "head": {"constant": 0}}
        header["hidden"] = {"inner": "inner", "outer": "outer", "bias": bias}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 16)
    return b"KGBUNDLE" + struct.pack("<II", 1 + layered, len(text)) + text + body


EXACT = {"entity": np.array([[1, 0], [2, 1], [0, 3]], "<f4")}
KINDS = {
    "float32": EXACT,
    "float16": {"entity": EXACT["entity"].astype("<f2")},
    "int8": {
        "entity": (2 * EXACT["entity"]).astype(np.int8),
        "entity_scale": np.full(3, 0.5, "<f4"),
    },
}


@pytest.fixture(params=list(KINDS))
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    (tmp_path / "small.bundle").write_bytes(packed(KINDS[request.param]))
    return Bundle(tmp_path / "small.bundle")


def test_scores(bundle: Bundle) -> None:
    assert bundle.entities == list(NAMES)
    assert bundle.scores("Latvia", "uses", "tail").tolist() == [-2, 0, -4]
    assert bundle.scores("Euro", "uses", "head").tolist() == [0, -2, -4]
    assert bundle.scores(0, 1).tolist() == [-4, -4, 0]
    assert bundle.score("Latvia", "capital", "Rīga") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_layer_adds_to_the_query(tmp_path: Path, kind: str) -> None:
    (tmp_path / "small.bundle").write_bytes(packed(KINDS[kind], layered=True))
    bundle = Bundle(tmp_path / "small.bundle")
    assert bundle.scores("Latvia", "uses").tolist() == [-2, 0, -4]  # its unit is below 0
    assert bundle.scores("Euro", "uses").tolist() == [-4, -2, -6]
    assert bundle.scores("Euro", "uses", "head").tolist() == [-6, -6, -10]


def test_answers(bundle: Bundle) -> None:
    assert bundle.predict_tails("Latvia", "uses", k=2) == [("Euro", 0), ("Latvia", -2)]
    assert bundle.predict_heads("uses", "Euro", exclude=["Latvia"]) == [("Euro", -2), ("Rīga", -4)]
    some = {"exclude": ["Euro"], "candidates": ["Rīga", "Euro"]}
    assert bundle.predict_heads("uses", "Euro", **some) == [("Rīga", -4)]
    assert bundle.predict_heads("uses", "Euro", candidates=[]) == []
    assert bundle.predict_tails("Latvia", "capital") == [("Rīga", 0), ("Latvia", -4), ("Euro", -4)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: b"NOBUNDLE" + data[8:], "no bundle"),
        (lambda data: data[:8] + struct.pack("<I", 3) + data[12:], "of version 3"),
        (lambda data: data[:8] + struct.pack("<I", 2) + data[12:], "damaged"),
        (lambda data: data[:-40], "damaged"),
        (lambda data: data.replace(b'"dim": 2', b'"dim": 9'), "damaged"),
        (lambda data: b"", "no bundle"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, change: Any, problem: str) -> None:
    (tmp_path / "small.bundle").write_bytes(change(packed(EXACT)))
    with pytest.raises(ValueError, match=problem):
        Bundle(tmp_path / "small.bundle")
