"""What quality costs: test MRR of small models against all seconds that it took to make them.

    python experiments/frontier.py --threads 1                            # cldr: minutes
    python experiments/frontier.py --dataset fb15k237 --data-root DIR     # hours; resumable
    python experiments/frontier.py --dataset wn18rr --data-root DIR       # hours; resumable
    python experiments/frontier.py --methods direct,dualde --seeds 1 --fractions 0.5,1

Every method makes a model of 32 floats by the shipped ComplEx chain recipe of the dataset, with
the epochs of every stage, the teacher's too, cut to each of ``--fractions``. Seconds are those of
every stage with its validations and preparation, and of the search. One teacher is trained for each
fraction, by the recipe's seed; its seconds count in full for every method that it teaches.

``one_shot`` is the method ``bkd``. ``fan_out`` makes its students of all sizes, and all count. The
settings of students are the recipe's for every method, and found by no search that is counted
here. ``direct`` has the recipe's settings too; ``direct_tuned`` searches for its own, and has as
many seconds for search and training as one shot with its teacher took (or ``--search`` at most).

The best epoch is chosen on valid; each model is ranked on test once, at its end. The CSV has a row
for each method, fraction and seed; the picture beside it, of its rows, has means over seeds.
Finished runs are read, not run again.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_bytes, atomic_write_text
from dglke_distill.cli.exits import script
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.compare import ComparisonConfig, chain_of, teachers_of
from dglke_distill.distill.finished import check_finished
from dglke_distill.distill.plan import Stage, compose_chain, plan
from dglke_distill.distill.stages import checkpoint_of, run_stage
from dglke_distill.distill.tuner import Tuned, save_tuned, saved_tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.report.theme import LIGHT, drawing, png
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.control import SEARCHES
from dglke_distill.search.durations import seconds_of

RESULTS = Path(__file__).parent / "results" / "frontier.csv"
FLOATS = 32
TUNED = "direct_tuned"
KINDS = {
    "direct": "direct",
    "one_shot": "bkd",
    "iterde": "iterde",
    "fan_out": "fan_out",
    "dualde": "dualde",
    TUNED: "direct",
}
"""The method of a chain, by the name that it has here."""


class Settings(NamedTuple):
    """What all runs of a dataset share.

    Attributes:
        chain: the recipe, its last size the one that is measured.
        place: folder of all runs of the dataset.
        search: most seconds of ``direct_tuned``; None: as one shot took.
        workspaces: the prepared data.
    """

    chain: ChainConfig
    place: Path
    search: Optional[float]
    workspaces: Workspaces


class Cost(NamedTuple):
    """What a method came to.

    Attributes:
        results: of its last model.
        seconds: of its own stages.
        teacher_seconds: of training its teacher.
        search_seconds: of searching for its settings.
    """

    results: TrainingResults
    seconds: float
    teacher_seconds: float
    search_seconds: float

    @property
    def total(self) -> float:
        """All seconds."""
        return self.seconds + self.teacher_seconds + self.search_seconds


def recipe_chain(dataset: str, threads: int) -> ChainConfig:
    """Return the shipped ComplEx chain of a dataset, down to the size that is measured."""
    shared = {"shared": {"training": {"threads": threads}}}
    chain = compose_chain("auto", dataset, "ComplEx", [shared])
    dims = [dim for dim in chain.dims if dim > FLOATS] + [FLOATS]
    return chain.model_copy(update={"dims": dims, "more_teachers": []})


def shortened(stage: Stage, fraction: float) -> Stage:
    """Return a stage with a share of its epochs, and validations at the same shares of them."""
    usual = stage.config.training
    epochs = max(1, round(fraction * usual.epochs))
    every = min(epochs, max(1, round(fraction * usual.evaluate_every)))
    training = usual.model_copy(update={"epochs": epochs, "evaluate_every": every})
    return stage._replace(config=stage.config.model_copy(update={"training": training}))


def run_stages(
    stages: Sequence[Stage], directory: Path, workspaces: Workspaces
) -> list[TrainingResults]:
    """Run stages, go on with them, or read what they left; return their results."""
    check_finished(stages, directory, workspaces)
    watcher = Watcher()
    return [run_stage(stage, directory, workspaces, watcher).results for stage in stages]


def seconds_taken(results: Sequence[TrainingResults]) -> float:
    """Return the seconds of trainings, validations and preparation included."""
    return sum(each.training.all_seconds for each in results if each.training is not None)


def cost(settings: Settings, method: str, fraction: float, seed: int) -> Cost:
    """Make a method's model at a share of its epochs, or read it."""
    place = settings.place / f"fraction-{fraction:g}"
    comparison = ComparisonConfig(methods=[KINDS[method]], seeds=[seed], chain=settings.chain)
    chain = chain_of(comparison, KINDS[method], seed)
    directory = place / f"seed{seed}" / method
    if method == TUNED:
        (stage,) = plan(chain)
        return _tuned(settings, shortened(stage, fraction), directory, fraction, seed)
    loaded, teacher_seconds = [], 0.0
    if method != "direct":
        teachers = [shortened(stage, fraction) for stage in teachers_of(comparison)]
        taught = run_stages(teachers, place / "teacher", settings.workspaces)
        loaded = [str(checkpoint_of(each.name, place / "teacher").resolve()) for each in teachers]
        teacher_seconds = seconds_taken(taught)
    stages = [shortened(stage, fraction) for stage in plan(chain, loaded)]
    results = run_stages(stages, directory, settings.workspaces)
    return Cost(results[-1], seconds_taken(results), teacher_seconds, 0.0)


