"""What a batch costs before any model sees it, per way of sampling, and against DGL's own.

    python benchmarks/sampling.py --data-root <folder with fb15k237/>
    python benchmarks/sampling.py --large            # also 2.5M entities and 16M triples

Batches of 1,024 positives with 256 negatives each. Without FB15k-237 under ``--data-root`` or
``DGLKE_DISTILL_DATA`` a synthetic graph of its size is used. The fastest of several rounds counts;
the first one, which compiles, does not. DGL's edge-prediction sampler yields pairs as graphs, not
tensors of candidates, so its row is the nearest that it offers to ``private`` negatives; the last
rows let our samplers feed that same DGL loader.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base import runtime

runtime.tune_allocator()

import dgl  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from dglke_distill.data import catalog  # noqa: E402
from dglke_distill.data.graph import KnownAnswers, build_graph  # noqa: E402
from dglke_distill.data.triples import Triples  # noqa: E402
from dglke_distill.sampling.batch import BatchLoader  # noqa: E402
from dglke_distill.sampling.negatives import NegativeSampler, build_sampler  # noqa: E402
from dglke_distill.sampling.neighbors import NeighborBlocks  # noqa: E402

BATCH, COUNT = 1024, 256
LARGE = "wikikg2-sized"

MODES: dict[str, dict[str, Any]] = {
    "uniform, one chunk": {},
    "uniform, chunks of 256": {"chunk_size": 256},
    "uniform, chunks of 256, both sides": {"chunk_size": 256, "sides": "both"},
    "uniform, chunks of 256, filtered": {"chunk_size": 256, "filtered": True},
    "bernoulli, one chunk": {"name": "bernoulli"},
    "degree, chunks of 256": {"name": "degree", "chunk_size": 256},
    "uniform, private": {"sharing": "private"},
    "uniform, private, filtered": {"sharing": "private", "filtered": True},
    "bernoulli, private, filtered": {"name": "bernoulli", "sharing": "private", "filtered": True},
    "degree, private": {"name": "degree", "sharing": "private"},
    "typed by relation, private": {"name": "typed"},
    "typed by relation, private, filtered": {"name": "typed", "filtered": True},
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    graph: str
    mode: str
    milliseconds: float
    cpu_milliseconds: float
    positives_per_second: float
    limit: Optional[float]
    times_faster_than_dgl: Optional[float]


class NoNeighbors(dgl.dataloading.BlockSampler):
    """Lets DGL's edge sampler run without drawing neighbourhoods."""

    def sample(
        self, g: dgl.DGLGraph, seed_nodes: torch.Tensor, exclude_eids: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, list[Any]]:
        """Return the seeds and no block."""
        return seed_nodes, seed_nodes, []


def best(batches: Iterable[Any], count: int, rounds: int) -> tuple[float, float]:
    """Return the milliseconds per batch, by the clock and of all cores, in the fastest round."""

    def forever() -> Iterator[Any]:
        while True:
            yield from batches

    stream = forever()
    next(stream)
    times = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in islice(stream, count):
            pass
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return 1e3 / count * min(t for t, _ in times), 1e3 / count * min(t for _, t in times)


class Epochs:
    """All epochs of a loader, one after another."""

    def __init__(self, loader: BatchLoader) -> None:
        """Start before the first."""
        self.loader, self.done = loader, 0

    def __iter__(self) -> Iterator[Any]:
        """Yield the next epoch."""
        self.done += 1
        return self.loader.epoch(self.done)


def dgl_loader(graph: dgl.DGLGraph, negatives: Any) -> dgl.dataloading.DataLoader:
    """Return DGL's data loader with its edge-prediction sampler."""
    sampler = dgl.dataloading.as_edge_prediction_sampler(NoNeighbors(), negative_sampler=negatives)
    edges = torch.arange(graph.num_edges())
    return dgl.dataloading.DataLoader(graph, edges, sampler, batch_size=BATCH, shuffle=True)


def synthetic(entities: int, relations: int, size: int) -> Triples:
    """Return triples with hubs, like those of real graphs."""
    rng = np.random.default_rng(0)

    def skewed(high: int) -> np.ndarray:
        return np.minimum(high * rng.random(size) ** 3, high - 1).astype(np.int32)

    return Triples(skewed(entities), skewed(relations), skewed(entities))


def load(data_root: Optional[str]) -> tuple[str, Triples, int, int]:
    """Return FB15k-237's train split, or a synthetic graph of its size."""
    root = data_root or os.environ.get("DGLKE_DISTILL_DATA")
    if root and (Path(root) / "fb15k237").is_dir():
        dataset = catalog.load("fb15k237", data_root=Path(root))
        return "fb15k237", dataset.train, dataset.num_entities, dataset.num_relations
    return "synthetic FB15k-237", synthetic(14_541, 237, 272_115), 14_541, 237


