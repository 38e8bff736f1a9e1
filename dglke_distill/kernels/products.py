"""Scores that are products, for losses that need not see all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

import torch
from torch import Tensor

# Longer rows gain nothing: matrix products of them are fast, and each is made once more here.
_MOST_FLOATS = 64


@dataclass(frozen=True)
class Products:
    """Scores (b, n) of every query with every row, not multiplied out.

    Attributes:
        query: (b, d) float.
        rows: (n, d) of the same dtype.
        bias: (n,) added to every query's score of a row, or None.
        shift: (b,) added to all scores of a query, or None. A softmax does not see it.
    """

    query: Tensor
    rows: Tensor
    bias: Optional[Tensor] = None
    shift: Optional[Tensor] = None

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and candidates."""
        return len(self.query), len(self.rows)

    @property
    def dtype(self) -> torch.dtype:
        """The scores' dtype."""
        return self.query.dtype

    def __mul__(self, factor: float) -> Products:
        """Multiply every score."""
        bias = None if self.bias is None else self.bias * factor
        shift = None if self.shift is None else self.shift * factor
        return Products(self.query * factor, self.rows, bias, shift)

    def multiplied(self) -> Tensor:
        """Return the scores."""
        scores = self.query @ self.rows.T
        if self.bias is not None:
            scores = scores + self.bias
        return scores if self.shift is None else scores + self.shift[:, None]


Scores = Union[Tensor, Products]


def multiplies_late(kernel: str, rows: Tensor) -> bool:
    """Return whether scores of a ``pairwise`` kernel with all of some rows come as products."""
    native = rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64)
    fits = 0 < rows.shape[1] <= _MOST_FLOATS and rows.numel() > 0
    return native and fits and kernel in ("dot", "l2_squared")


def products(
    kernel: str, query: Tensor, rows: Tensor, bias: Optional[Tensor] = None, scale: float = 1.0
) -> Optional[Products]:
    """Return scale * pairwise(kernel, query, rows) + bias as products, or None.

    None where these scores are no products, or where multiplying them all out is as fast.

    Args:
        kernel: see ``pairwise``.
        query: (b, d) float.
        rows: (n, d) of the same dtype.
        bias: (n, 1) or None.
        scale: factor of the scores without bias.
    """
    if not multiplies_late(kernel, rows) or not query.numel():
        return None
    added = None if bias is None else bias.squeeze(1)
    if kernel == "dot":
        return Products(query if scale == 1.0 else query * scale, rows, added)
    # -|q - c|^2 = 2 q c - |c|^2 - |q|^2
    norms = rows.square().sum(1) * -scale
    added = norms if added is None else norms + added
    return Products(query * (2 * scale), rows, added, query.square().sum(1) * -scale)
