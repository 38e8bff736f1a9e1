"""Files of named tensors with metadata, and nested state as such tensors and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dglke_distill.errors import UserError
from dglke_distill.files import file_aside

__all__ = [
    "flatten_state",
    "load_state",
    "portable",
    "read_tensors",
    "restore_state",
    "save_state",
]

_METADATA_KEY = "dglke_distill"
_STRUCTURE = "structure"


def save_state(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Replace a file of tensors atomically; the metadata stands in its header as JSON.

    Args:
        path: the file. tensors: named tensors of any dtype and device.
        metadata: a mapping that JSON can hold; floats come back bit for bit.
    """
    header = {_METADATA_KEY: json.dumps(metadata)}
    with file_aside(path) as aside:
        save_file(portable(tensors), aside, metadata=header)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by ``save_state``: tensors on the CPU, and the metadata.

    Raises:
        UserError: the file is missing, truncated, or not one of ours.
    """
    tensors, header = read_tensors(path)
    try:
        metadata = json.loads(header[_METADATA_KEY])
    except (KeyError, ValueError):
        raise UserError(f"{path}: not written by dglke_distill; choose another file") from None
    # The tensors read are views of the mapped file; what training changes must be its own memory.
    return {name: tensor.clone() for name, tensor in tensors.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors on the CPU, and the strings in its header.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
            return tensors, stream.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged, or no safetensors file ({error})") from None


def portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as safetensors wants them: on the CPU, contiguous, none sharing memory."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        result[name] = plain
    return result


def flatten_state(tree: Any, prefix: str) -> dict[str, Tensor]:
    """Flatten a tree of dicts, lists, tuples, tensors and scalars.

    Args:
        tree: what to flatten; dict keys may be strings or integers, scalars are None, booleans,
            integers, floats and strings.
        prefix: the names are ``prefix.0``, ``prefix.1`` ... in order of the tree, and
            ``prefix.structure``: everything that is no tensor, JSON as uint8 (n,).

    Raises:
        TypeError: the tree holds something else.
    """
    tensors: dict[str, Tensor] = {}

    def encode(node: Any) -> Any:
        if isinstance(node, Tensor):
            name = f"{prefix}.{len(tensors)}"
            tensors[name] = node.detach()
            return {"tensor": name}
        if isinstance(node, Mapping):
            for key in node:
                if type(key) not in (str, int):
                    raise TypeError(f"cannot save a {type(key).__name__} key")
            return {"dict": [[key, encode(value)] for key, value in node.items()]}
        if isinstance(node, (list, tuple)):
            kind = "list" if isinstance(node, list) else "tuple"
            return {kind: [encode(value) for value in node]}
        if node is None or type(node) in (bool, int, float, str):
            return node
        raise TypeError(f"cannot save a {type(node).__name__}")

    text = json.dumps(encode(tree)).encode()
    structure = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
    return {**tensors, f"{prefix}.{_STRUCTURE}": structure}


def restore_state(tensors: Mapping[str, Tensor], prefix: str) -> Optional[Any]:
    """Return the tree that ``flatten_state`` took; None where there is none under the prefix."""
    structure = tensors.get(f"{prefix}.{_STRUCTURE}")
    if structure is None:
        return None

    def decode(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((kind, value),) = node.items()
        if kind == "tensor":
            return tensors[value]
        if kind == "dict":
            return {key: decode(item) for key, item in value}
        items = [decode(item) for item in value]
        return items if kind == "list" else tuple(items)

    return decode(json.loads(structure.numpy().tobytes()))
