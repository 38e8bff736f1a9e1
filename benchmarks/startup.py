"""How long the program takes to start: in turns, each in a process of its own, medians.

    python benchmarks/startup.py --rounds 7

Prints a line per case: its median and least wall time, and the limit that it is held to. A case
beside it imports torch alone, which is most of loading a model.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LOAD = "from dglke_distill import zoo; zoo.load('complex-cldr-dim32', store='shipped')"
CASES = {
    "import torch (for comparison)": ([sys.executable, "-c", "import torch"], None),
    "--help": ([sys.executable, "-m", "dglke_distill", "--help"], 0.3),
    "import dglke_distill": ([sys.executable, "-c", "import dglke_distill"], 0.1),
    "zoo.load of a shipped model": ([sys.executable, "-c", LOAD], 1.5),
}


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is started")
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, (command, _) in CASES.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round fills the disk's cache
                taken[name].append(time.perf_counter() - begun)
    for name, (_, limit) in CASES.items():
        seconds = taken[name]
        held = "" if limit is None else f"  limit {limit} s"
        print(
            f"{name:30} median {statistics.median(seconds):.2f} s, least {min(seconds):.2f}{held}"
        )


if __name__ == "__main__":
    main()
