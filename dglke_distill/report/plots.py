"""Figures of what a run reached: quality against size, relation categories, time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dglke_distill.report.anchors import Anchor, anchors
from dglke_distill.report.curves import shortened
from dglke_distill.report.labels import Label, place_labels
from dglke_distill.report.numbers import bytes_text, duration
from dglke_distill.report.run_results import RunResults, ShownStage, stage_labels
from dglke_distill.report.theme import Theme, drawing, settled

_MARKERS = {
    "teacher": "s",
    "student": "o",
    "direct": "D",
    "direct_budget": "^",
    "direct_tuned": "v",
}

_LEGEND_LETTERS = 115  # that a legend has room for side by side


def shown_anchors(run: RunResults) -> tuple[Anchor, ...]:
    """Return the published figures that a run may be compared with: those of the test split."""
    return anchors(run.chain.dataset.name) if run.split == "test" else ()


def quality(run: RunResults, theme: Theme) -> Figure:
    """Draw MRR against bytes per entity: the chain, its controls and published figures."""
    colours, names = theme.stage_colours(run.stages), stage_labels(run.stages)
    stages = {stage.name: stage for stage in run.stages}
    lines = [
        (_place(stages[teacher]), _place(stage))
        for stage in run.stages
        for teacher in stage.entry.taught_by
        if teacher in stages
    ]
    published = shown_anchors(run)
    with drawing(theme):
        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        axes = figure.add_subplot()
        for (x0, y0), (x1, y1) in lines:
            axes.plot([x0, x1], [y0, y1], color=theme.muted, linewidth=1.2, zorder=1)
        for anchor in published:
            axes.plot(anchor.bytes_per_entity, anchor.mrr, "X", color=theme.anchor, markersize=7)
        for stage in run.stages:
            axes.plot(
                *_place(stage),
                _MARKERS[stage.entry.role],
                color=colours[stage.name],
                markeredgecolor=theme.surface,
                markersize=10,
                zorder=3,
            )
        sizes = [s.sizes.bytes_per_entity for s in run.stages]
        sizes += [a.bytes_per_entity for a in published]
        heights = [stage.quality.mrr for stage in run.stages] + [a.mrr for a in published]
        _size_axis(axes, sizes)
        room = max(0.25 * (max(heights) - min(heights)), 0.02)
        axes.set_ylim(max(0.0, min(heights) - room), max(heights) + room)
        axes.set_xlabel("bytes per entity")
        axes.set_ylabel(f"{run.split} MRR, filtered")
        axes.grid(axis="x", visible=False)
        kinds = _kinds(run, theme, bool(published))
        figure.legend(handles=kinds, loc="outside upper left", ncols=len(kinds), handletextpad=0.4)
        labels = [
            Label(*_place(stage), f"{shortened(names[stage.name])}\n{stage.quality.mrr:.4f}",
                theme.ink,)
            for stage in run.stages
        ]  # fmt: skip
        labels += [
            Label(a.bytes_per_entity, a.mrr, f"{a.name}\n{a.mrr:g}", theme.muted, size=7.5)
            for a in published
        ]
        place_labels(figure, axes, labels, lines)
    return figure


def _place(stage: ShownStage) -> tuple[float, float]:
    return stage.sizes.bytes_per_entity, stage.quality.mrr


def _size_axis(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    low, high = min(sizes), max(sizes)
    axes.set_xlim(low / 1.8, high * 1.8)
    ticks = [2.0**power for power in range(64) if low / 1.8 <= 2.0**power <= high * 1.8]
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // 9)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value)))


def _kinds(run: RunResults, theme: Theme, published: bool) -> list[Line2D]:
    """Return what the legend shows: each kind of point that occurs."""
    roles = {"teacher": "teacher", "student": "student"}
    roles.update(direct="direct", direct_budget="direct, longer", direct_tuned="direct, tuned")
    occur = {stage.entry.role for stage in run.stages}
    colour = {
        "teacher": theme.chain[0],
        "student": theme.chain[1],
        "direct": theme.controls[0],
        "direct_budget": theme.controls[-1],
        "direct_tuned": theme.controls[-1],
    }
    kinds = [
        Line2D([], [], linestyle="", marker=_MARKERS[r], color=colour[r], label=roles[r])
        for r in roles
        if r in occur
    ]
    if published:
        kinds.append(
            Line2D([], [], linestyle="", marker="X", color=theme.anchor, label="published")
        )
    return kinds


def categories(run: RunResults, theme: Theme) -> Optional[Figure]:
    """Draw MRR per relation category, a bar per stage.

    Returns:
        None where no stage has figures per category.
    """
    stages = [stage for stage in run.stages if stage.categories]
    if not stages:
        return None
    groups = list(dict.fromkeys(name for stage in stages for name in stage.categories))
    colours, names = theme.stage_colours(run.stages), stage_labels(run.stages)
    width = 0.82 / len(stages)
    with drawing(theme):
        figure = Figure(figsize=(9.0, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for index, stage in enumerate(stages):
            shown = [(i, name) for i, name in enumerate(groups) if name in stage.categories]
            axes.bar(
                [i + (index - (len(stages) - 1) / 2) * width for i, _ in shown],
                [stage.categories[name].mrr for _, name in shown],
                width * 0.9,
                color=colours[stage.name],
                label=shortened(names[stage.name]),
            )
        ranks = {n: s.categories[n].count for s in stages for n in groups if n in s.categories}
        axes.set_xticks(range(len(groups)), [f"{shortened(n)}\n{ranks[n]:,} ranks" for n in groups])
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(f"{run.split} MRR, filtered")
        axes.set_xlim(-0.55, len(groups) - 0.45)
        longest = max(len(shortened(names[stage.name])) for stage in stages)
        columns = max(1, min(5, len(stages), _LEGEND_LETTERS // (longest + 6)))
        axes.set_ylim(0, None)
        figure.legend(loc="outside upper left", ncols=columns, handlelength=1.0)
        return settled(figure)


def _spent(stage: ShownStage) -> tuple[float, float, float]:
    """Return the seconds of training, validation and preparation."""
    of = stage.entry.results.training
    return (0.0, 0.0, 0.0) if of is None else (of.seconds, of.validation_seconds, of.setup_seconds)


def seconds(run: RunResults, theme: Theme) -> Figure:
    """Draw the time of each stage: preparing the teacher's knowledge, training, validation."""
    colours, names = theme.stage_colours(run.stages), stage_labels(run.stages)
    longest = max(stage.entry.seconds for stage in run.stages)
    divisor, unit = (3600, "hours") if longest >= 7200 else (60, "minutes")
    if longest < 120:
        divisor, unit = 1, "seconds"
    parts = {"training": 1.0, "validation": 0.5, "preparation": 0.25}
    with drawing(theme):
        figure = Figure(figsize=(9.0, 1.2 + 0.38 * len(run.stages)), layout="constrained")
        axes = figure.add_subplot()
        for row, stage in enumerate(run.stages):
            spent = _spent(stage)
            start = 0.0
            for value, strength in zip(spent, parts.values()):
                length = value / divisor
                axes.barh(row, length, 0.62, start, color=colours[stage.name], alpha=strength)
                start += length
            axes.annotate(
                duration(stage.entry.seconds) if stage.entry.seconds else "loaded, not trained",
                (start, row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.set_yticks(range(len(run.stages)), [shortened(n) for n in names.values()])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.16 * longest / divisor or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(unit)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        handles = [Patch(color=theme.muted, alpha=a, label=name) for name, a in parts.items()]
        if not any(_spent(stage)[2] for stage in run.stages):
            handles.pop()
        figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.0)
        return settled(figure)
