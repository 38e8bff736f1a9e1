"""Several processes that train one table at once, without locks.

Each takes its share of an epoch's batches and moves the rows of tables that all of them share (Niu,
Recht, Re, Wright 2011, "Hogwild!: a lock-free approach to parallelizing stochastic gradient
descent"). Two that move one row at the same moment may lose a part of a step, so the outcome is not
the same bit for bit each time; with row-sparse steps on a large table that happens seldom.

The main process hands out rounds of about a second and waits for the end of each: then all that is
before the round's end is done and nothing after it, which is a state that can be saved. It alone
validates, saves and reports.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, NamedTuple, Optional, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.config import OptimizerConfig, TrainingConfig
from dglke_distill.config.plugins import load_environment
from dglke_distill.kernels import set_num_threads
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.training.loop import Lost, Stride, take_steps

ROUND_SECONDS = 1.0
"""How long a round should take: the delay of Ctrl-C, of progress and of the last worker's wait."""
FIRST_ROUND = 8
"""Batches of each worker in the first round."""
_LARGE = 1 << 14
_MARKS = ("row_sparse", "rate")


class _Task(NamedTuple):
    """All that a worker needs."""

    rank: int
    workers: int
    threads: int
    learned: nn.ModuleDict
    loader: BatchLoader
    optimizer: torch.optim.Optimizer
    optimizer_config: OptimizerConfig
    config: TrainingConfig
    marks: dict[str, dict[str, Any]]


class _Plugins:
    """Comes before a task: its copy is made by importing what this process was told to import."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return load_environment, ()


class Workers:
    """Processes that take the steps of ``train``; use as a context manager.

    Args:
        count: how many.
        learned: ``model`` and ``objective``, on the CPU; their tensors become shared memory.
        loader: yields the batches.
        optimizer: its state is allocated here and becomes shared memory.
        optimizer_config: schedule and clipping.
        config: the run's training section.

    Raises:
        UserError: the model is on a GPU, or a part of it cannot be sent to another process.
    """

    def __init__(
        self,
        count: int,
        learned: nn.ModuleDict,
        loader: BatchLoader,
        optimizer: torch.optim.Optimizer,
        optimizer_config: OptimizerConfig,
        config: TrainingConfig,
    ) -> None:
        """Remember what is to be done; ``__enter__`` starts the processes."""
        if any(p.device.type != "cpu" for p in learned.parameters()):
            raise UserError("--processes: tables on a GPU are trained by one process; leave it out")
        cast(Any, optimizer).allocate()
        cores = config.threads or runtime.available_cores()
        marks = {
            name: {key: getattr(parameter, key) for key in _MARKS if hasattr(parameter, key)}
            for name, parameter in learned.named_parameters()
        }
        self.count, self.loader, self.optimizer = count, loader, optimizer
        self._tasks = [
            _Task(
                rank, count, max(1, cores // count), learned, loader, optimizer,
                optimizer_config, config, marks,
            )
            for rank in range(count)
        ]  # fmt: skip
        self._processes: list[Any] = []
        self._lines: list[Connection] = []
        self._length = FIRST_ROUND * count
        self._arrays: dict[int, tuple[Any, Tensor]] = {}

    def __enter__(self) -> Workers:
        """Start the processes; what they share moves into shared memory."""
        context = torch.multiprocessing.get_context("spawn")  # threads do not survive a fork
        with _arrays_shared(self._arrays):
            for task in self._tasks:
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(_Plugins(), theirs, task), daemon=True
                )
                try:
                    process.start()
                except (TypeError, AttributeError, RuntimeError) as error:
                    self.__exit__()
                    raise UserError(
                        f"--processes: this run cannot be shared among processes ({error}); "
                        "leave it out"
                    ) from None
                theirs.close()
                self._processes.append(process)
                self._lines.append(ours)
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes: politely, then not."""
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join(timeout=0 if error and error[0] is not None else 10)
            if process.is_alive():
                process.kill()
                process.join()

    def steps(self, epoch: int, start: int) -> Iterator[Stride]:
        """Take the steps of an epoch from batch ``start`` on, a round at a time.

        Raises:
            Lost: a process has died. UserError: what a step raised there.
        """
        batches = len(self.loader)
        while start < batches:
            stop = min(start + self._length, batches)
            begun = time.perf_counter()
            for rank, line in enumerate(self._lines):
                self._send(rank, line, (epoch, start, stop))
            strides = [self._answer(rank) for rank in range(self.count)]
            for group in self.optimizer.param_groups:
                group["steps"] = epoch * batches + stop
            yield _sum(strides)
            share = ROUND_SECONDS / max(time.perf_counter() - begun, 1e-6)
            self._length = max(self.count, round(self._length * min(2.0, max(0.5, share))))
            start = stop

    def _send(self, rank: int, line: Connection, what: Any) -> None:
        try:
            line.send(what)
        except OSError:
            self._lost(rank)

    def _answer(self, rank: int) -> Stride:
        """Return what a worker reports; any worker that dies meanwhile ends the wait."""
        while True:
            sentinels = {process.sentinel: i for i, process in enumerate(self._processes)}
            ready = wait([self._lines[rank], *sentinels])
            if self._lines[rank] in ready:
                try:
                    kind, value = self._lines[rank].recv()
                except (EOFError, OSError):
                    self._lost(rank)
                if kind == "steps":
                    return Stride(*value)
                if kind == "refused":
                    raise UserError(value)
                raise RuntimeError(f"a training process failed:\n{value}")
            self._lost(next(sentinels[s] for s in ready if s in sentinels))

    def _lost(self, rank: int) -> None:
        process = self._processes[rank]
        process.join(timeout=5)
        code = process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        hint = "; perhaps memory ran out" if code == -signal.SIGKILL else ""
        raise Lost(
            f"training process {rank + 1} of {self.count} ended by {how}{hint}. What was reached "
            "is saved: go on with --resume"
        )


