"""What commands show: a progress line, warnings, and the table of figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from dglke_distill.train import Progress as TrainingProgress

__all__ = ["TrainingDisplay", "metrics_table"]

_LOG_SECONDS = 15.0


def duration(seconds: float) -> str:
    """Return seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class TrainingDisplay:
    """Shows a training under way: a live bar on a terminal, a line now and then elsewhere.

    Use as a context manager; ``report`` and ``announce`` are the callbacks of
    ``pipeline.train_run``.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        """Start nothing yet."""
        self.console = console
        self._last_line = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            refresh_per_second=4,  # drawing takes time from training
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("preparing", total=None, figures="")

    def __enter__(self) -> TrainingDisplay:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def announce(self, line: str) -> None:
        """Print a line of its own."""
        self.console.print(line, markup=False, highlight=False)

    def report(self, now: TrainingProgress) -> None:
        """Show where the training stands."""
        figures = f"loss {now.loss:.4f}  {now.triples_per_second:,.0f} triples/s"
        figures += f"  {duration(now.seconds_left)} left"
        if now.validation_mrr is not None:
            figures += f"  valid MRR {now.validation_mrr:.4f}"
        epoch = f"epoch {now.epoch + 1}/{now.epochs}"
        if self.console.is_terminal:
            done = now.epoch * now.batches + now.batch
            total = now.epochs * now.batches
            self._bar.update(
                self._task, description=epoch, completed=done, total=total, figures=figures
            )
        elif time.monotonic() - self._last_line >= _LOG_SECONDS:
            self._last_line = time.monotonic()
            self.announce(f"{epoch}  {figures}")


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the ranking figures of some splits as a table, each side below its split.

    Args:
        metrics: split name to what ``RankingResult.to_dict`` returns.
    """
    table = Table(title="Filtered ranking of all entities, realistic ties", title_justify="left")
    table.add_column("")
    for name in ("MRR", "MR", "Hits@1", "Hits@3", "Hits@10", "ranks"):
        table.add_column(name, justify="right")
    for split, figures in metrics.items():
        rows = {split: figures}
        rows.update({f"  {side}": of for side, of in figures.get("by_side", {}).items()})
        for label, of in rows.items():
            hits = [f"{of[f'hits@{k}']:.4f}" for k in (1, 3, 10)]
            table.add_row(label, f"{of['mrr']:.4f}", f"{of['mr']:.1f}", *hits, f"{of['count']:,}")
    return table
