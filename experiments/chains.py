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
import json
from pathlib import Path
from typing import Any

from dglke_distill.cli.exits import script
from dglke_distill.distill.chain import CHAIN_FILE, RESULTS_FILE, Watcher, run_chain, saved_chain
from dglke_distill.distill.chain_recipes import chain_recipe_names
from dglke_distill.distill.plan import compose_chain, read_chain
from dglke_distill.report import write_report

HERE = Path(__file__).parent
CONFIGS = HERE / "configs"
RESULTS = HERE / "results" / "chains.csv"


def rows_of(name: str, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line per stage from a chain's ``results.json``."""
    git = results["provenance"]["git"] or {"revision": "", "dirty": ""}
    rows = []
    for stage in results["stages"]:
        of = stage["results"]
        test, valid = of["metrics"].get("test"), of["metrics"].get("valid")
        training, model = of["training"], of["model"]
        row: dict[str, Any] = {
            "experiment": name,
            "method": results["method"],
            "dataset": of["dataset"]["name"],
            "stage": stage["name"],
            "role": stage["role"],
            "teacher_test_mrr": _rounded(results["summary"]["teacher_mrr"]),
            "model": model["name"],
            "floats_per_entity": model["floats_per_entity"],
            "bytes_per_entity": model["bytes_per_entity"],
            "parameters": model["parameters"],
        }
        for label, key in (("mrr", "mrr"), *((f"hits_at_{k}", f"hits@{k}") for k in (1, 3, 10))):
            row[f"test_{label}"] = round(test[key], 4) if test else ""
        row.update(
            valid_mrr=round(valid["mrr"], 4) if valid else "",
            epochs=training["epochs"],
            best_epoch=training["best_epoch"],
            seconds=round(training["seconds"], 1),
            setup_seconds=round(training["setup_seconds"], 1),
            validation_seconds=round(training["validation_seconds"], 1),
            threads=training["threads"],
            seed=training["seed"],
            revision=git["revision"],
            dirty=git["dirty"],
            torch=results["provenance"]["torch"],
            cpu=results["provenance"]["hardware"]["cpu"],
            date=results["provenance"]["date"],
        )
        rows.append(row)
    return rows


def _rounded(value: float | None) -> float | str:
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
    if (directory / CHAIN_FILE).exists():
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
        resume=(directory / CHAIN_FILE).exists(),
        loaded=[Path(path) for path in loaded],
        data_root=data_root,
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
        write(rows_of(name, json.loads((place / RESULTS_FILE).read_text())), arguments.csv)


if __name__ == "__main__":
    script(main)
