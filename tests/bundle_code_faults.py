"""Bundles whose entities are codes, sound and damaged; see ``bundle_faults``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from bundle_faults import DIM, ENTITIES, HUGE, MISSING, RELATIONS, joined, put, split, whole

from dglke_distill.interop.bundle import _packed


def of_codes(pieces: int = 2, entries: int = 256, *, layer: bool = False) -> bytes:
    """Return a small bundle of codes, with biases, and a hidden layer if asked for."""
    generator = np.random.default_rng(0)
    width = pieces if entries == 256 else -(-pieces // 2)
    arrays: dict[str, Any] = {
        "entity": generator.integers(0, 256, (ENTITIES, width), np.uint8),
        "entity_codebooks": generator.normal(size=(pieces, entries, DIM // pieces)).astype("<f4"),
        "entity_bias": np.arange(ENTITIES).astype("<f2"),
        "scale": np.ones((RELATIONS, DIM), np.float16),
    }
    side = {"scale": {"array": "scale"}, "cross": {"constant": 0}, "shift": {"constant": 1}}
    header: dict[str, Any] = {
        "dim": DIM, "entities": ENTITIES, "relations": RELATIONS, "kernel": "dot",
        "query": {"tail": side, "head": side}, "candidate": None,
        "names": {"entities": None, "relations": None},
    }  # fmt: skip
    if layer:
        arrays["inner"] = arrays["outer"] = np.ones((2, DIM), np.float16)
        bias = {"tail": {"constant": 0}, "head": {"constant": 1}}
        header["hidden"] = {"inner": "inner", "outer": "outer", "bias": bias}
    return _packed(header, arrays)


halves = partial(of_codes, 4, 16)

CODE_FAULTS: dict[str, Callable[[], bytes]] = {
    "version of codes that are not there": lambda: joined(*split(whole()), version=3),
    "codes in version 1": lambda: joined(*split(of_codes())),
    "codes in version 2": lambda: joined(*split(of_codes(layer=True)), version=2),
    "half floats as biases in version 1": lambda: put("arrays/entity_bias/dtype", "float16"),
    **{
        f"{key} {value!r:.40}, {bits} bits": partial(put, key, value, base)  # type: ignore[dict-item]
        for bits, base in ((8, of_codes), (4, halves))
        for key, values in (
            ("arrays/entity_codebooks", (MISSING, None, [], 1)),
            ("arrays/entity_codebooks/dtype", ("float16", "int8", "uint8", "float64", None)),
            (
                "arrays/entity_codebooks/shape",
                (
                    [2, 255, 2], [2, 256, 1], [2, 16, 2], [4, 256, 1], [1, 256, 4], [2, 512],
                    [2, 256, 2, 1], [0, 256, 2], [2, 0, 2], [2, 256, 0], [4, 15, 1], [1, 16, 4],
                    [HUGE, 256, 2], [-2, 256, -2], None, "2", [],
                ),
            ),
            ("arrays/entity", (MISSING, None)),
            ("arrays/entity/dtype", ("int8", "float16", "float32", "uint32")),
            ("arrays/entity/shape", ([5, 1], [4, 2], [5, 4], [2, 5], [10], [5, 2, 1])),
            ("arrays/entity_bias/dtype", ("float32", "uint8")),
            ("arrays/entity_bias/shape", ([4], [5, 1])),
            ("normalize", (None, 0, 1, "true", [], {})),
            ("dim", (2, 5, 8)),
            ("hidden", (None, {}, {"bias": {}})),
        )
        for value in values
    },
}  # fmt: skip

CODE_SOUND: dict[str, Callable[[], bytes]] = {
    "codes": of_codes,
    "codes of one piece": partial(of_codes, 1),
    "codes of four bits": halves,
    "codes of four bits, the last half of a byte unused": partial(of_codes, 1, 16),
    "codes and a hidden layer": partial(of_codes, layer=True),
    "normalised": partial(put, "normalize", True, of_codes),
    "not normalised": partial(put, "normalize", False, of_codes),
    "codes without biases": partial(put, "arrays/entity_bias", MISSING, of_codes),
    "normalize in version 1": partial(put, "normalize", 7),
}
