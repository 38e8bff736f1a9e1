"""How long the program takes to start: cases in turns, each in a process of its own, medians.

    python benchmarks/startup.py --rounds 7 --csv benchmarks/results/startup.csv

Prints a line per case, with the limit that it is held to:

- ``ready``: processor seconds of the process until the case is done, the interpreter's own start
  included. They are what the limits are for: other programs on the machine do not change them.
- ``process``: those of the whole process. Python looks for garbage once more when it ends, which
  after an import of torch takes some 0.4 s.
- ``wall``: from the start of the process until its end.

The bytecode is compiled in the round before the first, as pip does when it installs. Importing
torch alone stands beside the cases: it is most of loading a model.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base import runtime
from dglke_distill.base.files import atomic_write_text

SHIPPED = "complex-cldr-dim32"
HELP = (
    "import sys; from dglke_distill.cli import main; sys.argv = ['dglke-distill', '--help']\n"
    "try: main()\nexcept SystemExit: pass"
)
CASES: dict[str, tuple[str, Optional[float]]] = {
    "import torch (for comparison)": ("import torch", None),
    "dglke-distill --help": (HELP, 0.3),
    "import dglke_distill": ("import dglke_distill", 0.1),
    "zoo.load of a shipped model": (
        f"from dglke_distill import zoo; zoo.load({SHIPPED!r}, store='shipped')",
        1.5,
    ),
}


def started(code: str, environment: dict[str, str]) -> dict[str, float]:
    """Run code in a new process.

    Args:
        code: Python statements.
        environment: of the process.

    Returns:
        Seconds: ``ready``, ``process`` and ``wall``.
    """
    code += "\nimport sys, time; print(time.process_time(), file=sys.stderr)"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"a case ended with exit code {process.returncode}:\n{told}")
    ready = float(told.split()[-1])
    return {"ready": ready, "process": usage.ru_utime + usage.ru_stime, "wall": wall}


def main() -> None:
    """Measure all cases, print and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is started")
    parser.add_argument("--csv", type=Path, default=None, help="file that receives the figures")
    options = parser.parse_args()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(options.rounds + 1):
            for name, (code, _) in CASES.items():
                one = started(code, environment)
                if number:
                    taken[name].append(one)
    about = runtime.provenance()
    rows: list[dict[str, Any]] = []
    for name, (_, limit) in CASES.items():
        row: dict[str, Any] = {"case": name, "limit_seconds": "" if limit is None else limit}
        for key in ("ready", "process", "wall"):
            seconds = [one[key] for one in taken[name]]
            row[f"{key}_seconds"] = round(statistics.median(seconds), 3)
            row[f"{key}_least"] = round(min(seconds), 3)
        row |= {
            "rounds": options.rounds,
            "cpu": about["hardware"]["cpu"],
            "python": about["python"],
            "torch": about["torch"],
            "revision": (about["git"] or {"revision": ""})["revision"],
            "date": about["date"],
        }
        rows.append(row)
        held = "" if limit is None else f"  limit of ready {limit} s"
        print(
            f"{name:30} ready {row['ready_seconds']:.2f} s  process {row['process_seconds']:.2f}  "
            f"wall {row['wall_seconds']:.2f}{held}"
        )
    if options.csv is not None:
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write_text(options.csv, out.getvalue())


if __name__ == "__main__":
    main()
