"""Is a revision as fast as another? Training, ranking and serving of both, in turn, in one run.

    python benchmarks/revisions.py 9f160b9 HEAD --data-root <folder with fb15k237/>
    python benchmarks/revisions.py v0.1.0 HEAD --only serving --rounds 9

Each revision is checked out beside this one and runs *its own* scripts of `benchmarks/`, one call
after the other, the revision that goes first changing with each round. A figure is compared within
its round, and the median of the rounds' ratios is printed with the lowest and the highest: above 1
the second revision is faster. Both take the packages of this Python, which must suit both.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Work:
    """What is timed: a script of `benchmarks/`, and where its table has the figures.

    Attributes:
        kind: ``training``, ``ranking`` or ``serving``.
        script: the file's name and its options.
        names: columns that name a row.
        figures: columns with figures.
        faster: whether a larger figure is the better one.
        leave_out: rows whose ``who`` begins so are left out.
    """

    kind: str
    script: tuple[str, ...]
    names: tuple[str, ...]
    figures: tuple[str, ...]
    faster: bool
    leave_out: str = "PyKEEN"


TRAINED = "TransE-512,RotatE-512,TransE-32,ComplEx-1024"
WORK = (
    Work(
        "training",
        (
            "train_throughput.py",
            "--no-peer",
            "--rounds",
            "1",
            "--seconds",
            "2",
            "--models",
            TRAINED,
        ),
        ("model", "floats", "mode"),
        ("positives_per_second",),
        True,
    ),
    Work(
        "ranking",
        ("evaluation.py", "--rounds", "1", "--pykeen-triples", "32"),
        ("model", "floats"),
        ("seconds",),
        False,
    ),
    Work(
        "serving",
        ("serving.py", "--rounds", "50"),
        ("model", "entities", "floats", "who"),
        ("single_ms", "each_of_256_us"),
        False,
    ),
)
Figures = dict[tuple[str, ...], float]


def measure(work: Work, checkout: Path, data_root: str, threads: int) -> Figures:
    """Run the script once in a checkout.

    Args:
        work: what is timed.
        checkout: a working tree.
        data_root: the folder with fb15k237/, or empty where the script needs none.
        threads: how many threads it may use.

    Returns:
        A figure by its row's names and its column.

    Raises:
        SystemExit: the script fails; its last lines are shown.
    """
    script, *options = work.script
    options += ["--threads", str(threads)]
    if data_root and work.kind != "serving":
        options += ["--data-root", data_root]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        done = subprocess.run(
            [sys.executable, f"benchmarks/{script}", *options, "--csv", str(table)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise SystemExit(f"failed in {checkout.name}: {script}\n{last}")
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    found: Figures = {}
    for row in rows:
        if not row.get("who", "").startswith(work.leave_out):
            names = tuple(row[name] for name in work.names)
            found.update({(*names, figure): float(row[figure]) for figure in work.figures})
    return found


def compare(work: Work, trees: tuple[Path, Path], arguments: argparse.Namespace) -> list[float]:
    """Measure both revisions in turn, print a line per figure, return the median ratios."""
    rounds: list[tuple[Figures, Figures]] = []
    for number in range(arguments.rounds):
        pair: dict[int, Figures] = {}
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            pair[side] = measure(work, trees[side], arguments.data_root, arguments.threads)
        rounds.append((pair[0], pair[1]))
    medians = []
    for key in [key for key in rounds[0][0] if key in rounds[0][1]]:
        pairs = [(old[key], new[key]) for old, new in rounds]
        ratios = [new / old if work.faster else old / new for old, new in pairs]
        medians.append(statistics.median(ratios))
        before, after = (statistics.median(side) for side in zip(*pairs))
        print(
            f"{work.kind:<9} {' '.join(key):<60} {before:>12,.4g} {after:>12,.4g}"
            f"   {medians[-1]:.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
            flush=True,
        )
    return medians


def main() -> None:
    """Compare, and print the median ratio of each kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", help="a revision")
    parser.add_argument("new", nargs="?", default="HEAD", help="another one (default: HEAD)")
    parser.add_argument("--only", choices=[work.kind for work in WORK])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-root", default=os.environ.get("DGLKE_DISTILL_DATA", ""))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder) / "old", Path(folder) / "new"
        git = ("git", "-C", str(ROOT), "worktree")
        try:
            for tree, revision in ((old, arguments.old), (new, arguments.new)):
                command = (*git, "add", "--quiet", "--detach", str(tree), revision)
                subprocess.run(command, check=True)
            print(f"{'':<70} {arguments.old[:12]:>12} {arguments.new[:12]:>12}   new is faster by")
            for work in WORK:
                if arguments.only in (None, work.kind):
                    medians = compare(work, (old, new), arguments)
                    middle = statistics.median(medians)
                    print(f"{work.kind:<9} median of {len(medians)} figures: {middle:.3f}")
        finally:
            for tree in (old, new):
                subprocess.run((*git, "remove", "--force", str(tree)), check=False)


if __name__ == "__main__":
    main()
