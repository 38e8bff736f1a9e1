"""The two sides of the throughput benchmark: our training step and PyKEEN's, timed on demand."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset
from dglke_distill.models import build_model
from dglke_distill.runs.workspace import Workspace, build_loader, build_optimizer
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.loop import step
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective
from dglke_distill.training.regularizers import build_regularizer

BATCH, NEGATIVES = 1024, 256
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


@dataclass(frozen=True)
class Workload:
    """A model and size; ``shared_target`` and ``private_ratio`` are the goals set for them."""

    model: str
    floats: int
    shared_target: float
    private_ratio: float


class TrainingLoop:
    """A training loop of ours, timed a while at a time; its epochs go on between timings."""

    def __init__(self, workspace: Workspace, settings: dict[str, Any]) -> None:
        """Build the model, its loader and its optimiser, and warm up."""
        config = Config.from_mapping(settings, "benchmark")
        dataset = workspace.dataset
        self.model = build_model(config.model, dataset.num_entities, dataset.num_relations)
        self.model.set_row_sparse(entities=True, relations=True)
        self.model.reset(0)
        self.loader = build_loader(config, workspace, self.model)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.objective = HardObjective(
            build_loss(config.loss), build_regularizer(config.regularizer)
        )
        self.batches = self._batches()
        for _ in range(4):  # compile, fill caches
            step(self.model, next(self.batches), self.objective, self.optimizer)

    def _batches(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.loader.epoch(epoch)
            epoch += 1

    def run(self, seconds: float) -> float:
        """Train for a while; return true triples per second."""
        begun, triples = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            batch = next(self.batches)
            step(self.model, batch, self.objective, self.optimizer)
            triples += len(batch.edges)
        return triples / (time.perf_counter() - begun)


class Ours(TrainingLoop):
    """Our loop with negatives that are shared by chunks, or private."""

    def __init__(self, workspace: Workspace, workload: Workload, sharing: str, chunk: int) -> None:
        """Build the loop of a workload."""
        super().__init__(
            workspace,
            {
                "model": {"name": workload.model, "dim": workload.floats},
                "negatives": {"count": NEGATIVES, "sharing": sharing, "chunk_size": chunk},
                "training": {"batch_size": BATCH},
            },
        )

    def overhead(self, steps: int = 20) -> tuple[float, float]:
        """Return the share of a step that is neither score kernels nor optimiser, and its sampling.

        The first counts gathers, losses and all that autograd adds as overhead, too; the second is
        the drawing of a batch alone.
        """
        from dglke_distill.kernels import pairwise

        kernel = self.model.score_function.kernel
        whole, kernels, optimiser, sampling = [], [], [], []
        for _ in range(steps):
            begun = time.perf_counter()
            batch = next(self.batches)
            sampling.append(time.perf_counter() - begun)
            self.optimizer.zero_grad()
            losses = self.objective(self.model, batch)
            losses.total.backward()
            middle = time.perf_counter()
            self.optimizer.step()
            end = time.perf_counter()
            whole.append(end - begun)
            optimiser.append(end - middle)
            kernels.append(self._kernel_seconds(pairwise, kernel, batch))
        step_seconds = statistics.median(whole)
        inside = statistics.median(kernels) + statistics.median(optimiser)
        return 1 - inside / step_seconds, statistics.median(sampling) / step_seconds

    def _kernel_seconds(self, pairwise: Any, kernel: Any, batch: Batch) -> float:
        """Time the same score kernels alone, forward and backward, on tensors made beforehand."""
        seconds = 0.0
        with torch.no_grad():
            entities = self.model.encode(batch.nodes)
        for queries in batch.queries:
            with torch.no_grad():
                query = self.model.query(
                    entities, queries.entity, queries.relation, queries.side
                ).vectors
            assert queries.answer is not None
            for index in (queries.answer[:, None], queries.candidates):
                left = query.clone().requires_grad_()
                right = entities.vectors.clone().requires_grad_()
                begun = time.perf_counter()
                scores = pairwise(kernel, left, right, index)
                middle = time.perf_counter()
                gradient = torch.ones_like(scores)
                resumed = time.perf_counter()
                scores.backward(gradient)
                seconds += time.perf_counter() - resumed + middle - begun
        return seconds


class TimedProcess:
    """A process of a peer: told a number of steps, it answers with a line of JSON."""

    def __init__(self, script: str, options: dict[str, object], tuned: bool) -> None:
        """Start a script beside this file, its allocator tuned or as it comes."""
        self.script = script
        command = [sys.executable, str(Path(__file__).with_name(script))]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(TUNED if tuned else {})},
        )

    def train(self, steps: int) -> dict[str, float]:
        """Let it take some steps; return what it measured, such as ``seconds``."""
        assert self.process.stdin and self.process.stdout
        print(steps, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.script} ended: run it alone to see why")
        found: dict[str, float] = json.loads(line)
        return found

    def stop(self) -> None:
        """End the process."""
        if self.process.stdin:
            print("stop", file=self.process.stdin, flush=True)
        self.process.wait(timeout=60)


class Peer(TimedProcess):
    """A PyKEEN process that trains on demand."""

    def __init__(
        self, workload: Workload, triples: Path, dataset: Dataset, threads: int, tuned: bool
    ) -> None:
        """Start the process and let it warm up."""
        options = {
            "model": workload.model,
            "floats": workload.floats,
            "triples": triples,
            "entities": dataset.num_entities,
            "relations": dataset.num_relations,
            "batch-size": BATCH,
            "negatives": NEGATIVES,
            "threads": threads,
        }
        super().__init__("peer_pykeen_training.py", options, tuned)
        self.few, self.many = (1, 5) if workload.floats >= 256 else (2, 34)
        self.train(self.few)
        self.train(self.many)

    def run(self) -> float:
        """Return positives per second, the fixed cost of an epoch taken off."""
        for _ in range(5):
            few, many = (self.train(steps)["seconds"] for steps in (self.few, self.many))
            if many > few:
                return BATCH * (self.many - self.few) / (many - few)
        raise RuntimeError("more steps took less time, five times over")
