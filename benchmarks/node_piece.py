"""What NodePiece costs on a random graph with hubs: finding its tokens, and a step of training.

    python benchmarks/node_piece.py                  # 250,000 entities, 1.6M triples
    python benchmarks/node_piece.py --large          # also 2.5M and 16M, as ogbl-wikikg2

The encoder stands under AutoSF with 200 floats per entity, as in the paper's entry on OGB's
leaderboard; a step has 512 positives and 128 negatives. Seconds are by the clock and of all cores;
memory is what the tokens' search adds to the peak of the process, which holds the triples and their
DGL graph already.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from dglke_distill.base import runtime

runtime.tune_allocator()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from dglke_distill.config import Config, ModelConfig  # noqa: E402
from dglke_distill.data.graph import build_graph  # noqa: E402
from dglke_distill.data.triples import Triples  # noqa: E402
from dglke_distill.models import build_model  # noqa: E402
from dglke_distill.runs.workspace import build_objective  # noqa: E402
from dglke_distill.sampling.batch import BatchLoader  # noqa: E402
from dglke_distill.sampling.negatives import build_sampler  # noqa: E402
from dglke_distill.training.loop import step  # noqa: E402
from dglke_distill.training.optim import OPTIMIZERS  # noqa: E402

RELATIONS, BATCH, NEGATIVES, STEPS = 535, 512, 128, 5
SETTINGS = ModelConfig(name="AutoSF", dim=200, encoder="node_piece")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    entities: int
    triples: int
    anchors: int
    parameters: int
    bytes_per_entity: int
    token_seconds: float
    token_cpu_seconds: float
    token_megabytes: float
    step_seconds: float
    step_cpu_seconds: float


def synthetic(entities: int, size: int) -> Triples:
    """Return triples whose tails are mostly of a few entities."""
    rng = np.random.default_rng(0)
    names = rng.permutation(entities)
    tail = names[np.minimum(entities * rng.random(size) ** 3, entities - 1).astype(np.int64)]
    relation = np.minimum(RELATIONS * rng.random(size) ** 3, RELATIONS - 1)
    head = rng.integers(0, entities, size)
    return Triples(*(column.astype(np.int32) for column in (head, relation, tail)))


def peak_megabytes() -> float:
    """Return the most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(entities: int, size: int) -> Row:
    """Measure one graph."""
    triples = synthetic(entities, size)
    graph = build_graph(triples, entities, inverse=True, num_relations=RELATIONS)
    model = build_model(SETTINGS, entities, RELATIONS, graph=graph)
    model.reset(0)
    before, wall, cpu = peak_megabytes(), time.perf_counter(), time.process_time()
    model.encoder.store_encoded()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    grown = peak_megabytes() - before
    config = Config.from_mapping({"loss": {"name": "softmax"}}, "benchmark")
    sampler = build_sampler("uniform", graph, RELATIONS, count=NEGATIVES)
    loader = BatchLoader(graph, RELATIONS, batch_size=BATCH, sampler=sampler)
    objective = build_objective(config, model)
    optimizer = OPTIMIZERS["adam"](model.parameters(), lr=1e-3)
    batches: Iterator[object] = islice(loader.epoch(0), STEPS + 1)
    step(model, next(batches), objective, optimizer)  # type: ignore[arg-type]
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        step(model, batch, objective, optimizer)  # type: ignore[arg-type]
    steps = (time.perf_counter() - wall) / STEPS, (time.process_time() - cpu) / STEPS
    parameters = sum(p.numel() for p in model.parameters())
    anchors = model.encoder.num_anchors
    return Row(entities, size, anchors, parameters, model.bytes_per_entity, *spent, grown, *steps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--large", action="store_true", help="also a graph of ogbl-wikikg2's size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", help="write the rows here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(1_000, 5_000)  # compiles
    rows = []
    for size in [(250_000, 1_600_000)] + [(2_500_604, 16_109_182)] * args.large:
        rows.append(measure(*size))
        print("  ".join(f"{name} {value:,.5g}" for name, value in asdict(rows[-1]).items()))
    if args.csv:
        with Path(args.csv).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()
