"""Going on with a run: all that its file says is checked against what the run can have left.

A file of a run under way may have been damaged or edited. What training goes on from must be what
it has saved: weights and optimiser state of these tables, at a step of this run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import torch
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from torch import Tensor, nn

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.base.faults import fault_words
from dglke_distill.base.regular_files import shown
from dglke_distill.base.tensor_files import SavedState, all_finite, restore_state
from dglke_distill.config import TrainingConfig
from dglke_distill.training.loop import TrainState

_MEND = "restore the file, or choose another --out to begin anew"
_OWN = ("lr", "steps", "params")  # of an optimiser's group, what a run changes
_Count = Annotated[StrictInt, Field(ge=0)]
_Number = Annotated[float, Field(strict=True)]
_Share = Annotated[float, Field(strict=True, ge=0, le=1)]


class _State(BaseModel):
    """What ``TrainState`` holds, its values looked at one by one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epoch: _Count
    batch: _Count
    loss_sum: _Number
    parts_sum: dict[str, _Number]
    best: Optional[_Share]
    best_epoch: _Count
    stale: _Count
    history: list[dict[str, _Number]]
    seconds: Annotated[float, Field(strict=True, ge=0)]
    validation_seconds: Annotated[float, Field(strict=True, ge=0)]
    finished: StrictBool


def restore_run(
    tensors: SavedState,
    learned: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    batches: int,
    identity: Mapping[str, str],
) -> TrainState:
    """Put weights and optimiser state back, and return where the run stands.

    Args:
        tensors: the run's file.
        learned: all that learns.
        optimizer: its optimiser, as built.
        config: the run's training.
        batches: of an epoch.
        identity: what the file must say of itself: ``config``.

    Raises:
        UserError: the file is of another run, or says what no run can have left.
    """
    about = tensors.metadata
    if about.get("config") != identity["config"]:
        raise UserError(f"{tensors.path}: written with other settings; {_MEND}")
    if not isinstance(about.get("run", ""), str):
        raise UserError(f"{tensors.path}: run is no text; {_MEND}")
    threads = about.get("threads")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= 1 << 20):
        raise UserError(f"{tensors.path}: threads is {threads!r:.40}; {_MEND}")
    state = read_state(about.get("state"), config, batches, tensors.path)
    restore_training(tensors, learned, optimizer, tensors.path)
    return state


def read_state(tree: Any, config: TrainingConfig, batches: int, path: Path) -> TrainState:
    """Return where a run stands.

    Args:
        tree: what ``TrainState.to_dict`` returned, read from a file.
        config: the run's training.
        batches: of an epoch.
        path: the file, for messages.

    Raises:
        UserError: it says what no run can have left.
    """
    try:
        found = _State.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["state", *map(str, first["loc"])])[:100]
        raise UserError(f"{path}: {where}: {fault_words(first)}; {_MEND}") from None
    stopped = config.patience is not None and found.stale >= config.patience
    for wrong, fault in (
        (found.epoch > config.epochs, f"epoch {found.epoch} of {config.epochs}"),
        # After the last batch and before the epoch's end a run can be stopped too.
        (found.batch > batches, f"batch {found.batch} of {batches}"),
        (found.epoch == config.epochs and found.batch > 0, "a batch after the last epoch"),
        (
            found.finished and found.epoch < config.epochs and not stopped,
            f"an end after {found.epoch} of {config.epochs} epochs",
        ),
        (found.best_epoch > found.epoch, f"its best epoch, {found.best_epoch}, still to come"),
        (
            (found.best is None) != (found.best_epoch == 0),
            f"its best figure, {found.best}, in epoch {found.best_epoch}",
        ),
        (found.stale > found.epoch, f"{found.stale} validations in {found.epoch} epochs"),
        (
            len(found.history) != found.epoch
            or any(of.get("epoch") != epoch for epoch, of in enumerate(found.history, 1)),
            f"a history that is not of its {found.epoch} epochs",
        ),
    ):
        if wrong:
            raise UserError(f"{path}: state: {fault} cannot be; {_MEND}")
    return TrainState(**found.model_dump())


def restore_training(
    tensors: Mapping[str, Tensor],
    learned: nn.Module,
    optimizer: torch.optim.Optimizer,
    path: Path = Path("resume state"),
) -> None:
    """Put what ``checkpoint.training_tensors`` returned back, bit for bit.

    The learning rates stay those the optimiser was built with: the saved ones are where the
    schedule had brought them.

    Args:
        tensors: the file's content.
        learned: all that learns.
        optimizer: its optimiser, as built.
        path: the file, for messages.

    Raises:
        UserError: the weights or the optimiser's state are not those of this module.
    """
    try:
        state = restore_state(tensors, "optimizer")
    except (UserError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: the optimiser's state is damaged ({shown(error)}); {_MEND}"
        ) from None
    ours = optimizer.state_dict()["param_groups"]
    if not _fits(state, ours):
        raise UserError(
            f"{path}: the optimiser's state is missing, damaged or of another optimiser; {_MEND}"
        )
    weights = {n: t for n, t in tensors.items() if not n.startswith("optimizer.")}
    rates = [group["lr"] for group in optimizer.param_groups]
    checkpoint.restore_weights(tensors, weights, learned, path)
    try:
        optimizer.load_state_dict(state)  # type: ignore[arg-type]
    except (ValueError, RuntimeError, IndexError, KeyError) as error:
        raise UserError(f"{path}: the optimiser's state does not fit ({error}); {_MEND}") from None
    for group, rate in zip(optimizer.param_groups, rates):
        group["lr"] = rate


def _fits(state: Any, ours: list[dict[str, Any]]) -> bool:
    """Return whether a state can be one of this optimiser at a later step."""
    if not isinstance(state, dict) or state.keys() != {"state", "param_groups"}:
        return False
    groups, kept = state["param_groups"], state["state"]
    if not isinstance(groups, list) or not isinstance(kept, dict) or len(groups) != len(ours):
        return False
    for group, own in zip(groups, ours):
        if not isinstance(group, dict) or group.keys() != own.keys():
            return False
        rate, steps = group["lr"], group.get("steps", 0)
        if type(rate) not in (int, float) or not math.isfinite(rate):
            return False
        if type(steps) is not int or not 0 <= steps < 1 << 62 or group["params"] != own["params"]:
            return False
        if any(group[key] != own[key] for key in own if key not in _OWN):
            return False
    numbers = {number for group in ours for number in group["params"]}
    for number, saved in kept.items():
        if type(number) is not int or number not in numbers or not isinstance(saved, dict):
            return False
        for name, tensor in saved.items():
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                return False
            if not all_finite(tensor) or (name in ("sum", "square") and bool((tensor < 0).any())):
                return False
    return True


def best_reached(best: SavedState, state: TrainState) -> None:
    """Let a state say what the file of the best weights says of itself.

    They differ where a kill has undone a validation, and several processes did not repeat it.

    Raises:
        UserError: the file says what no validation can have found.
    """
    if state.best is None or "epoch" not in best.metadata:
        return
    epoch, mrr = best.metadata["epoch"], best.metadata.get("mrr")
    if (
        not isinstance(epoch, int)
        or not isinstance(mrr, (int, float))
        or not 0 < epoch <= max(state.epoch, state.best_epoch)
        or not 0 <= mrr <= 1
    ):
        what = f"epoch {epoch!r:.40} and MRR {mrr!r:.40}"
        raise UserError(f"{best.path}: {what} cannot be of this run; {_MEND}")
    state.best, state.best_epoch = float(mrr), epoch
