"""One training loop. What to learn is an objective; validation and disk are callables.

The whole of a step stands in ``step``; everything else here is counting, schedules and stopping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import torch

from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.config import OptimizerConfig, TrainingConfig
from dglke_distill.models.base import KGEModel
from dglke_distill.sampling.batch import Batch, BatchLoader
from dglke_distill.training.objective import START, Moment, Objective, Objectives
from dglke_distill.training.optim import clip_gradients
from dglke_distill.training.stop import stop_requests


class Interrupted(Exception):
    """Training was asked to stop (Ctrl-C, SIGTERM or SIGHUP); its state has been saved."""


class Lost(UserError):
    """Training cannot go on, by no fault of the model; its state has been saved."""


class Stride(NamedTuple):
    """Some steps that were taken: batches, their triples, and sums of losses over batches."""

    batches: int
    triples: int
    loss: float
    parts: dict[str, float]


Steps = Callable[[int, int], Iterator[Stride]]
"""Takes the steps of an epoch from a batch on: called with both numbers."""


def step(
    model: KGEModel,
    batch: Batch,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    clip_norm: Optional[float] = None,
    moment: Moment = START,
) -> Objectives:
    """Take one optimisation step and return the detached loss before it."""
    optimizer.zero_grad()
    losses: Objectives = objective(model, batch, moment)
    losses.total.backward()  # type: ignore[no-untyped-call]
    if clip_norm is not None:
        clip_gradients([*model.parameters(), *objective.parameters()], clip_norm)
    optimizer.step()
    return Objectives(losses.total.detach(), losses.parts)


def learning_rate_factor(config: OptimizerConfig, progress: float) -> float:
    """Return the learning rate at a point of the run, as a share of the configured one.

    Args:
        config: schedule (constant, linear, cosine or step), warmup and final share.
        progress: share of all steps already taken, in [0, 1).
    """
    if progress < config.warmup:
        return max(progress / config.warmup, 1e-3)
    left = 1.0 - (progress - config.warmup) / (1.0 - config.warmup)
    if config.schedule == "linear":
        return config.final + (1.0 - config.final) * left
    if config.schedule == "cosine":
        return config.final + (1.0 - config.final) * 0.5 * (1.0 - math.cos(math.pi * left))
    if config.schedule == "step" and progress >= config.step_at:
        return config.final
    return 1.0


def take_steps(
    model: KGEModel,
    loader: BatchLoader,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    optimizer_config: OptimizerConfig,
    config: TrainingConfig,
    base_rates: Sequence[float],
    epoch: int,
    start: int,
    stop: Optional[int] = None,
) -> Iterator[Stride]:
    """Take the steps of an epoch one by one; what happens depends on the batch's number alone.

    Args:
        model: see ``train``.
        loader: see ``train``.
        objective: see ``train``.
        optimizer: see ``train``.
        optimizer_config: see ``train``.
        config: see ``train``.
        base_rates: learning rates of the optimiser's groups before any schedule.
        epoch: number of the epoch.
        start: its first batch.
        stop: one past its last; None: all.
    """
    batches = len(loader)
    total = config.epochs * batches
    for done, batch in enumerate(loader.epoch(epoch, start, stop), epoch * batches + start):
        factor = learning_rate_factor(optimizer_config, done / total)
        for group, rate in zip(optimizer.param_groups, base_rates):
            group["lr"] = rate * factor
        # Dropout resumes too.
        runtime.seed_step(config.seed * 1_000_003 + done, model.device)
        moment = Moment(epoch, config.epochs, done, total)
        with runtime.rounded_products(config.products == "bfloat16"):
            losses = step(model, batch, objective, optimizer, optimizer_config.clip_norm, moment)
        parts = {name: float(value) for name, value in losses.parts.items()}
        yield Stride(1, len(batch.edges), float(losses.total), parts)


@dataclass
class TrainState:
    """Where a run stands; with the weights and the optimiser's state it is all a resume needs.

    Attributes:
        epoch: epochs completed.
        batch: batches completed of the epoch under way.
        loss_sum: sum of batch losses of the epoch under way.
        parts_sum: the same per named part.
        best: best validation MRR, reached after ``best_epoch`` epochs.
        stale: validations since then.
        history: one record per completed epoch.
        seconds: spent in training steps.
        validation_seconds: spent in validation.
        finished: whether the run ended, by its last epoch or by early stopping.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    parts_sum: dict[str, float] = field(default_factory=dict)
    best: Optional[float] = None
    best_epoch: int = 0
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    validation_seconds: float = 0.0
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return asdict(self)


