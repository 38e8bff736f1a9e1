"""The report of a comparison of methods: one figure, one table, one page."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dglke_distill.artifacts.results import ComparisonResults
from dglke_distill.base.shown import capitalised, plural
from dglke_distill.report.comparison_results import ShownComparison, Spread
from dglke_distill.report.curves import shortened
from dglke_distill.report.labels import Label, place_labels
from dglke_distill.report.numbers import duration, percent, quality
from dglke_distill.report.page import (
    Drawing,
    KeyFigure,
    PageSection,
    dataset_text,
    figures,
    page,
    provenance,
    warnings_section,
)
from dglke_distill.report.run_results import candidates_text
from dglke_distill.report.tables import comparison_table, spread_text
from dglke_distill.report.theme import Theme, drawing

UNTUNED = (
    "settings of direct training were not searched for: a gain over it may be none over the tuned "
    "one that `dglke-distill run` trains; --search 60s searches for those of each method"
)
"""What a reader of gains over a direct model must know, whose settings nobody searched for."""


def about_gains(results: ComparisonResults) -> str:
    """Return what a reader of gains over the direct model must know; empty without gains."""
    searched = [row.search_seconds for row in results.rows if row.search_seconds is not None]
    if not results.gains or len(searched) < len(results.rows):
        return UNTUNED if results.gains else ""
    most = duration(max(searched))
    return (
        f"settings of every method, direct training as one of them, were searched for, at most "
        f"{most} each, on the validation split and by the first seed alone"
    )


def about_table(compared: ShownComparison) -> list[str]:
    """Return the lines under the table: what its figures are, and what single methods have set."""
    several = any(spread.deviation is not None for spread in compared.means().values())
    lines = [
        "MRR: mean ± standard deviation over the seeds; a method is in bold only if its mean is "
        "above every other by more than both deviations together"
        if several
        else "one seed: seeds may differ by more than methods do, and none is in bold"
    ]
    if compared.results.gains:
        widened = ", widened by how much seeds differ" if several else ", of this seed alone"
        lines.append(
            "Over direct: the share gained, with an interval of 95 % by a paired bootstrap over "
            f"the test triples{widened}"
        )
    told = about_gains(compared.results)
    return [*lines, *([told] if told else []), *compared.own_lines()]


_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 36000, 86400)


def comparison_figure(compared: ShownComparison, theme: Theme) -> Figure:
    """Draw MRR against training seconds: a small point per seed, a large one per method's mean."""
    groups = compared.groups()
    with drawing(theme):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        labels = []
        for index, (name, rows) in enumerate(groups.items()):
            colour = theme.methods[index % len(theme.methods)]
            times = [max(row.training_seconds, 1e-3) for row in rows]
            heights = [row.mrr for row in rows]
            axes.plot(times, heights, "o", color=colour, markersize=4.5, alpha=0.55, zorder=2)
            place = Spread.of(times).mean, Spread.of(heights).mean
            axes.plot(
                *place, "D", color=colour, markeredgecolor=theme.surface, markersize=9, zorder=3
            )
            labels.append(Label(*place, f"{shortened(name)}\n{place[1]:.4f}", theme.ink))
        times = [max(row.training_seconds, 1e-3) for row in compared.results.rows]
        heights = [row.mrr for row in compared.results.rows]
        axes.set_xscale("log")
        low, high = min(times) / 1.7, max(times) * 1.7
        axes.set_xlim(low, high)
        ticks = [tick for tick in _TICKS if low <= tick <= high]
        if len(ticks) > 1:
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        room = max(0.3 * (max(heights) - min(heights)), 0.01)
        axes.set_ylim(max(0.0, min(heights) - room), max(heights) + room)
        axes.set_xlabel("training time, without that of the teacher")
        axes.set_ylabel("test MRR, filtered")
        place_labels(figure, axes, labels)
    return figure


def _tick(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def comparison_page(compared: ShownComparison, svg: str) -> str:
    """Return the page.

    Args:
        compared: what to report.
        svg: the figure, as ``theme.svg`` returned it for the light theme.
    """
    groups = compared.groups()
    means = compared.means()
    best = max(means, key=lambda name: means[name].mean)
    results, teacher = compared.results, compared.teacher
    seeds = sorted({row.seed for row in results.rows})
    cards = [KeyFigure("Best test MRR", quality(means[best].mean), best)]
    if teacher is not None:
        size = f"{teacher.sizes.name}, {teacher.sizes.floats_per_entity} floats"
        cards.append(KeyFigure("Teacher", quality(teacher.quality.mrr), size))
        alike = any(row.share_of_teacher is not None for row in results.rows)
        if teacher.quality.mrr and alike:  # else the teacher's is another test split
            share = means[best].mean / teacher.quality.mrr
            cards.append(KeyFigure("Share of teacher", percent(share), best))
    cards.append(
        KeyFigure("Training", duration(sum(row.training_seconds for row in results.rows)), "in all")
    )
    picture = Drawing(
        name="comparison",
        title="Quality against training time",
        description="; ".join(
            f"{name}: test MRR {spread_text(means[name])} in "
            f"{duration(Spread.of([row.training_seconds for row in rows]).mean)}"
            for name, rows in groups.items()
        ),
        note="A small point per seed, a large one for the method's mean.",
        svg=svg,
    )
    among = candidates_text(results.dataset)
    caption = f"Filtered ranking of {among} on the test split; means over the seeds. Seconds "
    caption += "are those of the last stage's training; a chain's count its other students, and "
    caption += "validation, but not the teacher that all share"
    if results.teacher_seconds:
        caption += f", which took {duration(results.teacher_seconds)}"
    caption += "."
    if any(row.seconds_to_direct is not None for row in results.rows):
        caption += " The last column counts teacher and search too: seconds until the last model "
        caption += "had the direct model's best validation MRR."
    caption += "".join(f" {capitalised(line)}." for line in about_table(compared))
    more = {
        "Dataset": dataset_text(results.dataset),
        "Seeds": ", ".join(map(str, seeds)),
    }
    sections = [
        *warnings_section(results.data_warnings),
        PageSection("Summary", cards=cards),
        PageSection("Methods", table=comparison_table(compared), caption=caption),
        *figures([picture], []),
        provenance(results.provenance.to_tree(), more),
    ]
    title = f"Methods compared on {results.dataset.name}"
    subtitle = f"{plural(len(groups), 'method')} · {plural(len(seeds), 'seed')}"
    return page(title, subtitle, sections, [])
