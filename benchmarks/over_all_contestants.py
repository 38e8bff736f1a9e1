"""Training over all entities: our step against Lacroix's loop in plain torch, timed on demand."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from throughput_contestants import TUNED

from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset
from dglke_distill.models import build_model
from dglke_distill.runs.workspace import Workspace, build_loader, build_optimizer
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.loop import step
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective
from dglke_distill.training.regularizers import build_regularizer

FLOATS, BATCH = 32, 100
MODES = ("one_vs_all", "k_vs_all")


class OursOverAll:
    """Our loop: ComplEx with reciprocals, softmax over all entities, N3, Adagrad."""

    def __init__(self, workspace: Workspace, mode: str) -> None:
        """Build all that a step needs, and warm up."""
        config = Config.from_mapping(
            {
                "model": {"name": "ComplEx", "dim": FLOATS, "reciprocal": True},
                "loss": {"name": "softmax"},
                "regularizer": {"name": "n3", "weight": 0.05},
                "optimizer": {"name": "adagrad", "learning_rate": 0.1},
                "training": {"mode": mode, "batch_size": BATCH},
            },
            "benchmark",
        )
        dataset = workspace.dataset
        self.model = build_model(config.model, dataset.num_entities, dataset.num_relations)
        self.model.set_row_sparse(entities=True, relations=True)
        self.model.reset(0)
        self.loader = build_loader(config, workspace, self.model)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        penalty = build_regularizer(config.regularizer)
        self.objective = HardObjective(build_loss(config.loss), penalty)
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


class PlainTorch:
    """A process that runs Lacroix's loop on demand."""

    def __init__(
        self, mode: str, triples: Path, dataset: Dataset, threads: int, tuned: bool
    ) -> None:
        """Start the process and let it warm up."""
        command = [
            sys.executable, str(Path(__file__).with_name("peer_torch_over_all.py")),
            "--triples", str(triples), "--entities", str(dataset.num_entities),
            "--relations", str(dataset.num_relations), "--floats", str(FLOATS),
            "--batch-size", str(BATCH), "--mode", mode, "--threads", str(threads),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(TUNED if tuned else {})},
        )
        self.steps = 8
        self.run(0.0)

    def run(self, seconds: float) -> float:
        """Train for a while; return true triples per second."""
        assert self.process.stdin and self.process.stdout
        spent, triples = 0.0, 0
        while True:
            print(self.steps, file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the process of plain torch ended: run it alone to see why")
            found = json.loads(line)
            spent, triples = spent + found["seconds"], triples + found["triples"]
            if spent >= seconds:
                return float(triples / spent)

    def stop(self) -> None:
        """End the process."""
        if self.process.stdin:
            print("stop", file=self.process.stdin, flush=True)
        self.process.wait(timeout=60)


def measure_over_all(
    mode: str, workspace: Workspace, triples: Path, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Interleave all contestants of a mode; return a row for each."""
    contestants: dict[str, Any] = {"ours": OursOverAll(workspace, mode)}
    if not arguments.no_peer:
        for tuned in (False, True):
            name = "plain torch, malloc tuned" if tuned else "plain torch, as it comes"
            contestants[name] = PlainTorch(
                mode, triples, workspace.dataset, arguments.threads, tuned
            )
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, contestant in contestants.items():
            figures[name].append(contestant.run(arguments.seconds))
    for contestant in contestants.values():
        if isinstance(contestant, PlainTorch):
            contestant.stop()
    tuned_peer = figures.get("plain torch, malloc tuned")
    rows = []
    for name, values in figures.items():
        ours = name == "ours"
        ratios = [a / b for a, b in zip(values, tuned_peer)] if ours and tuned_peer else []
        rows.append(
            {
                "model": "ComplEx",
                "floats": FLOATS,
                "who": "ours" if ours else "torch",
                "mode": f"{mode}, {name}",
                "positives_per_second": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
                "ratio_to_tuned_peer": statistics.median(ratios) if ratios else "",
                "outside_kernels_and_optimiser": "",
                "sampling": "",
                "goal": ">= 25,000" if ours and mode == "one_vs_all" else "",
                "fraction_of_ceiling": "",
            }
        )
    return rows
