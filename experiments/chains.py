"""The distillation experiments: run chains by name, resumably, and collect their figures.

    python experiments/chains.py --data-root DIR                    # every one: hours
    python experiments/chains.py --data-root DIR --only best-complex-fb15k237
    python experiments/chains.py --collect runs/a runs/b            # figures of finished chains

Each experiment is a file of chain settings, ``experiments/configs/NAME.toml``, as `dglke-distill
run DATASET --recipe none --config FILE` takes it; or the name of a chain recipe that ships. A row
is one stage of one chain. The CSV keeps seed, seconds, threads, versions, revision and hardware
beside each figure.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from dglke_distill.artifacts.results import ChainResults, Provenance, TrainingResults
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_chain_results
from dglke_distill.cli.exits import script
from dglke_distill.distill.chain import CHAIN_FILE, run_chain, saved_chain
from dglke_distill.distill.chain_recipes import chain_recipe_names
from dglke_distill.distill.plan import compose_chain, read_chain
from dglke_distill.distill.watcher import Watcher
from dglke_distill.report import write_report
from dglke_distill.runs.workspace import Workspaces

HERE = Path(__file__).parent
CONFIGS = HERE / "configs"
RESULTS = HERE / "results" / "chains.csv"


def rows_of(name: str, results: ChainResults) -> list[dict[str, Any]]:
    """Return a line per stage of a chain."""
    return [
        {
            "experiment": name,
            "method": results.method,
            "dataset": stage.results.dataset.name,
            "stage": stage.name,
            "role": stage.role,
            "teacher_test_mrr": rounded(results.summary.teacher_mrr),
            "model": stage.results.model.name,
            **size_of(stage.results),
            **test_of(stage.results),
            **training_of(stage.results),
            **origin_of(results.provenance),
        }
        for stage in results.stages
    ]


def size_of(results: TrainingResults) -> dict[str, Any]:
    """Return the columns of a model's size."""
    keys = ("floats_per_entity", "bytes_per_entity", "parameters")
    return {key: getattr(results.model, key) for key in keys}


def test_of(results: TrainingResults) -> dict[str, Any]:
    """Return the columns of what was ranked; empty where a split was not."""
    test, valid = (results.metrics.get(split) for split in ("test", "valid"))
    keys = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")
    return {
        **{f"test_{key}": rounded(getattr(test, key, None)) for key in keys},
        "valid_mrr": rounded(getattr(valid, "mrr", None)),
    }


def training_of(results: TrainingResults) -> dict[str, Any]:
    """Return the columns of how a training went."""
    of = results.training
    return {
        "epochs": of.epochs,
        "best_epoch": of.best_epoch,
        "seconds": round(of.seconds, 1),
        "setup_seconds": round(of.setup_seconds, 1),
        "validation_seconds": round(of.validation_seconds, 1),
        "threads": of.threads,
        "seed": of.seed,
    }


def origin_of(of: Provenance) -> dict[str, Any]:
    """Return the columns of where figures come from."""
    return {
        "revision": of.git.revision if of.git else "",
        "dirty": of.git.dirty if of.git else "",
        "torch": of.torch,
        "cpu": of.hardware.cpu,
        "date": of.date,
    }


def rounded(value: float | None) -> float | str:
    """Return a figure to four places, empty where there is none."""
    return "" if value is None else round(value, 4)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the table; a chain that is run again replaces its former lines."""
    kept = []
    if path.exists():
        with path.open(newline="") as file:
            kept = list(csv.DictReader(file))
    fresh = {row["experiment"] for row in rows}
    kept = [row for row in kept if row["experiment"] not in fresh] + rows
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)


def run(name: str, directory: Path, data_root: Path | None, threads: int | None) -> None:
    """Run an experiment, or go on with it."""
    resume = (directory / CHAIN_FILE).exists()
    if resume:
        chain, loaded = saved_chain(directory)
    else:
        file = CONFIGS / f"{name}.toml"
        tree = read_chain(file) if file.exists() else {}
        recipe = "none" if file.exists() else name
        dataset = tree.get("data", {}).get("dataset") or name.split("-")[-1]
        threading = {"shared": {"training": {"threads": threads}}} if threads else {}
        chain, loaded = compose_chain(recipe, dataset, None, [tree, threading]), []
    run_chain(
        chain,
        directory,
        resume=resume,
        loaded=[Path(path) for path in loaded],
        workspaces=Workspaces(data_root, saved=resume),
        watcher=Watcher(lambda stage, n, total: print(f"{name}: {stage.name}", flush=True)),
    )
    write_report(directory)


def main() -> None:
    """Run or collect, then write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--only", action="append", help="an experiment's name; may be repeated")
    parser.add_argument("--collect", type=Path, nargs="+", help="finished chains, named after them")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    places = {path.name: path for path in arguments.collect or ()}
    if not places:
        known = sorted({path.stem for path in CONFIGS.glob("*.toml")} | set(chain_recipe_names()))
        for name in arguments.only or known:
            if name not in known:
                parser.error(f"no experiment {name!r}; there are: {', '.join(known)}")
            places[name] = arguments.runs / name
            run(name, places[name], arguments.data_root, arguments.threads)
    for name, place in places.items():
        write(rows_of(name, read_chain_results(place / RESULTS_FILE)), arguments.csv)


if __name__ == "__main__":
    script(main)
