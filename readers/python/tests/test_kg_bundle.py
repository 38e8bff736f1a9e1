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


def packed(entity: dict[str, np.ndarray[Any, Any]], layered: bool = False, **more: Any) -> bytes:
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
    text = json.dumps({**header, **more}).encode()
    text += b" " * (-len(text) % 16)
    version = 3 if "entity_codebooks" in entity else 1 + layered
    return b"KGBUNDLE" + struct.pack("<II", version, len(text)) + text + body


EXACT = {"entity": np.array([[1, 0], [2, 1], [0, 3]], "<f4")}
KINDS = {
    "float32": EXACT,
    "float16": {"entity": EXACT["entity"].astype("<f2")},
    "int8": {
        "entity": (2 * EXACT["entity"]).astype(np.int8),
        "entity_scale": np.full(3, 0.5, "<f4"),
    },
    # Entry e of each codebook is the number e, so that codes are the vector.
    "codes of 8 bits": {
        "entity": EXACT["entity"].astype(np.uint8),
        "entity_codebooks": np.arange(512, dtype="<f4").reshape(2, 256, 1) % 256,
    },
    "codes of 4 bits": {
        "entity": np.array([[0x01], [0x12], [0x30]], np.uint8),
        "entity_codebooks": np.arange(32, dtype="<f4").reshape(2, 16, 1) % 16,
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


def test_a_vector_of_codes_is_normalised_where_the_header_says_so(tmp_path: Path) -> None:
    (tmp_path / "small.bundle").write_bytes(packed(KINDS["codes of 8 bits"], normalize=True))
    bundle = Bundle(tmp_path / "small.bundle")
    root = 5**0.5
    np.testing.assert_allclose(bundle.vectors(0, 3), [[1, 0], [2 / root, 1 / root], [0, 1]])
    scores = [-2, -(2 - 2 / root) - (1 - 1 / root), -2]  # the query is (2, 1)
    np.testing.assert_allclose(bundle.scores("Latvia", "uses"), scores, rtol=1e-6)


def labelled(place: Path, labels: list[str]) -> Bundle:
    encoded = [label.encode() for label in labels]
    arrays = {
        "labels_text": np.frombuffer(b"".join(encoded), np.uint8),
        "labels_ends": np.cumsum([len(label) for label in encoded]).astype("<u4"),
    }
    found = {"text": "labels_text", "ends": "labels_ends"}
    place.write_bytes(packed({**EXACT, **arrays}, labels=found))
    return Bundle(place)


def test_entities_go_by_label_too_where_one_alone_has_it(tmp_path: Path) -> None:
    bundle = labelled(tmp_path / "it", ["Land", "money", ""])
    assert bundle.score("land", "uses", "MONEY") == bundle.score("Latvia", "uses", "Euro")
    assert bundle.entity_id("Land") == 0
    for text in ("silver", ""):
        with pytest.raises(KeyError, match=f"'{text}' is none of the 3 entities, nor the label of"):
            bundle.scores(text, "uses")
    alike = labelled(tmp_path / "alike", ["Straße", "STRASSE", "Euro!"])
    with pytest.raises(KeyError, match="'strasse' is the label of Latvia, Euro: give one of these"):
        alike.scores("strasse", "uses")
    (tmp_path / "bare").write_bytes(packed(EXACT))
    bare = Bundle(tmp_path / "bare")
    with pytest.raises(KeyError, match="none of the 3 entities, and the bundle has no labels"):
        bare.scores("land", "uses")
    with pytest.raises(KeyError, match="'Latvia' is none of the 2 relations\""):
        bare.scores("Euro", "Latvia")


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
        (
            lambda data: data[:8] + struct.pack("<I", 4) + data[12:],
            "of version 4; this reader knows",
        ),
        (lambda data: data[:8] + struct.pack("<I", 3) + data[12:], "codebooks are wrong"),
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
