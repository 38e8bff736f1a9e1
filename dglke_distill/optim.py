"""Row-sparse optimisers: a step costs what the touched rows cost, however large the table.

`dglke_distill.models.kernels.table_rows` leaves the gradient of a table marked `row_sparse` as
pairs (ids, gradient rows) in `parameter.row_gradients`. The optimisers here sum the rows of equal
ids and update only those rows of the table; parameters with an ordinary `.grad` are updated whole.
On the CPU both go through one fused kernel, elsewhere through torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Callable, Optional, cast

import torch
from torch import Tensor

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "clip_gradients"]

Stash = list[tuple[Tensor, Tensor]]


def _native(parameter: Tensor) -> bool:
    return (
        parameter.device.type == "cpu"
        and parameter.dtype in (torch.float32, torch.float64)
        and parameter.is_contiguous()
        and parameter.numel() > 0
    )


def _by_rows(tensor: Tensor) -> Tensor:
    """View a tensor as (rows, floats per row)."""
    return tensor.view(tensor.shape[0] if tensor.dim() else 1, math.prod(tensor.shape[1:]))


def _stash_of(parameter: Any) -> Stash:
    """Return the stashed rows; beside a dense gradient they are added to it, and none are left.

    Both occur where a table meets all its rows as candidates and gives some as queries.
    """
    stash: Stash = getattr(parameter, "row_gradients", None) or []
    if stash and parameter.grad is not None:
        for ids, rows in stash:
            parameter.grad.index_add_(0, ids, rows)
        parameter.row_gradients = stash = []
    return stash


def _merged(parameter: Tensor, stash: Stash) -> tuple[Tensor, Tensor]:
    """Concatenate stashed row gradients and sum the rows of equal ids: ids (u,), rows (u, ...)."""
    if _native(parameter):
        return cast("tuple[Tensor, Tensor]", _slots(parameter).merge(stash))
    ids = torch.cat([ids for ids, _ in stash])
    rows = torch.cat([rows for _, rows in stash])
    unique, inverse = torch.unique(ids, return_inverse=True)
    return unique, rows.new_zeros(len(unique), *rows.shape[1:]).index_add_(0, inverse, rows)


def _slots(parameter: Any) -> Any:
    """Return the parameter's scratch space for finding equal ids."""
    from dglke_distill.models.kernels.updates import RowSlots

    found = getattr(parameter, "row_slots", None)
    if found is None:
        found = parameter.row_slots = RowSlots(parameter.shape[0])
    return found


class _RowOptimizer(torch.optim.Optimizer):
    """Hands each parameter's gradient, stashed rows or whole, to the subclass's `_move`.

    Every group counts its steps in `steps`; learning rates are read from the groups, so torch's
    schedulers apply.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        for name in ("lr", "eps", "initial_accumulator"):
            if defaults.get(name, 0.0) < 0:
                raise ValueError(f"{name} must not be negative, got {defaults[name]}")
        super().__init__(params, {**defaults, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update every parameter that has a gradient; stashed rows are consumed."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["steps"] += 1
            for parameter in group["params"]:
                stash = _stash_of(parameter)
                if stash:
                    self._move(parameter, group, None, stash)
                    parameter.row_gradients = []
                elif parameter.grad is not None:
                    self._move(parameter, group, parameter.grad, [])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, stashed rows included."""
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                if getattr(parameter, "row_gradients", None):
                    parameter.row_gradients = []

    def _move(
        self, parameter: Tensor, group: dict[str, Any], gradient: Optional[Tensor], stash: Stash
    ) -> None:
        raise NotImplementedError


def _native_update(
    method: str,
    parameter: Tensor,
    states: list[Tensor],
    gradient: Optional[Tensor],
    stash: Stash,
    rate: float,
    **options: Any,
) -> None:
    """Run the fused kernel."""
    from dglke_distill.models.kernels import updates

    state, other = [*(_by_rows(s) for s in states), None, None][:2]
    updates.update(
        getattr(updates, method),
        _by_rows(parameter),
        state,
        other,
        None if gradient is None else _by_rows(gradient.contiguous()),
        [(ids.contiguous(), _by_rows(rows.contiguous())) for ids, rows in stash],
        _slots(parameter) if stash else None,
        rate,
        **options,
    )


