"""The table of a run: rows as data, and as Markdown for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from dglke_distill.artifacts.results import ComparisonRow
from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.base.shown import markdown_text
from dglke_distill.report.comparison_results import ShownComparison, Spread
from dglke_distill.report.numbers import NONE, gain_text, percent, quality
from dglke_distill.report.run_results import RunResults, stage_labels


@dataclass(frozen=True)
class TableRow:
    """One line of a table: its cells as text, and whether it is the one to look at."""

    cells: tuple[str, ...]
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        headings: one per column.
        rows: the lines.
        text_columns: how many columns at the left hold words; the others hold figures.
    """

    headings: tuple[str, ...]
    rows: tuple[TableRow, ...]
    text_columns: int

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown, the best row in bold."""
        rules = [" --- " if i < self.text_columns else " ---: " for i in range(len(self.headings))]
        lines = [_line(self.headings), f"|{'|'.join(rules)}|"]
        for row in self.rows:
            cells = [markdown_text(cell) for cell in row.cells]
            lines.append(_line([f"**{cell}**" for cell in cells] if row.best else cells))
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def run_table(run: RunResults) -> Table:
    """Return the table of a run: a row per stage, the student to look at as best.

    It is the one with the highest MRR among those that are better than their controls; where
    nothing was compared, the one with the highest MRR of all. Gains are over the control of the
    student's size that validation prefers, with an interval of 95 %; the column is left out where
    none is known.
    """
    gains = {
        name: gain_text(verdict.gain, verdict.low, verdict.high)
        for name, verdict in run.verdicts.items()
        if verdict.gain is not None
    }
    better = {name for name, verdict in run.verdicts.items() if verdict.outcome == "better"}
    worth = [student for student in run.students if student.name in better or not gains]
    best = max(worth, key=lambda student: student.quality.mrr, default=None)
    labels = stage_labels(run.stages)
    rows = []
    for stage in run.stages:
        cells = (
            labels[stage.name],
            stage.sizes.name,
            f"{stage.sizes.floats_per_entity:,}",
            f"{stage.sizes.bytes_per_entity:,}",
            f"{stage.sizes.parameters:,}",
            quality(stage.quality.mrr),
            quality(stage.quality.hits_at_1),
            quality(stage.quality.hits_at_3),
            quality(stage.quality.hits_at_10),
            percent(run.share_of_teacher(stage)),
            *([gains.get(stage.name, NONE)] if gains else []),
            f"{stage.entry.seconds:,.1f}" if stage.entry.seconds else NONE,
        )
        rows.append(TableRow(cells, best is not None and stage.name == best.name))
    headings = (
        "Stage",
        "Model",
        "Floats",
        "Bytes",
        "Parameters",
        "MRR",
        "Hits@1",
        "Hits@3",
        "Hits@10",
        "Of teacher",
        *(["Over direct"] if gains else []),
        "Seconds",
    )
    return Table(headings, tuple(rows), text_columns=2)


def verdict_table(run: RunResults) -> Table:
    """Return what a student gains over its size trained directly, and how long both took.

    The seconds are those to the direct model's final validation MRR.
    """
    labels = stage_labels(run.stages)
    stages = {stage.name: stage for stage in run.stages}
    rows = []
    for verdict in run.verdicts.values():
        student = stages.get(verdict.student)
        control = None if verdict.control is None else stages.get(verdict.control)
        cells = (
            labels.get(verdict.student, verdict.student),
            NONE if control is None else labels[control.name],
            NONE if student is None else quality(student.quality.mrr),
            NONE if control is None else quality(control.quality.mrr),
            gain_text(verdict.gain, verdict.low, verdict.high),
            _reached(verdict, verdict.student_seconds),
            _reached(verdict, verdict.control_seconds),
        )
        rows.append(TableRow(cells))
    headings = (
        "Student",
        "Compared with",
        "MRR",
        "Its MRR",
        "Gain, 95 %",
        "Student's seconds",
        "Direct seconds",
    )
    return Table(headings, tuple(rows), text_columns=2)


def comparison_table(compared: ShownComparison) -> Table:
    """Return the table of a comparison: a row per method, means over its seeds."""
    groups = compared.groups()
    means = {name: Spread.of([row.mrr for row in rows]) for name, rows in groups.items()}
    best = max(means, key=lambda name: means[name].mean)
    timed = any(row.seconds_to_direct is not None for row in compared.results.rows)
    lines = []
    for name, rows in groups.items():
        hits = [
            Spread.of([getattr(row, key) for row in rows]).mean
            for key in ("hits_at_1", "hits_at_3", "hits_at_10")
        ]
        first = rows[0]
        gain = compared.results.gains.get(first.method)
        cells = (
            name,
            first.model,
            f"{len(rows)}",
            f"{first.floats_per_entity:,}",
            f"{first.bytes_per_entity:,}",
            f"{first.parameters:,}",
            spread_text(means[name]),
            *(quality(value) for value in hits),
            percent(_mean([row.share_of_teacher for row in rows])),
            NONE if gain is None else gain_text(gain.gain, gain.low, gain.high),
            _span([row.epochs for row in rows]),
            _seconds(_mean([row.training_seconds for row in rows])),
            _seconds(_mean([row.chain_seconds for row in rows])),
            *([_to_direct(rows)] if timed else []),
        )
        lines.append(TableRow(cells, name == best))
    headings = (
        "Method",
        "Model",
        "Seeds",
        "Floats",
        "Bytes",
        "Parameters",
        "MRR",
        "Hits@1",
        "Hits@3",
        "Hits@10",
        "Of teacher",
        "Over direct",
        "Epochs",
        "Seconds",
        "Chain seconds",
        *(["To direct's MRR"] if timed else []),
    )
    return Table(headings, tuple(lines), text_columns=2)


def spread_text(spread: Spread) -> str:
    """Return ``0.3120 ± 0.0011``, or the mean alone of a single seed."""
    if spread.deviation is None:
        return quality(spread.mean)
    return f"{quality(spread.mean)} ± {quality(spread.deviation)}"


def _mean(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return Spread.of(known).mean if known else None


def _span(counts: Sequence[Optional[int]]) -> str:
    """Return whole numbers as ``80``, or as ``50 to 80`` where they differ."""
    known = sorted({count for count in counts if count is not None})
    if not known:
        return NONE
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"


def _reached(verdict: SizeVerdict, seconds: Optional[float]) -> str:
    """Return the seconds to the direct model's quality; "never" where a known one was not met."""
    known = verdict.time is not None and verdict.time.goal_valid_mrr is not None
    return "never" if seconds is None and known else _seconds(seconds)


def _to_direct(rows: Sequence[ComparisonRow]) -> str:
    """Return the mean seconds to the direct model's quality, and of how many seeds if not all."""
    known = [row.seconds_to_direct for row in rows if row.seconds_to_direct is not None]
    if not known:
        return "never"
    of = "" if len(known) == len(rows) else f" ({len(known)} of {len(rows)})"
    return _seconds(_mean(known)) + of


def _seconds(value: Optional[float]) -> str:
    return NONE if value is None else f"{value:,.1f}"
