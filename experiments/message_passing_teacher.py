"""Does a small table learn from a message-passing teacher what it does not learn from a table?

    python experiments/message_passing_teacher.py cldr --data-root DIR
    python experiments/message_passing_teacher.py umls --data-root DIR --seeds 0 1 2 --floats 32 16
    python experiments/message_passing_teacher.py fb15k237 --data-root DIR --price

Teachers are trained once, with seed 0: ComplEx of 256 floats by its recipe, R-GCN and CompGCN under
DistMult, and the path-based encoder (NBFNet). Students are ComplEx tables. All that are taught
start at random, learn the facts with weight .3 and copy distributions over all entities, so that
they differ by their teachers alone; ``recipe`` is the one shot of the shipped chain recipe, which
starts at the ComplEx teacher's principal axes and looks at no facts; ``direct`` has no teacher.

Seconds are processor seconds of training, validation and the final ranking, teachers counted with
each of their students. The CSV has a row for each teacher, and for each student and seed. Finished
runs are read, not run again. ``--price`` trains nothing: it takes some steps of the path-based
teacher, and says what a query costs and how many hours an epoch would take, in another CSV.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from chains import origin_of, rounded, size_of, test_of
from frontier import run_stages, write

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_training_results
from dglke_distill.base.files import atomic_write_text
from dglke_distill.cli.exits import script
from dglke_distill.config import Config, compose
from dglke_distill.distill.plan import Stage, compose_chain, plan
from dglke_distill.models.coded import build_configured
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import (
    Workspaces,
    build_loader,
    build_objective,
    build_optimizer,
)

RESULTS = Path(__file__).parent / "results" / "message_passing_teacher.csv"
PRICES = RESULTS.with_name("message_passing_teacher-price.csv")
KEY = ("dataset", "way", "floats", "seed")

Tree = dict[str, Any]

_LAYERS: Tree = {
    "model": {"name": "DistMult", "dim": 64, "encoder": "neighbor", "reciprocal": True},
    "loss": {"name": "softmax"},
    "optimizer": {"name": "adam", "learning_rate": 0.005},
    "training": {"mode": "k_vs_all", "epochs": 60, "batch_size": 128, "evaluate_every": 10},
}
_COMPGCN: Tree = {
    **_LAYERS,
    "model": {**_LAYERS["model"], "encoder_options": {"composition": "compgcn"}},
}
TEACHERS: dict[str, tuple[str, Tree]] = {
    "complex": ("complex", {"model": {"dim": 256}}),
    "rgcn": ("none", _LAYERS),
    "compgcn": ("none", _COMPGCN),
    "path": ("distmult-path", {}),
}
"""Recipe and settings of each."""
OF_DATASET: dict[tuple[str, str], tuple[str, Tree]] = {
    ("cldr", "complex"): ("complex-cldr", {"model": {"dim": 256}}),
    ("cldr", "path"): (
        "distmult-path",
        {
            "model": {"dim": 16, "encoder_options": {"frontier": 20}},
            "training": {"epochs": 6, "evaluate_every": 3},
        },
    ),
    ("umls", "path"): ("distmult-path", {"training": {"epochs": 6, "evaluate_every": 2}}),
}
"""Those of a dataset that differ."""
WAYS: dict[str, tuple[str, ...]] = {
    "direct": (),
    "recipe": ("complex",),
    "complex": ("complex",),
    "path": ("path",),
    "complex+path": ("complex", "path"),
    "compgcn": ("compgcn",),
    "rgcn": ("rgcn",),
}
"""Teachers of each way's students."""
_ALIKE: Tree = {"distillation": {"initialization": "random", "hard_weight": 0.3}}


_PRICED: tuple[Tree, ...] = (
    {},
    {"by_query": False},
    {"frontier": 50},
)
"""Options whose price is measured."""
_STEPS = 3


class Trained(NamedTuple):
    """A training's results, its checkpoint, and the processor seconds it took."""

    results: TrainingResults
    place: Path
    seconds: float


class Settings(NamedTuple):
    """What all runs share."""

    dataset: str
    place: Path
    workspaces: Workspaces


def timed(directory: Path, train: Any) -> float:
    """Run a training unless it is there; return the processor seconds it took, also then."""
    file = directory.with_suffix(".seconds.json")
    if file.is_file():
        return float(json.loads(file.read_text()))
    before = time.process_time()
    train()
    seconds = time.process_time() - before
    atomic_write_text(file, json.dumps(seconds))
    return seconds


def teacher(settings: Settings, name: str) -> Trained:
    """Train a teacher, or find it."""
    recipe, tree = OF_DATASET.get((settings.dataset, name), TEACHERS[name])
    shared = {"data": {"dataset": settings.dataset}, "training": {"threads": 1}}
    config: Config = compose([tree, shared], recipe=None if recipe == "none" else recipe)
    directory = settings.place / "teachers" / name
    seconds = timed(
        directory,
        lambda: train_run(
            config,
            directory,
            workspace=settings.workspaces.of(config),
            resume=(directory / "resume.safetensors").exists(),
        ),
    )
    place = directory / CHECKPOINT_DIRECTORY
    return Trained(read_training_results(place / RESULTS_FILE), place, seconds)


def student_stage(settings: Settings, way: str, floats: int, seed: int, loaded: list[str]) -> Stage:
    """Return the stage of a student."""
    recipe = "best-cldr" if settings.dataset == "cldr" else "best-complex"
    tree: Tree = {
        "method": "fan_out",
        "dims": [256, floats],
        "control": "recipe" if way == "direct" else "none",
        "shared": {"training": {"threads": 1, "seed": seed}},
        "student": {} if way in ("direct", "recipe") else _ALIKE,
    }
    chain = compose_chain(recipe, settings.dataset, "ComplEx", [tree])
    role = "direct" if way == "direct" else "student"
    return next(stage for stage in plan(chain, loaded) if stage.role == role)


