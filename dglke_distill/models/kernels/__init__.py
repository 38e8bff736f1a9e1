"""Pairwise scores and row gathers, forward and backward, at the machine's speed.

On the CPU numba kernels do the work; other devices and dtypes take the torch reference path.
"""

from __future__ import annotations

from typing import Any, Literal, Optional

import torch
from torch import Tensor, nn

from dglke_distill.models.kernels import reference
from dglke_distill.models.kernels.softmax import softmax_cross_entropy

__all__ = [
    "KernelName",
    "pairwise",
    "set_num_threads",
    "softmax_cross_entropy",
    "table_rows",
    "take_rows",
]

KernelName = Literal["dot", "l1", "l2", "complex_modulus"]
_KINDS = {"dot": 0, "l1": 1, "l2": 2, "complex_modulus": 3}


def set_num_threads(threads: int) -> None:
    """Let torch and the numba kernels each use `threads` threads."""
    import numba

    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def pairwise(
    kernel: KernelName,
    query: Tensor,
    rows: Tensor,
    index: Optional[Tensor] = None,
    *,
    exact: bool = False,
) -> Tensor:
    """Score every query against its candidates: dot product, or negated distance; (b, n).

    query (b, d) and rows (u, d) float; index None makes every row a candidate (n = u); an index
    (c, n) int64 into rows with b % c == 0 gives query i the candidates rows[index[i // (b // c)]].
    `exact` forbids the matrix-product expansion of l2.
    """
    if kernel not in _KINDS:
        raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(_KINDS)}")
    if index is not None and (index.shape[0] == 0 or query.shape[0] % index.shape[0]):
        raise ValueError(f"{query.shape[0]} queries do not divide into {index.shape[0]} chunks")
    if kernel == "complex_modulus" and query.shape[1] % 2:
        raise ValueError(f"complex_modulus needs an even dimension, got {query.shape[1]}")
    native = query.dtype == rows.dtype and query.dtype in (torch.float32, torch.float64)
    if query.device.type != "cpu" or not native:
        return reference.pairwise(kernel, query, rows, index)
    if kernel == "dot" and index is None:
        return query @ rows.T
    if kernel == "dot" and index is not None and index.shape[0] < query.shape[0]:
        c, n = index.shape
        candidates = take_rows(rows, index.reshape(-1)).view(c, n, -1)
        return torch.bmm(query.view(c, -1, query.shape[1]), candidates.mT).view(-1, n)
    if index is None:
        index = torch.arange(rows.shape[0]).unsqueeze(0)
    result: Tensor = _Pairwise.apply(_KINDS[kernel], query, rows, index)
    return result


class _Pairwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: int, query: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        from dglke_distill.models.kernels import distances

        query, rows, index = query.contiguous(), rows.contiguous(), index.contiguous()
        out = query.new_empty(query.shape[0], index.shape[1])
        distances.forward(
            kind, query.detach().numpy(), rows.detach().numpy(), index.numpy(), out.numpy()
        )
        ctx.kind = kind
        ctx.save_for_backward(query, rows, index, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        from dglke_distill.models.kernels import distances

        query, rows, index, out = ctx.saved_tensors
        grad_query, grad_rows = torch.zeros_like(query), torch.zeros_like(rows)
        distances.backward(
            ctx.kind,
            *(t.detach().numpy() for t in (query, rows, index, out)),
            grad.contiguous().numpy(),
            grad_query.numpy(),
            grad_rows.numpy(),
        )
        return None, grad_query, grad_rows, None


def take_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Gather rows (u, d) by index (k,) int64 to (k, d); the gradient of repeated rows is summed."""
    return rows.index_select(0, index)


class _StashRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: nn.Parameter, ids: Tensor) -> Tensor:
        ctx.weight, ctx.ids = weight, ids
        return weight.detach().index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        if getattr(ctx.weight, "row_gradients", None) is None:
            ctx.weight.row_gradients = []
        ctx.weight.row_gradients.append((ctx.ids, grad))
        return None, None


def table_rows(weight: nn.Parameter, ids: Tensor) -> Tensor:
    """Gather rows of an embedding table (E, d) by ids (u,) int64 to (u, d).

    If the parameter carries a true attribute `row_sparse`, the backward pass builds no gradient
    of the table's size: it appends (ids, gradient rows) to the list `weight.row_gradients`,
    which `dglke_distill.optim` consumes. Otherwise an ordinary gather with a dense gradient.
    """
    if getattr(weight, "row_sparse", False) and torch.is_grad_enabled():
        result: Tensor = _StashRows.apply(weight, ids)
        return result
    return take_rows(weight, ids)
