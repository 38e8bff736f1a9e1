"""How much each fact counts: in the loss, or in how often it is visited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.triples import SIDES, Side
from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.random import uniform_at

Floats = NDArray[np.float32]
_LEAST = np.float32(1e-6)


class FactWeights:
    """Weights of facts, as a loader uses them; their mean is made 1.

    Args:
        weights: float32 (n,), from 0 on, not all 0.
        groups: of each side, as ``known_answers.group_by_query`` gives them; empty where a batch
            visits facts, not queries.
        weighting: as for ``BatchLoader``.

    Attributes:
        of_facts: (n,) what each fact counts in the loss; None where queries or draws are weighted.
        upto: (n,) the sum of all weights up to each fact or query that may be drawn; None without.
    """

    def __init__(
        self,
        weights: Floats,
        groups: Sequence[tuple[NDArray[np.integer], NDArray[np.int64]]],
        weighting: Literal["loss", "sampling"],
    ) -> None:
        weights = (weights / weights.mean(dtype=np.float64)).astype(np.float32)
        self._size = len(weights)
        self.of_facts: Optional[Floats] = None
        self.upto: Optional[NDArray[np.float64]] = None
        self._queries: list[Floats] = []
        if weighting == "sampling":
            sums = _by_query(weights, groups, mean=False) if groups else [weights]
            self.upto = np.cumsum(np.concatenate(sums), dtype=np.float64)
            return
        # A loss divides by their sum, and a batch may hold none that counts.
        weights = np.maximum(weights, _LEAST)
        if groups:
            self._queries = _by_query(weights, groups, mean=True)
        else:
            self.of_facts = weights

    def __len__(self) -> int:
        """Return the number of facts."""
        return self._size

    def of_queries(self, side: Side, asked: NDArray[np.int64]) -> Optional[Floats]:
        """Return what queries count in the loss, (b,), or None.

        Args:
            side: the side that they ask for.
            asked: their numbers (b,).
        """
        return self._queries[SIDES.index(side)][asked] if self._queries else None

    def draw(self, key: np.uint64, first: int, out: NDArray[np.int64]) -> None:
        """Write what an epoch visits from its ``first`` step on, drawn with replacement.

        Args:
            key: stream key of the epoch.
            first: the first step.
            out: int64 (b,), receives positions; one of weight 0 is never drawn.
        """
        assert self.upto is not None
        chosen = np.empty(len(out))
        _uniform(key, first, chosen)
        out[:] = np.searchsorted(self.upto, chosen * self.upto[-1], side="right")
        # Rounding may carry the product to the sum itself: the last that counts stands for it.
        np.minimum(out, np.searchsorted(self.upto, self.upto[-1], side="left"), out=out)


def _by_query(
    weights: Floats,
    groups: Sequence[tuple[NDArray[np.integer], NDArray[np.int64]]],
    *,
    mean: bool,
) -> list[Floats]:
    """Return the mean or the sum of the weights of each query's triples, by side."""
    found = []
    for order, starts in groups:
        sums = np.add.reduceat(weights[order].astype(np.float64), starts[:-1])
        found.append((sums / np.diff(starts) if mean else sums).astype(np.float32))
    return found


@njit(cache=True, nogil=True)
def _uniform(key, first, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = uniform_at(key, first + i)
