"""Gradients of the rows of a table: how they are kept, summed and clipped.

`dglke_distill.kernels.table_rows` leaves the gradient of a table marked `row_sparse` as
pairs (ids, gradient rows) in `parameter.row_gradients`, its stash.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from dglke_distill.models.tables import CODED, place_of

Stash = list[tuple[Tensor, Tensor]]


def native(parameter: Tensor) -> bool:
    """Return whether the fused kernel can move a parameter."""
    return (
        parameter.device.type == "cpu"
        and parameter.dtype in (torch.float32, torch.float64)
        and parameter.is_contiguous()
        and parameter.numel() > 0
    )


def by_rows(tensor: Tensor) -> Tensor:
    """View a tensor as (rows, floats per row)."""
    return tensor.view(tensor.shape[0] if tensor.dim() else 1, math.prod(tensor.shape[1:]))


def stash_of(parameter: Any) -> Stash:
    """Return the stashed rows; beside a dense gradient they are added to it, and none are left.

    Both occur where a table meets all its rows as candidates and gives some as queries.
    """
    stash: Stash = getattr(parameter, "row_gradients", None) or []
    if stash and parameter.grad is not None:
        for ids, rows in stash:
            _add(parameter.grad, ids, rows)
        parameter.row_gradients = stash = []
    return stash


def _add(gradient: Tensor, ids: Tensor, rows: Tensor) -> None:
    """Add rows (k, ...) to those of a dense gradient."""
    if not native(gradient) or gradient.dtype != rows.dtype:
        gradient.index_add_(0, ids, rows)
        return
    from dglke_distill.kernels.rows import add_rows

    with torch.no_grad():
        add_rows(by_rows(gradient), ids, by_rows(rows.contiguous()))


def merged(parameter: Tensor, stash: Stash) -> tuple[Tensor, Tensor]:
    """Concatenate stashed row gradients and sum the rows of equal ids: ids (u,), rows (u, ...)."""
    if native(parameter) or (parameter.dtype in CODED and parameter.device.type == "cpu"):
        return cast("tuple[Tensor, Tensor]", slots_of(parameter).merge(stash))
    ids = torch.cat([ids for ids, _ in stash])
    rows = torch.cat([rows for _, rows in stash])
    unique, inverse = torch.unique(ids, return_inverse=True)
    return unique, rows.new_zeros(len(unique), *rows.shape[1:]).index_add_(0, inverse, rows)


def new_state(parameter: Tensor, shape: Sequence[int], value: float = 0.0) -> Tensor:
    """Return a tensor of state that lies where the parameter does, in float32 if that is coded."""
    coded = parameter.dtype in CODED
    place, dtype = place_of(parameter), torch.float32 if coded else parameter.dtype
    if place is None:
        return torch.full(tuple(shape), value, dtype=dtype, device=parameter.device)
    state = place.zeros(shape, dtype)
    return state.fill_(value) if value else state


def slots_of(parameter: Any) -> Any:
    """Return the parameter's scratch space for finding equal ids."""
    from dglke_distill.kernels.updates import RowSlots

    found = getattr(parameter, "row_slots", None)
    if found is None:
        found = parameter.row_slots = RowSlots(parameter.shape[0])
    return found


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients, stashed rows included, so that their joint L2 norm is <= max_norm.

    Rows of equal ids are summed first, as the optimisers would.

    Returns:
        The norm before clipping, a scalar tensor.
    """
    gradients: list[Tensor] = []
    for parameter in params:
        stash = stash_of(parameter)
        if stash:
            ids, rows = merged(parameter, stash)
            # The stash may hold views that autograd shares with others.
            cast(Any, parameter).row_gradients = [(ids, rows.clone())]
            gradients.append(cast(Any, parameter).row_gradients[0][1])
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    if not gradients:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if not norm <= max_norm:
        scale = max_norm / (norm + 1e-6)
        for gradient in gradients:
            gradient.mul_(scale)
    return norm
