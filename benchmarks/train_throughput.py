"""Positives per second of whole training steps on FB15k-237, against PyKEEN in the same run.

    python benchmarks/train_throughput.py --data-root DIR            # shared, private and PyKEEN
    python benchmarks/train_throughput.py --only shared --seconds 10

A step is everything: sampling, relabelling, gathers, scores, loss, backward and the optimiser, at
batch 1,024 and 256 negatives for one side of each positive. ``shared`` draws negatives per chunk
of 256 positives (as DGL-KE does) and once per batch; ``private`` draws them for each positive, the
same work as PyKEEN's, which runs both as it comes and with the C allocator tuned in its favour.
``over_all`` trains ComplEx of 32 floats over all entities, batch 100, in both modes, against
Lacroix's loop in plain torch, as it comes and with the allocator tuned.
Runs are interleaved and medians quoted. PyKEEN's fixed cost per epoch is taken off by timing two
numbers of steps. Also printed: the share of a step outside the score kernels and the optimiser
(gathers, the loss and autograd count as outside), the share of sampling alone, and the machine's
ceilings measured in the same run. Without ``--data-root`` a synthetic graph of the same size
stands in, and says so.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from ceilings import Ceilings, measure
from over_all_contestants import MODES, measure_over_all
from throughput_contestants import NEGATIVES, Ours, Peer, Workload

from dglke_distill.base import runtime
from dglke_distill.data import catalog
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.kernels import set_num_threads
from dglke_distill.runs.workspace import Workspace

WORKLOADS = (
    Workload("TransE", 512, 32_000, 5),
    Workload("ComplEx", 1024, 36_000, 5),
    Workload("RotatE", 512, 9_000, 5),
    Workload("TransE", 32, 200_000, 15),
)


def load(data_root: Optional[Path]) -> Dataset:
    """Return FB15k-237, or random triples of its size."""
    if data_root is not None or "DGLKE_DISTILL_DATA" in os.environ:
        return catalog.load("fb15k237", data_root=data_root)
    print("no data root: random triples of FB15k-237's size stand in for it")
    rng = np.random.default_rng(0)
    columns = (rng.integers(0, high, 272_115).astype(np.int32) for high in (14_541, 237, 14_541))
    train = Triples(*columns)
    few = train[:10]
    return Dataset("synthetic", Vocabulary(size=14_541), Vocabulary(size=237), train, few, few)


def main() -> None:
    """Run the workloads and print a table; ``--csv`` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--seconds", type=float, default=4.0, help="of each timed stretch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["shared", "private", "over_all"])
    parser.add_argument("--models", help="comma separated, e.g. TransE-512,RotatE-512")
    parser.add_argument("--no-peer", action="store_true", help="leave PyKEEN out")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    runtime.tune_allocator()
    runtime.speed_up_products()
    set_num_threads(arguments.threads)
    dataset = load(arguments.data_root)
    graph = build_graph(dataset.train, dataset.num_entities)
    workspace = Workspace(dataset, graph, torch.device("cpu"))
    ceilings = measure(arguments.threads)
    print(ceilings)
    chosen = arguments.models.split(",") if arguments.models else None
    with tempfile.TemporaryDirectory() as scratch:
        triples = Path(scratch) / "triples.npy"
        order = np.random.default_rng(0).permutation(len(dataset.train))
        np.save(triples, dataset.train.to_array()[order].astype(np.int64))
        if arguments.only in (None, "over_all") and not chosen:
            found = [
                row
                for mode in MODES
                for row in measure_over_all(mode, workspace, triples, arguments)
            ]
            print_table(found)
            if arguments.csv:
                write(found, ceilings, arguments.csv)
        for workload in WORKLOADS if arguments.only != "over_all" else ():
            if chosen and f"{workload.model}-{workload.floats}" not in chosen:
                continue
            found = measure_workload(workload, workspace, triples, arguments)
            add_fractions(found, ceilings)
            print_table(found)
            if arguments.csv:
                write(found, ceilings, arguments.csv)