def _tuned(settings: Settings, stage: Stage, directory: Path, fraction: float, seed: int) -> Cost:
    """Search for settings, and train by them, in the time of one shot."""
    found = saved_tuned(directory)
    if found is None:
        direct = cost(settings, "direct", fraction, seed)
        allowed = cost(settings, "one_shot", fraction, seed).total
        allowed = allowed if settings.search is None else min(allowed, settings.search)
        epoch = direct.total / stage.config.training.epochs
        found = Tuned(None, 0.0, 0)
        if len(settings.workspaces.of(stage.config).dataset.valid):
            found = SEARCHES.control(
                stage.config, directory, allowed, epoch, settings.workspaces, Watcher()
            )
        save_tuned(directory, found)
    if found.config is not None:
        stage = stage._replace(config=found.config)
    results = run_stages([stage], directory, settings.workspaces)
    return Cost(results[0], seconds_taken(results), 0.0, found.seconds)


def row_of(method: str, fraction: float, seed: int, made: Cost) -> dict[str, object]:
    """Return the CSV's line of a run."""
    results = made.results
    model, training, about = results.model, results.training, results.provenance
    assert results.dataset is not None and model is not None
    assert training is not None and about is not None
    return {
        "dataset": results.dataset.name,
        "method": method,
        "fraction": f"{fraction:g}",
        "seed": seed,
        "model": model.name,
        "floats_per_entity": model.floats_per_entity,
        "epochs": training.epochs,
        "best_epoch": training.best_epoch,
        "test_mrr": round(results.metrics["test"].mrr, 4),
        "valid_mrr": round(results.metrics["valid"].mrr, 4) if "valid" in results.metrics else "",
        "seconds": round(made.seconds, 1),
        "teacher_seconds": round(made.teacher_seconds, 1),
        "search_seconds": round(made.search_seconds, 1),
        "total_seconds": round(made.total, 1),
        "threads": training.threads,
        "revision": about.git.revision if about.git else "",
        "dirty": about.git.dirty if about.git else "",
        "torch": about.torch,
        "cpu": about.hardware.cpu if about.hardware else "",
        "date": about.date,
    }


def write(
    rows: Sequence[Mapping[str, object]],
    path: Path,
    key: Sequence[str] = ("dataset", "method", "fraction", "seed"),
) -> list[Mapping[str, object]]:
    """Write the table; a run's new line replaces its former one.

    Args:
        rows: the new lines.
        path: the table, which may be there.
        key: the columns by which a run is known.

    Returns:
        All rows of the file.

    Raises:
        UserError: the file is another table.
    """
    kept: list[Mapping[str, object]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            kept = list(csv.DictReader(stream))
        if kept and set(kept[0]) != set(rows[0]):
            raise UserError(f"{path}: is no table of this script; choose another --csv")
    merged = {tuple(str(row[name]) for name in key): row for row in [*kept, *rows]}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, text.getvalue())
    return list(merged.values())


