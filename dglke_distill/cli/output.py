"""What commands show: a progress line, warnings, and the table of figures."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from dglke_distill.base.shown import plural
from dglke_distill.cli.exits import drop_output
from dglke_distill.cli.say import say

if TYPE_CHECKING:
    from dglke_distill.artifacts.results import ChainResults, Figures, SplitFigures
    from dglke_distill.base.console import SafeConsole
    from dglke_distill.distill.estimate import Estimate
    from dglke_distill.distill.plan import Stage
    from dglke_distill.search.allowance import Allowance
    from dglke_distill.training.loop import Progress as TrainingProgress

_LOG_SECONDS = 15.0


def clock_text(seconds: float) -> str:
    """Return seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Forgiving:
    """A stream that says no more once it cannot be written to.

    A training does not end because its terminal has gone, or the file that it is shown in is full.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._broken = stream, False

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Callable[[], object]) -> None:
        if not self._broken:
            try:
                call()
            except (OSError, ValueError) as error:  # the latter: it is closed
                self._broken = True
                if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO):
                    drop_output()  # nobody is there to be told of it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class TrainingDisplay:
    """Shows a training under way: a live bar on a terminal, a line now and then elsewhere.

    Use as a context manager; ``report`` and ``announce`` are the callbacks of
    ``pipeline.train_run``, and all three those of a chain's ``Watcher``.

    Args:
        console: where to write.
    """

    def __init__(self, console: SafeConsole) -> None:
        """Start nothing yet."""
        self.console = console
        self._said: set[str] = set()
        self._last_line = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=4,  # drawing takes time from training
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("preparing", total=None, figures="")

    def __enter__(self) -> TrainingDisplay:
        """Show the bar."""
        self._shown_in = self.console.file
        self.console.file = cast(IO[str], _Forgiving(self._shown_in))
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self._bar.stop()
        self.console.file = self._shown_in

    def announce(self, line: str) -> None:
        """Print a line of its own; what an earlier stage of the same run warned of is left out.

        A warning with other figures is printed again, without the advice that ends it. What memory
        a stage takes is printed of the first.
        """
        for kind, told in (("needs about", "needs about"), ("warning:", line)):
            if line.startswith(kind):
                if told in self._said:
                    return
                self._said.add(told)
        told, sign, advice = line.partition("; try ")
        if sign and advice in self._said:
            line = told
        self._said.add(advice)
        self.console.print(line)

    def begin(self, stage: Stage, number: int, total: int) -> None:
        """Say which stage of a chain comes now; ``number`` counts from 0."""
        self.console.print(f"stage {number + 1} of {total}: {stage.name}")

    def report(self, now: TrainingProgress) -> None:
        """Show where the training stands."""
        figures = f"loss {now.loss:.4f}  {now.triples_per_second:,.0f} triples/s"
        figures += f"  {clock_text(now.seconds_left)} left"
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


def show_warnings(lines: Iterable[str], *, err: bool = False) -> None:
    """Print warnings, each on a line of its own.

    Args:
        lines: the warnings.
        err: whether standard output is for a program, which has them all: of other data is then
            told on standard error.
    """
    for line in lines:
        if not err or line.startswith("OTHER DATA"):
            say(f"warning: {line}", err=err)


def metrics_table(metrics: Mapping[str, SplitFigures]) -> Table:
    """Return the ranking figures of some splits as a table, each side below its split.

    Args:
        metrics: split name to its figures.
    """
    protocol = next((of.protocol for of in metrics.values()), None)
    title = "Filtered ranking of all entities, realistic ties"
    if protocol is not None and protocol.negatives is not None:
        title = (
            f"Ranking among the {protocol.negatives} given negatives of each question, ties count "
            "half"
        )
    elif protocol is not None and protocol.name != "all":
        from dglke_distill.evaluate.protocols import PROTOCOLS

        dropped = f" ({protocol.dropped:,} dropped)" if protocol.dropped else ""
        title = (
            f"Filtered ranking, realistic ties, protocol {protocol.name}: "
            f"{PROTOCOLS[protocol.name].rule}{dropped}. Compares with no figure of another protocol"
        )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("MRR", "MR", "Hits@1", "Hits@3", "Hits@10", "ranks"):
        table.add_column(name, justify="right")
    for split, figures in metrics.items():
        rows: dict[str, Figures] = {split: figures}
        rows.update({f"  {side}": of for side, of in figures.by_side.items()})
        if figures.popularity_control is not None:
            rows["  relation popularity (control)"] = figures.popularity_control
        for label, of in rows.items():
            hits = [f"{share:.4f}" for share in (of.hits_at_1, of.hits_at_3, of.hits_at_10)]
            table.add_row(label, f"{of.mrr:.4f}", f"{of.mr:.1f}", *hits, f"{of.count:,}")
    return table


def figures_table(title: str, words: Sequence[str], figures: Sequence[str]) -> Table:
    """Return an empty table without lines; names fold, so that every figure stays whole.

    Args:
        title: what stands over it.
        words: headings of the columns of words.
        figures: headings of the columns of figures, after those.
    """
    table = Table(
        title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False
    )
    for name in words:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def plan_table(
    stages: Sequence[Stage], sizes: Sequence[Estimate], more: Sequence[Allowance] = ()
) -> Table:
    """Return what a chain will train: sizes, the seconds its steps will take, and its memory.

    Floats and bytes are those of an entity; what it learns from is the number of a stage.

    Args:
        stages: the plan.
        sizes: what each stage takes.
        more: what the chain may do besides.
    """
    from dglke_distill.runs.memory import bytes_text

    total = sum(size.seconds for size in sizes) + sum(each.seconds for each in more)
    bound = "at most about" if more else "about"
    title = f"{plural(len(stages), 'stage')}{' and more' if more else ''}: "
    title += f"{bound} {clock_text(total)} on this machine"
    names = ("floats", "bytes", "parameters", "epochs", "time", "memory")
    table = figures_table(title, ("stage", "from"), names)  # eighty columns hold it
    labels = {stage.name: stage.name.partition("-")[0] for stage in stages}
    for stage, size in zip(stages, sizes):
        teachers = (labels.get(teacher, Path(teacher).name) for teacher in stage.teachers)
        table.add_row(
            stage.name,
            ", ".join(teachers) or "-",
            str(size.floats_per_entity),
            str(size.bytes_per_entity),
            f"{size.parameters:,}",
            str(stage.config.training.epochs),
            clock_text(size.seconds),
            bytes_text(size.memory.total),
        )
    for each in more:
        table.add_row(each.name, *"-----", f"to {clock_text(each.seconds)}", "-")
    return table


def chain_table(results: ChainResults) -> Table:
    """Return the figures of a finished chain, stage by stage.

    Bytes are those of an entity; kept is the share of the teacher's MRR.
    """
    tested = results.stages[-1].results.metrics.get("test")
    protocol = None if tested is None else tested.protocol
    given = protocol is not None and protocol.candidates == "given"
    candidates = "given candidates" if given else "all entities"
    title = f"Filtered ranking of the test split, {candidates}, realistic ties"
    title += f", seed {results.seed}" if results.repeats else ""  # gains are over all seeds
    names = ("bytes", "MRR", "Hits@1", "Hits@3", "Hits@10", "kept", "s")
    table = figures_table(title, ("stage",), names)
    for stage in results.stages:
        of = stage.results
        test, model, training = of.metrics.get("test"), of.model, of.training
        cells = ["-"] * 5
        if test is not None:
            figures = [test.mrr, test.hits_at_1, test.hits_at_3, test.hits_at_10]
            teacher = results.summary.teacher_mrr
            share = f"{test.mrr / teacher:.1%}" if teacher else "-"
            cells = [*(f"{figure:.4f}" for figure in figures), share]
        size = "-" if model is None else str(model.bytes_per_entity)
        seconds = "-" if training is None else f"{training.seconds:.0f}"
        table.add_row(stage.name, size, *cells, seconds)
    return table


def verdict_lines(results: ChainResults) -> list[str]:
    """Return a line per student: what it gains over its size trained directly, and the time."""
    from dglke_distill.report.numbers import gain_text

    lines = []
    for size in [] if results.verdict is None else results.verdict.sizes:
        if size.gain is None:
            continue
        reached = size.student_seconds, size.control_seconds
        student, direct = (
            "never reached" if t is None else f"reached after {clock_text(t)}" for t in reached
        )
        left_out = size.time is not None and size.time.teachers_loaded
        loaded = "; loaded teachers are not counted" if left_out else ""
        gain = gain_text(size.gain, size.low, size.high)
        gain += f", over {size.seeds} seeds" if size.seeds > 1 else ""
        time = (
            f"; the direct model's validation MRR was {student} by the student, and {direct} "
            f"directly{loaded}"
        )
        if size.time is None or size.time.goal_valid_mrr is None:
            time = ""  # there is no validation split
        lines.append(
            f"{size.student}: MRR {size.student_mrr:.4f}, {size.control_mrr:.4f} directly "
            f"({size.control}), {gain}{time}"
        )
    return lines