class RowSGD(_RowOptimizer):
    """Stochastic gradient descent: w -= lr g.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def _move(
        self, parameter: Tensor, group: dict[str, Any], gradient: Optional[Tensor], stash: Stash
    ) -> None:
        if _native(parameter):
            _native_update("SGD", parameter, [], gradient, stash, group["lr"])
        elif gradient is not None:
            parameter.sub_(gradient, alpha=group["lr"])
        else:
            ids, rows = _merged(parameter, stash)
            parameter.index_add_(0, ids, rows, alpha=-group["lr"])


class RowAdagrad(_RowOptimizer):
    """Adagrad (Duchi, Hazan, Singer 2011): s += g^2, w -= lr g / (sqrt(s) + eps).

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        row_wise: keep one s per row of a table, fed by the mean of g^2 over the row, as FBGEMM and
            TorchRec do for large tables. Vectors (1-d parameters) keep theirs per element.
        eps: added to the root.
        initial_accumulator: where s starts.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        row_wise: bool = False,
        eps: float = 1e-10,
        initial_accumulator: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "row_wise": row_wise,
            "eps": eps,
            "initial_accumulator": initial_accumulator,
        }
        super().__init__(params, defaults)

    def _move(
        self, parameter: Tensor, group: dict[str, Any], gradient: Optional[Tensor], stash: Stash
    ) -> None:
        state = self.state[parameter]
        row_wise = group["row_wise"] and parameter.dim() > 1
        if "sum" not in state:
            shape = (len(parameter), *[1] * (parameter.dim() - 1)) if row_wise else parameter.shape
            state["sum"] = parameter.new_full(shape, group["initial_accumulator"])
        if _native(parameter):
            method = "ROW_WISE_ADAGRAD" if row_wise else "ADAGRAD"
            _native_update(
                method,
                parameter,
                [state["sum"]],
                gradient,
                stash,
                group["lr"],
                eps=group["eps"],
            )
            return
        where: Any = slice(None)
        if gradient is None:
            where, gradient = _merged(parameter, stash)
        square = gradient.square()
        if row_wise:
            square = square.mean(tuple(range(1, gradient.dim())), keepdim=True)
        total = state["sum"][where] + square
        state["sum"][where] = total
        parameter[where] -= group["lr"] * gradient / (total.sqrt() + group["eps"])


class RowAdam(_RowOptimizer):
    """Adam (Kingma and Ba 2015), lazy where gradients come by rows.

    Rows without a gradient keep their moments and stay where they are, as in torch's SparseAdam;
    the bias correction counts the optimiser's steps, not the row's.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay rates of the means of gradient and squared gradient.
        eps: added to the root.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def _move(
        self, parameter: Tensor, group: dict[str, Any], gradient: Optional[Tensor], stash: Stash
    ) -> None:
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        first, second = group["betas"]
        rate = group["lr"] / (1 - first ** group["steps"])
        scale = 1 / math.sqrt(1 - second ** group["steps"])
        if _native(parameter):
            _native_update(
                "ADAM",
                parameter,
                [state["mean"], state["square"]],
                gradient,
                stash,
                rate,
                eps=group["eps"],
                betas=group["betas"],
                scale=scale,
            )
            return
        where: Any = slice(None)
        if gradient is None:
            where, gradient = _merged(parameter, stash)
        mean = first * state["mean"][where] + (1 - first) * gradient
        square = second * state["square"][where] + (1 - second) * gradient.square()
        state["mean"][where] = mean
        state["square"][where] = square
        parameter[where] -= rate * mean / (square.sqrt() * scale + group["eps"])


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients, stashed rows included, so that their joint L2 norm is <= max_norm.

    Rows of equal ids are summed first, as the optimisers would.

    Returns:
        The norm before clipping, a scalar tensor.
    """
    gradients: list[Tensor] = []
    for parameter in params:
        stash = _stash_of(parameter)
        if stash:
            ids, rows = _merged(parameter, stash)
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


# The classes' own names differ from torch's: PyKEEN registers every optimiser class in the process
# by its name, and two of one name stop it from being imported.
SGD, Adagrad, Adam = RowSGD, RowAdagrad, RowAdam


def _rowwise_adagrad(params: Any, **options: Any) -> RowAdagrad:
    return RowAdagrad(params, row_wise=True, **options)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adagrad": RowAdagrad,
    "rowwise_adagrad": _rowwise_adagrad,
    "adam": RowAdam,
    "sgd": RowSGD,
}
"""Factories by name: `OPTIMIZERS[name](params, lr=...)`."""
