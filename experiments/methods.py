"""The published recipes, method by method under one teacher, and whether the paper's claims hold.

    python experiments/methods.py --data-root DIR              # both recipes: hours; resumable
    python experiments/methods.py --data-root DIR --only paper-transe-fb15k237
    python experiments/methods.py --collect                    # the tables again, no training

An experiment is a chain recipe that ships, changed by ``experiments/configs/NAME.toml`` where that
exists (epochs are cut there where validation stands still). Iterde goes down all sizes; bkd, ta,
dualde and direct make the smallest size alone. The CSV has a row per method, with the seconds of
its whole chain, the teacher's own apart, and with the seconds after which its smallest model was on
valid what iterde's came to at its best (empty: never); and a row per stage of iterde.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from chains import origin_of, rounded, size_of, test_of, training_of, write

from dglke_distill.artifacts.results import StageResults
from dglke_distill.artifacts.results_files import (
    RESULTS_FILE,
    read_chain_results,
    read_comparison_results,
)
from dglke_distill.cli.exits import script
from dglke_distill.config import read_toml
from dglke_distill.distill.compare import (
    COMPARISON_FILE,
    ComparisonConfig,
    run_comparison,
    saved_comparison,
)
from dglke_distill.distill.plan import compose_chain
from dglke_distill.distill.watcher import Watcher
from dglke_distill.report import write_comparison

HERE = Path(__file__).parent
EXPERIMENTS = ("paper-transe-fb15k237", "paper-complex-wn18rr")
METHODS = ("iterde", "bkd", "ta", "dualde", "direct")


def run(name: str, directory: Path, data_root: Path | None, threads: int) -> None:
    """Run an experiment, or go on with it."""
    if (directory / COMPARISON_FILE).exists():
        comparison = saved_comparison(directory)
    else:
        file = HERE / "configs" / f"{name}.toml"
        changes = read_toml(file) if file.exists() else {}
        threading = {"shared": {"training": {"threads": threads}}}
        chain = compose_chain(name, name.split("-")[-1], None, [changes, threading])
        comparison = ComparisonConfig(methods=list(METHODS), chain=chain)
    watcher = Watcher(
        lambda stage, number, total: print(f"{name}: {stage.name}", flush=True),
        announce=lambda text: print(f"{name}: {text}", flush=True),
    )
    resume = (directory / COMPARISON_FILE).exists()
    run_comparison(comparison, directory, resume=resume, data_root=data_root, watcher=watcher)
    write_comparison(directory)


def rows_of(name: str, directory: Path) -> list[dict[str, Any]]:
    """Return a line for the teacher, for each method's last student, and for each of iterde's."""
    results = read_comparison_results(directory / RESULTS_FILE)
    rows = [_row(name, "teacher", results.teacher, results.teacher_seconds)]
    found = {row.method: row for row in results.rows}
    chains = {method: directory / "chains" / f"{method}-seed0" for method in found}
    wanted = max(mrr for _, mrr in _validations(chains["iterde"]))
    for method, row in found.items():
        stages = read_chain_results(chains[method] / RESULTS_FILE).stages
        rows += [_row(name, method, stage) for stage in stages[:-1]]
        last = _row(name, method, stages[-1], row.chain_seconds)
        gain = results.gains.get(method)
        last["share_of_teacher"] = rounded(row.share_of_teacher)
        last["gain_over_direct"] = rounded(gain and gain.gain)
        reached = [seconds for seconds, mrr in _validations(chains[method]) if mrr >= wanted]
        if reached:
            before = row.chain_seconds - stages[-1].results.training.seconds
            last["seconds_to_iterde"] = round(before + min(reached), 1)
        rows.append(last)
    return rows


def _validations(chain: Path) -> list[tuple[float, float]]:
    """Return seconds and MRR of the validations of a chain's last stage."""
    last = read_chain_results(chain / RESULTS_FILE).stages[-1]
    with open(chain / last.directory / "history.csv", encoding="utf-8") as stream:
        found = [(row["seconds"], row["validation_mrr"]) for row in csv.DictReader(stream)]
    return [(float(seconds), float(mrr)) for seconds, mrr in found if mrr]


def _row(
    name: str, method: str, stage: StageResults, chain_seconds: float | None = None
) -> dict[str, Any]:
    trained = training_of(stage.results)
    del trained["setup_seconds"], trained["validation_seconds"]
    return {
        "experiment": name,
        "method": method,
        "stage": stage.name,
        **size_of(stage.results),
        **test_of(stage.results),
        "share_of_teacher": "",
        "gain_over_direct": "",
        **{key: trained.pop(key) for key in ("epochs", "best_epoch", "seconds")},
        "chain_seconds": "" if chain_seconds is None else round(chain_seconds, 1),
        "seconds_to_iterde": "",
        **trained,
        **origin_of(stage.results.provenance),
    }


def main() -> None:
    """Run or collect, then write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--only", action="append", choices=EXPERIMENTS)
    parser.add_argument("--collect", action="store_true", help="what is finished, no training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "methods.csv")
    arguments = parser.parse_args()
    for name in arguments.only or EXPERIMENTS:
        place = arguments.runs / name
        if not arguments.collect:
            run(name, place, arguments.data_root, arguments.threads)
        if (place / RESULTS_FILE).exists():
            write(rows_of(name, place), arguments.csv)


if __name__ == "__main__":
    script(main)
