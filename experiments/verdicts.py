"""Does the verdict of `run` hold against a long search? On a dozen small graphs, made by seeds.

    python experiments/verdicts.py                       # all twelve: about two hours of one core
    python experiments/verdicts.py --only family-0 --only random-0
    python experiments/verdicts.py --data umls --data my_triples/    # beside or without the twelve
    python experiments/verdicts.py --dims 64,16 --search 20s --factor 3
    python experiments/verdicts.py --own --data umls --dims auto --search auto --factor 1.5 --last

The last line is `run` without flags on UMLS and three more graphs: one of under 500 facts, one with
a relation of each kind, one of about 50,000 facts. ``--last`` keeps to the size that the closing
sentence is about.

For each graph: what `dglke-distill run GRAPH` does (`kd.distill`), then `dglke-distill tune` of the
same model and size, trained directly, for ``--factor`` times as long as the student, its teachers
and their searches took; the settings with the best validation MRR are trained once more and ranked
on test. A row has both figures. A verdict is contradicted if it says that the student is better and
direct training of the long search has a higher test MRR, or if it says "train directly" and neither
that nor the control whose command it prints has a higher one than the student. The program ends
with 1 if any verdict is contradicted. It goes on where it was stopped: finished chains and studies
stay in ``--runs``.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from verdict_graphs import GRAPHS, OWN, write_graph

from dglke_distill.api.datasets import AnyDataset
from dglke_distill.api.distilling import distill
from dglke_distill.api.training import train, tune
from dglke_distill.artifacts.results import ChainResults
from dglke_distill.artifacts.results_files import read_training_results
from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.cli.exits import script
from dglke_distill.cli.run import whole_numbers
from dglke_distill.distill.chain import CHAIN_FILE
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.search.durations import seconds_of
from dglke_distill.search.leave import RECIPE_FILE

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "verdicts.csv"


class Budget(NamedTuple):
    """What both sides get.

    Attributes:
        asked: of `run`: its keywords in `kd.distill`.
        factor: seconds of the long search, over those of the student with its teachers.
        least: seconds of the long search, at least.
        threads: of every training.
        last: whether to search only for the last size, the one of the closing sentence.
    """

    asked: Mapping[str, Any]
    factor: float
    least: float
    threads: int
    last: bool = False


def chain_of(data: AnyDataset, place: Path, budget: Budget) -> ChainResults:
    """Do what `dglke-distill run` does, go on with it, or read what it left."""
    resume = (place / CHAIN_FILE).is_file()
    asked = {} if resume else {**budget.asked, "threads": budget.threads}
    return distill(data, **asked, out=place, resume=resume).results


def searched_for_long(
    data: AnyDataset, size: SizeVerdict, results: ChainResults, place: Path, budget: Budget
) -> dict[str, object]:
    """Return what direct training of a student's model and size reaches after a long search."""
    stage = next(each for each in results.stages if each.name == size.student)
    assert stage.results.model is not None and size.time is not None
    model = stage.results.model.name
    seconds = max(budget.least, budget.factor * (size.time.chain_seconds or 0.0))
    epochs = budget.asked.get("epochs")
    length = "" if epochs is None else f" --epochs {epochs}"
    study = place / "study"
    if not (study / RECIPE_FILE).is_file():
        tune(
            data, model=model, dim=size.dim, seconds=seconds, out=study, threads=budget.threads,
            epochs=epochs,
        )  # fmt: skip
    best = place / "best"
    done = best / CHECKPOINT_DIRECTORY / "results.json"
    if not done.is_file():
        train(
            data, recipe="none", config=study / RECIPE_FILE, out=best, threads=budget.threads,
            settings={"evaluation": {"split": "test"}}, resume=best.is_dir(),
        )  # fmt: skip
    metrics = read_training_results(done).metrics
    with (study / "trials.csv").open(newline="") as stream:
        trials = list(csv.DictReader(stream))
    return {
        "command": f"--model {model} --dim {size.dim}{length} --time {max(seconds, 0.1):.1f}s "
        f"--threads {budget.threads}",
        "long_seconds": round(sum(float(trial["seconds"] or 0) for trial in trials), 1),
        "long_trials": len(trials),
        "long_valid_mrr": round(metrics["valid"].mrr, 4),
        "long_mrr": round(metrics["test"].mrr, 4),
    }


def contradicts(outcome: str, student_mrr: float, control_mrr: float, long_mrr: float) -> bool:
    """Return whether direct training of a long search contradicts what a verdict says."""
    if outcome == "better":
        return long_mrr > student_mrr
    return outcome == "direct" and max(control_mrr, long_mrr) < student_mrr


def run_command(data: str, budget: Budget) -> str:
    """Return the command line of `run` that a chain stands for."""
    words = ["dglke-distill run", data]
    for flag, value in budget.asked.items():
        if value is not None:
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{flag} {shown}")
    return " ".join([*words, f"--threads {budget.threads}"])


