"""What a comparison of methods left on disk, as typed values."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts.results import ComparisonResults, ComparisonRow
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_comparison_results
from dglke_distill.config import read_toml
from dglke_distill.report.run_results import ShownStage, read_stage
from dglke_distill.runs.settings import flattened


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
    """A finished comparison: its results, and its teacher as pages show one.

    Attributes:
        results: what ``results.json`` holds.
        teacher: the first teacher.
        own: settings that single methods have of their own, by method, as partial trees.
    """

    results: ComparisonResults
    teacher: Optional[ShownStage]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def means(self) -> dict[str, Spread]:
        """Return the test MRR of each group; see ``groups``."""
        return {name: Spread.of([row.mrr for row in rows]) for name, rows in self.groups().items()}

    def clearly_best(self) -> Optional[str]:
        """Return the group whose mean MRR is above all others by more than both deviations.

        None where there is none such, and where there is one seed.
        """
        first, *others = sorted(self.means().items(), key=lambda each: -each[1].mean)
        clear = all(
            None not in (first[1].deviation, other.deviation)
            and first[1].mean - other.mean > (first[1].deviation or 0) + (other.deviation or 0)
            for _, other in others
        )
        return first[0] if others and clear else None

    def own_lines(self) -> list[str]:
        """Return a line for each method that has settings of its own."""
        lines = []
        for method, tree in self.own.items():
            said = (
                f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
                for key, value in flattened(tree).items()
            )
            lines.append(f"settings of {method} alone: {', '.join(said)}")
        return lines

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
        UserError: a file is missing or malformed; the message names it.
    """
    path, settings = directory / RESULTS_FILE, directory / "comparison.toml"
    found = read_comparison_results(path)
    teacher = found.teacher
    own = read_toml(settings).get("own", {}) if settings.is_file() else {}
    return ShownComparison(
        found,
        None if teacher is None else read_stage(teacher, path, "test", history=False),
        {method: tree for method, tree in own.items() if isinstance(tree, Mapping)},
    )
