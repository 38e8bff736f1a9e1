"""Speed, bytes over the wire and quality of a training by many, against one process.

    python benchmarks/distributed.py cldr --csv benchmarks/results/distributed.csv

Hosts are network namespaces of this machine, joined by a bridge whose counters tell what was sent;
that needs root and iproute2. With --local they are processes alone, and no bytes are counted. All
share the cores of this machine: what is measured is what DGL's engine costs, not what machines add.
All rates are of what was between two reports of progress behind the first epoch. Where others
work on the machine, positives per second of a core, summed over all processes, say more than those
per second of the clock.

    python benchmarks/distributed.py --peaks 1000000,2000000

Prints the memory that partitioning random graphs takes, beside what is said beforehand.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples" / "two_hosts"))
from network import namespaces  # noqa: E402

TRAIN = ["--recipe", "none", "--threads", "1", "--set", "training.evaluate_every=0"]
COLUMNS = ["dataset", "model", "dim", "negatives", "batch", "way", "hosts", "trainers", "drawn",
           "seed", "epochs", "positives_per_second", "ratio", "positives_per_core_second",
           "core_ratio", "bytes_per_positive", "test_mrr"]  # fmt: skip


def run(*words: object, start: Sequence[object] = ("-m", "dglke_distill")) -> None:
    """Run a command of ours; stop where it fails."""
    done = subprocess.run(
        [sys.executable, *map(str, (*start, *words))], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


# Run in a process of its own: what the command reports is heard, and the wires are read beside it.
HEARD = """
import json, os, sys, time
from pathlib import Path
from dglke_distill.cli import launching
from dglke_distill.runs import train_run as train_module
from dglke_distill.cli.app import app
place, wires, words = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
real, heard, pids = launching.launch, [], ["self"]

def sent():
    return sum(int(Path(f"/sys/class/net/{w}/statistics/rx_bytes").read_text()) for w in wires)

def worked():
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")

def hearing(report):
    def hear(values):
        epochs = values[0] - 1 + values[2] / values[3]
        heard.append([epochs, sent(), time.monotonic(), worked()])
        place.write_text(json.dumps(heard))
        report(values)
    return hear

def launch(task, how, *, report, **rest):
    pids.clear()
    started = lambda role, number, pid: pids.append(pid)
    return real(task, how, report=hearing(report), **{**rest, "started": started})

def train_run(*given, report, **rest):
    return alone(*given, report=hearing(report), **rest)

