"""Does it pay to iterate? Ways from a teacher to a student of 32 floats, at equal seconds.

    python experiments/iteration.py --threads 1                                # cldr: minutes
    python experiments/iteration.py --dataset fb15k237 --data-root DIR --fraction 0.5   # hours
    python experiments/iteration.py --test one_shot,dense                      # ranks test, once

Every way starts from the same teacher, with the settings of the shipped ComplEx chain recipe of the
dataset, and has as many seconds for its students, all sizes counted, as one shot takes: its epochs
are cut so that they fit. What an epoch costs at each size is measured first, in processor seconds.
The ways differ in the sizes between, in who teaches (the last model, or all before), in where a
student starts (at the principal axes of its teacher, or at its leading singular vectors), in how
the seconds are split among sizes, and in the weight of the soft labels.

Validation MRR alone chooses; ``--test`` then ranks the test split for the ways that it names. The
CSV has a row for each way and seed. Finished runs are read, not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from frontier import recipe_chain, run_stages, seconds_taken, shortened, write

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.cli.exits import script
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.compare import ComparisonConfig, teachers_of
from dglke_distill.distill.plan import Stage, overlaid, plan
from dglke_distill.distill.stages import checkpoint_of
from dglke_distill.runs.workspace import Workspaces

RESULTS = Path(__file__).parent / "results" / "iteration.csv"
LAST = 32
_KEY = ("dataset", "way", "fraction", "split", "seed")
_SHORT, _LONG = 1, 11
"""Epochs of the two trainings from which the price of one epoch is worked out."""


class Way(NamedTuple):
    """A way from the teacher to the last size.

    Attributes:
        method: who teaches whom.
        sizes: of the students, the last one ``LAST``.
        shares: of the seconds, one a size, in sum 1.
        settings: what else its students have, a partial tree of settings.
    """

    method: str
    sizes: Sequence[int]
    shares: Sequence[float]
    settings: Mapping[str, Any]


def _start(name: str) -> dict[str, Any]:
    return {"distillation": {"initialization": name}}


def _weight(name: str, hard: float = 1.0, **options: float) -> dict[str, Any]:
    return {"distillation": {"weight": {"name": name, "options": options}, "hard_weight": hard}}


WAYS = {
    "one_shot": Way("bkd", [32], [1.0], {}),
    "one_shot_svd": Way("bkd", [32], [1.0], _start("svd")),
    "iterde": Way("iterde", [64, 32], [0.4, 0.6], _weight("power")),
    "chain": Way(
        "iterde", [64, 32], [0.4, 0.6], {"distillation": {"weight": {"name": "constant"}}}
    ),
    "dense": Way("dgkd", [64, 32], [0.4, 0.6], {}),
    "dense_short": Way("dgkd", [64, 32], [0.2, 0.8], {}),
    "shrink": Way("dgkd", [64, 32], [0.4, 0.6], _start("svd")),
    "shrink_short": Way("dgkd", [64, 32], [0.2, 0.8], _start("svd")),
    "shrink_three": Way("dgkd", [128, 64, 32], [0.2, 0.3, 0.5], _start("svd")),
    "born_again": Way("dgkd", [32, 32], [0.5, 0.5], {}),
    "fading": Way("bkd", [32], [1.0], _weight("fading", until=0.5)),
    "dense_fading": Way("dgkd", [64, 32], [0.4, 0.6], _weight("fading", until=0.5)),
}
"""The ways, by the names that the table has."""


class Price(NamedTuple):
    """Processor seconds of a student's training.

    Attributes:
        fixed: of its preparation and last ranking.
        epoch: of an epoch.
    """

    fixed: float
    epoch: float


class Settings(NamedTuple):
    """What all runs share.

    Attributes:
        chain: the recipe's.
        place: folder of the runs.
        fraction: share of the recipe's epochs that one shot has.
        workspaces: the prepared data.
        split: what is ranked at the end.
    """

    chain: ChainConfig
    place: Path
    fraction: float
    workspaces: Workspaces
    split: str


def teacher(settings: Settings) -> str:
    """Train the teacher, or find it; return its checkpoint."""
    stages = teachers_of(ComparisonConfig(methods=["bkd"], chain=settings.chain))
    run_stages(stages, settings.place / "teacher", settings.workspaces)
    return str(checkpoint_of(stages[0].name, settings.place / "teacher").resolve())


def stages_of(settings: Settings, way: Way, seed: int, loaded: str) -> list[Stage]:
    """Return the stages of a way's students, with the recipe's epochs."""
    override = {
        "method": way.method,
        "dims": [settings.chain.dims[0], *way.sizes],
        "control": "none",
        "shared": {"training": {"seed": seed}, "evaluation": {"split": settings.split}},
        "student": {"distillation": {"weight": {"name": "constant"}}},
    }
    chain = overlaid(overlaid(settings.chain, override), {"student": way.settings})
    return plan(chain, [loaded])


def prices(settings: Settings, loaded: str) -> dict[str, Price]:
    """Measure what students cost, by their size and number of teachers, or read it.

    Args:
        settings: what all runs share.
        loaded: the teacher's checkpoint.
    """
    file = settings.place / "prices.json"
    if file.is_file():
        return {key: Price(*each) for key, each in json.loads(file.read_text()).items()}
    found: dict[str, Price] = {}
    for name in ("one_shot", "dense", "shrink_three", "born_again"):
        spent: dict[int, list[list[float]]] = {_SHORT: [], _LONG: []}
        for _ in range(3):  # the first one compiles
            for epochs, of in spent.items():
                stages = stages_of(settings, WAYS[name], 0, loaded)
                # Anew each time: a run that was finished before would cost nothing.
                with TemporaryDirectory(dir=settings.place) as folder:
                    place = Path(folder)
                    cut_short = [_with_epochs(each, epochs) for each in stages]
                    of.append([_spent(each, place, settings) for each in cut_short])
        for number, stage in enumerate(stages):
            # The least of several is the one that other work on the machine disturbed least.
            short, long = (min(each[number] for each in of[1:]) for of in spent.values())
            epoch = max((long - short) / (_LONG - _SHORT), 1e-3)
            found.setdefault(_priced(stage), Price(max(short - _SHORT * epoch, 0.0), epoch))
    atomic_write_text(file, json.dumps(found))
    return found


def _priced(stage: Stage) -> str:
    return f"{stage.config.model.dim} floats, {len(stage.teachers)} teachers"


def _spent(stage: Stage, place: Path, settings: Settings) -> float:
    before = time.process_time()
    run_stages([stage], place, settings.workspaces)
    return time.process_time() - before


def _with_epochs(stage: Stage, epochs: int) -> Stage:
    training = stage.config.training.model_copy(
        update={"epochs": epochs, "evaluate_every": max(1, epochs // 8)}
    )
    return stage._replace(config=stage.config.model_copy(update={"training": training}))


def cut(
    settings: Settings, way: Way, stages: Sequence[Stage], price: Mapping[str, Price]
) -> list[Stage]:
    """Return a way's stages with as many epochs as one shot's seconds pay for."""
    one = price[f"{LAST} floats, 1 teachers"]
    whole = one.fixed + one.epoch * shortened(stages[-1], settings.fraction).config.training.epochs
    left = whole - sum(price[_priced(stage)].fixed for stage in stages)
    return [
        _with_epochs(stage, max(1, round(share * left / price[_priced(stage)].epoch)))
        for stage, share in zip(stages, way.shares)
    ]


def paid(stages: Sequence[Stage], price: Mapping[str, Price]) -> float:
    """Return the processor seconds that stages cost by their prices."""
    of = [(price[_priced(stage)], stage.config.training.epochs) for stage in stages]
    return sum(each.fixed + each.epoch * epochs for each, epochs in of)


def row_of(
    settings: Settings,
    name: str,
    seed: int,
    stages: Sequence[Stage],
    made: Sequence[TrainingResults],
    price: Mapping[str, Price],
) -> dict[str, object]:
    """Return the CSV's line of a run."""
    last = made[-1]
    assert last.dataset is not None and last.training is not None and last.provenance is not None
    about = last.provenance
    return {
        "dataset": last.dataset.name,
        "way": name,
        "fraction": f"{settings.fraction:g}",
        "split": settings.split,
        "seed": seed,
        "method": WAYS[name].method,
        "sizes": " ".join(str(size) for size in WAYS[name].sizes),
        "epochs": " ".join(str(stage.config.training.epochs) for stage in stages),
        "mrr": round(last.metrics[settings.split].mrr, 4),
        "valid_mrr": round(last.metrics["valid"].mrr, 4),
        "processor_seconds": round(paid(stages, price), 1),
        "seconds": round(seconds_taken(made), 1),
        "threads": last.training.threads,
        "revision": about.git.revision if about.git else "",
        "dirty": about.git.dirty if about.git else "",
        "torch": about.torch,
        "cpu": about.hardware.cpu if about.hardware else "",
        "date": about.date,
    }


