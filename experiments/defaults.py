"""Which settings suit data that no recipe names? Models and students on graphs made by seeds.

    python experiments/defaults.py                               # a quarter of an hour of one core
    python experiments/defaults.py --only family-0 --data umls --data my_triples/
    python experiments/defaults.py --dims 16,8 --direct --csv experiments/results/defaults-tiny.csv

For each graph: TransE and ComplEx of all sizes by the recipes for any data, as
`dglke-distill train GRAPH --model MODEL --search none` trains them; and students of the first
size's ComplEx model, by the chain recipe `best-complex` (it copies the distribution over all
entities) and by the defaults without a recipe (`iterde` on sampled negatives, TransE). `--direct`
leaves the students out; with `--search` settings are searched for first, so long each. A row has
the validation MRR and the processor seconds; the test split is never ranked. What came out is the
default for small data.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from verdict_graphs import GRAPHS, OWN, write_graph

from dglke_distill.api.datasets import AnyDataset
from dglke_distill.api.distilling import distill
from dglke_distill.api.training import train
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.cli.exits import script
from dglke_distill.cli.run import whole_numbers
from dglke_distill.data import catalog

RESULTS = Path(__file__).parent / "results" / "defaults.csv"
VALID = {"evaluation": {"split": "valid"}}
EMBEDDED = "embedded-facts"
STUDENTS = {"copies its distribution": "complex", "iterde": "transe"}


class Asked(NamedTuple):
    """What is trained: floats of the teacher and of the others, without students, a search."""

    dims: tuple[int, ...]
    direct: bool
    search: str
    threads: int


def rows_of(name: str, data: AnyDataset, place: Path, asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield a row for each model of a graph."""
    fixed: dict[str, Any] = {"search": asked.search, "threads": asked.threads}
    how = "directly" if asked.search == "none" else f"directly, {asked.search} searched"
    for model in ("transe", "complex"):
        for dim in asked.dims:
            begun = time.process_time()
            run = train(
                data, model=model, dim=dim, settings=VALID, out=place / f"{model}-{dim}", **fixed
            )
            yield row(name, model, dim, how, run.metrics["valid"].mrr, begun)
    if asked.direct:
        return
    first, *sizes = asked.dims
    teacher = place / f"complex-{first}" / "checkpoint"
    for how, model in STUDENTS.items():
        for dim in sizes:
            begun = time.process_time()
            chain = distill(
                data, model=model, dims=(first, dim), teacher=teacher, control="none",
                settings={"shared": VALID}, out=place / f"student-{model}-{dim}", **fixed,
            )  # fmt: skip
            mrr = chain.results.stages[-1].mrr("valid")
            assert mrr is not None
            yield row(name, model, dim, how, mrr, begun)


def written(name: str, folder: Path) -> Path:
    """Write a graph by its name, and return where."""
    return embedded(folder) if name == EMBEDDED else write_graph(name, folder)


def embedded(folder: Path) -> Path:
    """Write the embedded facts as one file that no recipe knows, and return it."""
    data = catalog.load("cldr")
    folder.mkdir(parents=True)
    path = folder / "countries.tsv"
    with path.open("w", encoding="utf-8") as stream:
        for split in (data.train, data.valid, data.test):
            for h, r, t in split.to_array().tolist():
                print(data.entities[h], data.relations[r], data.entities[t], sep="\t", file=stream)
    return path


def row(graph: str, model: str, dim: int, how: str, mrr: float, begun: float) -> dict[str, Any]:
    """Return a row of the table; ``begun`` is the process's time before it."""
    seconds = round(time.process_time() - begun, 1)
    return {
        "graph": graph, "model": model, "floats": dim, "trained": how,
        "valid_mrr": round(mrr, 4), "processor_seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    graphs = {**GRAPHS, **OWN}
    choices = ", ".join((*graphs, EMBEDDED))
    parser.add_argument("--only", action="append", help=f"one of {choices}")
    parser.add_argument("--data", action="append", default=[], help="a name or a path")
    parser.add_argument("--dims", default="256,32", help="floats: the teacher's, then others")
    parser.add_argument("--direct", action="store_true", help="no students")
    parser.add_argument("--search", default="none", help="seconds of each training's search")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name in arguments.only or ():
        if name not in (*graphs, EMBEDDED):
            raise UserError(f"--only {name}: choose {choices}")
    dims = tuple(whole_numbers(arguments.dims, "--dims") or ())
    asked = Asked(dims, arguments.direct, arguments.search, arguments.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        names = arguments.only or ([] if arguments.data else list(graphs))
        made = [(name, written(name, Path(folder) / "data" / name)) for name in names]
        given = [(Path(data).name, data) for data in arguments.data]
        for name, data in [*made, *given]:
            for each in rows_of(name, data, Path(folder) / "runs" / name, asked):
                rows.append(each)
                print("  ".join(str(value) for value in each.values()), flush=True)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    arguments.csv.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(arguments.csv, table.getvalue())


if __name__ == "__main__":
    script(main)