def write(rows: list[dict[str, Any]], ceilings: Ceilings, path: Path) -> None:
    """Put a workload's rows into the table, in place of its former ones."""
    about = runtime.provenance()
    for row in rows:
        row["ceilings"] = str(ceilings)
        row["revision"] = (about["git"] or {}).get("revision", "")
        row["torch"], row["cpu"] = about["torch"], about["hardware"]["cpu"]
        row["date"] = about["date"]
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = list(csv.DictReader(file))
    replaced = {(row["model"], str(row["floats"])) for row in rows}
    kept = [row for row in kept if (row["model"], row["floats"]) not in replaced]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + rows)


def add_fractions(rows: list[dict[str, Any]], ceilings: Ceilings) -> None:
    """Add the share of the machine's ceiling that our scores alone amount to."""
    for row in rows:
        elements = row["positives_per_second"] * NEGATIVES * row["floats"] * 1e-9
        if row["model"] == "ComplEx":
            fraction = elements * 6 / ceilings.matmul_gflops  # 3 products of 2 flops each
        else:
            fraction = elements / ceilings.l1_gelements
        row["fraction_of_ceiling"] = fraction if row["who"] == "ours" else ""


def measure_workload(
    workload: Workload, workspace: Workspace, triples: Path, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Interleave all contestants of one workload; return a row for each."""
    modes = {}
    if arguments.only != "private":
        modes["shared, chunks of 256"] = Ours(workspace, workload, "chunk", 256)
        modes["shared, whole batch"] = Ours(workspace, workload, "chunk", 0)
    if arguments.only != "shared":
        modes["private"] = Ours(workspace, workload, "private", 0)
    peers = {}
    if "private" in modes and not arguments.no_peer:
        for tuned in (False, True):
            name = "PyKEEN, malloc tuned" if tuned else "PyKEEN, as it comes"
            peers[name] = Peer(workload, triples, workspace.dataset, arguments.threads, tuned)
    figures: dict[str, list[float]] = {name: [] for name in (*modes, *peers)}
    for _ in range(arguments.rounds):
        for name, ours in modes.items():
            figures[name].append(ours.run(arguments.seconds))
        for name, peer in list(peers.items()):
            try:
                figures[name].append(peer.run())
            except (BrokenPipeError, RuntimeError) as error:
                print(f"{workload.model} {workload.floats}: {name} ended ({error})")
                del peers[name]
    for peer in peers.values():
        peer.stop()
    medians = {name: statistics.median(values) for name, values in figures.items() if values}
    tuned_peer = medians.get("PyKEEN, malloc tuned")
    rows = []
    for name, value in medians.items():
        private = name == "private"
        goal = ""
        if name.startswith("shared"):
            goal = f">= {workload.shared_target:,.0f}"
        elif private and tuned_peer:
            goal = f">= {workload.private_ratio:g}x tuned"
        outside, sampling = modes[name].overhead() if name in modes else ("", "")
        rows.append(
            {
                "model": workload.model,
                "floats": workload.floats,
                "who": "ours" if name in modes else "PyKEEN",
                "mode": name,
                "positives_per_second": value,
                "lowest": min(figures[name]),
                "highest": max(figures[name]),
                "ratio_to_tuned_peer": value / tuned_peer if private and tuned_peer else "",
                "outside_kernels_and_optimiser": outside,
                "sampling": sampling,
                "goal": goal,
            }
        )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows for people."""
    print(
        f"{'model':<13}{'mode':<38}{'positives/s':>12}  {'lowest-highest':<19}"
        f"{'x tuned':>8}{'outside':>9}{'sampling':>10}{'ceiling':>9}  goal"
    )
    for row in rows:
        ratio, outside = row["ratio_to_tuned_peer"], row["outside_kernels_and_optimiser"]
        ceiling, sampling = row["fraction_of_ceiling"], row["sampling"]
        print(
            f"{row['model'] + ' ' + str(row['floats']):<13}{row['mode']:<38}"
            f"{row['positives_per_second']:>12,.0f}  "
            f"{row['lowest']:>8,.0f}-{row['highest']:<10,.0f}"
            f"{f'{ratio:.1f}' if ratio != '' else '':>8}"
            f"{f'{outside:.0%}' if outside != '' else '':>9}"
            f"{f'{sampling:.1%}' if sampling != '' else '':>10}"
            f"{f'{ceiling:.0%}' if ceiling != '' else '':>9}  {row['goal']}"
        )


if __name__ == "__main__":
    main()
