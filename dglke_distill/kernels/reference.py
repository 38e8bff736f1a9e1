"""Pairwise scores in plain torch: the oracle of the tests and the path of every other device.

Simple before fast: with an index the candidates are gathered, so a private index builds the
(b, n, d) tensor that the numba kernels avoid.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from dglke_distill.kernels.hyperbolic import negated_squares, point_of, time_of


def similarity(kernel: str, query: Tensor, candidate: Tensor) -> Tensor:
    """Score broadcastable (..., d) queries and candidates: dot product, or negated distance.

    The subgradient of the distances is 0 where the distance (for l1: the coordinate's
    difference) is 0.
    """
    if kernel == "dot":
        return (query * candidate).sum(-1)
    difference = query - candidate
    if kernel == "l1":
        return -difference.abs().sum(-1)
    if kernel == "l2":
        return -_safe_root(difference.square().sum(-1))
    if kernel == "l2_squared":
        return -difference.square().sum(-1)
    if kernel == "complex_modulus":
        real, imaginary = difference.chunk(2, dim=-1)
        return -_safe_root(real.square() + imaginary.square()).sum(-1)
    if kernel == "hyperbolic_squared":
        query, candidate = point_of(query), point_of(candidate)
        spread = (query - candidate).square().sum(-1)
        times = (time_of(query) - time_of(candidate)).squeeze(-1)
        return negated_squares((spread - times.square()) / 4)
    raise ValueError(f"unknown kernel {kernel!r}")


def _safe_root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    zero = square == 0
    root = square.masked_fill(zero, 1.0).sqrt()
    return root.masked_fill(zero, 0.0)


def pairwise(
    kernel: str,
    query: Tensor,
    rows: Tensor,
    index: Optional[Tensor] = None,
    *,
    exact: bool = True,
) -> Tensor:
    """Same contract as `dglke_distill.kernels.pairwise`, on any device and float dtype.

    Without `exact` distances may come from `torch.cdist`, which needs far less memory.
    """
    # torch.cdist knows no half precision.
    exact = exact or query.dtype not in (torch.float32, torch.float64)
    if index is None:
        if kernel == "dot":
            return query @ rows.T
        if not exact and kernel in ("l1", "l2"):
            return -torch.cdist(query, rows, p=1.0 if kernel == "l1" else 2.0)
        return similarity(kernel, query[:, None, :], rows[None, :, :])
    chunks, candidates = index.shape
    grouped = query.reshape(chunks, query.shape[0] // chunks, query.shape[1])
    gathered = rows[index]
    if kernel == "dot":
        scores = torch.bmm(grouped, gathered.mT)
    elif not exact and kernel in ("l1", "l2"):
        scores = -torch.cdist(grouped, gathered, p=1.0 if kernel == "l1" else 2.0)
    else:
        scores = similarity(kernel, grouped[:, :, None, :], gathered[:, None, :, :])
    return scores.reshape(query.shape[0], candidates)
