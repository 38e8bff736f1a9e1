"""Does the verdict of `run` hold against a long search? On a dozen small graphs, made by seeds.

    python experiments/verdicts.py                       # all twelve: about two hours of one core
    python experiments/verdicts.py --only family-0 --only random-0
    python experiments/verdicts.py --data umls --data my_triples/    # beside or without the twelve
    python experiments/verdicts.py --dims 64,16 --search 20s --factor 3
    python experiments/verdicts.py --own --data umls --dims auto --search auto --factor 1.5

The last line is `run` without flags on UMLS and three more graphs: one of under 500 facts, one with
a relation of each kind, one of about 50,000 facts.

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
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from dglke_distill.api.datasets import AnyDataset
from dglke_distill.api.distilling import distill
from dglke_distill.api.training import train, tune
from dglke_distill.artifacts.results import ChainResults, read_training_results
from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
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


def each_kind(rng: Random, size: int) -> list[Fact]:
    """Return a relation of each kind, on one ladder of ranks.

    1-1 (next), 1-N (leads), N-1 (reports_to, its inverse), N-N (knows), symmetric (beside),
    transitive (below), and one composed of another with itself (boss_of_boss).
    """
    names = [f"e{n}" for n in range(size)]
    above = {n: int(rng.integers(max(0, n // 4 - 2), (n + 3) // 4)) for n in range(1, size)}
    groups = rng.integers(0, max(2, size // 15), size)
    facts: list[Fact] = []
    for n in range(1, size):
        boss = above[n]
        facts.append((names[n - 1], "next", names[n]))
        facts += [(names[n], "reports_to", names[boss]), (names[boss], "leads", names[n])]
        if boss:
            facts.append((names[n], "boss_of_boss", names[above[boss]]))
        upper: Optional[int] = boss
        while upper is not None:
            facts.append((names[n], "below", names[upper]))
            upper = above.get(upper)
        if n % 2:
            facts += [(names[n], "beside", names[n - 1]), (names[n - 1], "beside", names[n])]
    for n, name in enumerate(names):
        near = np.flatnonzero(groups == groups[n])
        known = rng.choice(near, min(3, len(near)), replace=False)
        facts += [(name, "knows", names[other]) for other in known if other != n]
    return facts


def society(rng: Random, size: int) -> list[Fact]:
    """Return families in towns, with work and acquaintances: many facts of few relations."""
    facts = family(rng, size)
    people = list(dict.fromkeys(end for fact in facts for end in (fact[0], fact[2])))
    towns = [f"town{n}" for n in range(max(2, size // 40))]
    home: dict[str, int] = {}
    couples = {head: tail for head, relation, tail in facts if relation == "spouse"}
    for person in people:
        beside = home.get(couples.get(person, ""))
        home[person] = int(rng.integers(len(towns))) if beside is None else beside
        facts.append((person, "lives_in", towns[home[person]]))
    folk: dict[int, list[str]] = {}
    for person in people:
        folk.setdefault(home[person], []).append(person)
    for person in people:
        trade = int(rng.integers(12))
        facts.append((person, "works_as", f"trade{trade}"))
        if rng.random() < 0.7:
            facts.append((person, "employed_by", f"firm{home[person]}_{trade % 3}"))
        for _ in range(int(rng.integers(1, 4))):
            other = folk[home[person]][int(rng.integers(len(folk[home[person]])))]
            if other != person:
                facts += [(person, "knows", other), (other, "knows", person)]
    return facts


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

OWN: dict[str, tuple[Graph, int]] = {
    "under-500-facts": (Graph(family, 42), 5),
    "each-kind": (Graph(each_kind, 240), 0),
    "50000-facts": (Graph(society, 2700), 0),
}
"""Three more, for `run` without flags."""


def write_graph(name: str, folder: Path) -> Path:
    """Write a graph of this script as train, valid and test, and return its folder.

    Every entity and relation of valid and test stands in train.
    """
    graph, seed = (GRAPHS | OWN)[name]
    rng = np.random.default_rng((seed, graph.size))
    facts = list(dict.fromkeys(graph.make(rng, graph.size)))
    rng.shuffle(facts)
    facts = [tuple(fact) for fact in facts]  # type: ignore[misc]  # (shuffling makes no arrays)
    known: set[str] = set()
    first: list[Fact] = []
    rest: list[Fact] = []
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


def contradicts(outcome: str, student_mrr: float, long_mrr: float) -> bool:
    """Return whether direct training of a long search contradicts what a verdict says."""
    if outcome == "better":
        return long_mrr > student_mrr
    return outcome == "direct" and long_mrr < student_mrr


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
    for size in results.verdict.sizes:
        assert size.time is not None and size.student_mrr is not None
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
                    size.outcome, size.student_mrr, float(str(long["long_mrr"]))
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
    budget = Budget(asked, arguments.factor, arguments.least, arguments.threads)
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
