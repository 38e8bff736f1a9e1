"""Row-sparse optimisers: a step costs what the touched rows cost, however large the table.

`dglke_distill.models.kernels.table_rows` leaves the gradient of a table marked `row_sparse` as
pairs (ids, gradient rows) in `parameter.row_gradients`. The optimisers here sum duplicate ids
and update only those rows; parameters with an ordinary dense `.grad` are updated densely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Callable, Optional

import torch
from torch import Tensor

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "clip_gradients"]


def _summed_rows(stash: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Concatenate stashed row gradients and sum the rows of equal ids: ids (u,), rows (u, d)."""
    ids = torch.cat([ids for ids, _ in stash])
    rows = torch.cat([rows for _, rows in stash])
    unique, inverse = torch.unique(ids, return_inverse=True)
    if len(unique) == len(ids):
        return ids, rows
    return unique, rows.new_zeros(len(unique), *rows.shape[1:]).index_add_(0, inverse, rows)


class _RowOptimizer(torch.optim.Optimizer):
    """Shared loop: hands each parameter's gradient, by rows or whole, to `_update`."""

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient; the row gradients are consumed."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            for parameter in group["params"]:
                stash = getattr(parameter, "row_gradients", None)
                if stash:
                    ids, rows = _summed_rows(stash)
                    self._update(parameter, group, ids, rows)
                    parameter.row_gradients = []
                if parameter.grad is not None:
                    self._update(parameter, group, None, parameter.grad)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, stashed rows included."""
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                if getattr(parameter, "row_gradients", None):
                    parameter.row_gradients = []

    def _update(
        self, parameter: Tensor, group: dict[str, Any], ids: Optional[Tensor], gradient: Tensor
    ) -> None:
        raise NotImplementedError


class SGD(_RowOptimizer):
    """Plain stochastic gradient descent."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def _update(
        self, parameter: Tensor, group: dict[str, Any], ids: Optional[Tensor], gradient: Tensor
    ) -> None:
        if ids is None:
            parameter.sub_(gradient, alpha=group["lr"])
        else:
            parameter.index_add_(0, ids, gradient, alpha=-group["lr"])


class Adagrad(_RowOptimizer):
    """Adagrad (Duchi et al. 2011); `row_wise` keeps one accumulator per row: the mean square."""

    def __init__(
        self,
        params: Any,
        lr: float,
        row_wise: bool = False,
        eps: float = 1e-10,
        initial_accumulator: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "row_wise": row_wise,
                "eps": eps,
                "initial_accumulator": initial_accumulator,
            },
        )

    def _update(
        self, parameter: Tensor, group: dict[str, Any], ids: Optional[Tensor], gradient: Tensor
    ) -> None:
        state = self.state[parameter]
        row_wise = group["row_wise"] and parameter.dim() > 1
        if "sum" not in state:
            shape = parameter.shape[:1] + (1,) * (parameter.dim() - 1) if row_wise else None
            state["sum"] = parameter.new_full(
                shape or parameter.shape, group["initial_accumulator"]
            )
        square = gradient.square()
        if row_wise:
            square = square.mean(tuple(range(1, gradient.dim())), keepdim=True)
        if ids is None:
            state["sum"].add_(square)
            parameter.sub_(gradient / (state["sum"].sqrt() + group["eps"]), alpha=group["lr"])
        else:
            total = state["sum"][ids] + square
            state["sum"][ids] = total
            parameter[ids] -= group["lr"] * gradient / (total.sqrt() + group["eps"])


class Adam(_RowOptimizer):
    """Adam (Kingma and Ba 2015); lazy on row gradients, bias corrected by the global step."""

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def _update(
        self, parameter: Tensor, group: dict[str, Any], ids: Optional[Tensor], gradient: Tensor
    ) -> None:
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        first, second = group["betas"]
        where: Any = slice(None) if ids is None else ids
        mean = first * state["mean"][where] + (1 - first) * gradient
        square = second * state["square"][where] + (1 - second) * gradient.square()
        state["mean"][where] = mean
        state["square"][where] = square
        scale = math.sqrt(1 - second ** group["steps"])
        rate = group["lr"] / (1 - first ** group["steps"])
        parameter[where] -= rate * mean / (square.sqrt() / scale + group["eps"])


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients, row gradients included, so that their joint norm is <= max_norm.

    Duplicate ids are summed first. Returns the norm before clipping, a scalar tensor.
    """
    gradients = []
    for parameter in params:
        stash = getattr(parameter, "row_gradients", None)
        if stash:
            parameter.row_gradients = [_summed_rows(stash)]  # type: ignore[attr-defined]
            gradients.append(parameter.row_gradients[0][1])  # type: ignore[attr-defined]
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    if not gradients:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)
    return norm


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adagrad": Adagrad,
    "rowwise_adagrad": lambda params, **options: Adagrad(params, row_wise=True, **options),
    "adam": Adam,
    "sgd": SGD,
}
