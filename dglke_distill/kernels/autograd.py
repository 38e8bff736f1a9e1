"""The native kernels as differentiable torch functions."""

from __future__ import annotations

from typing import Any, Optional, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dglke_distill.kernels import distances
from dglke_distill.kernels.private import private_gradients
from dglke_distill.kernels.rows import scatter_rows
from dglke_distill.kernels.strips import shared_gradients
from dglke_distill.kernels.tiles import KERNELS

# Distances below it are no distances: their squares underflow.
_SMALLEST = {torch.float32: 1e-20, torch.float64: 1e-150}
_SHARED = 8
"""Queries per chunk from which on candidates count as shared."""
_order = torch.arange(0)


def _in_order(count: int) -> Tensor:
    """Return the numbers below `count` as (1, count) int64, reused from call to call."""
    global _order
    if len(_order) < count:
        _order = torch.arange(2 * count)
    return _order[:count].unsqueeze(0)


def _padded(rows: Tensor, parts: int) -> Tensor:
    """Contiguous rows whose parts (1, or real and imaginary) fill whole vectors.

    The zeros appended to both sides of a pair leave every score as it is.
    """
    lanes = 64 // rows.element_size()
    length = rows.shape[1] // parts
    missing = -length % lanes
    if missing == 0:
        return rows.detach().contiguous()
    wider = rows.detach().view(rows.shape[0], parts, length)
    return nn.functional.pad(wider, (0, missing)).flatten(1)


def _cropped(gradient: Tensor, parts: int, d: int) -> Tensor:
    """Undo the padding."""
    if gradient.shape[1] == d:
        return gradient
    return gradient.view(gradient.shape[0], parts, -1)[:, :, : d // parts].reshape(-1, d)


def _gradients(
    kind: int, query: Tensor, rows: Tensor, index: Tensor, weight: Tensor, in_order: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of query (b, d) and rows (u, d), given index (c, n) and weight (b, n).

    The weight is the gradient of the scores, for l2 divided by the scores. All contiguous; d (for
    the modulus: d / 2) a multiple of the vector length. `in_order` promises that the index is
    0 to u - 1. `kind` numbers `tiles.KERNELS`.
    """
    if kind > 0 and query.shape[0] // index.shape[0] >= _SHARED:
        return shared_gradients(kind, query, rows, index, weight, in_order)
    return private_gradients(kind, query, rows, index, weight)


class PairwiseScores(torch.autograd.Function):
    """Scores (b, n) of query (b, d) against rows (u, d) through index (c, n) or against all."""

    @staticmethod
    def forward(
        ctx: Any, kernel: str, query: Tensor, rows: Tensor, index: Optional[Tensor]
    ) -> Tensor:
        """Run the native kernel on padded copies where the rows do not fill whole vectors."""
        parts = 2 if kernel == "complex_modulus" else 1
        ctx.kind, ctx.parts, ctx.d = KERNELS.index(kernel), parts, query.shape[1]
        ctx.in_order = index is None
        if index is None:
            index = _in_order(rows.shape[0])
        query, rows, index = _padded(query, parts), _padded(rows, parts), index.contiguous()
        out = query.new_empty(query.shape[0], index.shape[1])
        distances.scores(ctx.kind, query, rows, index, out)
        # A copy, since losses may overwrite the scores with their gradient; and away from 0, so
        # that a slope of 0 there stays 0.
        needed = kernel == "l2" and any(ctx.needs_input_grad)
        kept = out.clamp(max=-_SMALLEST[out.dtype]) if needed else None
        ctx.save_for_backward(query, rows, index, kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return the gradients of query and rows."""
        query, rows, index, kept = ctx.saved_tensors
        weight = grad if kept is None else grad / kept
        query_gradient, rows_gradient = _gradients(
            ctx.kind, query, rows, index, weight.contiguous(), ctx.in_order
        )
        return (
            None,
            _cropped(query_gradient, ctx.parts, ctx.d),
            _cropped(rows_gradient, ctx.parts, ctx.d),
            None,
        )


class TakenRows(torch.autograd.Function):
    """rows[index] with a parallel, ordered sum of the gradients of repeated rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        """Gather."""
        ctx.u = rows.shape[0]
        ctx.save_for_backward(index)
        return rows.detach().index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Scatter-add."""
        (index,) = ctx.saved_tensors
        return scatter_rows(grad.contiguous()[None], index.contiguous()[None], ctx.u), None


class StashedRows(torch.autograd.Function):
    """weight[ids] whose gradient is kept as (ids, gradient rows) in `weight.row_gradients`."""

    @staticmethod
    def forward(ctx: Any, weight: nn.Parameter, ids: Tensor) -> Tensor:
        """Gather."""
        ctx.weight, ctx.ids = weight, ids
        return weight.detach().index_select(0, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Append to the stash; the parameter's own `.grad` stays as it is."""
        weight = cast(Any, ctx.weight)
        if getattr(weight, "row_gradients", None) is None:
            weight.row_gradients = []
        weight.row_gradients.append((ctx.ids, grad))
        return None, None