def student(
    settings: Settings, way: str, floats: int, seed: int, teachers: Mapping[str, Trained]
) -> Trained:
    """Train a student, or find it."""
    loaded = [str(teachers[name].place.resolve()) for name in WAYS[way] or ("complex",)]
    stage = student_stage(settings, way, floats, seed, loaded)
    directory = settings.place / f"{way}-{floats}-{seed}"
    found: list[TrainingResults] = []

    def train() -> None:
        found.extend(run_stages([stage], directory, settings.workspaces))

    seconds = timed(directory, train)
    if not found:
        train()  # which reads what is there
    return Trained(found[0], directory, seconds)


def row(
    settings: Settings, way: str, seed: int, made: Trained, teachers: Sequence[Trained]
) -> dict[str, Any]:
    """Return a line of the table."""
    results, taught = made.results, sum(each.seconds for each in teachers)
    return {
        "dataset": settings.dataset,
        "way": way,
        "floats": results.model.dim,
        "seed": seed,
        **test_of(results),
        "parameters": size_of(results)["parameters"],
        "teacher_test_mrr": " ".join(
            str(rounded(each.results.metrics["test"].mrr)) for each in teachers
        ),
        "own_seconds": round(made.seconds, 1),
        "teacher_seconds": round(taught, 1),
        "seconds": round(made.seconds + taught, 1),
        "threads": results.training.threads if results.training else "",
        **origin_of(results.provenance),
    }


def price(settings: Settings, options: Tree, queries: int) -> dict[str, Any]:
    """Measure processor seconds of a query, in training and without gradients.

    Args:
        settings: the data.
        options: of the encoder.
        queries: in a batch.
    """
    training = {"threads": 1, "batch_size": queries}
    tree: Tree = {"data": {"dataset": settings.dataset}, "training": training}
    config = compose([tree, {"model": {"encoder_options": options}}], recipe="distmult-path")
    workspace = settings.workspaces.of(config)
    dataset, graph = workspace.dataset, workspace.graph
    model = build_configured(config, dataset.num_entities, dataset.num_relations, graph=graph)
    model.reset(0)
    model.set_row_sparse(entities=True, relations=True)
    loader = build_loader(config, workspace, model)
    objective = build_objective(config, model)
    optimizer = build_optimizer(config.optimizer, torch.nn.ModuleDict({"model": model}))
    seconds, asked = [], []
    for batch in loader.epoch(0, stop=1 + _STEPS):
        before = time.process_time()
        optimizer.zero_grad()
        objective(model, batch).total.backward()
        optimizer.step()
        seconds.append(time.process_time() - before)
        asked.append(sum(len(each.entity) for each in batch.queries))
    before = time.process_time()
    first = torch.arange(queries)
    model.score_all(first, torch.zeros_like(first), "tail")
    alone = (time.process_time() - before) / queries
    each = sum(seconds[1:]) / sum(asked[1:])  # the first step allocates what the others reuse
    edges, dim, layers = graph.num_edges(), config.model.dim, model.encoder.options.layers
    whole = len(loader) * queries
    # Along all edges: a product and a sum for each float; two matrices for each entity.
    flops = 2 * edges * dim + 4 * dataset.num_entities * dim**2
    # A source's state and an edge's vector are read for each edge, sums written.
    floats = (2 * edges + dataset.num_entities) * dim
    return {
        "dataset": settings.dataset,
        "options": json.dumps(options),
        "dim": dim,
        "layers": layers,
        "entities": dataset.num_entities,
        "edges": edges,
        "batch": queries,
        "forward_megaflop": round(layers * flops / 1e6, 1),
        "forward_megabytes": round(layers * floats * 4 / 1e6, 1),
        "forward_seconds": float(f"{alone:.3g}"),
        "training_seconds": float(f"{each:.3g}"),
        "queries_of_an_epoch": whole,
        "hours_of_an_epoch": float(f"{whole * each / 3600:.3g}"),
    }


def main() -> None:
    """Train teachers and students, and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="cldr")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/message_passing_teacher"))
    parser.add_argument("--floats", type=int, nargs="+", default=[32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--price", action="store_true", help="what a query costs; no training")
    parser.add_argument("--batch", type=int, default=2, help="queries at once, with --price")
    arguments = parser.parse_args()
    place = arguments.out / arguments.dataset
    settings = Settings(arguments.dataset, place, Workspaces(arguments.data_root))
    if arguments.price:
        for options in _PRICED:
            line = price(settings, options, arguments.batch)
            write([line], PRICES, ("dataset", "options", "batch"))
            print(line, flush=True)
        return
    teachers: dict[str, Trained] = {}
    names = dict.fromkeys(name for way in arguments.ways for name in WAYS[way] or ("complex",))
    for name in names:
        teachers[name] = teacher(settings, name)
        write([row(settings, f"teacher {name}", 0, teachers[name], ())], arguments.csv, KEY)
    for floats in arguments.floats:
        for seed in arguments.seeds:
            for way in arguments.ways:
                made = student(settings, way, floats, seed, teachers)
                whose = [teachers[name] for name in WAYS[way]]
                line = row(settings, way, seed, made, whose)
                write([line], arguments.csv, KEY)
                told = " ".join(f"{key} {line[key]}" for key in ("test_mrr", "seconds"))
                print(f"{way}, {floats} floats, seed {seed}: {told}", flush=True)


if __name__ == "__main__":
    script(main)
