"""The quality table: train what it names with the shipped recipes, and collect the figures.

    python benchmarks/quality.py --data-root DIR                     # hours: every row, resumable
    python benchmarks/quality.py --data-root DIR --only transe-fb15k237-dim32
    python benchmarks/quality.py --collect runs/a runs/b             # figures of finished runs

Each row is what ``dglke-distill train DATASET --model MODEL --dim FLOATS`` does: the recipe is
chosen by the names, the model on the validation split, and test is ranked once at the end. The
CSV keeps seed, seconds, threads, versions, revision and hardware beside each figure.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from dglke_distill.artifacts.results_files import read_training_results
from dglke_distill.cli.exits import script
from dglke_distill.config import compose
from dglke_distill.models import canonical_name
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY, RESUME_FILE
from dglke_distill.runs.train_run import train_run

ROWS = (
    ("fb15k237", "TransE", 512),
    ("fb15k237", "ComplEx", 512),
    ("fb15k237", "MEIM", 300),
    ("fb15k237", "TransE", 32),
    ("fb15k237", "ComplEx", 64),
    ("fb15k237", "ComplEx", 32),
    ("fb15k237", "ComplEx", 16),
    ("fb15k237", "RESCAL", 64),
    ("fb15k237", "RESCAL", 32),
    ("wn18rr", "ComplEx", 512),
    ("wn18rr", "ComplEx", 64),
    ("wn18rr", "ComplEx", 32),
    ("wn18rr", "ComplEx", 16),
    ("wn18rr", "RESCAL", 32),
    ("wn18rr", "RotatE", 512),
    ("wn18rr", "RotE", 256),
    ("wn18rr", "RotE", 30),
    ("wn18rr", "RotH", 30),
    ("cldr", "TransE", 32),
    ("cldr", "ComplEx", 32),
)
RESULTS = Path(__file__).with_name("results") / "quality.csv"


def row_of(run: Path) -> dict[str, Any]:
    """Return one line of the table from the results of a finished run."""
    results = read_training_results(run / CHECKPOINT_DIRECTORY / "results.json")
    test, training, origin = results.metrics["test"], results.training, results.provenance
    return {
        "dataset": results.dataset.name,
        "model": canonical_name(results.model.name),
        "floats_per_entity": results.model.floats_per_entity,
        "bytes_per_entity": results.model.bytes_per_entity,
        "parameters": results.model.parameters,
        "test_mrr": round(test.mrr, 4),
        "test_hits_at_1": round(test.hits_at_1, 4),
        "test_hits_at_3": round(test.hits_at_3, 4),
        "test_hits_at_10": round(test.hits_at_10, 4),
        "valid_mrr": round(results.metrics["valid"].mrr, 4),
        "epochs": training.epochs,
        "best_epoch": training.best_epoch,
        "training_seconds": round(training.seconds),
        "validation_seconds": round(training.validation_seconds),
        "threads": training.threads,
        "device": training.device,
        "seed": training.seed,
        "recipe": results.config["recipe"],
        "version": origin.version,
        "revision": origin.git.revision if origin.git else "",
        "dirty": origin.git.dirty if origin.git else "",
        "torch": origin.torch,
        "dgl": origin.dgl,
        "cpu": origin.hardware.cpu,
        "date": origin.date,
        "dataset_fingerprint": results.dataset.fingerprint,
    }


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the table, newer rows replacing older ones of the same model, size and dataset."""
    kept: dict[tuple[str, str, str], dict[str, Any]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                kept[row["dataset"], row["model"], row["floats_per_entity"]] = dict(row)
    for row in rows:
        kept[row["dataset"], row["model"], str(row["floats_per_entity"])] = row
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(next(iter(kept.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


def markdown(path: Path) -> str:
    """Return the table as the README shows it."""
    lines = [
        "| dataset | model | floats per entity | test MRR | Hits@1 | Hits@10 | training |",
        "|---|---|---|---|---|---|---|",
    ]
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            minutes = float(row["training_seconds"]) / 60
            lines.append(
                f"| {row['dataset']} | {row['model']} | {row['floats_per_entity']} "
                f"| {float(row['test_mrr']):.4f} | {float(row['test_hits_at_1']):.4f} "
                f"| {float(row['test_hits_at_10']):.4f} "
                f"| {minutes:.1f} min, threads: {row['threads']} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Train or collect, then write the CSV and print the Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    parser.add_argument("--only", action="append", help="e.g. transe-fb15k237-dim32")
    parser.add_argument("--collect", type=Path, nargs="+", help="finished run directories")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = [row_of(run) for run in arguments.collect or ()]
    for dataset, model, dim in () if arguments.collect else ROWS:
        name = f"{model}-{dataset}-dim{dim}".lower()
        if arguments.only and name not in arguments.only:
            continue
        run = arguments.runs / name
        if not (run / CHECKPOINT_DIRECTORY).exists():
            config = compose(
                [
                    {
                        "data": {"dataset": dataset},
                        "model": {"name": model, "dim": dim},
                        "training": {"threads": arguments.threads},
                    }
                ]
            )
            resume = (run / RESUME_FILE).exists()
            train_run(config, run, resume=resume, data_root=arguments.data_root, announce=print)
        rows.append(row_of(run))
        write(rows, arguments.csv)
    if rows:
        write(rows, arguments.csv)
    print(markdown(arguments.csv))


if __name__ == "__main__":
    script(main)
