"""Bundles that are damaged or made to do harm; both readers must refuse every one of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from dglke_distill.interop.bundle import _packed

ENTITIES, RELATIONS, DIM = 5, 3, 4
HUGE = 2**53


def whole() -> bytes:
    """Return a small bundle with all that a bundle may have, but matrices."""
    ids = np.arange(ENTITIES * DIM, dtype=np.int8).reshape(ENTITIES, DIM)
    text = "".join(NAMES).encode()
    arrays: dict[str, Any] = {
        "entity": ids,
        "entity_scale": np.ones(ENTITIES, np.float32),
        "entity_bias": np.zeros(ENTITIES, np.float32),
        "query_tail_scale": np.ones((RELATIONS, DIM), np.float16),
        "text": np.frombuffer(text, np.uint8),
        "ends": np.cumsum([len(name.encode()) for name in NAMES]).astype("<u4"),
    }
    part = {"array": "query_tail_scale"}
    side = {"scale": part, "cross": {"constant": 0.0}, "shift": {**part, "negate": True}}
    header = {
        "model": "DistMult", "dataset": "none", "dim": DIM,
        "entities": ENTITIES, "relations": RELATIONS, "kernel": "complex_modulus",
        "query": {"tail": side, "head": {**side, "cross": {"constant": -0.5}}},
        "candidate": None,
        "names": {"entities": {"text": "text", "ends": "ends"}, "relations": None},
    }  # fmt: skip
    return _packed(header, arrays)


NAMES = ["n0", "é", "漢字", "\ufeffx", "last"]


def of_matrices() -> bytes:
    """Return a small bundle whose relations are matrices, for queries and candidates."""
    arrays: dict[str, Any] = {
        "entity": np.ones((ENTITIES, DIM), np.float32),
        "m": np.ones((RELATIONS, DIM, 2), np.float32),
        "t": np.ones((RELATIONS, 2, DIM), np.float32),
        "s": np.ones((RELATIONS, 2), np.float32),
    }
    plain = {"matrix": {"array": "m"}, "shift": {"array": "s"}}
    turned = {"matrix": {"array": "t", "transpose": True}, "shift": {"constant": 0}}
    header = {
        "dim": DIM, "entities": ENTITIES, "relations": RELATIONS, "kernel": "l2",
        "query": {"tail": plain, "head": turned}, "candidate": {"tail": turned, "head": plain},
        "names": {"entities": None, "relations": None},
    }  # fmt: skip
    return _packed(header, arrays)


def of_layer() -> bytes:
    """Return a small bundle whose queries pass through a hidden layer of two units."""
    zero = {"constant": 0}
    arrays: dict[str, Any] = {
        "entity": np.ones((ENTITIES, DIM), np.float16),
        "inner": np.ones((2, DIM), np.float16),
        "outer": np.full((2, DIM), 0.5, np.float16),
        "b": np.arange(2 * RELATIONS, dtype=np.float32).reshape(RELATIONS, 2) - 6,
        "one": np.ones((1, DIM), np.float16),
    }
    side = {"scale": zero, "cross": zero, "shift": {"constant": 1}}
    header = {
        "dim": DIM, "entities": ENTITIES, "relations": RELATIONS, "kernel": "dot",
        "query": {"tail": side, "head": side}, "candidate": None,
        "hidden": {
            "inner": "inner", "outer": "outer",
            "bias": {"tail": {"array": "b"}, "head": {"array": "b", "negate": True}},
        },
        "names": {"entities": None, "relations": None},
    }  # fmt: skip
    return _packed(header, arrays)


def split(data: bytes) -> tuple[str, bytes]:
    """Return the header's text and what follows it."""
    (length,) = struct.unpack("<I", data[12:16])
    return data[16 : 16 + length].decode(), data[16 + length :]


def joined(text: str | bytes, body: bytes, version: int = 1) -> bytes:
    """Return a bundle of any header."""
    encoded = text if isinstance(text, bytes) else text.encode()
    encoded += b" " * (-len(encoded) % 16)
    return b"KGBUNDLE" + struct.pack("<II", version, len(encoded)) + encoded + body


Edit = Callable[[Any], Any]


def edited(edit: Edit, base: Callable[[], bytes] = whole) -> bytes:
    """Return a bundle whose header was changed."""
    text, body = split(base())
    header = json.loads(text)
    edit(header)
    (version,) = struct.unpack("<I", base()[8:12])
    return joined(json.dumps(header), body, version)


