"""How a model is calibrated, as a user says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.calibration.curves import CALIBRATIONS
from dglke_distill.config.components import NEGATIVE_SAMPLERS

DATASET_NEGATIVES = "dataset"
"""The word for the known-false triples that ship with a dataset."""


@dataclass(frozen=True)
class CalibrationSettings:
    """How a model is calibrated.

    Attributes:
        method: a name in ``calibration.CALIBRATIONS``.
        negatives: a negative sampler, ``dataset`` for the known-false triples that ship with the
            data, or ``given``.
        per_positive: how many negatives there are for each fact where the probabilities will be
            used: the positive base rate is 1 / (1 + per_positive). None: 1 of sampled negatives,
            otherwise as many as there are.
        drawn: negatives drawn per fact and side; they are weighted to make ``per_positive``.
        fewest: facts, and negatives, that a relation needs for a curve of its own; None: the
            method's own number.
        seed: of what is drawn.
    """

    method: str = "platt"
    negatives: str = "uniform"
    per_positive: Optional[float] = None
    drawn: int = 10
    fewest: Optional[int] = None
    seed: int = 0

    def checked(self) -> CalibrationSettings:
        """Return the settings with names as published.

        Raises:
            UserError: an unknown name, or a number out of range.
        """
        if self.per_positive is not None and not 1e-6 <= self.per_positive <= 1e9:
            raise UserError(
                f"--negatives-per-positive {self.per_positive}: give a number from 1e-6 to 1e9, "
                "such as 1, or the number of entities"
            )
        if not 1 <= self.drawn <= 10_000:
            raise UserError(f"--drawn {self.drawn}: give 1 to 10000 negatives per fact and side")
        if self.fewest is not None and self.fewest < 2:
            raise UserError(f"--fewest {self.fewest}: a curve needs at least 2 facts")
        method, negatives = CALIBRATIONS.spell(self.method), self.negatives
        if negatives not in (DATASET_NEGATIVES, "given"):
            if not NEGATIVE_SAMPLERS.knows(negatives):
                raise UserError(
                    f"--negatives {negatives!r:.100}: give a sampler ("
                    f"{', '.join(NEGATIVE_SAMPLERS.names())}), {DATASET_NEGATIVES}, or @FILE"
                )
            negatives = NEGATIVE_SAMPLERS.spell(negatives)
        return replace(self, method=method, negatives=negatives)
