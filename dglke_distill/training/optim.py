"""Row-sparse optimisers: a step costs what the touched rows cost, however large the table.

The optimisers sum the rows of equal ids in a stash (see `row_gradients`) and update only those rows
of the table; parameters with an ordinary `.grad` are updated whole. On the CPU both go through one
fused kernel, elsewhere through torch. Of a table in a coded dtype the touched rows are decoded,
moved in float32 and rounded at random (see `models.tables`).
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from dglke_distill.config import components
from dglke_distill.config.registry import Registry
from dglke_distill.models.tables import CODED, round_at_random
from dglke_distill.training.row_gradients import (
    Stash,
    by_rows,
    clip_gradients,
    merged,
    native,
    new_state,
    slots_of,
    stash_of,
)

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "clip_gradients"]


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
                stash = stash_of(parameter)
                if stash and parameter.dtype in CODED:
                    self._move_coded(parameter, group, stash)
                    parameter.row_gradients = []
                elif stash:
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned: tensors are copied to where state lies.

        torch's own would cast a coded table's state to the table's dtype.
        """
        super().load_state_dict({**state_dict, "state": {}})
        parameters = [
            (parameter, group) for group in self.param_groups for parameter in group["params"]
        ]
        for number, saved in state_dict["state"].items():
            state = self._allocate(*parameters[number])
            if state.keys() != saved.keys():
                raise ValueError("the state is of another optimiser")
            for name, tensor in saved.items():
                if tensor.shape != state[name].shape:
                    raise ValueError("the state is of parameters of other shapes")
                state[name].copy_(tensor)

    def allocate(self) -> None:
        """Make the state of every parameter now, which else its first gradient does."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._allocate(parameter, group)

    def _allocate(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """Return a parameter's state: tensors with as many rows as it has."""
        state: dict[str, Tensor] = self.state[parameter]
        return state

    def _move_coded(self, parameter: Tensor, group: dict[str, Any], stash: Stash) -> None:
        """Move copies of the touched rows and of their state, and lay them back."""
        ids, gradient = merged(parameter, stash)
        state = self._allocate(parameter, group)
        rows = parameter.index_select(0, ids).float()
        self.state[rows] = {name: kept.index_select(0, ids) for name, kept in state.items()}
        self._move(rows, group, gradient, [])
        for name, moved in self.state.pop(rows).items():
            state[name].index_copy_(0, ids, moved)
        parameter.index_copy_(0, ids, round_at_random(rows, parameter.dtype))

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
    from dglke_distill.kernels import updates

    state, other = [*(by_rows(s) for s in states), None, None][:2]
    updates.update(
        getattr(updates, method),
        by_rows(parameter),
        state,
        other,
        None if gradient is None else by_rows(gradient.contiguous()),
        [(ids.contiguous(), by_rows(rows.contiguous())) for ids, rows in stash],
        slots_of(parameter) if stash else None,
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
        if native(parameter):
            _native_update("SGD", parameter, [], gradient, stash, group["lr"])
        elif gradient is not None:
            parameter.sub_(gradient, alpha=group["lr"])
        else:
            ids, rows = merged(parameter, stash)
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

    def _allocate(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if "sum" not in state:
            row_wise = group["row_wise"] and parameter.dim() > 1
            shape = (len(parameter), *[1] * (parameter.dim() - 1)) if row_wise else parameter.shape
            state["sum"] = new_state(parameter, shape, group["initial_accumulator"])
        return state

    def _move(
        self, parameter: Tensor, group: dict[str, Any], gradient: Optional[Tensor], stash: Stash
    ) -> None:
        state = self._allocate(parameter, group)
        row_wise = group["row_wise"] and parameter.dim() > 1
        if native(parameter):
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
            where, gradient = merged(parameter, stash)
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

    def _allocate(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if "mean" not in state:
            state["mean"] = new_state(parameter, parameter.shape)
            state["square"] = new_state(parameter, parameter.shape)
        return state

    def _move(
        self, parameter: Tensor, group: dict[str, Any], gradient: Optional[Tensor], stash: Stash
    ) -> None:
        state = self._allocate(parameter, group)
        first, second = group["betas"]
        rate = group["lr"] / (1 - first ** group["steps"])
        scale = 1 / math.sqrt(1 - second ** group["steps"])
        if native(parameter):
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
            where, gradient = merged(parameter, stash)
        mean = first * state["mean"][where] + (1 - first) * gradient
        square = second * state["square"][where] + (1 - second) * gradient.square()
        state["mean"][where] = mean
        state["square"][where] = square
        parameter[where] -= rate * mean / (square.sqrt() * scale + group["eps"])


# The classes' own names differ from torch's: PyKEEN registers every optimiser class in the process
# by its name, and two of one name stop it from being imported.
SGD, Adagrad, Adam = RowSGD, RowAdagrad, RowAdam


def rowwise_adagrad(params: Any, **options: Any) -> RowAdagrad:
    """Return Adagrad with one sum of squares for each row; see ``RowAdagrad``."""
    return RowAdagrad(params, row_wise=True, **options)


OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = components.OPTIMIZERS
"""Factories by name: `OPTIMIZERS[name](params, lr=...)`."""
