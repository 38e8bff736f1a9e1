"""Does a graph of the size of ogbl-wikikg2 train as fast as FB15k-237, and in how much memory?

    python benchmarks/synthetic_wikikg2.py synthetic
    python benchmarks/size_ratio.py synthetic --data-root datasets_at_hand --csv size_ratio.csv

Loads ogbl-wikikg2 (real or synthetic) from the official files, or from its converted form if an
earlier run left one, builds the train graph, then takes real training steps (sampling, forward,
backward, optimiser) on it and on FB15k-237, some of each in turn, so that a passing disturbance
hits both: TransE with L1 distances, negatives shared by chunks, self-adversarial loss, row-sparse
row-wise Adagrad. Prints seconds and peak memory of each phase, positives per second on both
graphs, and their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import torch

from dglke_distill.base import runtime
from dglke_distill.config import LossConfig, ModelConfig
from dglke_distill.data import catalog
from dglke_distill.data.graph import build_graph
from dglke_distill.data.ogb import load_ogb
from dglke_distill.data.triples import Dataset
from dglke_distill.kernels import set_num_threads
from dglke_distill.models import build_model
from dglke_distill.sampling.batch import Batch, BatchLoader
from dglke_distill.sampling.negatives import build_sampler
from dglke_distill.training.loop import step
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective
from dglke_distill.training.optim import OPTIMIZERS

WARMUP_STEPS = 20
BLOCKS = 10


@dataclass
class Phases:
    """Seconds and peak memory of each phase, printed as they end."""

    records: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block and record the largest resident set during it, in GiB."""
        _forget_peak()
        begun = time.perf_counter()
        yield
        seconds, peak = time.perf_counter() - begun, runtime.peak_memory_bytes() / 2**30
        self.records[name] = (seconds, peak)
        print(f"{name:<28}{seconds:8.1f} s   peak {peak:5.2f} GiB", flush=True)


def _forget_peak() -> None:
    """Let the kernel's peak counter of this process start anew, where it can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Trainer:
    """A model in training, a block of steps at a time.

    Attributes:
        seconds: of each block measured.
        loading: share of each block's seconds spent in waiting for batches.
    """

    def __init__(self, dataset: Dataset, options: argparse.Namespace, phases: Phases) -> None:
        """Build graph, sampler, loader, model and optimiser."""
        self.name, self.batch_size = dataset.name, options.batch_size
        self.seconds: list[float] = []
        self.loading: list[float] = []
        with phases.phase(f"graph of {dataset.name}"):
            graph = build_graph(dataset.train, dataset.num_entities)
            sampler = build_sampler(
                "uniform",
                graph,
                dataset.num_relations,
                count=options.negatives,
                sharing="chunk",
                chunk_size=options.chunk_size,
            )
            self.loader = BatchLoader(
                graph, dataset.num_relations, batch_size=options.batch_size, sampler=sampler
            )
        with phases.phase(f"model of {dataset.name}"):
            config = ModelConfig(name="TransE", dim=options.dim, options={"norm": "l1"})
            self.model = build_model(config, dataset.num_entities, dataset.num_relations)
            self.model.set_row_sparse(entities=True, relations=True)
            self.model.reset(seed=0)
            make = OPTIMIZERS["rowwise_adagrad"]
            self.optimizer = make(self.model.parameters(), lr=options.learning_rate)
        loss = LossConfig(name="self_adversarial", options={"margin": 9.0, "temperature": 1.0})
        self.objective = HardObjective(build_loss(loss))
        self.batches = self._full_batches()

    def _full_batches(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            for batch in self.loader.epoch(epoch):
                if len(batch.edges) == self.batch_size:
                    yield batch
            epoch += 1

    def run(self, steps: int, measured: bool = True) -> float:
        """Take some steps and return the last loss."""
        begun, waited = time.perf_counter(), 0.0
        for _ in range(steps):
            before = time.perf_counter()
            batch = next(self.batches)
            waited += time.perf_counter() - before
            losses = step(self.model, batch, self.objective, self.optimizer)
        if measured:
            self.seconds.append(time.perf_counter() - begun)
            self.loading.append(waited / self.seconds[-1])
        return float(losses.total)

    def rate(self, steps: int) -> float:
        """Return the median positives per second of the measured blocks."""
        return self.batch_size * steps / statistics.median(self.seconds)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the benchmark and return a record for each graph."""
    phases = Phases()
    with phases.phase("load ogbl-wikikg2"):
        large = load_ogb("ogbl-wikikg2", options.root)
    small = catalog.load("fb15k237", data_root=options.data_root, offline=True)
    print(
        f"{large.num_entities} entities, {large.num_relations} relations, "
        f"{len(large.train)} train triples"
    )
    trainers = [Trainer(large, options, phases), Trainer(small, options, phases)]
    block = max(1, options.steps // BLOCKS)
    losses: list[list[float]] = [[], []]
    with phases.phase(f"{WARMUP_STEPS} steps of warmup"):
        for trainer, seen in zip(trainers, losses):
            seen.append(trainer.run(WARMUP_STEPS, measured=False))
    with phases.phase(f"{block * BLOCKS} steps of each"):
        for _ in range(BLOCKS):
            for trainer, seen in zip(trainers, losses):
                seen.append(trainer.run(block))
    peak = max(peak for _, peak in phases.records.values())
    records: list[dict[str, Any]] = []
    for trainer, seen in zip(trainers, losses):
        rate, waited = trainer.rate(block), statistics.median(trainer.loading)
        print(
            f"{trainer.name:<16}{rate:10.0f} positives/s, {waited:4.0%} of it in sampling, "
            f"loss {seen[0]:.3f} -> {seen[-1]:.3f}"
        )
        records.append({
            "dataset": trainer.name, "positives_per_second": round(rate),
            "sampling_share": round(waited, 3), "first_loss": seen[0], "last_loss": seen[-1],
        })  # fmt: skip
    large_rate, small_rate = (record["positives_per_second"] for record in records)
    print(f"ratio {small_rate / large_rate:.2f} (FB15k-237 over ogbl-wikikg2; aim: at most 2)")
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process {peak:.2f} GiB (ru_maxrss {whole:.2f}; aim: at most 16)")
    about = runtime.provenance()
    shared = {
        "dim": options.dim, "batch_size": options.batch_size, "negatives": options.negatives,
        "chunk_size": options.chunk_size, "steps": block * BLOCKS,
        "peak_gib": round(peak, 2), "threads": torch.get_num_threads(),
        "cpu": about["hardware"]["cpu"], "torch": about["torch"], "dgl": about["dgl"],
        "numba": numba.__version__, "revision": (about["git"] or {}).get("revision", ""),
        "date": about["date"],
    }  # fmt: skip
    return [{**record, **shared} for record in records]


def main() -> None:
    """Read the command line, measure, and write the records if a file is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder that holds ogbl_wikikg2/")
    parser.add_argument("--data-root", type=Path, help="folder that holds fb15k237/")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--negatives", type=int, default=256)
    parser.add_argument("--chunk-size", type=int, default=256, help="0: the batch shares them")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--csv", type=Path, help="file that receives the records")
    options = parser.parse_args()
    runtime.tune_allocator()
    set_num_threads(options.threads)
    records = measure(options)
    if options.csv is not None:
        with open(options.csv, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)


if __name__ == "__main__":
    main()
