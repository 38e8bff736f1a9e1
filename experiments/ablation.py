"""What each choice of the distiller is worth: one factor varied at a time, three seeds a cell.

    python experiments/ablation.py                       # on cldr: minutes; resumable
    python experiments/ablation.py --dataset fb15k237 --data-root DIR --only candidates --seeds 1
    python experiments/ablation.py --collect             # the table again, without training

Every cell of a seed has the same teacher. Two settings stand at the root: ``all``, which copies the
teacher's distribution over all entities, and ``sampled``, the paper's loop of facts and sampled
negatives. A cell's figure is the student's test MRR after the best epoch on valid; the CSV has each
seed's and the seconds, the printed table means and deviations.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chains import origin_of, rounded
from rich.console import Console
from rich.table import Table

from dglke_distill.artifacts.results import ChainResults
from dglke_distill.artifacts.results_files import RESULTS_FILE as CHAIN_RESULTS
from dglke_distill.artifacts.results_files import read_chain_results
from dglke_distill.cli.exits import script
from dglke_distill.config import compose, merge
from dglke_distill.distill.chain import CHAIN_FILE, run_chain
from dglke_distill.distill.plan import compose_chain
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import Workspaces

Tree = dict[str, Any]
HERE = Path(__file__).parent


class Cell(NamedTuple):
    """A chain whose last student is measured: what is varied, to what, and the settings for it."""

    factor: str
    value: str
    settings: Tree


def student(tree: Mapping[str, Any], **distillation: Any) -> Tree:
    """Return chain settings whose students differ from a root's by these."""
    return {"student": merge(tree, {"distillation": distillation} if distillation else {})}


