"""Figures of how a run's trainings went, one column of panels per stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dglke_distill.report.numbers import printable
from dglke_distill.report.run_results import RunResults, ShownStage, stage_labels
from dglke_distill.report.theme import Theme, drawing

_COLUMNS = 4
_FEW = 3  # with fewer points a line is hardly seen, so they are marked
_FAR_APART = 30.0
_DASHES = (0.0, (4.0, 1.5))
_TITLE, _LEGEND, _BAND = 0.28, 0.3, 3.1  # inches


def training_curves(run: RunResults, theme: Theme) -> Optional[Figure]:
    """Draw loss and validation MRR over the epochs of each stage, the kept epoch marked.

    Returns:
        None where no stage has a history.
    """
    stages = [stage for stage in run.stages if stage.history.points("loss")[0]]
    if not stages:
        return None
    colours = theme.stage_colours(run.stages)
    with drawing(theme):
        figure, panels = _panels(run, stages, ("training loss", "validation MRR"))
        for stage, (above, below) in zip(stages, panels):
            colour = colours[stage.name]
            _line(above, stage, "loss", colour)
            _line(below, stage, "validation_mrr", colour)
            kept = dict(zip(*stage.history.points("validation_mrr"))).get(stage.best_epoch or 0)
            if kept is not None and stage.best_epoch is not None:
                below.plot(stage.best_epoch, kept, "o", color=colour, markersize=5)
                below.annotate(
                    f"{kept:.3f}",
                    (0.97, 0.07),
                    xycoords="axes fraction",
                    ha="right",
                    fontsize=8.5,
                    color=theme.ink,
                )
        tops = [max(s.history.points("validation_mrr")[1], default=0.0) for s in stages]
        for _, below in panels:
            below.set_ylim(0, 1.08 * max(tops) or 1)
    return figure


def soft_labels(run: RunResults, theme: Theme) -> Optional[Figure]:
    """Draw the weight λ of the soft labels, and the hard and soft losses, of each student.

    Returns:
        None where no stage learnt from soft labels.
    """
    stages = [
        stage
        for stage in run.stages
        if stage.history.points("soft")[0] or stage.history.points("soft_weight")[0]
    ]
    if not stages:
        return None
    colours = theme.stage_colours(run.stages)
    with drawing(theme):
        figure, panels = _panels(run, stages, ("weight λ", "loss"), legend=True)
        for stage, (above, below) in zip(stages, panels):
            _line(above, stage, "soft_weight", colours[stage.name])
            above.set_ylim(0, 1.1 * max(stage.history.points("soft_weight")[1], default=0) or 1)
            _line(below, stage, "hard", theme.muted)
            _line(below, stage, "soft", colours[stage.name], dashed=True)
            values = [v for name in ("hard", "soft") for v in stage.history.points(name)[1]]
            if values and min(values) > 0 and max(values) > _FAR_APART * min(values):
                below.set_yscale("log")
                below.yaxis.set_major_locator(LogLocator(numticks=4))
                below.yaxis.set_major_formatter(FuncFormatter(_compact))
                below.yaxis.set_minor_locator(NullLocator())
        figure.legend(
            handles=[
                Line2D([], [], color=theme.muted, label="hard loss"),
                Line2D([], [], color=theme.muted, linestyle=_DASHES, label="soft loss, before λ"),
            ],
            loc="upper right",
            borderaxespad=0,
            ncols=2,
        )
    return figure


def _line(axes: Axes, stage: ShownStage, name: str, colour: str, *, dashed: bool = False) -> None:
    epochs, values = stage.history.points(name)
    axes.plot(
        epochs,
        values,
        color=colour,
        linestyle=_DASHES if dashed else "-",
        marker="o" if len(values) < _FEW else "",
        markersize=4,
    )


def _panels(
    run: RunResults, stages: Sequence[ShownStage], names: tuple[str, str], *, legend: bool = False
) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Return a figure and for each stage a panel and one below it, with a common x axis."""
    columns = min(_COLUMNS, len(stages))
    bands = -(-len(stages) // columns)
    top = _TITLE + (_LEGEND if legend else 0)
    width, height = (9.0 if columns > 1 else 4.8), top + _BAND * bands
    # Margins in inches: a layout engine takes seconds over this many panels.
    figure = Figure(figsize=(width, height))
    grids = figure.add_gridspec(
        bands,
        columns,
        left=0.85 / width,
        right=1 - 0.08 / width,
        bottom=0.46 / height,
        top=1 - top / height,
        wspace=0.34,
        hspace=0.34,
    )
    labels = stage_labels(run.stages)
    found = []
    for index, stage in enumerate(stages):
        band, column = divmod(index, columns)
        grid = grids[band, column].subgridspec(2, 1, hspace=0.14)
        above = figure.add_subplot(grid[0])
        below = figure.add_subplot(grid[1], sharex=above)
        above.tick_params(labelbottom=False)
        title = shortened(labels[stage.name])
        above.set_title(title, weight="bold", fontsize=10 if len(title) < 20 else 8)
        below.set_xlabel("epoch")
        below.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        for axes, name in zip((above, below), names):
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(FuncFormatter(_compact))
            if column == 0:
                axes.set_ylabel(name)
        found.append((above, below))
    return figure, found


def _compact(value: float, position: int) -> str:
    """Return a tick in a few characters, so that it keeps clear of the panel to its left."""
    text = f"{value:.3g}"
    if len(text.lstrip("-")) > 5 or "e" in text:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text


def shortened(label: str, most: int = 30) -> str:
    """Return a label that fits its place in a figure."""
    label = " ".join(printable(label).split())
    return label if len(label) <= most else f"{label[: most - 1]}…"
