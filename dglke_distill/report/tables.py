"""The table of a run: rows as data, and as Markdown for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from dglke_distill.base.shown import markdown_text
from dglke_distill.report.comparison_results import ComparisonResults, Spread
from dglke_distill.report.numbers import NONE, percent, quality, signed_percent
from dglke_distill.report.run_results import RunResults, stage_labels

__all__ = ["Table", "TableRow", "comparison_table", "run_table"]


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
    """Return the table of a run: a row per stage, the student with the highest MRR as best.

    Gains are over the strongest control that has as many floats per entity as the student; the
    columns are left out where the run has no such control.
    """
    controls = {"direct": "Gain over direct", "direct_budget": "Gain at equal time"}
    roles = {stage.role for stage in run.stages}
    controls = {role: heading for role, heading in controls.items() if role in roles}
    best = max(run.students, key=lambda student: student.quality.mrr, default=None)
    labels = stage_labels(run.stages)
    rows = []
    for stage in run.stages:
        gains = [
            run.gain_over(stage, role) if stage.role == "student" else None for role in controls
        ]
        cells = (
            labels[stage.name],
            stage.model,
            f"{stage.floats_per_entity:,}",
            f"{stage.bytes_per_entity:,}",
            f"{stage.parameters:,}",
            quality(stage.quality.mrr),
            quality(stage.quality.hits_at_1),
            quality(stage.quality.hits_at_3),
            quality(stage.quality.hits_at_10),
            percent(run.share_of_teacher(stage)),
            *(signed_percent(gain) for gain in gains),
            f"{stage.seconds:,.1f}" if stage.seconds else NONE,
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
        *controls.values(),
        "Seconds",
    )
    return Table(headings, tuple(rows), text_columns=2)


def comparison_table(results: ComparisonResults) -> Table:
    """Return the table of a comparison: a row per method, means over its seeds."""
    groups = results.groups()
    means = {name: Spread.of([row.quality.mrr for row in rows]) for name, rows in groups.items()}
    best = max(means, key=lambda name: means[name].mean)
    lines = []
    for name, rows in groups.items():
        hits = [
            Spread.of([getattr(row.quality, key) for row in rows]).mean
            for key in ("hits_at_1", "hits_at_3", "hits_at_10")
        ]
        first = rows[0]
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
            signed_percent(_mean([row.gain_over_direct for row in rows])),
            _seconds(_mean([row.training_seconds for row in rows])),
            _seconds(_mean([row.chain_seconds for row in rows])),
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
        "Gain over direct",
        "Seconds",
        "Chain seconds",
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


def _seconds(value: Optional[float]) -> str:
    return NONE if value is None else f"{value:,.1f}"