def summary(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a line a way, the best first: mean and deviation of MRR, and mean seconds."""
    groups: dict[str, list[Mapping[str, object]]] = {}
    for row in rows:
        groups.setdefault(str(row["way"]), []).append(row)
    lines = []
    for name, of in groups.items():
        scores = [float(str(row["mrr"])) for row in of]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        seconds = statistics.mean(float(str(row["processor_seconds"])) for row in of)
        mean = statistics.mean(scores)
        lines.append(
            (mean, f"{name:14} {mean:.4f} +- {spread:.4f}  {seconds:6.0f} s  {len(of)} seeds")
        )
    return [line for _, line in sorted(lines, reverse=True)]


def main() -> None:
    """Make what is not there yet, and write the CSV after each run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="cldr")
    parser.add_argument("--ways", default=",".join(WAYS), help="some of them, by commas")
    parser.add_argument("--test", help="ways whose test split is ranked, by commas")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the recipe's epochs")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/iteration"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    names = (arguments.test or arguments.ways).split(",")
    for name in names:
        if name not in WAYS:
            option = "--test" if arguments.test else "--ways"
            raise UserError(f"{option}: no way {name!r:.40}; there are: {', '.join(WAYS)}")
    if arguments.seeds < 1 or not 0 < arguments.fraction <= 1:
        raise UserError("--seeds: 1 or more; --fraction: above 0, up to 1")
    split = "test" if arguments.test else "valid"
    settings = Settings(
        recipe_chain(arguments.dataset, arguments.threads),
        arguments.runs / (Path(arguments.dataset).name or "data"),
        arguments.fraction,
        Workspaces(arguments.data_root),
        split,
    )
    loaded = teacher(settings)
    price = prices(settings._replace(split="valid"), loaded)
    rows: list[Mapping[str, object]] = []
    for seed in range(arguments.seeds):
        for name in names:
            stages = stages_of(settings, WAYS[name], seed, loaded)
            stages = cut(settings, WAYS[name], stages, price)
            place = (
                settings.place / f"fraction-{settings.fraction:g}" / split / f"seed{seed}" / name
            )
            made = run_stages(stages, place, settings.workspaces)
            row = row_of(settings, name, seed, stages, made, price)
            rows = write([row], arguments.csv, _KEY)
    same = ("dataset", "fraction", "split")
    print("\n".join(summary([row for row in rows if all(row[k] == rows[-1][k] for k in same)])))


if __name__ == "__main__":
    script(main)
