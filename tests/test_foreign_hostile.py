"""Weights of other libraries that are damaged or strange: one line each, nothing is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.interop.dglke_folder import _read
from dglke_distill.interop.foreign import read_weights
from dglke_distill.interop.pykeen_folder import open_folder

ENTITY = "entity_representations.0._embeddings.weight"
RELATION = "relation_representations.0._embeddings.weight"


def tables(entity: Any, relation: Any) -> Callable[[Path], None]:
    return lambda path: torch.save({ENTITY: entity, RELATION: relation}, path)


def packed(path: Path) -> None:
    """An archive as torch makes it, but packed: a hundred times its size unpacked."""
    torch.save({ENTITY: torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in content.items():
            new.writestr(name, data)


ROWS = torch.randn(3, 4)
WEIGHTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "sparse": (tables(ROWS.to_sparse(), ROWS), "sparse_coo tensor"),
    "csr": (tables(ROWS.to_sparse_csr(), ROWS), "sparse_csr tensor|no weights alone"),
    "meta": (tables(torch.empty(3, 4, device="meta"), ROWS), "meta tensor"),
    "expanded": (tables(torch.zeros(1).expand(1 << 40, 4), ROWS), "repeats fewer numbers"),
    "packed": (packed, "unpacks to more than"),
    "complex": (tables(ROWS.to(torch.complex64), ROWS), "has the tables"),
    "integers": (tables(ROWS.long(), ROWS.long()), "has the tables"),
    "no rows": (tables(torch.zeros(0, 4), ROWS), "names 3 entities"),
    "no floats": (tables(torch.zeros(3, 0), ROWS), "dim"),
    "too many floats": (tables(torch.zeros(3, (1 << 20) + 1), ROWS), "dim"),
    "one row of floats": (tables(torch.zeros(4), ROWS), "has the tables"),
    "list": (lambda path: torch.save([1, 2], path), "no named tensors"),
    "objects": (lambda path: torch.save({"a": object()}, path), "no weights alone"),
    "cut": (lambda path: path.write_bytes(b"PK\x03\x04 cut"), "no weights alone|damaged"),
    "pipe": (lambda path: __import__("os").mkfifo(path), "is a pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
}


@pytest.mark.parametrize("make, problem", WEIGHTS.values(), ids=WEIGHTS)
def test_strange_weights_are_one_line(
    tmp_path: Path, make: Callable[[Path], Any], problem: str
) -> None:
    make(tmp_path / "state.pt")
    (tmp_path / "import.toml").write_text('model = "TransE"\n')
    for kind, names in (("entity", "abc"), ("relation", "xyz")):
        lines = "".join(f"{i}\t{name}\n" for i, name in enumerate(names))
        (tmp_path / f"{kind}_to_id.tsv").write_text(f"id\tlabel\n{lines}")
    with pytest.raises(UserError, match=problem) as caught:
        open_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_parameters_and_half_precision_are_read(tmp_path: Path) -> None:
    values = {"model.a": torch.nn.Parameter(ROWS), "b": ROWS.half(), "c": ROWS.t()}
    torch.save(values, tmp_path / "state.pt")
    found = read_weights(tmp_path / "state.pt")
    assert np.array_equal(found["a"], ROWS.numpy())
    assert np.array_equal(found["b"], ROWS.half().float().numpy())
    assert np.array_equal(found["c"], ROWS.t().numpy())


@pytest.mark.parametrize("dtype", ["O", "c8", "i4", "U3", "g", "f4,f4", "M8[s]"])
def test_arrays_of_no_floats_are_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), dtype), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy: [^\n]*$"):
        _read(tmp_path / "a.npy")


def test_another_byte_order_is_the_same_numbers(tmp_path: Path) -> None:
    for dtype in (">f4", ">f8", "<f2"):
        np.save(tmp_path / "a.npy", ROWS.numpy().astype(dtype))
        found = _read(tmp_path / "a.npy")
        assert found.dtype.isnative
        assert np.array_equal(found, ROWS.numpy().astype(dtype))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ('a', 2)}",
        "{'descr': '<f4'}",
        "(" * 500,
        "import os",
    ],
)
def test_hostile_headers_of_arrays_are_one_line(tmp_path: Path, header: str) -> None:
    text = header.encode() + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (tmp_path / "a.npy").write_bytes(data + bytes(64))
    with pytest.raises(UserError, match=r"a\.npy: [^\n]*$"):
        _read(tmp_path / "a.npy")
