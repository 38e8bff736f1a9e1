"""The table of a run: rows as data, and as Markdown for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    @classmethod
    def of(cls, lines: Sequence[tuple[Mapping[str, str], bool]], text_columns: int) -> Table:
        """Return the table of lines: cells by heading, and whether it is the one to look at."""
        rows = tuple(TableRow(tuple(cells.values()), best) for cells, best in lines)
        return cls(tuple(lines[0][0]) if lines else (), rows, text_columns)

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
        cells = {
            "Stage": labels[stage.name],
            "Model": stage.sizes.name,
            "Floats": f"{stage.sizes.floats_per_entity:,}",
            "Bytes": f"{stage.sizes.bytes_per_entity:,}",
            "Parameters": f"{stage.sizes.parameters:,}",
            "MRR": quality(stage.quality.mrr),
            "Hits@1": quality(stage.quality.hits_at_1),
            "Hits@3": quality(stage.quality.hits_at_3),
            "Hits@10": quality(stage.quality.hits_at_10),
            "Of teacher": percent(run.share_of_teacher(stage)),
            **({"Over direct": gains.get(stage.name, NONE)} if gains else {}),
            "Seconds": f"{stage.entry.seconds:,.1f}" if stage.entry.seconds else NONE,
        }
        rows.append((cells, best is not None and stage.name == best.name))
    return Table.of(rows, text_columns=2)


def verdict_table(run: RunResults) -> Table:
    """Return what a student gains over its size trained directly, and how long both took.

    The seconds are those to the direct model's final validation MRR.
    """
    labels = stage_labels(run.stages)
    stages = {stage.name: stage for stage in run.stages}
    rows = []
    for verdict in run.verdicts.values():
        control = None if verdict.control is None else stages.get(verdict.control)
        cells = {
            "Student": labels.get(verdict.student, verdict.student),
            "Compared with": NONE if control is None else labels[control.name],
            "MRR": NONE if verdict.student_mrr is None else quality(verdict.student_mrr),
            "Its MRR": NONE if verdict.control_mrr is None else quality(verdict.control_mrr),
            "Gain, 95 %": gain_text(verdict.gain, verdict.low, verdict.high),
            "Student's seconds": _reached(verdict, verdict.student_seconds),
            "Direct seconds": _reached(verdict, verdict.control_seconds),
        }
        rows.append((cells, False))
    return Table.of(rows, text_columns=2)


def comparison_table(compared: ShownComparison) -> Table:
    """Return the table of a comparison: a row per method, means over its seeds."""
    groups, means, best = compared.groups(), compared.means(), compared.clearly_best()
    timed = any(row.seconds_to_direct is not None for row in compared.results.rows)
    searched = any(row.search_seconds is not None for row in compared.results.rows)
    lines = []
    for name, rows in groups.items():
        first = rows[0]
        gain = compared.results.gains.get(first.method)
        cells = {
            "Method": name,
            "Model": first.model,
            "Seeds": f"{len(rows)}",
            "Floats": f"{first.floats_per_entity:,}",
            "Bytes": f"{first.bytes_per_entity:,}",
            "Parameters": f"{first.parameters:,}",
            "MRR": spread_text(means[name]),
            "Hits@1": quality(Spread.of([row.hits_at_1 for row in rows]).mean),
            "Hits@3": quality(Spread.of([row.hits_at_3 for row in rows]).mean),
            "Hits@10": quality(Spread.of([row.hits_at_10 for row in rows]).mean),
            "Of teacher": percent(_mean([row.share_of_teacher for row in rows])),
            "Over direct": NONE if gain is None else gain_text(gain.gain, gain.low, gain.high),
            "Epochs": _span([row.epochs for row in rows]),
            "Seconds": _seconds(_mean([row.training_seconds for row in rows])),
            "Chain seconds": _seconds(_mean([row.chain_seconds for row in rows])),
            **({"Search seconds": _seconds(first.search_seconds)} if searched else {}),
            **({"To direct's MRR": _to_direct(rows)} if timed else {}),
        }
        lines.append((cells, name == best))
    return Table.of(lines, text_columns=2)


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
