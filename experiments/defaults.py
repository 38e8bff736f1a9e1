"""Which settings suit data that no recipe names? Models and students on graphs made by seeds.

    python experiments/defaults.py                               # a quarter of an hour of one core
    python experiments/defaults.py --only family-0 --data umls --data my_triples/

For each graph: TransE and ComplEx of both sizes by the recipes for any data, as
`dglke-distill train GRAPH --model MODEL --search none` trains them; and students of the larger
ComplEx model, by the chain recipe `best-complex` (it copies the distribution over all entities)
and by the defaults without a recipe (`iterde` on sampled negatives, TransE). A row has the
validation MRR and the processor seconds; the test split is never ranked. What came out is the
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
from typing import Any

from verdict_graphs import GRAPHS, OWN, write_graph

from dglke_distill.api.datasets import AnyDataset
from dglke_distill.api.distilling import distill
from dglke_distill.api.training import train
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.cli.exits import script

RESULTS = Path(__file__).parent / "results" / "defaults.csv"
SIZES = (256, 32)
VALID = {"evaluation": {"split": "valid"}}
STUDENTS = {"copies its distribution": "complex", "iterde": "transe"}


def rows_of(name: str, data: AnyDataset, place: Path, threads: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each model of a graph."""
    fixed: dict[str, Any] = {"search": "none", "threads": threads}
    for model in ("transe", "complex"):
        for dim in SIZES:
            begun = time.process_time()
            run = train(
                data, model=model, dim=dim, settings=VALID, out=place / f"{model}-{dim}", **fixed
            )
            yield row(name, model, dim, "directly", run.metrics["valid"].mrr, begun)
    teacher = place / f"complex-{SIZES[0]}" / "checkpoint"
    for how, model in STUDENTS.items():
        begun = time.process_time()
        chain = distill(
            data, model=model, dims=SIZES, teacher=teacher, control="none",
            settings={"shared": VALID}, out=place / f"student-{model}", **fixed,
        )  # fmt: skip
        mrr = chain.results.stages[-1].mrr("valid")
        assert mrr is not None
        yield row(name, model, SIZES[-1], how, mrr, begun)


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
    parser.add_argument("--only", action="append", help=f"one of {', '.join(graphs)}")
    parser.add_argument("--data", action="append", default=[], help="a name or a path")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name in arguments.only or ():
        if name not in graphs:
            raise UserError(f"--only {name}: choose {', '.join(graphs)}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        names = arguments.only or ([] if arguments.data else list(graphs))
        made = [(name, write_graph(name, Path(folder) / "data" / name)) for name in names]
        given = [(Path(data).name, data) for data in arguments.data]
        for name, data in [*made, *given]:
            for each in rows_of(name, data, Path(folder) / "runs" / name, arguments.threads):
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
