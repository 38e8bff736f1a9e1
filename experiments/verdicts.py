"""Does the verdict of `run` hold against a long search? On a dozen small graphs, made by seeds.

    python experiments/verdicts.py                       # all twelve: about two hours of one core
    python experiments/verdicts.py --only family-0 --only random-0
    python experiments/verdicts.py --data umls --data my_triples/    # beside or without the twelve
    python experiments/verdicts.py --dims 64,16 --search 20s --factor 3

For each graph: what `dglke-distill run GRAPH` does (`kd.distill`), then `dglke-distill tune` of the
same model and size, trained directly, for ``--factor`` times as long as the student, its teachers
and their searches took; the settings with the best validation MRR are trained once more and ranked
on test. A row has both figures. A verdict is contradicted if it says that the student is better and
direct training of the long search has a higher test MRR, or if it says "train directly" and that
has a lower one than the student. The program ends with 1 if any verdict is contradicted. It goes on
where it was stopped: finished chains and studies stay in ``--runs``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from dglke_distill.api.datasets import AnyDataset
from dglke_distill.api.distilling import distill
from dglke_distill.api.training import train, tune
from dglke_distill.artifacts.results import ChainResults
from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.cli.exits import script
from dglke_distill.cli.run import whole_numbers
from dglke_distill.distill.chain import CHAIN_FILE
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.search.beforehand import seconds_of
from dglke_distill.search.study import RECIPE_FILE

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "verdicts.csv"
SPLITS = {"train.txt": 0.8, "valid.txt": 0.1, "test.txt": 0.1}

Fact = tuple[str, str, str]
Random = np.random.Generator


# --- graphs -----------------------------------------------------------------------------------


def family(rng: Random, size: int) -> list[Fact]:
    """Return generations of couples: inverse, symmetric and composed relations."""
    facts: list[Fact] = []
    parents: dict[str, tuple[str, str]] = {}
    alive = [f"p{n}" for n in range(8)]
    born = len(alive)
    while born < size:
        rng.shuffle(alive)
        children: list[str] = []
        for one, other in zip(alive[::2], alive[1::2]):
            facts += [(one, "spouse", other), (other, "spouse", one)]
            brood = [f"p{born + n}" for n in range(int(rng.integers(1, 5)))]
            born += len(brood)
            for child in brood:
                parents[child] = (one, other)
                for parent in (one, other):
                    facts += [(child, "parent", parent), (parent, "child", child)]
                    facts += [(child, "grandparent", old) for old in parents.get(parent, ())]
            facts += [(a, "sibling", b) for a in brood for b in brood if a != b]
            children += brood
        alive = children if len(children) > 1 else alive
    return facts


def kinds(rng: Random, size: int) -> list[Fact]:
    """Return one relation of each kind: symmetric, inverse, hierarchical and 1-N."""
    names = [f"e{n}" for n in range(size)]
    above = {n: int(rng.integers(0, n)) for n in range(1, size)}
    facts: list[Fact] = []
    for n in range(1, size):
        upper: Optional[int] = above[n]
        while upper is not None:  # below, and all that is above that
            facts.append((names[n], "below", names[upper]))
            upper = above.get(upper)
        one, other = names[n], names[above[n]]
        facts += [(one, "reports_to", other), (other, "leads", one)]
    for n in range(0, size - 1, 2):
        facts += [(names[n], "beside", names[n + 1]), (names[n + 1], "beside", names[n])]
    places = [f"place{n}" for n in range(max(2, size // 12))]
    facts += [(places[int(rng.integers(len(places)))], "holds", name) for name in names]
    return facts


def latent(rng: Random, size: int) -> list[Fact]:
    """Return facts between entities near each other after a relation's shift in a hidden space."""
    points = rng.normal(size=(size, 6))
    facts: list[Fact] = []
    for relation in range(6):
        moved = points + rng.normal(size=6) * (relation % 3) / 2
        far = ((moved[:, None] - points[None]) ** 2).sum(-1) + rng.exponential(0.5, (size, size))
        np.fill_diagonal(far, np.inf)
        for head in range(size):
            for tail in np.argsort(far[head])[: int(rng.integers(1, 4))]:
                facts.append((f"e{head}", f"r{relation}", f"e{tail}"))
    return facts


def blocks(rng: Random, size: int) -> list[Fact]:
    """Return facts whose chance depends on the groups of both ends (a stochastic block model)."""
    group = rng.integers(0, 6, size)
    facts: list[Fact] = []
    for relation in range(5):
        chance = rng.dirichlet(np.full(36, 0.15)).reshape(6, 6)
        weight = chance[group[:, None], group[None]]
        drawn = rng.choice(size * size, 2 * size, replace=False, p=(weight / weight.sum()).ravel())
        facts += [(f"e{n // size}", f"r{relation}", f"e{n % size}") for n in drawn]
    return facts


def grid(rng: Random, size: int) -> list[Fact]:
    """Return steps on a torus, both ways, and which column and row a cell is of."""
    side = max(3, round(size**0.5))
    cells = {(x, y): f"c{x}_{y}" for x in range(side) for y in range(side)}
    facts: list[Fact] = []
    for (x, y), name in cells.items():
        for way, (dx, dy) in {"east": (1, 0), "north": (0, 1), "knight": (1, 2)}.items():
            other = cells[(x + dx) % side, (y + dy) % side]
            facts += [(name, way, other), (other, f"un{way}", name)]
        facts += [(name, "column", f"x{x}"), (name, "row", f"y{y}")]
    return facts


def random(rng: Random, size: int) -> list[Fact]:
    """Return facts without any pattern: nothing can be better at them but by chance."""
    ends = rng.integers(0, size, (5 * size, 2))
    kind = rng.integers(0, 4, 5 * size)
    return [(f"e{h}", f"r{r}", f"e{t}") for (h, t), r in zip(ends, kind)]


