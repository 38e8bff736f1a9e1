"""Speed and quality of a training by many trainers on this host, against one process.

    python benchmarks/distributed.py cldr --trainers 1,2 --parts 1,2

Prints for each way the positives per second, the ratio to one process, and test MRR. All trainers
share the cores of this host: what is measured is what DGL's engine costs, not what machines add.

    python benchmarks/distributed.py --peaks 1000000,2000000

Prints the memory that partitioning random graphs takes, beside what is said beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TRAIN = ["--recipe", "none", "--threads", "1", "--set", "training.evaluate_every=0"]


def command(*words: object) -> None:
    """Run a command of ours; stop where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "dglke_distill", *map(str, words)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def outcome(run: Path) -> tuple[float, float, int]:
    """Return seconds, test MRR and epochs of a run."""
    tree = json.loads((run / "checkpoint" / "results.json").read_text(encoding="utf-8"))
    epochs = int(tree["training"]["epochs"])
    return float(tree["training"]["seconds"]), float(tree["metrics"]["test"]["mrr"]), epochs


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Print a line for one process, then one for each number of trainers and of parts."""
    from dglke_distill.data import catalog

    dataset = arguments.dataset
    facts = len(catalog.load(dataset).train)
    options = [*TRAIN, "--model", arguments.model, "--dim", arguments.dim,
               "--epochs", arguments.epochs, "--negatives", arguments.negatives]  # fmt: skip

    def row(name: str, run: Path, base: float) -> float:
        seconds, mrr, epochs = outcome(run)
        rate = facts * epochs / seconds
        ratio = f"{rate / base:.2f}" if base else "1.00"
        print(f"| {name} | {rate:,.0f} | {ratio} | {mrr:.4f} |", flush=True)
        return rate

    print("| way | positives/s | ratio | test MRR |\n|---|---|---|---|")
    command("train", dataset, *options, "--batch-size", arguments.batch, "--out", folder / "one")
    base = row("one process", folder / "one", 0.0)
    for parts in map(int, arguments.parts.split(",")):
        cut = folder / f"parts-{parts}"
        command("dist", "partition", dataset, "--parts", parts, "--out", cut)
        for trainers in map(int, arguments.trainers.split(",")):
            if trainers % parts:
                continue
            run = folder / f"run-{parts}-{trainers}"
            batch = max(1, arguments.batch // trainers)  # so that steps are as many
            command("dist", "launch", "--local", trainers, "--", "train", cut, *options,
                    "--batch-size", batch, "--out", run)  # fmt: skip
            row(f"{parts} part(s), {trainers} trainer(s)", run, base)


_PEAK = """
import sys, numpy as np
from pathlib import Path
from dglke_distill.config import DataConfig
from dglke_distill.data.partitioning import partition
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
facts, method, place = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
entities, rng = facts // 5, np.random.default_rng(0)
columns = entities * rng.random(facts) ** 3, 535 * rng.random(facts), entities * rng.random(facts)
train = Triples(*(column.astype(np.int32) for column in columns))
none = Triples.from_array(np.zeros((0, 3), np.int32))
names = Vocabulary(size=entities), Vocabulary(size=535, kind="relation")
partition(Dataset("random", *names, train, none, none), DataConfig(), place, 4, method)
"""


def peaks(sizes: str, folder: Path) -> None:
    """Print what partitioning takes, each in a process of its own."""
    from dglke_distill.data.partitioning import partition_bytes

    print("| facts | method | peak, MiB | said, MiB |\n|---|---|---|---|")
    for facts in map(int, sizes.split(",")):
        for method in ("random", "metis"):
            place = folder / f"{facts}-{method}"
            process = subprocess.Popen([sys.executable, "-c", _PEAK, str(facts), method, place])
            _, status, used = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"partitioning {facts} facts failed")
            said = partition_bytes(facts // 5, facts, 0, method)
            print(
                f"| {facts:,} | {method} | {used.ru_maxrss >> 10:,} | {said >> 20:,} |", flush=True
            )


def main() -> None:
    """Read the arguments and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", default="cldr")
    parser.add_argument("--model", default="transe")
    parser.add_argument("--dim", default="64")
    parser.add_argument("--epochs", default="20")
    parser.add_argument("--batch", type=int, default=1024, help="positives of a step, in all")
    parser.add_argument("--negatives", default="64")
    parser.add_argument("--trainers", default="1,2")
    parser.add_argument("--parts", default="1,2")
    parser.add_argument("--peaks", help="numbers of facts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.peaks:
            peaks(arguments.peaks, Path(folder))
        else:
            compare(arguments, Path(folder))


if __name__ == "__main__":
    main()
