"""Files of named tensors with metadata, and nested state as such tensors and back."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import file_aside
from dglke_distill.base.parsing import parse_json
from dglke_distill.base.plain_tensors import DTYPES, damaged, read_plain
from dglke_distill.base.regular_files import open_regular

_METADATA_KEY = "dglke_distill"
_STRUCTURE = "structure"
_MAX_HEADER_BYTES = 100_000_000
"""The library has this limit too; a run's history lies in the header."""
_BLOCK = 1 << 24
"""Elements looked at at once."""


def save_state(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Replace a file of tensors atomically; the metadata stands in its header as JSON.

    Args:
        path: the file.
        tensors: named tensors of any dtype and device.
        metadata: a mapping that JSON can hold; floats come back bit for bit.
    """
    header = {_METADATA_KEY: json.dumps(metadata)}
    with file_aside(path) as aside:
        write_tensors(aside, portable(tensors), header)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Optional[dict[str, str]] = None
) -> None:
    """Write a new safetensors file with the permissions that the umask gives to new files.

    The library gives every file 0600, so that a model could be read by its trainer alone.

    Args:
        path: the file.
        tensors: on the CPU, none sharing memory.
        header: strings for its header.
    """
    from safetensors.torch import save_file

    with open(path, "xb") as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    save_file(dict(tensors), path, metadata=header)
    os.chmod(path, mode)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by ``save_state``: tensors on the CPU, and the metadata.

    Raises:
        UserError: the file is missing, truncated, or not one of ours.
    """
    tensors, header = read_tensors(path)
    metadata = _metadata(path, header)
    # The tensors read are views of the mapped file; what training changes must be its own memory.
    return {name: tensor.clone() for name, tensor in tensors.items()}, metadata


class SavedState(Mapping[str, Tensor]):
    """A file written by ``save_state`` whose tensors are read as they are asked for.

    ``state[name]`` is a view of the file, mapped; changing it does not change the file.

    Args:
        path: the file.

    Attributes:
        metadata: what ``save_state`` was given.

    Raises:
        UserError: as ``load_state``.
    """

    def __init__(self, path: Path) -> None:
        """Read the header."""
        length = check_file(path)
        with open_regular(path) as stream:
            stream.seek(8)
            header = parse_json(stream.read(length), f"{path}, header")
        self.metadata = _metadata(path, header.pop("__metadata__", {}))
        for name, about in header.items():
            if about["dtype"] not in DTYPES:
                raise damaged(path, f"{name} is of dtype {about['dtype']}")
        self.path, self._start, self._tensors = path, 8 + length, header

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._tensors)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor as a view of the file."""
        dtype, shape, start = self._place(name)
        size = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
        if size == 0:
            return torch.empty(shape, dtype=dtype)
        mapped = np.memmap(self.path, np.uint8, "c", start, (size,))
        return torch.from_numpy(mapped).view(dtype).view(shape)

    def _place(self, name: str) -> tuple[torch.dtype, tuple[int, ...], int]:
        about = self._tensors[name]
        return (
            DTYPES[about["dtype"]],
            tuple(about["shape"]),
            self._start + about["data_offsets"][0],
        )

    def read_into(self, name: str, target: Tensor) -> None:
        """Fill a tensor of the same shape and dtype without holding a second one in memory."""
        dtype, shape, start = self._place(name)
        if target.dtype != dtype or target.shape != shape:
            raise ValueError(f"{name} is {dtype} {shape}, not {target.dtype} {tuple(target.shape)}")
        if target.device.type != "cpu" or not target.is_contiguous() or target.numel() == 0:
            target.copy_(self[name])
            return
        array: Any = target.detach().view(-1).view(torch.uint8).numpy()
        memory = memoryview(array)
        with open(self.path, "rb", buffering=0) as stream:
            stream.seek(start)
            while len(memory):
                count = stream.readinto(memory)
                if not count:
                    raise UserError(f"{self.path}: has become shorter; restore it")
                memory = memory[count:]


def all_finite(tensor: Tensor) -> bool:
    """Return whether no value is NaN or infinite, block by block: a table can be large."""
    return all(bool(torch.isfinite(block).all()) for block in tensor.reshape(-1).split(_BLOCK))


def check_shapes(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that weights have the names, shapes and dtypes of those expected.

    Raises:
        UserError: they have not; the message names their file.
    """
    for name in sorted(set(tensors) ^ set(expected)):
        problem = "is missing" if name in expected else "is unknown to this model"
        raise UserError(f"{path}: weight {name!r} {problem}")
    for name, want in expected.items():
        have = tensors[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            raise UserError(
                f"{path}: weight {name!r} is {_kind(have)}, but the settings ask for {_kind(want)}"
            )


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check that all weights are numbers.

    Raises:
        UserError: one is not; the message names their file.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise UserError(f"{path}: weight {name!r} has values that are not finite")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).replace('torch.', '')} of shape {tuple(tensor.shape)}"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors on the CPU, and the strings in its header.

    Raises:
        UserError: the file is missing or damaged.
    """
    length = _check_header(path)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return read_plain(path, length)
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
            return tensors, stream.metadata() or {}
    # A dtype that this torch lacks is a KeyError or an AttributeError.
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise damaged(path, error) from None


def check_file(path: Path) -> int:
    """Look whether a file is one of tensors and whole, without reading them.

    Returns:
        The length of its header.

    Raises:
        UserError: it is missing, damaged, or no such file.
    """
    from safetensors import SafetensorError, safe_open

    length = _check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu"):  # it looks whether all is there
            return length
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, error) from None


def _check_header(path: Path) -> int:
    """Return the length of a safetensors header, refused where it cannot be one."""
    with open_regular(path) as stream:
        start = stream.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > _MAX_HEADER_BYTES:
        raise damaged(path, f"its header claims {length:,} bytes")
    return length


def _metadata(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    text = header.get(_METADATA_KEY)
    if not isinstance(text, str):
        raise UserError(f"{path}: not written by dglke_distill; choose another file")
    metadata = parse_json(text, f"{path}, header", finite=False)
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: its header holds no settings; restore it")
    return metadata


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
    """Return the tree that ``flatten_state`` took; None where there is none under the prefix.

    Raises:
        ValueError, TypeError, KeyError, UserError: what is there is damaged.
    """
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
        if kind not in ("list", "tuple"):
            raise ValueError(f"a {kind!r:.40} stands in its structure")
        items = [decode(item) for item in value]
        return items if kind == "list" else tuple(items)

    if structure.dtype != torch.uint8 or structure.dim() != 1:
        raise ValueError("its structure is no text")
    return decode(parse_json(structure.numpy().tobytes(), "its structure", finite=False))