class Graph(NamedTuple):
    """A graph to be made: its maker, and about how many entities it has."""

    make: Callable[[Random, int], list[Fact]]
    size: int


GRAPHS: dict[str, tuple[Graph, int]] = {
    f"{make.__name__}-{seed}": (Graph(make, size), seed)
    for make, sizes in (
        (family, (60, 160)),
        (kinds, (60, 150)),
        (latent, (50, 150)),
        (blocks, (80, 200)),
        (grid, (49, 144)),
        (random, (60, 150)),
    )
    for seed, size in enumerate(sizes)
}
"""The dozen, by name; the number is the seed."""


def write_graph(name: str, folder: Path) -> Path:
    """Write one of the dozen as train, valid and test, and return its folder.

    Every entity and relation of valid and test stands in train.
    """
    graph, seed = GRAPHS[name]
    rng = np.random.default_rng((seed, graph.size))
    facts = list(dict.fromkeys(graph.make(rng, graph.size)))
    rng.shuffle(facts)
    facts = [tuple(fact) for fact in facts]  # type: ignore[misc]  # (shuffling makes no arrays)
    known: set[str] = set()
    first, rest = [], []
    for fact in facts:
        (rest if known.issuperset(fact) else first).append(fact)
        known.update(fact)
    counts = [round(share * len(facts)) for share in list(SPLITS.values())[1:]]
    held = min(sum(counts), len(rest))
    valid, test = rest[: held // 2], rest[held // 2 : held]
    parts = dict(zip(SPLITS, (first + rest[held:], valid, test)))
    folder.mkdir(parents=True, exist_ok=True)
    for file, part in parts.items():
        lines = "".join("\t".join(fact) + "\n" for fact in part)
        (folder / file).write_text(lines, encoding="utf-8")
    return folder


# --- verdicts ---------------------------------------------------------------------------------


class Budget(NamedTuple):
    """What both sides get.

    Attributes:
        asked: of `run`: its keywords in `kd.distill`.
        factor: seconds of the long search, over those of the student with its teachers.
        least: seconds of the long search, at least.
        threads: of every training.
    """

    asked: Mapping[str, Any]
    factor: float
    least: float
    threads: int


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
    seconds = max(budget.least, budget.factor * (size.time.chain_seconds or 0.0))
    begun = time.perf_counter()
    study = place / "study"
    if not (study / RECIPE_FILE).is_file():
        tune(
            data, model=stage.results.model.name, dim=size.dim, seconds=seconds, out=study,
            threads=budget.threads,
        )  # fmt: skip
    spent = time.perf_counter() - begun
    best = place / "best"
    resume = best.is_dir() and not (best / CHECKPOINT_DIRECTORY / "results.json").is_file()
    run = train(
        data, recipe="none", config=study / RECIPE_FILE, out=best, threads=budget.threads,
        settings={"evaluation": {"split": "test"}}, resume=resume,
    )  # fmt: skip
    with (study / "trials.csv").open(newline="") as stream:
        trials = len(list(csv.DictReader(stream)))
    return {
        "long_seconds": round(spent, 1),
        "long_trials": trials,
        "long_valid_mrr": round(run.metrics["valid"].mrr, 4),
        "long_mrr": round(run.metrics["test"].mrr, 4),
    }


def rows_of(name: str, data: AnyDataset, place: Path, budget: Budget) -> list[dict[str, object]]:
    """Return a row for each size of a graph."""
    results = chain_of(data, place / "run", budget)
    assert results.verdict is not None
    rows: list[dict[str, object]] = []
    for size in results.verdict.sizes:
        assert size.time is not None and size.student_mrr is not None
        long = searched_for_long(data, size, results, place / f"direct-{size.dim}", budget)
        mrr = float(str(long["long_mrr"]))
        wrong = {"better": mrr > size.student_mrr, "direct": mrr < size.student_mrr}
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
                **long,
                "contradicted": wrong.get(size.outcome, False),
                "claim": size.claim,
            }
        )
    return rows


def _rounded(value: Optional[float], digits: int = 4) -> object:
    return "" if value is None else round(value, digits)


def write(rows: list[dict[str, object]], path: Path) -> None:
    """Write the table; a graph that is judged again replaces its former rows."""
    kept: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as stream:
            kept = [dict(row) for row in csv.DictReader(stream)]
    fresh = {row["graph"] for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([row for row in kept if row["graph"] not in fresh] + rows)


def main() -> None:
    """Judge the graphs, write the CSV, and end with 1 if a verdict is contradicted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", help=f"one of {', '.join(GRAPHS)}")
    parser.add_argument("--data", action="append", help="further data: a name or a path")
    parser.add_argument("--dims", default="64,16", help="sizes of `run`; 'auto': its own")
    parser.add_argument("--search", default="20s", help="--search of `run`; 'auto': its own")
    parser.add_argument("--model", help="score function; that of `run` if not given")
    parser.add_argument("--factor", type=float, default=3.0, help="of the chain's seconds")
    parser.add_argument("--least", type=float, default=60.0, help="seconds of a long search")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name in arguments.only or ():
        if name not in GRAPHS:
            parser.error(f"no graph {name!r}; there are: {', '.join(GRAPHS)}")
    asked: dict[str, Any] = {"model": arguments.model}
    if arguments.dims != "auto":
        asked["dims"] = whole_numbers(arguments.dims, "--dims")
    if arguments.search != "auto":
        seconds_of(arguments.search, "--search", none=True)  # a bad one ends here
        asked["search"] = arguments.search
    budget = Budget(asked, arguments.factor, arguments.least, arguments.threads)
    graphs = arguments.only or ([] if arguments.data else list(GRAPHS))
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
