"""Does a run take the memory that it says it needs? The estimate against the measured peak.

Each case trains one epoch in a process of its own, and ranks as its settings say. What is beyond
the program is compared as well: the estimate has a constant for the program itself.

    python benchmarks/memory.py --data-root DIR [--only WORD] [--csv benchmarks/results/memory.csv]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dglke_distill.base.files import atomic_write_text

CHILD = """
import json, sys
from pathlib import Path
from dglke_distill.base import runtime
from dglke_distill.config import compose
from dglke_distill.runs.memory import DataSize, memory_need
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import prepare

case = json.loads(sys.argv[1])
root = case["data_root"] and Path(case["data_root"])
program = runtime.peak_memory_bytes()
config = compose([case["settings"]], recipe=case["recipe"])
results = train_run(config, Path(case["out"]), data_root=root)
peak = runtime.peak_memory_bytes()
need = memory_need(config, DataSize.of(prepare(config, data_root=root).dataset))
parts = {**need.lasting, **need.passing}
said = parts.pop("program")
largest = sorted(parts.items(), key=lambda part: -part[1])
print(json.dumps([program, said, need.total, peak, largest[:3]]))
"""


class Case(NamedTuple):
    """What is trained.

    Attributes:
        dataset: of the catalog, or ``relations``: 48,000 facts with a relation each.
        recipe: its settings.
        settings: changes of them.
    """

    dataset: str
    recipe: str
    settings: dict[str, Any]


CASES = {
    "ComplEx-RP, 48,000 relations": Case("relations", "complex-rp", {}),
    "ComplEx 32, cldr": Case("cldr", "complex", {"model": {"dim": 32}}),
    "ComplEx NodePiece, cldr": Case("cldr", "complex-node-piece", {}),
    "RESCAL 32 one_vs_all, FB15k-237": Case("fb15k237", "rescal-fb15k237-dim32", {}),
    "TransE, FB15k-237": Case("fb15k237", "transe-fb15k237", {}),
    "RotE 32, WN18RR": Case("wn18rr", "rote-wn18rr", {"model": {"dim": 32}}),
    "ComplEx, WN18RR": Case("wn18rr", "complex-wn18rr", {}),
}


def relations(folder: Path) -> Path:
    """Write 48,000 facts about 500 entities, each of a relation of its own; return the folder."""
    rng = np.random.default_rng(0)
    ends = rng.integers(0, 500, (60_000, 2))
    folder.mkdir()
    for name, first, last in (
        ("train", 0, 48_000),
        ("valid", 48_000, 54_000),
        ("test", 54_000, 60_000),
    ):
        lines = [f"e{ends[i, 0]}\trel{i % 48_000}\te{ends[i, 1]}\n" for i in range(first, last)]
        (folder / f"{name}.txt").write_text("".join(lines))
    return folder


def measured(case: Case, folder: Path, data_root: Path | None) -> dict[str, Any]:
    """Train a case and return its row."""
    data = str(relations(folder / "data")) if case.dataset == "relations" else case.dataset
    training = {**case.settings.get("training", {}), "epochs": 1, "threads": 1}
    settings = {**case.settings, "training": training, "data": {"dataset": data}}
    asked = {"settings": settings, "recipe": case.recipe, "out": str(folder / "run")}
    asked["data_root"] = str(data_root) if data_root else ""
    command = [sys.executable, "-c", CHILD, json.dumps(asked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case.dataset}, {case.recipe}: the training failed, see above")
    program, said_program, need, peak, largest = json.loads(done.stdout.splitlines()[-1])
    mib = 1 << 20
    return {
        "estimate_mib": round(need / mib),
        "peak_mib": round(peak / mib),
        "estimate_over_peak": f"{need / peak:.2f}",
        "program_mib": round(program / mib),
        "beyond_estimate_mib": round((need - said_program) / mib),
        "beyond_peak_mib": round((peak - program) / mib),
        "largest": ", ".join(f"{name} {round(size / mib)}" for name, size in largest),
    }


def main() -> None:
    """Measure, print, and write the table if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows = []
    chosen = {name: case for name, case in CASES.items() if arguments.only.lower() in name.lower()}
    if not chosen:
        sys.exit(f"--only {arguments.only}: no such case; there are: {'; '.join(CASES)}")
    for name, case in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"case": name, **measured(case, Path(folder), arguments.data_root)})
        print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="; ", flush=True)
    if arguments.csv is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write_text(arguments.csv, text.getvalue())


if __name__ == "__main__":
    main()