def cells(top: int, small: int, epochs: int) -> Iterator[Cell]:
    """Yield every cell; ``top`` and ``small`` are the teacher's and the student's size."""
    everything = student(
        {
            "training": {"mode": "k_vs_all", "epochs": epochs},
            "distillation": {"hard_weight": 0.0, "soft": {"name": "kl", "candidates": "all"}},
        }
    )
    sampled = student(
        {
            "training": {"mode": "negatives", "epochs": epochs},
            "negatives": {"count": 256, "sides": "both"},
            "distillation": {"hard_weight": 1.0, "soft": {"name": "huber"}},
        }
    )
    one_shot = {"method": "fan_out", "dims": [top, small]}

    def cell(factor: str, value: str, root: Tree, change: Tree) -> Cell:
        return Cell(factor, value, merge(merge(one_shot, root), change))

    for root_name, root in (("all", everything), ("sampled", sampled)):
        for ratio in (2, 4, 16):
            dims = [top]
            while dims[-1] > small:
                dims.append(max(dims[-1] // ratio, small))
            change = {"method": "iterde", "dims": dims}
            yield cell(f"{root_name}: iteration", f"ratio {ratio}", root, change)
            stages = len(dims) - 1
            if stages > 1:
                longer = {"student": {"training": {"epochs": epochs * stages}}}
                title = f"one shot, epochs of ratio {ratio}"
                yield cell(f"{root_name}: iteration", title, root, longer)
        for start in ("random", "truncate", "pca", "svd"):
            change = student({}, initialization=start)
            yield cell(f"{root_name}: initialization", start, root, change)
        for schedule in ("constant", "fading", "linear", "power", "two_phase"):
            weight = {"name": schedule, "value": 1.0}
            # A schedule is the method of the paper, whose weight grows.
            change = {"method": "iterde", **student({}, weight=weight, hard_weight=1.0)}
            yield cell(f"{root_name}: schedule", schedule, root, change)
        change = student({}, weight={"name": "power", "value": 1.0, "options": {"power": 2.0}})
        change = {"method": "iterde", **merge(change, student({}, hard_weight=1.0))}
        yield cell(f"{root_name}: schedule", "power, exponent 2", root, change)
        for hard in (0.0, 0.25, 1.0):
            change = student({}, hard_weight=hard)
            yield cell(f"{root_name}: weight of the facts", f"{hard:g}", root, change)
        for loss in ("huber", "kl"):
            yield cell(f"{root_name}: soft loss", loss, root, student({}, soft={"name": loss}))
    for loss in ("huber", "kl"):
        for candidates in ("batch", "top", "neighbors"):
            soft = {"name": loss, "candidates": candidates}
            yield cell(f"candidates, {loss}", candidates, sampled, student({}, soft=soft))
        soft = {"name": loss, "candidates": "all"}
        yield cell(f"candidates, {loss}", "all", everything, student({}, soft=soft))
    yield cell("no teacher", "direct", everything, {"control": "recipe"})


def teacher(runs: Path, arguments: argparse.Namespace, seed: int, workspaces: Workspaces) -> Path:
    """Return the checkpoint of a seed's teacher, trained now if it is not there."""
    directory = runs / f"teacher-seed{seed}"
    if not (directory / CHECKPOINT_DIRECTORY).exists():
        tree = {
            "data": {"dataset": arguments.dataset},
            "model": {"name": arguments.model, "dim": arguments.teacher_dim},
            "training": {"seed": seed, "threads": arguments.threads},
        }
        config = compose([tree])
        resume = (directory / "resume.safetensors").exists()
        train_run(config, directory, resume=resume, workspace=workspaces.of(config))
    return directory / CHECKPOINT_DIRECTORY


def run(cell: Cell, seed: int, place: Path, first: Path, arguments: argparse.Namespace,
        workspaces: Workspaces) -> ChainResults:  # fmt: skip
    """Return a cell's results, from disk where it has been run."""
    if not (place / CHAIN_RESULTS).exists():
        base: Tree = {
            "control": "none",
            "direct": {"model": {"name": arguments.model}},
            "shared": {"training": {"seed": seed, "threads": arguments.threads}},
            "student": {
                "recipe": "none",
                "model": {"name": arguments.model, "reciprocal": True},
                "loss": {"name": "softmax"},
                "optimizer": {"name": "adagrad", "learning_rate": 0.2},
                "training": {"batch_size": 128, "evaluate_every": max(arguments.epochs // 4, 1)},
            },
        }
        chain = compose_chain("none", arguments.dataset, None, [merge(base, cell.settings)])
        resume = (place / CHAIN_FILE).exists()
        run_chain(chain, place, resume=resume, loaded=[first], workspaces=workspaces)
    return read_chain_results(place / CHAIN_RESULTS)


def row_of(cell: Cell, seed: int, results: ChainResults) -> dict[str, Any]:
    """Return the CSV's line of a cell and seed."""
    role = "direct" if cell.factor == "no teacher" else "student"
    last = [stage for stage in results.stages if stage.role == role][-1].results
    origin = origin_of(results.provenance)
    del origin["dirty"]
    return {
        "factor": cell.factor,
        "value": cell.value,
        "seed": seed,
        "dataset": last.dataset.name,
        "model": last.model.name,
        "floats_per_entity": last.model.floats_per_entity,
        "teacher_test_mrr": rounded(results.summary.teacher_mrr),
        **{f"{split}_mrr": rounded(last.metrics[split].mrr) for split in ("test", "valid")},
        "seconds_of_all_stages": round(
            sum(stage.results.training.seconds for stage in results.stages), 1
        ),
        "threads": last.training.threads,
        **origin,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print means and deviations over the seeds."""
    table = Table("factor", "value", "test MRR", "deviation", "seeds", "seconds")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["factor"], row["value"]), []).append(row)
    for (factor, value), of in groups.items():
        scores = [float(row["test_mrr"]) for row in of]
        deviation = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        seconds = statistics.mean(float(row["seconds_of_all_stages"]) for row in of)
        mean = f"{statistics.mean(scores):.4f}"
        table.add_row(factor, value, mean, deviation, str(len(scores)), f"{seconds:.0f}")
    Console().print(table)


def main() -> None:
    """Run the cells asked for and write the CSV after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="cldr")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--model", default="complex")
    parser.add_argument("--teacher-dim", type=int, default=512)
    parser.add_argument("--student-dim", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="cells whose factor contains this")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--collect", action="store_true", help="finished cells only")
    arguments = parser.parse_args()
    name = f"{arguments.model}-{arguments.dataset}"
    runs = arguments.runs / name
    workspaces, rows = Workspaces(arguments.data_root), []
    for seed in range(arguments.seeds):
        for cell in cells(arguments.teacher_dim, arguments.student_dim, arguments.epochs):
            label = f"{cell.factor} {cell.value}".replace(":", "").replace(",", "")
            place = runs / f"seed{seed}" / label.replace(" ", "-")
            if arguments.only not in cell.factor:
                continue
            if arguments.collect and not (place / CHAIN_RESULTS).exists():
                continue
            first = teacher(runs, arguments, seed, workspaces)
            rows.append(row_of(cell, seed, run(cell, seed, place, first, arguments, workspaces)))
            print(f"seed {seed}  {label}: {rows[-1]['test_mrr']}", flush=True)
            path = HERE / "results" / f"ablation-{name}.csv"
            path.parent.mkdir(exist_ok=True)
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    show(rows)


if __name__ == "__main__":
    script(main)