def points(rows: Sequence[Mapping[str, object]]) -> dict[str, list[tuple[float, float, float]]]:
    """Return for each method its points by rising seconds.

    Args:
        rows: of one dataset.

    Returns:
        Method to (mean seconds, mean test MRR, deviation of that over seeds) of each fraction.
    """
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        of = groups.setdefault(str(row["method"]), {}).setdefault(str(row["fraction"]), [])
        of.append((float(str(row["total_seconds"])), float(str(row["test_mrr"]))))
    found: dict[str, list[tuple[float, float, float]]] = {}
    for method in (name for name in KINDS if name in groups):
        for pairs in groups[method].values():
            seconds, scores = zip(*pairs)
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            point = (statistics.mean(seconds), statistics.mean(scores), spread)
            found.setdefault(method, []).append(point)
        found[method].sort()
    return found


def draw(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return the picture as PNG: a panel for each dataset, a line for each method."""
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in rows))
    colours = dict(zip(KINDS, LIGHT.methods))
    with drawing(LIGHT):
        figure = Figure(figsize=(6.4 * len(datasets), 4.4), layout="constrained", dpi=120)
        panels = figure.subplots(1, len(datasets), squeeze=False)[0]
        shown: dict[str, Any] = {}
        for axes, dataset in zip(panels, datasets):
            of = points([row for row in rows if row["dataset"] == dataset])
            for method, places in of.items():
                seconds, scores, spread = zip(*places)
                dashed = "--" if method == TUNED else "-"
                shown[method] = axes.errorbar(
                    seconds, scores, spread, color=colours[method], marker="o", linestyle=dashed,
                    capsize=2, linewidth=1.6,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(f"{dataset}, {FLOATS} floats")
            axes.set_xlabel("seconds in all: teacher, search, training")
            axes.set_ylabel("test MRR, filtered")
        columns = min(len(shown), 3 * len(datasets))
        figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=columns)
        return png(figure, LIGHT)


def _methods(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise UserError(f"--methods: no method {name!r:.40}; there are: {', '.join(KINDS)}")
    return list(dict.fromkeys(names))


def _fractions(text: str) -> list[float]:
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < each <= 1 for each in found):
        raise UserError(f"--fractions {text!r:.40}: write numbers above 0 up to 1, e.g. 0.25,0.5,1")
    return sorted(set(found))


def main() -> None:
    """Make what is not there yet, and write CSV and picture after each run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="cldr")
    parser.add_argument("--methods", default=",".join(KINDS), help="some of them, by commas")
    parser.add_argument("--fractions", default="0.25,0.5,1", help="of the recipe's epochs")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--search", help="most time of direct_tuned; as one shot took if not given")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/frontier"))
    parser.add_argument("--csv", type=Path, default=RESULTS, help="the picture lies beside it")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    methods, fractions = _methods(arguments.methods), _fractions(arguments.fractions)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: 1 or more")
    settings = Settings(
        recipe_chain(arguments.dataset, arguments.threads),
        arguments.runs / (Path(arguments.dataset).name or "data"),
        None if arguments.search is None else seconds_of(arguments.search, "--search"),
        Workspaces(arguments.data_root),
    )
    for seed in range(arguments.seeds):
        for fraction in fractions:
            for method in methods:
                row = row_of(method, fraction, seed, cost(settings, method, fraction, seed))
                rows = write([row], arguments.csv)
                atomic_write_bytes(arguments.csv.with_suffix(".png"), draw(rows))
                print(
                    f"seed {seed}, {fraction:g} of the epochs, {method}: test MRR "
                    f"{row['test_mrr']} after {row['total_seconds']} s",
                    flush=True,
                )


if __name__ == "__main__":
    script(main)
