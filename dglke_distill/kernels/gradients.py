"""Gradients of the pairwise scores on the CPU: chooses the way that suits the sharing."""

from __future__ import annotations

from torch import Tensor

from dglke_distill.kernels.private import private_gradients
from dglke_distill.kernels.strips import shared_gradients

__all__ = ["gradients"]

# Queries per chunk from which on candidates count as shared.
_SHARED = 8


def gradients(
    kind: int, query: Tensor, rows: Tensor, index: Tensor, weight: Tensor, in_order: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradients of query (b, d) and rows (u, d), given index (c, n) and weight (b, n).

    The weight is the gradient of the scores, for l2 divided by the scores. All contiguous; d (for
    the modulus: d / 2) a multiple of the vector length. `in_order` promises that the index is
    0 to u - 1. `kind` numbers `tiles.KERNELS`.
    """
    if kind > 0 and query.shape[0] // index.shape[0] >= _SHARED:
        return shared_gradients(kind, query, rows, index, weight, in_order)
    return private_gradients(kind, query, rows, index, weight)
