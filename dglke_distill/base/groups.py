"""Rows that share a key, end to end: an order and offsets, as in a CSR matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Groups(NamedTuple):
    """The rows of key k are ``order[offsets[k]:offsets[k + 1]]``, ascending.

    Attributes:
        order: int64 (n,), all rows, sorted by their keys.
        offsets: int64 (keys + 1,).
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def present(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield every key that has rows, ascending, with these."""
        for key in np.flatnonzero(np.diff(self.offsets)).tolist():
            yield key, self.order[self.offsets[key] : self.offsets[key + 1]]


def offsets_of(keys: NDArray[Any], size: Optional[int] = None) -> NDArray[np.int64]:
    """Return where the rows of each key begin once they are sorted by it, and the end.

    Args:
        keys: (n,) whole numbers from 0 on, one a row, in any order.
        size: number of keys; if not given, the highest and one.
    """
    return np.append(0, np.cumsum(np.bincount(keys, minlength=size or 0))).astype(np.int64)


def group(keys: NDArray[Any], size: Optional[int] = None) -> Groups:
    """Group rows by key.

    Args:
        keys: (n,) whole numbers from 0 on, one a row.
        size: number of keys; if not given, the highest and one.
    """
    return Groups(np.argsort(keys, kind="stable"), offsets_of(keys, size))


def group_tensor(keys: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return order and offsets as ``group`` does, of a tensor."""
    offsets = keys.new_zeros(size + 1)
    offsets[1:] = keys.bincount(minlength=size).cumsum(0)
    return keys.argsort(stable=True), offsets
