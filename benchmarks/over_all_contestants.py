"""Training over all entities: our step against Lacroix's loop in plain torch, timed on demand."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from throughput_contestants import TimedProcess, TrainingLoop

from dglke_distill.data.triples import Dataset
from dglke_distill.runs.workspace import Workspace

FLOATS, BATCH = 32, 100
MODES = ("one_vs_all", "k_vs_all")


class OursOverAll(TrainingLoop):
    """Our loop: ComplEx with reciprocals, softmax over all entities, N3, Adagrad."""

    def __init__(self, workspace: Workspace, mode: str) -> None:
        """Build the loop of a mode."""
        super().__init__(
            workspace,
            {
                "model": {"name": "ComplEx", "dim": FLOATS, "reciprocal": True},
                "loss": {"name": "softmax"},
                "regularizer": {"name": "n3", "weight": 0.05},
                "optimizer": {"name": "adagrad", "learning_rate": 0.1},
                "training": {"mode": mode, "batch_size": BATCH},
            },
        )


class PlainTorch(TimedProcess):
    """A process that runs Lacroix's loop on demand."""

    def __init__(
        self, mode: str, triples: Path, dataset: Dataset, threads: int, tuned: bool
    ) -> None:
        """Start the process and let it warm up."""
        options = {
            "triples": triples,
            "entities": dataset.num_entities,
            "relations": dataset.num_relations,
            "floats": FLOATS,
            "batch-size": BATCH,
            "mode": mode,
            "threads": threads,
        }
        super().__init__("peer_torch_over_all.py", options, tuned)
        self.steps = 8
        self.run(0.0)

    def run(self, seconds: float) -> float:
        """Train for a while; return true triples per second."""
        spent = triples = 0.0
        while True:
            found = self.train(self.steps)
            spent, triples = spent + found["seconds"], triples + found["triples"]
            if spent >= seconds:
                return triples / spent


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