def _sum(strides: Sequence[Stride]) -> Stride:
    parts: dict[str, float] = {}
    for stride in strides:
        for name, value in stride.parts.items():
            parts[name] = parts.get(name, 0.0) + value
    return Stride(
        sum(stride.batches for stride in strides),
        sum(stride.triples for stride in strides),
        sum(stride.loss for stride in strides),
        parts,
    )


def _work(plugins: None, line: Connection, task: _Task) -> None:
    """Take the steps that the main process asks for, until it closes the line or is gone."""
    # Ctrl-C reaches every process of a terminal; the main one decides what it means.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    runtime.tune_allocator()
    runtime.speed_up_products()
    set_num_threads(task.threads)
    learned, optimizer = task.learned.train(), task.optimizer
    for name, parameter in learned.named_parameters():
        for key, value in task.marks[name].items():
            setattr(parameter, key, value)
    rates = [group["lr"] for group in optimizer.param_groups]
    model, objective = learned["model"], learned["objective"]
    batches = len(task.loader)
    while True:
        try:
            epoch, start, stop = line.recv()
        except (EOFError, OSError):
            return
        taken: list[Stride] = []
        try:
            for index in range(start + (task.rank - start) % task.workers, stop, task.workers):
                for group in optimizer.param_groups:
                    group["steps"] = epoch * batches + index
                taken += take_steps(
                    cast(Any, model), task.loader, cast(Any, objective), optimizer,
                    task.optimizer_config, task.config, rates, epoch, index, index + 1,
                )  # fmt: skip
            answer: tuple[str, Any] = ("steps", tuple(_sum(taken)))
        except UserError as error:
            answer = ("refused", str(error))
        except Exception:
            answer = ("failed", traceback.format_exc())
        try:
            line.send(answer)
        except OSError:
            return


def _array_of(memory: Tensor, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    array: NDArray[Any] = memory.numpy().view(dtype).reshape(shape)
    return array


@contextmanager
def _arrays_shared(kept: dict[int, tuple[Any, Tensor]]) -> Iterator[None]:
    """Let large arrays that are sent to processes inside lie in shared memory once for all.

    Args:
        kept: receives each array, by its id, with the memory; both must outlive the processes.
    """

    def reduce(array: NDArray[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if array.nbytes < _LARGE or array.dtype.hasobject or not array.flags.c_contiguous:
            return cast("tuple[Callable[..., Any], tuple[Any, ...]]", array.__reduce__()[:3])
        if id(array) not in kept:
            memory = torch.empty(array.nbytes, dtype=torch.uint8).share_memory_()
            memory.numpy()[:] = array.reshape(-1).view(np.uint8)
            kept[id(array)] = array, memory
        return _array_of, (kept[id(array)][1], array.dtype.str, array.shape)

    reducers: Optional[Any] = getattr(ForkingPickler, "_extra_reducers", None)
    before = None if reducers is None else reducers.get(np.ndarray)
    ForkingPickler.register(np.ndarray, reduce)
    try:
        yield
    finally:
        if reducers is not None:
            reducers.pop(np.ndarray, None)
            if before is not None:
                reducers[np.ndarray] = before
