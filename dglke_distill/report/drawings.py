"""Which figures a run's report has, with their titles and what they show in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Optional

from matplotlib.figure import Figure

from dglke_distill.base.shown import plural
from dglke_distill.report import curves, plots, reliability
from dglke_distill.report.numbers import bytes_text, duration, quality
from dglke_distill.report.run_results import RunResults, stage_labels
from dglke_distill.report.theme import Theme


@dataclass(frozen=True)
class FigureKind:
    """A figure that a report may have.

    Attributes:
        name: of its files.
        title: its heading.
        note: what to know when reading it.
        draw: returns the figure, or None where the run has nothing to show there.
        describe: returns what it shows, in words.
    """

    name: str
    title: str
    note: str
    draw: Callable[[RunResults, Theme], Optional[Figure]]
    describe: Callable[[RunResults], str]


def _each(run: RunResults, texts: Iterator[str]) -> str:
    labels = stage_labels(run.stages)
    pairs = zip((labels[stage.name] for stage in run.stages), texts)
    return "; ".join(f"{label}: {text}" for label, text in pairs if text)


def _quality(run: RunResults) -> str:
    return _each(
        run,
        (
            f"{run.split} MRR {quality(stage.quality.mrr)} at "
            f"{bytes_text(stage.sizes.bytes_per_entity)} per entity"
            for stage in run.stages
        ),
    )


def _training(run: RunResults) -> str:
    return _each(
        run,
        (
            f"{plural(len(stage.history.points('loss')[0]), 'epoch')}, epoch {stage.best_epoch} "
            f"kept"
            if stage.best_epoch is not None
            else ""
            for stage in run.stages
        ),
    )


def _soft(run: RunResults) -> str:
    weights = (stage.history.points("soft_weight")[1] for stage in run.stages)
    return _each(run, (f"λ from {w[0]:.3g} to {w[-1]:.3g}" if w else "" for w in weights))


def _categories(run: RunResults) -> str:
    return _each(
        run,
        (
            ", ".join(f"{name} {quality(c.mrr)}" for name, c in stage.categories.items())
            for stage in run.stages
        ),
    )


def _seconds(run: RunResults) -> str:
    took = (stage.entry.seconds for stage in run.stages)
    return _each(run, (duration(seconds) if seconds else "" for seconds in took))


FIGURES = (
    FigureKind(
        name="quality",
        title="Quality against size",
        note="The line joins each student to the teacher it learnt from. Direct models had no "
        "teacher; those of equal time were trained, and those that are tuned searched for and "
        "trained, for as long as the student of their size and its teachers took.",
        draw=plots.quality,
        describe=_quality,
    ),
    FigureKind(
        name="training",
        title="Training",
        note="The dot and its figure mark the epoch that was kept.",
        draw=curves.training_curves,
        describe=_training,
    ),
    FigureKind(
        name="soft-labels",
        title="Soft labels",
        note="Above, the weight λ that the teacher's scores have in the loss; below, both losses.",
        draw=curves.soft_labels,
        describe=_soft,
    ),
    FigureKind(
        name="categories",
        title="Quality by relation category",
        note="In a 1-N relation a head has many tails, in an N-1 relation a tail has many heads.",
        draw=plots.categories,
        describe=_categories,
    ),
    FigureKind(
        name="reliability",
        title="Calibration",
        note="On the dotted line what is said to be probable is true as often as that; the points "
        "are ten bins of equal width, of facts that no curve has seen. Before: the logistic "
        "function of the score.",
        draw=reliability.reliability_of_run,
        describe=reliability.describe_run,
    ),
    FigureKind(
        name="time",
        title="Time per stage",
        note="The ranking of the test split is not part of it.",
        draw=plots.seconds,
        describe=_seconds,
    ),
)
"""The figures of a run's report, in their order."""