def rows_of(name: str, data: AnyDataset, place: Path, budget: Budget) -> list[dict[str, object]]:
    """Return a row for each size of a graph."""
    results = chain_of(data, place / "run", budget)
    assert results.verdict is not None
    rows: list[dict[str, object]] = []
    for size in results.verdict.sizes[-1 if budget.last else 0 :]:
        assert size.time is not None
        assert size.student_mrr is not None and size.control_mrr is not None
        long = searched_for_long(data, size, results, place / f"direct-{size.dim}", budget)
        rows.append(
            {
                "graph": name,
                "entities": results.dataset.entities,
                "train": results.dataset.triples.get("train"),
                "questions": size.questions,
                "floats": size.dim,
                "outcome": size.outcome,
                "gain": _rounded(size.gain),
                "low": _rounded(size.low),
                "high": _rounded(size.high),
                "seeds": size.seeds,
                "student_mrr": round(size.student_mrr, 4),
                "control_mrr": _rounded(size.control_mrr),
                "chain_seconds": _rounded(size.time.chain_seconds, 1),
                "trials": max((each.trials for each in size.controls), default=0),
                **{key: value for key, value in long.items() if key != "command"},
                "contradicted": contradicts(
                    size.outcome, size.student_mrr, size.control_mrr, float(str(long["long_mrr"]))
                ),
                "claim": size.claim,
                "command": run_command(name, budget),
                "long_command": f"dglke-distill tune {name} {long['command']}",
            }
        )
    return rows


def _rounded(value: Optional[float], digits: int = 4) -> object:
    return "" if value is None else round(value, digits)


def write(rows: list[dict[str, object]], path: Path) -> None:
    """Write the table; a graph that is judged again replaces its former rows.

    Raises:
        UserError: the file is another table.
    """
    kept: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as stream:
            kept = [dict(row) for row in csv.DictReader(stream)]
        if kept and set(kept[0]) != set(rows[0]):
            raise UserError(f"{path}: is no table of this script; choose another --csv")
    fresh = {row["graph"] for row in rows}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([row for row in kept if row["graph"] not in fresh] + rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, text.getvalue())


def main() -> None:
    """Judge the graphs, write the CSV, and end with 1 if a verdict is contradicted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", help=f"one of {', '.join((*GRAPHS, *OWN))}")
    parser.add_argument("--own", action="store_true", help=f"also {', '.join(OWN)}")
    parser.add_argument("--data", action="append", help="further data: a name or a path")
    parser.add_argument("--dims", default="64,16", help="sizes of `run`; 'auto': its own")
    parser.add_argument("--search", default="20s", help="--search of `run`; 'auto': its own")
    parser.add_argument("--epochs", type=int, help="of every training; that of `run` if not given")
    parser.add_argument("--model", help="score function; that of `run` if not given")
    parser.add_argument("--factor", type=float, default=3.0, help="of the chain's seconds")
    parser.add_argument("--least", type=float, default=60.0, help="seconds of a long search")
    parser.add_argument("--last", action="store_true", help="only the last size of a run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name in arguments.only or ():
        if name not in GRAPHS and name not in OWN:
            raise UserError(f"--only: no graph {name!r}; there are: {', '.join((*GRAPHS, *OWN))}")
    for flag in ("factor", "least"):
        if not 0 <= getattr(arguments, flag) < float("inf"):
            raise UserError(f"--{flag} {getattr(arguments, flag)}: a number, 0 or more")
    for flag in ("threads", "epochs"):
        if (getattr(arguments, flag) or 1) < 1 or getattr(arguments, flag) == 0:
            raise UserError(f"--{flag} {getattr(arguments, flag)}: 1 or more")
    asked: dict[str, Any] = {"model": arguments.model}
    if arguments.epochs is not None:
        asked["epochs"] = arguments.epochs
    if arguments.dims != "auto":
        asked["dims"] = whole_numbers(arguments.dims, "--dims")
    if arguments.search != "auto":
        seconds_of(arguments.search, "--search", none=True)  # a bad one ends here
        asked["search"] = arguments.search
    budget = Budget(asked, arguments.factor, arguments.least, arguments.threads, arguments.last)
    graphs = [*(arguments.only or ()), *(OWN if arguments.own else ())]
    if not graphs and not arguments.data:
        graphs = list(GRAPHS)
    places: dict[str, AnyDataset] = {
        name: write_graph(name, arguments.runs / name / "data") for name in graphs
    }
    places.update((Path(each).name or each, each) for each in arguments.data or ())
    wrong = 0
    for name, data in places.items():
        rows = rows_of(name, data, arguments.runs / name, budget)
        write(rows, arguments.csv)
        for row in rows:
            wrong += bool(row["contradicted"])
            verdict = "CONTRADICTED" if row["contradicted"] else "holds"
            print(
                f"{name}, {row['floats']} floats: {verdict}: {row['claim']}; test MRR: student "
                f"{row['student_mrr']}, direct {row['control_mrr']}, after {row['long_seconds']} s "
                f"of search {row['long_mrr']}",
                flush=True,
            )
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    script(main)
