"""What a comparison of methods left on disk, as typed values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from dglke_distill.report.fields import Fields, read_results
from dglke_distill.report.run_results import Dataset, Quality, Stage, read_dataset, read_stage

__all__ = ["ComparisonResults", "ComparisonRow", "Spread", "read_comparison"]


@dataclass(frozen=True)
class ComparisonRow:
    """One method with one seed.

    Attributes:
        training_seconds: of the model itself.
        chain_seconds: of the model and the students before it, all in all; the teacher that all
            methods share is not counted.
        share_of_teacher: its MRR over the teacher's.
        epochs: that it was trained for; None where the results do not tell.
    """

    method: str
    seed: int
    model: str
    floats_per_entity: int
    bytes_per_entity: int
    parameters: int
    quality: Quality
    training_seconds: float
    chain_seconds: Optional[float]
    share_of_teacher: Optional[float]
    epochs: Optional[int] = None

    @property
    def gain_key(self) -> str:
        """The key of its method's gain over ``direct`` in ``ComparisonResults.gains``."""
        return self.method


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
class ComparisonResults:
    """A finished comparison.

    Attributes:
        teacher_seconds: of all teachers that are shared.
        gains: by method, by what share it is better than ``direct``, over all seeds that both
            have, and the ends of the interval.
    """

    directory: Path
    dataset: Dataset
    teacher: Optional[Stage]
    teacher_seconds: Optional[float]
    rows: tuple[ComparisonRow, ...]
    provenance: dict[str, Any]
    data_warnings: tuple[str, ...] = ()
    gains: dict[str, tuple[float, Optional[float], Optional[float]]] = field(default_factory=dict)

    def groups(self) -> dict[str, list[ComparisonRow]]:
        """Return the rows per method and size, in the order of their first row.

        The keys tell what differs: the method, and model or floats where there are several.
        """
        models = len({row.model for row in self.rows}) > 1
        sizes = len({row.floats_per_entity for row in self.rows}) > 1
        found: dict[str, list[ComparisonRow]] = {}
        for row in self.rows:
            parts = [row.method]
            parts += [row.model] if models else []
            parts += [str(row.floats_per_entity)] if sizes else []
            found.setdefault(" ".join(parts), []).append(row)
        return found


def read_comparison(directory: Path) -> ComparisonResults:
    """Read the ``results.json`` of a comparison.

    Raises:
        UserError: the file is missing or malformed; the message names it.
    """
    fields = read_results(directory / "results.json", "comparison")
    teacher = fields.optional_object("teacher")
    gains = fields.optional_object("gains")
    return ComparisonResults(
        directory=directory,
        dataset=read_dataset(fields.object("dataset")),
        teacher=read_stage(teacher, directory, "test", history=False) if teacher.tree else None,
        teacher_seconds=fields.optional_number("teacher_seconds"),
        rows=tuple(_row(entry) for entry in fields.objects("rows")),
        provenance=fields.optional_object("provenance").tree,
        data_warnings=fields.texts("data_warnings"),
        gains={
            method: (gain.number("gain"), gain.optional_number("low"), gain.optional_number("high"))
            for method, gain in ((m, gains.object(m)) for m in gains)
        },
    )


def _row(entry: Fields) -> ComparisonRow:
    quality = (entry.number(key) for key in ("mrr", "hits_at_1", "hits_at_3", "hits_at_10"))
    return ComparisonRow(
        method=entry.text("method"),
        seed=entry.integer("seed"),
        model=entry.text("model"),
        floats_per_entity=entry.integer("floats_per_entity"),
        bytes_per_entity=entry.integer("bytes_per_entity"),
        parameters=entry.integer("parameters"),
        quality=Quality(*quality),
        training_seconds=entry.number("training_seconds"),
        chain_seconds=entry.optional_number("chain_seconds"),
        share_of_teacher=entry.optional_number("share_of_teacher"),
        epochs=None if entry.tree.get("epochs") is None else entry.integer("epochs"),
    )