def put(path: str, value: Any, base: Callable[[], bytes] = whole) -> bytes:
    """Return a bundle with another value somewhere in the header, or none."""

    def edit(header: Any) -> None:
        *steps, last = path.split("/")
        for step in steps:
            header = header[step]
        if value is MISSING:
            del header[last]
        else:
            header[last] = value

    return edited(edit, base)


MISSING = "a key that is not there"


def raw(old: str, new: str) -> bytes:
    """Return a bundle with other text in the header."""
    text, body = split(whole())
    assert old in text, old
    return joined(text.replace(old, new, 1), body)


def nested(depth: int, bracket: str = "[") -> str:
    if bracket == "[":
        return "[" * depth + "]" * depth
    return '{"a":' * depth + "1" + "}" * depth


def names(ends: list[int], text: bytes = b"") -> bytes:
    """Return a bundle with other names."""
    _, body = split(whole())
    header = json.loads(split(whole())[0])
    about = header["arrays"]
    content = bytearray(body)
    start = about["ends"]["offset"]
    content[start : start + 4 * ENTITIES] = np.array(ends, "<u4").tobytes()
    start = about["text"]["offset"]
    content[start : start + len(text)] = text
    return joined(json.dumps(header), bytes(content))


def tiny(**counts: Any) -> bytes:
    """Return a bundle of few bytes that claims much: names are ids, coefficients constants."""
    shape = counts.pop("shape", [counts["entities"], counts["dim"]])
    zero = {"constant": 0.0}
    side = {"scale": zero, "cross": zero, "shift": zero}
    header = {
        "kernel": "dot", "query": {"tail": side, "head": side}, "candidate": None,
        "names": {"entities": None, "relations": None},
        "arrays": {"entity": {"dtype": "float16", "shape": shape, "offset": 0}}, **counts,
    }  # fmt: skip
    return joined(json.dumps(header), b"\0" * 64)


NO_PARTS = (
    MISSING, None, 1, [], {}, "none", "b", "one", "__proto__", ["inner"],
    {"tail": {"array": "b"}}, {"tail": {"array": "inner"}, "head": {"array": "b"}},
    {"tail": {"array": "b"}, "head": {"constant": None}},
)  # fmt: skip
LENGTH = len("".join(NAMES).encode())

FAULTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "short": lambda: b"KG",
    "magic alone": lambda: b"KGBUNDLE",
    "another file": lambda: b"PK\x03\x04" * 8,
    "version": lambda: joined(*split(whole()), version=4),
    "version of a layer that is not there": lambda: joined(*split(whole()), version=2),
    "a layer in version 1": lambda: joined(*split(of_layer())),
    **{
        f"{key} {value!r:.60}": (lambda key=key, value=value: put(key, value, of_layer))  # type: ignore[misc]
        for key in ("hidden", "hidden/inner", "hidden/outer", "hidden/bias")
        for value in NO_PARTS
    },
    "a layer without units": lambda: put("arrays/inner/shape", [0, DIM], of_layer),
    "a layer of int8": lambda: put("arrays/inner/dtype", "int8", of_layer),
    "a layer of other units": lambda: put("arrays/outer/shape", [1, DIM], of_layer),
    "a narrower layer": lambda: put("arrays/inner/shape", [2, DIM - 1], of_layer),
    "header beyond the end": lambda: whole()[:12] + b"\xff" * 4 + b" " * 99,
    "header just beyond the end": lambda: joined("{}", b"")[:-1],
    "header not padded": lambda: b"KGBUNDLE" + struct.pack("<II", 1, 2) + b"{}",
    "header of two megabytes": lambda: joined("{" + " " * (2 << 20) + "}", b""),
    "cut": lambda: whole()[:-16],
    "no header": lambda: joined("", b""),
    "no json": lambda: raw('{"model"', '["model"'),
    "two headers": lambda: joined(split(whole())[0] + "{}", split(whole())[1]),
    "trailing comma": lambda: raw('"dataset": "none",', '"dataset": "none",,'),
    "comma before the end": lambda: raw('"relations": null}', '"relations": null,}'),
    "single quotes": lambda: raw('"DistMult"', "'DistMult'"),
    "comment": lambda: raw('"DistMult"', '"DistMult" /* */'),
    "control character": lambda: raw('"DistMult"', '"Dist\nMult"'),
    "bad escape": lambda: raw('"DistMult"', '"\\x41"'),
    "number with a zero": lambda: raw('"dim": 4', '"dim": 04'),
    "number with a plus": lambda: raw('"dim": 4', '"dim": +4'),
    "number with a point": lambda: raw('"dim": 4', '"dim": 4.'),
    "hexadecimal": lambda: raw('"dim": 4', '"dim": 0x4'),
    "digits of another script": lambda: raw('"dim": 4', '"dim": ٤'),
    "NaN": lambda: raw("-0.5", "NaN"),
    "Infinity": lambda: raw("-0.5", "Infinity"),
    "minus Infinity": lambda: raw("-0.5", "-Infinity"),
    "too large for double": lambda: raw("-0.5", "1e999"),
    "too large for float": lambda: raw("-0.5", "1e300"),
    "five thousand digits": lambda: raw("-0.5", "9" * 5000),
    "count of five thousand digits": lambda: raw('"dim": 4', '"dim": ' + "9" * 5000),
    "byte order mark": lambda: joined("\ufeff" + split(whole())[0], split(whole())[1]),
    "utf-16": lambda: joined(split(whole())[0].encode("utf-16"), split(whole())[1]),
    "no utf-8": lambda: joined(split(whole())[0].encode().replace(b"none", b"\xff\xfe"), b""),
    "key twice": lambda: raw('"dim": 4', '"dim": 4, "dim": 4'),
    "array twice": lambda: raw('"arrays": {', '"arrays": {"entity": {}, '),
    "key twice by an escape": lambda: raw('"dim": 4', '"dim": 4, "d\\u0069m": 4'),
    "prototype twice": lambda: raw('"dim": 4', '"dim": 4, "__proto__": 1, "__proto__": 1'),
    "deep": lambda: raw('"DistMult"', nested(17 - 1)),
    "very deep": lambda: raw('"DistMult"', nested(200_000)),
    "very deep objects": lambda: raw('"DistMult"', nested(100_000, "{")),
    "deep and open": lambda: joined("[" * 500_000, b""),
    "a list": lambda: joined("[]", b""),
    "a number": lambda: joined("1", b""),
    "null": lambda: joined("null", b""),
    "nothing": lambda: joined("{}", b""),
    **{
        f"without {key}": (lambda key=key: put(key, MISSING))  # type: ignore[misc]
        for key in (
            "entities",
            "relations",
            "dim",
            "kernel",
            "arrays",
            "query",
            "candidate",
            "names",
            "arrays/entity",
            "arrays/entity_scale",
            "arrays/query_tail_scale",
            "arrays/text",
            "arrays/ends",
            "query/tail/scale",
            "query/tail/shift",
            "query/head/cross",
            "names/entities",
            "names/relations",
            "arrays/entity/dtype",
            "arrays/entity/shape",
            "arrays/entity/offset",
            "names/entities/text",
            "names/entities/ends",
        )
    },
    **{
        f"{key} {value!r:.30}": (lambda key=key, value=value: put(key, value))  # type: ignore[misc]
        for key in ("entities", "relations", "dim", "arrays/entity/offset")
        for value in (-1, 1.5, "4", None, True, [], {}, HUGE, -HUGE, 10**30, 1e300)
    },
    **{
        f"{key} is {value}": (lambda key=key, value=value: put(key, value))  # type: ignore[misc]
        for key, value in (
            ("entities", 0),
            ("relations", 0),
            ("dim", 0),
            ("entities", 4),
            ("relations", 4),
            ("dim", 5),
            ("dim", 2),
        )
    },
    **{
        f"kernel {value!r}": (lambda value=value: put("kernel", value))  # type: ignore[misc]
        for value in ("cosine", "", None, 1, ["dot"], "toString", "__proto__", "constructor")
    },
    **{
        f"dtype {value!r}": (lambda value=value: put("arrays/entity/dtype", value))  # type: ignore[misc]
        for value in (
            "object",
            "float64",
            "<f4",
            "uint8",
            "uint32",
            "",
            None,
            1,
            ["int8"],
            "toString",
            "__proto__",
            "O",
            "int8 ",
            "float32",
        )
    },
    **{
        f"shape {value!r:.40}": (lambda value=value: put("arrays/entity/shape", value))  # type: ignore[misc]
        for value in (
            [],
            None,
            20,
            "20",
            {},
            [20],
            [4, 5],
            [5, 4, 1],
            [5, 4, 1, 1],
            [5, -4],
            [-5, -4],
            [5, "4"],
            [5, 4.5],
            [5, None],
            [True, 4],
            [5, [4]],
            [2**31, 2**33],
            [2**32, 2**32],
            [HUGE, 0],
            [0, HUGE],
            [5, 10**30],
            [1] * 100_000,
        )
    },
    **{
        f"offset {value}": (lambda value=value: put("arrays/entity/offset", value))  # type: ignore[misc]
        for value in (1, 8, -16, 1 << 40, 2**53 - 16, 2**64, 2**32)
    },
    "arrays is a list": lambda: put("arrays", []),
    "an array is a list": lambda: put("arrays/entity", []),
    "an array is null": lambda: put("arrays/entity", None),
    "many arrays": lambda: edited(
        lambda header: header["arrays"].update(
            {f"a{i}": {"dtype": "int8", "shape": [0], "offset": 0} for i in range(10_000)}
        )
    ),
    "two arrays at one place": lambda: put("arrays/entity_bias/offset", 0),
    "arrays that overlap": lambda: edited(
        lambda header: header["arrays"].update(
            more={"dtype": "uint8", "shape": [17], "offset": header["arrays"]["ends"]["offset"]}
        )
    ),
    "an array that no one uses lies outside": lambda: edited(
        lambda header: header["arrays"].update(
            more={"dtype": "uint32", "shape": [1 << 30], "offset": 0}
        )
    ),
    "scales of another shape": lambda: put("arrays/entity_scale/shape", [4]),
    "scales of another dtype": lambda: put("arrays/entity_scale/dtype", "uint32"),
    "biases of another shape": lambda: put("arrays/entity_bias/shape", [4]),
    "biases of another dtype": lambda: put("arrays/entity_bias/dtype", "uint32"),
    "fewer rows of coefficients": lambda: put("arrays/query_tail_scale/shape", [2, 4]),
    "narrower coefficients": lambda: put("arrays/query_tail_scale/shape", [3, 3]),
    "coefficients of another dtype": lambda: put("arrays/query_tail_scale/dtype", "int8"),
    "odd complex vectors": lambda: tiny(entities=5, relations=1, dim=3, kernel="complex_modulus"),
    **{
        f"part {value!r:.50}": (lambda value=value: put("query/tail/scale", value))  # type: ignore[misc]
        for value in (
            None,
            1,
            [],
            {},
            "query_tail_scale",
            {"array": "none"},
            {"array": 1},
            {"array": None},
            {"array": ["entity"]},
            {"array": "entity"},
            {"array": "text"},
            {"array": "__proto__"},
            {"array": "toString"},
            {"constant": "1"},
            {"constant": None},
            {"constant": True},
            {"constant": []},
            {"constant": 1, "array": "query_tail_scale"},
            {"constant": 1e39},
            {"array": "query_tail_scale", "negate": 1},
            {"array": "query_tail_scale", "negate": None},
            {"array": "query_tail_scale", "transpose": "yes"},
            {"array": "query_tail_scale", "more": True},
        )
    },
    **{
        f"{key} {value!r}": (lambda key=key, value=value: put(key, value))  # type: ignore[misc]
        for key in ("query", "candidate")
        for value in (
            {},
            [],
            1,
            "tail",
            True,
            {"tail": None},
            {"tail": []},
            {"middle": {}},
            {"__proto__": {}},
        )
    },
    "query null": lambda: put("query", None),
    "candidate for one side": lambda: put(
        "candidate", {"tail": json.loads(split(whole())[0])["query"]["tail"]}
    ),
    "a matrix that is a constant": lambda: put("query/tail/matrix", {"constant": 1}, of_matrices),
    "a matrix of two dimensions": lambda: put("query/tail/matrix", {"array": "s"}, of_matrices),
    "a matrix the wrong way round": lambda: put("query/tail/matrix", {"array": "t"}, of_matrices),
    "a matrix that is none": lambda: put("query/tail/matrix", None, of_matrices),
    "a shift of another width": lambda: put("arrays/s/shape", [3, 1], of_matrices),
    "queries wider than candidates": lambda: put(
        "candidate/tail", {key: {"constant": 0} for key in ("scale", "cross", "shift")}, of_matrices
    ),
    "queries wider than vectors": lambda: put("candidate", None, of_matrices),
    **{
        f"names {value!r}": (lambda value=value: put("names", value))  # type: ignore[misc]
        for value in (None, [], 1, {}, "text", {"entities": None}, {"relations": None})
    },
    **{
        f"names of entities {value!r}": (lambda value=value: put("names/entities", value))  # type: ignore[misc]
        for value in (
            [],
            1,
            {},
            "text",
            False,
            {"text": "text"},
            {"ends": "ends"},
            {"text": "ends", "ends": "ends"},
            {"text": "text", "ends": "text"},
            {"text": "none", "ends": "ends"},
            {"text": "entity", "ends": "ends"},
            {"text": None, "ends": "ends"},
            {"text": "text", "ends": ["ends"]},
            {"text": "toString", "ends": "ends"},
        )
    },
    "names of entities for relations": lambda: put(
        "names/relations", {"text": "text", "ends": "ends"}
    ),
    **{
        f"labels {value!r}": (lambda value=value: put("labels", value))  # type: ignore[misc]
        for value in (
            False,
            0,
            "",
            [],
            "text",
            {},
            {"text": "text"},
            {"ends": "ends"},
            {"text": "entity", "ends": "ends"},
            {"text": "text", "ends": "entity_scale"},
            {"text": "text", "ends": "text"},
            {"text": None, "ends": "ends"},
        )
    },
    "names that end before they begin": lambda: names([2, 1, 10, 14, LENGTH]),
    "names that end beyond the text": lambda: names([2, 4, 10, 14, LENGTH + 1]),
    "names that end far beyond the text": lambda: names([2, 4, 10, 14, 2**32 - 1]),
    "names that end before the text": lambda: names([2, 4, 10, 14, LENGTH - 1]),
    "names cut within a letter": lambda: names([2, 3, 10, 14, LENGTH]),
    "names that are no utf-8": lambda: names([2, 4, 10, 14, LENGTH], b"\xff\xff"),
    "names with a surrogate": lambda: names([3, 4, 10, 14, LENGTH], b"\xed\xa0\x80"),
    "names overlong": lambda: names([2, 4, 10, 14, LENGTH], b"\xc0\xaf"),
    "a name twice": lambda: names([0, 0, 10, 14, LENGTH]),
    "billions of entities": lambda: tiny(entities=4_600_000_000, relations=1, dim=1),
    "entities without floats": lambda: tiny(entities=4_600_000_000, relations=1, dim=0),
    "entities without vectors": lambda: tiny(
        entities=1_000_000_000, relations=1, dim=1, shape=[0, 1]
    ),
    "billions of relations": lambda: tiny(entities=4, relations=4_000_000_000, dim=4),
    "millions of relations": lambda: tiny(entities=4, relations=5_000_000, dim=4),
    "billions of floats": lambda: tiny(entities=1, relations=1, dim=4_000_000_000),
    "no entities": lambda: tiny(entities=0, relations=1, dim=4),
}

