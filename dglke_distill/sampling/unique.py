"""Distinct ids of a batch and the rows they take, without clearing or sorting anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dglke_distill.kernels.compiled import njit

Int64 = NDArray[np.int64]


@njit(cache=True, nogil=True)
def _relabel(slots, stamp, ids, rows, nodes, count):  # type: ignore[no-untyped-def]
    """Give every id a row, in order of first appearance; return the number of rows so far."""
    for i in range(len(ids)):
        word = slots[ids[i]]
        if word >> 32 != stamp:
            nodes[count] = ids[i]
            word = (stamp << 32) | count
            slots[ids[i]] = word
            count += 1
        rows[i] = word & 0xFFFFFFFF
    return count


class Relabeler:
    """Numbers the distinct ids of each call from zero, in order of first appearance.

    One 8-byte slot per entity holds (number of the call, row); a slot written by an earlier call
    is recognised by its number, so a call costs the ids it is given and nothing per entity. The
    result shares no memory with the slots. Not for use by two threads at once.

    Args:
        num_entities: ids are below this.
    """

    def __init__(self, num_entities: int) -> None:
        """Allocate the slots."""
        self._slots = np.zeros(num_entities, np.int64)
        self._calls = 0

    def __reduce__(self) -> tuple[type[Relabeler], tuple[int]]:
        """Give another process slots of its own."""
        return Relabeler, (len(self._slots),)

    def __call__(self, parts: Sequence[Int64]) -> tuple[Int64, list[Int64]]:
        """Relabel several id arrays together.

        Args:
            parts: contiguous int64 arrays of any shape.

        Returns:
            ``nodes`` int64 (u,), the distinct ids, and for each part an int64 array of its shape
            with ``nodes[rows] == part``.
        """
        self._calls += 1
        total = sum(part.size for part in parts)
        nodes = np.empty(min(total, len(self._slots)), np.int64)
        count, rows = 0, []
        for part in parts:
            row = np.empty(part.shape, np.int64)
            count = _relabel(
                self._slots, self._calls, part.reshape(-1), row.reshape(-1), nodes, count
            )
            rows.append(row)
        return nodes[:count].copy(), rows
