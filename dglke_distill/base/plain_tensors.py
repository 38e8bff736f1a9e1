"""Reading a safetensors file where the library of that name is not installed.

The format: eight bytes with the length of a header, the header as JSON, and the numbers. See
``schema`` for why.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import parse_json
from dglke_distill.base.regular_files import open_regular, shown

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes that our files have, by their names in a header."""

_MOST_DIMENSIONS = 8


def damaged(path: Path, why: object) -> UserError:
    """Return the error that a file of tensors cannot be read."""
    return UserError(f"{path}: damaged, or no safetensors file ({shown(why)}); restore it")


def read_plain(path: Path, length: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a safetensors file, and the strings in its header.

    What the library refuses is refused: tensors must fill the file without gap or overlap.

    Args:
        path: the file.
        length: of its header, in bytes.

    Raises:
        UserError: the file is damaged.
    """
    with open_regular(path) as stream:
        stream.seek(8)
        text = stream.read(length)
    size = path.stat().st_size - 8 - length
    if len(text) < length:
        raise damaged(path, "its header is cut short")
    header = parse_json(text, f"{path}, header")
    if not isinstance(header, dict):
        raise damaged(path, "its header is no object")
    strings = header.pop("__metadata__", None) or {}
    if not isinstance(strings, dict) or not all(isinstance(v, str) for v in strings.values()):
        raise damaged(path, "its metadata are no strings")
    places = sorted((_place(path, name, about), name) for name, about in header.items())
    end = 0
    for (start, stop, _, _), name in places:
        if start != end:
            raise damaged(path, f"{name!r} does not begin where the tensor before it ends")
        end = stop
    if end != size:
        raise damaged(path, f"its tensors take {end:,} bytes, and {size:,} are there")
    tensors = {}
    for (start, stop, kind, shape), name in places:
        if start == stop:
            tensors[name] = torch.empty(shape, dtype=DTYPES[kind])
            continue
        mapped = np.memmap(path, np.uint8, "c", 8 + length + start, (stop - start,))
        tensors[name] = torch.from_numpy(mapped).view(DTYPES[kind]).view(shape)
    return tensors, strings


def _place(path: Path, name: str, about: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Return where a tensor begins and ends, its dtype and its shape."""
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise damaged(path, f"{name!r} is not described by dtype, shape and data_offsets")
    kind, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise damaged(path, f"{name!r} is of dtype {kind!r:.50}")
    if not _naturals(shape) or len(shape) > _MOST_DIMENSIONS:
        raise damaged(path, f"{name!r} is of shape {shape!r:.50}")
    if not _naturals(offsets) or len(offsets) != 2:
        raise damaged(path, f"{name!r} has the offsets {offsets!r:.50}")
    start, stop = offsets
    if stop - start != math.prod(shape) * DTYPES[kind].itemsize:
        raise damaged(path, f"{name!r} has {stop - start:,} bytes, another number than its shape")
    return start, stop, kind, tuple(shape)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 62 for one in value)
