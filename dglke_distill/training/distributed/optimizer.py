"""What moves a model whose entity table lies on DGL's servers.

DGL's sparse optimisers move it, ours the rest, whose gradients trainers average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import torch
import torch.distributed as together
from torch import Tensor, nn

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.config import OptimizerConfig
from dglke_distill.training.distributed.tables import Zeros

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "adagrad": {"eps": 1e-10},
    "rowwise_adagrad": {"eps": 1e-10, "initial_accumulator": 0.0},
    "adam": {"eps": 1e-8, "betas": (0.9, 0.999)},
}


@cache
def _row_wise() -> Any:
    """Return Adagrad with one sum of squares for each row, as a distributed optimiser of DGL."""
    dgl = load_dgl()
    base: Any = import_module("dgl.distributed.optim.pytorch.sparse_optim").DistSparseGradOptimizer

    class RowWiseAdagrad(base):  # type: ignore[misc]
        """s += mean(g^2) over the row, w -= lr g / (sqrt(s) + eps); DGL has it not."""

        def __init__(self, params: Any, lr: float, eps: float, initial: float) -> None:
            super().__init__(params, lr)
            self._eps = eps
            self._defaults = {"_lr": lr, "_eps": eps}
            for table in params:
                self._state[table.name] = dgl.distributed.DistTensor(
                    (table.num_embeddings, 1), torch.float32, f"{table.name}_sum",
                    init_func=Zeros(initial), part_policy=table.part_policy, is_gdata=False,
                )  # fmt: skip

        def update(self, idx: Tensor, grad: Tensor, emb: Any) -> None:
            """Move the rows of this trainer; ``grad`` may have several rows of an id."""
            if not len(idx):
                return
            ids, inverse = torch.unique(idx, return_inverse=True)
            total = torch.zeros(len(ids), grad.shape[1]).index_add_(0, inverse, grad)
            # The loss of all is the mean of the trainers' losses.
            total /= self._world_size
            state = self._state[emb.name]
            sums = state[ids] + total.square().mean(1, keepdim=True)
            state[ids] = sums
            emb._tensor[ids] -= self._lr * total / (sums.sqrt() + self._eps)

    return RowWiseAdagrad


def check_sparse(config: OptimizerConfig) -> dict[str, Any]:
    """Return the options of DGL's optimiser, each with its value.

    Args:
        config: which, and its options.

    Raises:
        UserError: DGL has no such optimiser, or it has no such option.
    """
    name = config.name.lower()
    if name not in _OPTIONS:
        raise UserError(
            f"optimizer.name {config.name}: DGL moves distributed tables by adagrad, "
            "rowwise_adagrad or adam alone; set one of them"
        )
    strange = sorted(set(config.options) - set(_OPTIONS[name]))
    if strange:
        raise UserError(
            f"optimizer.options of {config.name}: DGL's distributed optimiser has no "
            f"{strange[0]!r}; leave it out"
        )
    return {**_OPTIONS[name], **config.options}


def sparse_optimizer(config: OptimizerConfig, tables: Sequence[Any]) -> Any:
    """Return the optimiser of tables on the servers; all trainers call it.

    Args:
        config: which, and its options.
        tables: ``DistEmbedding``.

    Raises:
        UserError: see ``check_sparse``.
    """
    name, options = config.name.lower(), check_sparse(config)
    optim = load_dgl().distributed.optim
    if name == "rowwise_adagrad":
        initial = float(options["initial_accumulator"])
        return _row_wise()(tables, config.learning_rate, float(options["eps"]), initial)
    made = optim.SparseAdam if name == "adam" else optim.SparseAdagrad
    return made(tables, config.learning_rate, **options)


class DistributedOptimizer:
    """Both optimisers as one, as the training loop wants it.

    Args:
        sparse: moves the tables on the servers.
        dense: moves what each trainer holds, the same way on all.
        learned: all that ``dense`` moves.
        rows: parameters of which only rows with a gradient move, as in one process.
    """

    def __init__(
        self,
        sparse: Any,
        dense: torch.optim.Optimizer,
        learned: nn.Module,
        rows: Sequence[nn.Parameter] = (),
    ) -> None:
        """Keep them."""
        self.sparse, self.dense = sparse, dense
        self._parameters = [p for p in learned.parameters() if p.requires_grad]
        self._rows = {id(parameter) for parameter in rows}
        self.param_groups = dense.param_groups

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.dense.zero_grad()
        # Pitfall: without it DGL keeps all that was ever pulled, and each step moves it again.
        self.sparse.zero_grad()

    def step(self) -> None:
        """Move everything; returns when all trainers have."""
        self._average()
        self.sparse._lr = self.param_groups[0]["lr"]
        self.sparse.step()
        self.dense.step()

    @torch.no_grad()
    def _average(self) -> None:
        """Give each trainer the mean of all trainers' gradients."""
        if not self._parameters:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        together.all_reduce(flat)
        flat /= together.get_world_size()
        start = 0
        for parameter, grad in zip(self._parameters, grads):
            mean = flat[start : start + grad.numel()].view_as(grad)
            start += grad.numel()
            if id(parameter) not in self._rows:
                parameter.grad = mean.clone()
                continue
            ids = mean.ne(0).any(1).nonzero().squeeze(1)
            parameter.grad = None
            parameter.row_gradients = [(ids, mean[ids])]  # type: ignore[attr-defined]

    def states(self) -> Iterator[tuple[str, Any]]:
        """Yield the sparse optimiser's tables on the servers, by name."""
        for name, state in self.sparse._state.items():
            for number, table in enumerate(state if isinstance(state, tuple) else (state,)):
                yield f"table.{name}.{number}", table