alone, train_module.train_run = train_module.train_run, train_run
launching.launch = launch
app(words)
"""


class Found(NamedTuple):
    """What a run came to: positives per second, per second of a core, bytes of each; test MRR."""

    rate: float
    core_rate: float
    sent: float
    mrr: float
    epochs: int


def outcome(heard: Path, run: Path, facts: int) -> Found:
    """Read what was heard while a run was trained, and its figures."""
    tree = json.loads((run / "checkpoint" / "results.json").read_text(encoding="utf-8"))
    reports = [each for each in json.loads(heard.read_text()) if each[0] >= 1]
    epochs, sent, seconds, worked = (b - a for a, b in zip(reports[0], reports[-1]))
    positives, mrr = facts * epochs, float(tree["metrics"]["test"]["mrr"])
    rates = positives / seconds, positives / worked, sent / positives
    return Found(*rates, mrr, int(tree["training"]["epochs"]))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Print a line for one process, then one for each number of hosts and of trainers."""
    from dglke_distill.data import catalog

    dataset, heard = arguments.dataset, folder / "heard.json"
    facts = len(catalog.load(dataset).train)
    options = [*TRAIN, "--model", arguments.model, "--dim", arguments.dim,
               "--epochs", arguments.epochs, "--negatives", arguments.negatives]  # fmt: skip
    listening = "-c", HEARD, heard
    print("| way | positives/s | ratio | of a core | ratio | bytes/positive | test MRR |")
    print("|---|---|---|---|---|---|---|")
    base: Optional[Found] = None

    def row(place: Path, seed: int, hosts: int, trainers: int, drawn: str) -> Found:
        found = outcome(heard, place, facts)
        of = base or found
        ratio, core_ratio = found.rate / of.rate, found.core_rate / of.core_rate
        sent = "" if hosts == 0 or arguments.local else f"{found.sent:.0f}"
        way = f"{hosts} host{'s' * (hosts > 1)}, {trainers} trainer{'s' * (trainers > 1)}"
        way = "one process" if hosts == 0 else way + ", local" * (drawn == "local")
        print(
            f"| {way} | {found.rate:,.0f} | {ratio:.2f} | {found.core_rate:,.0f} | "
            f"{core_ratio:.2f} | {sent} | {found.mrr:.4f} |", flush=True,
        )  # fmt: skip
        if arguments.csv:
            new = not arguments.csv.exists()
            with arguments.csv.open("a", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                if new:
                    writer.writerow(COLUMNS)
                writer.writerow([
                    dataset, arguments.model, arguments.dim, arguments.negatives, arguments.batch,
                    "dgl.distributed" if hosts else "one process", max(1, hosts), trainers, drawn,
                    seed, found.epochs, f"{found.rate:.0f}", f"{ratio:.3f}",
                    f"{found.core_rate:.0f}", f"{core_ratio:.3f}", sent, f"{found.mrr:.4f}",
                ])  # fmt: skip
        return found

    for seed in range(arguments.seeds):
        place = folder / f"one-{seed}"
        run("[]", "train", dataset, *options, "--batch-size", arguments.batch, "--seed", seed,
            "--out", place, start=listening)  # fmt: skip
        found = row(place, seed, 0, 1, "joint")
        base = base or found
    for way in arguments.ways.split(","):
        hosts, trainers = (int(word) for word in way.partition("l")[0].split("x"))
        drawn = "local" if way.endswith("l") else "joint"
        cut = folder / f"parts-{hosts}"
        if not cut.exists():
            run("dist", "partition", dataset, "--parts", hosts, "--out", cut)
        batch = max(1, arguments.batch // trainers)  # so that steps are as many
        for seed in range(arguments.seeds if way == arguments.seeded else 1):
            place = folder / f"run-{way}-{seed}"
            words = ["--negatives-from", drawn, "--", "train", cut, *options, "--batch-size", batch,
                     "--seed", seed, "--out", place]  # fmt: skip
            if arguments.local:
                run("[]", "dist", "launch", "--local", trainers, *words, start=listening)
            else:
                with namespaces(hosts) as made:
                    names = folder / "hosts.txt"
                    names.write_text("".join(f"{name} {address}\n" for name, address, _ in made))
                    wires = json.dumps([wire for _, _, wire in made])
                    run(wires, "dist", "launch", "--hosts", names, "--trainers", trainers // hosts,
                        "--rsh", "ip netns exec", *words, start=listening)  # fmt: skip
            row(place, seed, hosts, trainers, drawn)


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


def held(pid: int) -> int:
    """Return the bytes that a process and those that it has started hold in memory."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):  # it has ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(held(int(child)) for child in own)


def peaks(sizes: str, folder: Path) -> None:
    """Print what partitioning takes, each in a process of its own."""
    from dglke_distill.data.partitioning import partition_bytes

    print("| facts | method | peak, MiB | said, MiB |\n|---|---|---|---|")
    for facts in map(int, sizes.split(",")):
        for method in ("random", "metis"):
            place = folder / f"{facts}-{method}"
            process = subprocess.Popen([sys.executable, "-c", _PEAK, str(facts), method, place])
            most = 0
            while process.poll() is None:
                most = max(most, held(process.pid))
                time.sleep(0.02)
            if process.returncode:
                sys.exit(f"partitioning {facts} facts failed")
            said = partition_bytes(facts // 5, facts, 0, method)
            print(f"| {facts:,} | {method} | {most >> 20:,} | {said >> 20:,} |", flush=True)


def main() -> None:
    """Read the arguments and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", default="cldr")
    parser.add_argument("--model", default="transe")
    parser.add_argument("--dim", default="64")
    parser.add_argument("--epochs", default="20")
    parser.add_argument("--batch", type=int, default=1024, help="positives of a step")
    parser.add_argument("--negatives", default="64")
    parser.add_argument(
        "--ways", default="1x1,2x2,2x2l,2x4,4x4",
        help="HOSTSxTRAINERS, trainers of all hosts; l behind them: local negatives, as DGL-KE",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, help="of one process, and of --seeded")
    parser.add_argument("--seeded", default="2x2", help="the way that is run with all seeds")
    parser.add_argument("--local", action="store_true", help="no namespaces, no bytes")
    parser.add_argument("--csv", type=Path, help="rows are put behind those that are there")
    parser.add_argument("--peaks", help="numbers of facts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.peaks:
            peaks(arguments.peaks, Path(folder))
        else:
            compare(arguments, Path(folder))


if __name__ == "__main__":
    main()
