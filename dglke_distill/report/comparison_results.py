"""What a comparison of methods left on disk, as typed values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from dglke_distill.artifacts.results import ComparisonResults, ComparisonRow
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_comparison_results
from dglke_distill.report.run_results import ShownStage, read_stage


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and unbiased standard deviation where there are several."""

    mean: float
    deviation: Optional[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute both; ``values`` holds at least one."""
        several = len(values) > 1
        return cls(statistics.fmean(values), statistics.stdev(values) if several else None)


@dataclass(frozen=True)
class ShownComparison:
    """A finished comparison: its results, and its teacher as pages show one."""

    results: ComparisonResults
    teacher: Optional[ShownStage]

    def groups(self) -> dict[str, list[ComparisonRow]]:
        """Return the rows per method and size, in the order of their first row.

        The keys tell what differs: the method, and model or floats where there are several.
        """
        models = len({row.model for row in self.results.rows}) > 1
        sizes = len({row.floats_per_entity for row in self.results.rows}) > 1
        found: dict[str, list[ComparisonRow]] = {}
        for row in self.results.rows:
            parts = [row.method]
            parts += [row.model] if models else []
            parts += [str(row.floats_per_entity)] if sizes else []
            found.setdefault(" ".join(parts), []).append(row)
        return found


def read_comparison(directory: Path) -> ShownComparison:
    """Read the ``results.json`` of a comparison.

    Raises:
        UserError: the file is missing or malformed; the message names it.
    """
    path = directory / RESULTS_FILE
    found = read_comparison_results(path)
    teacher = found.teacher
    return ShownComparison(
        found, None if teacher is None else read_stage(teacher, path, "test", history=False)
    )
