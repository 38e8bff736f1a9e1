"""Cut and train a graph of the size of ogbl-wikikg2 by many: seconds, and memory beside said.

    python benchmarks/distributed_scale.py synthetic --csv benchmarks/results/distributed_scale.csv

``synthetic`` is a folder that receives the graph where it is not there yet (see
``synthetic_wikikg2.py``). It is cut into two parts; two trainers on this host then take an epoch.
Memory is that of all processes together, what they share counted once.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import synthetic_wikikg2
from distributed import HEARD, TRAIN


def pss(pid: int) -> int:
    """Return the bytes that a process and those that it has started hold, shared ones once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return 0
    found = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return found + sum(pss(int(child)) for child in own)


class Watched(NamedTuple):
    """What a command came to: seconds, most bytes in memory, and what it printed."""

    seconds: float
    peak: int
    said: str


def watched(words: Sequence[object], start: Sequence[object] = ("-m", "dglke_distill")) -> Watched:
    """Run a command of ours and watch its memory; stop where it fails."""
    begun, most = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, *map(str, (*start, *words))]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            most = max(most, pss(process.pid))
            time.sleep(1)
        log.seek(0)
        said = log.read()
    if process.returncode:
        sys.exit(said)
    return Watched(time.monotonic() - begun, most, said)


SCALE_COLUMNS = ["step", "facts", "method", "parts", "trainers", "dim", "negatives", "batch",
                 "steps", "seconds", "said_mib", "peak_mib", "positives_per_second",
                 "positives_per_core_second"]  # fmt: skip


def scale(arguments: argparse.Namespace, folder: Path) -> None:
    """Cut a graph of the size of ogbl-wikikg2, and train on the parts for an epoch."""
    from dglke_distill.config import Config, read_toml
    from dglke_distill.data.partitioning import partition_bytes
    from dglke_distill.data.partitions import read_partition
    from dglke_distill.runs.distributed_memory import distributed_need

    root, size = arguments.root, synthetic_wikikg2.Size(negatives=1)
    size = size.scaled(arguments.share)
    if not (root / "ogbl_wikikg2").exists():
        synthetic_wikikg2.write(root, size, seed=0)
    print(f"{size.entities:,} entities, {size.train:,} facts")
    batch = arguments.batch // 2
    # Of that name is the whole graph alone.
    source = ["ogbl-wikikg2", "--data-root", root]
    if arguments.share != 1:
        source = [root / "ogbl_wikikg2"]

    def row(*values: object) -> None:
        values = (values[0], size.train, *values[1:])
        print(dict(zip(SCALE_COLUMNS, values)), flush=True)
        if arguments.csv:
            new = not arguments.csv.exists()
            with arguments.csv.open("a", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerows([SCALE_COLUMNS, values] if new else [values])

    for method in arguments.methods.split(","):
        cut = folder / f"parts-{method}"
        words = ["dist", "partition", *source, "--parts", 2,
                 "--method", method, "--out", cut]  # fmt: skip
        found = watched(words)
        said = partition_bytes(size.entities, size.train, size.valid + size.test, method)
        row("partition", method, 2, "", "", "", "", "", f"{found.seconds:.0f}", said >> 20,
            found.peak >> 20, "", "")  # fmt: skip
        options = ["--model", arguments.model, "--dim", arguments.dim, "--epochs", 1, "--negatives",
                   arguments.negatives, "--batch-size", batch, *TRAIN]  # fmt: skip
        heard, out = folder / "heard.json", folder / f"run-{method}"
        words = ["[]", "dist", "launch", "--local", 2, "--", "train", cut, *options, "--out", out]
        found = watched(words, ("-c", HEARD, heard))
        reports = json.loads(heard.read_text())
        epochs, _, seconds, worked = (b - a for a, b in zip(reports[0], reports[-1]))
        part, config = (
            read_partition(cut),
            Config.from_mapping(read_toml(out / "config.toml"), "run"),
        )
        need = distributed_need(config, part, 1)
        positives = size.train * epochs
        row("train", method, 2, 2, arguments.dim, arguments.negatives, 2 * batch,
            -(-max(part.facts) // batch), f"{found.seconds:.0f}", (need.of(0) + need.of(1)) >> 20,
            found.peak >> 20, f"{positives / seconds:.0f}",
            f"{positives / worked:.0f}")  # fmt: skip


def main() -> None:
    """Read the arguments and print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder of the graph")
    parser.add_argument("--share", type=float, default=1.0, help="of its entities and facts")
    parser.add_argument("--methods", default="random,metis", help="of cutting it")
    parser.add_argument("--model", default="transe")
    parser.add_argument("--dim", default="16")
    parser.add_argument("--negatives", default="64")
    parser.add_argument("--batch", type=int, default=65536, help="positives of a step")
    parser.add_argument("--csv", type=Path, help="rows are put behind those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.root.parent) as folder:
        scale(arguments, Path(folder))


if __name__ == "__main__":
    main()