SOUND: dict[str, Callable[[], bytes]] = {
    "whole": whole,
    "matrices": of_matrices,
    "a hidden layer": of_layer,
    "a layer of constant biases": lambda: put(
        "hidden/bias", {"tail": {"constant": -4.5}, "head": {"constant": 1}}, of_layer
    ),
    "tiny": lambda: tiny(entities=8, relations=65_536, dim=4),
    "counts with a point": lambda: raw('"dim": 4', '"dim": 4.0'),
    "counts with an exponent": lambda: raw('"dim": 4', '"dim": 0.4e1'),
    "no spaces": lambda: joined(
        json.dumps(json.loads(split(whole())[0]), separators=(",", ":")), split(whole())[1]
    ),
    "spaces": lambda: joined(
        json.dumps(json.loads(split(whole())[0]), indent=9), split(whole())[1]
    ),
    "deep enough": lambda: raw('"DistMult"', nested(15)),
    "more keys": lambda: put("more", {"__proto__": [True, False, None, "\\u0041\ud83d\ude00"]}),
    "a long text": lambda: put("dataset", 'a\\"' * 150_000),
    "labels": lambda: put("labels", {"text": "text", "ends": "ends"}),
    "no labels": lambda: put("labels", None),
    "brackets in a text": lambda: put("dataset", "[[{{" * 1000),
}
