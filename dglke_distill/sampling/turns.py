"""Which draw a sampler is at, in this process and in the workers that it is copied into.

A loader with workers copies the sampler into new processes in every epoch, and what they count is
lost with them. What tells one epoch's copies from another's is known before they begin: how many
processes were forked before, or how often the sampler was packed to be sent to one.
"""

from __future__ import annotations

import mmap
import os
import zlib
from typing import Any, Optional

import numpy as np
from torch import Tensor

_EPOCH = 1 << 40  # apart from every number of a process
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork)


class Turns:
    """Counts the calls of a sampler."""

    def __init__(self) -> None:
        """Begin to count in this process."""
        self._calls = 0
        self._forks = _forks
        self._process = os.getpid()
        self._copy: Optional[int] = None
        self._sent = 0
        self._opening: Optional[int] = None
        self._rounds = self._begun = 0
        self._share(-1)

    def _share(self, epoch: int) -> None:
        # Anonymous shared memory: processes that are forked from here on see what is written.
        self._epoch = np.frombuffer(mmap.mmap(-1, 8), np.int64)
        self._epoch[0] = epoch

    def set_epoch(self, epoch: int) -> None:
        """Make draws depend on an epoch instead of the number of calls."""
        self._epoch[0] = epoch

    def next(self, edges: Tensor) -> tuple[int, tuple[int, ...]]:
        """Count a call.

        Args:
            edges: ids of the batch's edges.

        Returns:
            The turn, whose parity chooses a side, and the numbers that name the draw.
        """
        calls = self._calls
        self._calls += 1
        first = int(edges[0]) if len(edges) else 0
        content = zlib.crc32(np.ascontiguousarray(edges.cpu().numpy(), np.int64).tobytes())
        epoch = int(self._epoch[0])
        if epoch >= 0:
            # Batches that come in the same order in every epoch change their side with it.
            return content + epoch, (epoch, first, _EPOCH, content)
        copy = self._copy
        if copy is None and os.getpid() != self._process:
            copy = _forks - self._forks
        # Where the first batch comes again, the order is the same in every epoch: a batch's turn
        # must not be, or an even number of batches would each keep one side for ever.
        if self._opening is None:
            self._opening = content
        elif content == self._opening:
            self._rounds, self._begun = self._rounds + 1, calls
        turn = calls - self._begun + self._rounds
        if copy is None:
            return turn, (calls, first)
        return turn + zlib.crc32(str(copy).encode()), (calls, first, 1 + copy)

    def __getstate__(self) -> dict[str, Any]:
        """Pack a copy: for a worker that is started afresh it gets a number of its own."""
        state = {**self.__dict__, "_epoch": int(self._epoch[0])}
        if _is_sent():
            state["_copy"] = self._sent
            state.update(_calls=0, _opening=None, _rounds=0, _begun=0)
            self._sent += 1
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpack a copy, in whatever process."""
        epoch = state.pop("_epoch")
        self.__dict__.update(state)
        self._forks, self._process = _forks, os.getpid()
        self._share(epoch)


def _is_sent() -> bool:
    """Return whether a process is being started that needs what is packed now."""
    from multiprocessing import context

    return context.get_spawning_popen() is not None