class Progress(NamedTuple):
    """What a progress display shows."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    triples_per_second: float
    seconds_left: float
    validation_mrr: Optional[float]


def train(
    model: KGEModel,
    loader: BatchLoader,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    optimizer_config: OptimizerConfig,
    config: TrainingConfig,
    *,
    state: Optional[TrainState] = None,
    steps: Optional[Steps] = None,
    validate: Optional[Callable[[], float]] = None,
    keep_best: Callable[[], None] = lambda: None,
    save: Callable[[TrainState], None] = lambda state: None,
    report: Callable[[Progress], None] = lambda progress: None,
    agree: Callable[[bool, bool], tuple[bool, bool]] = lambda stop, save: (stop, save),
) -> TrainState:
    """Train until the last epoch, or until validation stops improving.

    Args:
        model: the model; its parameters are changed in place.
        loader: yields batches; its randomness depends on (seed, epoch, batch) alone.
        objective: what to minimise.
        optimizer: holds the base learning rate in its parameter groups.
        optimizer_config: schedule and clipping.
        config: length, cadence, patience.
        state: where to go on; None for the start.
        steps: takes the steps; None for ``take_steps`` in this process.
        validate: returns the validation MRR, called every ``evaluate_every`` epochs and at the end.
        keep_best: called when the model is the best so far, to keep its weights.
        save: called every ``checkpoint_minutes``, at the end and when interrupted.
        report: called a few times a second.
        agree: given whether to stop and whether to save, returns what all processes that train
            together do.

    Returns:
        The final state.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP, after ``save``.
        Lost: what ``steps`` works with is gone, after ``save``.
        UserError: the loss is no longer finite.
    """
    state = state or TrainState()
    batches = len(loader)
    total = config.epochs * batches
    base_rates = [group["lr"] for group in optimizer.param_groups]
    if steps is None:
        alone = (model, loader, objective, optimizer, optimizer_config, config, base_rates)
        steps = partial(take_steps, *alone)
    begun, steps_done, triples_done, warm = time.perf_counter(), 0, 0, False
    last_save = last_report = begun
    with stop_requests() as stop:
        while state.epoch < config.epochs and not state.finished:
            model.train()
            before = time.perf_counter()
            for stride in _kept(steps(state.epoch, state.batch), state, save):
                state.loss_sum += stride.loss
                for name, value in stride.parts.items():
                    state.parts_sum[name] = state.parts_sum.get(name, 0.0) + value
                if not math.isfinite(state.loss_sum):
                    raise UserError(
                        f"the loss is {stride.loss} in epoch {state.epoch + 1}, batch "
                        f"{state.batch + 1}: lower optimizer.learning_rate "
                        f"(now {optimizer_config.learning_rate:g}) or set optimizer.clip_norm"
                    )
                state.batch += stride.batches
                steps_done += stride.batches
                triples_done += stride.triples
                now = time.perf_counter()
                state.seconds += now - before
                before = now
                if not warm:  # the first step builds kernels, and is no measure of the others
                    begun, steps_done, triples_done, warm = now, 0, 0, True
                elif now - last_report > 0.25:
                    last_report = now
                    elapsed = now - begun
                    done = state.epoch * batches + state.batch
                    left = (total - done) * elapsed / steps_done
                    report(
                        Progress(
                            state.epoch,
                            config.epochs,
                            state.batch,
                            batches,
                            state.loss_sum / state.batch,
                            triples_done / elapsed,
                            left,
                            state.best,
                        )
                    )
                    before = time.perf_counter()  # who is told may take long; it is no training
                    begun += before - now
                due = now - last_save > 60 * config.checkpoint_minutes
                stopping, saving = agree(stop.is_set(), due)
                if stopping or saving:
                    save(state)
                    last_save = before = time.perf_counter()
                    if stopping:
                        raise Interrupted
            progress = (state.epoch + 1) / config.epochs
            rate = base_rates[0] * learning_rate_factor(optimizer_config, progress)
            _end_epoch(state, config, model, validate, keep_best, rate, batches)
        for group, rate in zip(optimizer.param_groups, base_rates):
            group["lr"] = rate
        state.finished = True
        save(state)
    return state


def _kept(
    strides: Iterator[Stride], state: TrainState, save: Callable[[TrainState], None]
) -> Iterator[Stride]:
    """Yield the strides; where they are lost, save what was reached."""
    try:
        yield from strides
    except Lost:
        save(state)
        raise


def _end_epoch(
    state: TrainState,
    config: TrainingConfig,
    model: KGEModel,
    validate: Optional[Callable[[], float]],
    keep_best: Callable[[], None],
    rate: float,
    batches: int,
) -> None:
    """Record the epoch, validate if it is due, and decide whether to stop."""
    record = {"epoch": float(state.epoch + 1), "loss": state.loss_sum / batches}
    record.update({name: value / batches for name, value in state.parts_sum.items()})
    record["learning_rate"] = rate
    state.epoch, state.batch, state.loss_sum, state.parts_sum = state.epoch + 1, 0, 0.0, {}
    last = state.epoch == config.epochs
    due = last or (config.evaluate_every > 0 and state.epoch % config.evaluate_every == 0)
    if validate is not None and due:
        before = time.perf_counter()
        model.eval()
        mrr = validate()
        state.validation_seconds += time.perf_counter() - before
        record["validation_mrr"] = mrr
        if state.best is None or mrr > state.best:
            state.best, state.best_epoch, state.stale = mrr, state.epoch, 0
            keep_best()
        else:
            state.stale += 1
            state.finished = config.patience is not None and state.stale >= config.patience
    elif validate is None and last:
        keep_best()
    record["seconds"] = state.seconds
    state.history.append(record)