LIMITS = {
    "fb15k237": {"uniform, one chunk": 0.4, "uniform, chunks of 256": 0.4, "uniform, private": 2.5},
    LARGE: {"uniform, one chunk": 1.0, "uniform, chunks of 256": 1.0},
}
"""Milliseconds that a batch may take on two cores, by graph and mode."""


def measure(
    name: str, triples: Triples, entities: int, relations: int, args: argparse.Namespace
) -> Iterator[Row]:
    """Measure every mode on one graph."""

    def row(mode: str, spent: tuple[float, float], reference: Optional[float] = None) -> Row:
        ratio = None if reference is None else reference / spent[0]
        limit = LIMITS.get(name, {}).get(mode)
        return Row(name, mode, *spent, 1e3 * BATCH / spent[0], limit, ratio)

    graph = build_graph(triples, entities)
    reference = None
    if entities < 1_000_000:
        for label in ("PerSourceUniform", "GlobalUniform"):
            negatives = getattr(dgl.dataloading.negative_sampler, label)(COUNT)
            spent = best(dgl_loader(graph, negatives), 3, 5)
            reference = reference or spent[0]
            yield row(f"DGL {label}", spent)
    for mode, settings in MODES.items():
        settings = dict(settings)
        sampler = build_sampler(settings.pop("name", "uniform"), graph, relations, **settings)
        loader = BatchLoader(graph, relations, batch_size=BATCH, sampler=sampler)
        yield row(mode, best(Epochs(loader), args.batches, args.rounds), reference)
    for mode in ("one_vs_all", "k_vs_all"):
        other = BatchLoader(graph, relations, batch_size=BATCH, mode=mode)  # type: ignore[arg-type]
        yield row(mode, best(Epochs(other), args.batches, args.rounds))
    if entities < 1_000_000:
        for label in ("uniform", "bernoulli", "degree", "typed"):
            pairs: NegativeSampler = build_sampler(label, graph, relations, sharing="private")
            spent = best(dgl_loader(graph, pairs), 3, 5)
            yield row(f"{label} in DGL's loader, private", spent, reference)
    both = build_graph(triples, entities, inverse=True, num_relations=relations)
    for fanouts in ([10], [10, 10]):
        sampler = build_sampler("uniform", both, relations)
        blocks = NeighborBlocks(both, fanouts)
        loader = BatchLoader(both, relations, batch_size=BATCH, sampler=sampler, neighbors=blocks)
        yield row(f"with blocks, fan-outs {fanouts}", best(Epochs(loader), 5, 5))


def index_row(name: str, triples: Triples, entities: int) -> str:
    """Return a sentence on the known-answer index."""
    KnownAnswers.build([triples[:10]], entities)
    begun = time.perf_counter()
    index = KnownAnswers.build([triples], entities)
    seconds = time.perf_counter() - begun
    size = index.nbytes / 1e6
    return f"{name}: known answers of {len(triples):,} triples in {seconds:.2f} s, {size:.1f} MB"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data-root", help="folder that holds fb15k237/")
    parser.add_argument("--large", action="store_true", help="also a wikikg2-sized graph")
    parser.add_argument("--batches", type=int, default=20, help="batches per round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--csv", help="write the rows here")
    args = parser.parse_args()
    graphs = [load(args.data_root)]
    if args.large:
        graphs.append((LARGE, synthetic(2_500_604, 535, 16_109_182), 2_500_604, 535))
    rows = []
    for name, triples, entities, relations in graphs:
        print(index_row(name, triples, entities))
        print(
            f"{'mode':40}{'ms/batch':>10}{'cpu ms':>9}{'limit':>7}{'positives/s':>14}{'x DGL':>8}"
        )
        for row in measure(name, triples, entities, relations, args):
            rows.append(row)
            limit = "" if row.limit is None else f"{row.limit:.1f}"
            ratio = "" if row.times_faster_than_dgl is None else f"{row.times_faster_than_dgl:.1f}"
            print(
                f"{row.mode:40}{row.milliseconds:10.3f}{row.cpu_milliseconds:9.3f}{limit:>7}"
                f"{row.positives_per_second:14,.0f}{ratio:>8}",
                flush=True,
            )
    if args.csv:
        with Path(args.csv).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    late = [row for row in rows if row.limit is not None and row.milliseconds > row.limit]
    for row in late:
        print(f"over its limit: {row.graph}, {row.mode}: {row.milliseconds:.3f} ms")


if __name__ == "__main__":
    main()
