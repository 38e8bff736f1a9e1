"""Calibrated scores: a curve per relation from scores to probabilities, and how good they are.

A score orders answers and says no more. A curve, fitted on validation facts and negatives, turns
the scores of one relation into probabilities (Tabacof, Costabello 2020, "Probability calibration
for knowledge graph embedding models"). Relations with few facts share one curve, the pooled one.
What is read from a checkpoint needs numpy and torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.groups import group
from dglke_distill.config import components
from dglke_distill.config.registry import Registry
from dglke_distill.data.triples import Side

Floats = NDArray[np.float64]
Bool = NDArray[np.bool_]
Curve = Mapping[str, Floats]
"""What a method has fitted: its arrays (m,) by name."""

BINS = 10
"""Bins of equal width that probabilities are put in for the expected calibration error."""

CALIBRATIONS: Registry[type[CalibrationMethod]] = components.CALIBRATIONS


class CalibrationMethod:
    """A way to make probabilities of scores: fits a rising curve, and reads it off.

    A subclass sets the class variables and writes ``fit``, ``check`` and ``probability``;
    ``config.components`` lists it. ``fit`` may need scikit-learn, the others must not.
    """

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    """Names of the arrays that a curve consists of."""
    fewest: ClassVar[int]
    """Facts, and negatives, that a relation needs for a curve of its own."""

    def fit(self, scores: Floats, labels: Bool, weight: Floats) -> dict[str, Floats]:
        """Fit a curve.

        Args:
            scores: (n,) finite scores.
            labels: (n,) whether each triple is true; both occur.
            weight: (n,) how much each counts, above 0.

        Returns:
            Arrays (m,) by the names of ``parts``, finite.
        """
        raise NotImplementedError

    def check(self, curve: Curve) -> str:
        """Return what is wrong with a curve that was read from a file; nothing where all is well.

        Args:
            curve: arrays of all ``parts``, float64, finite, of any length.
        """
        raise NotImplementedError

    def probability(self, scores: Floats, curve: Curve) -> Floats:
        """Return the probabilities (n,) of scores (n,), between 0 and 1, rising with the score.

        Args:
            scores: (n,) finite scores.
            curve: a sound one.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Calibration:
    """The curves of a model.

    A model with reciprocal relations scores a triple in two ways, as an answer to
    (head, relation, ?) and to (?, relation, tail), so that each relation has two curves.

    Attributes:
        method: name of the method.
        curves: all curves; several relations may share one.
        curve_of: int64 (directions, relations), the curve of each; the first row is of scores as
            answers to (head, relation, ?), a second one of scores as answers to
            (?, relation, tail).
        pooled: bool (directions, relations), whether the curve is that of all relations together.
        probe: int64 (p, 3), some triples.
        probe_scores: float64 (p,), their scores, by which the model is known again.
        about: how it was fitted, and the figures on held-out facts; what JSON can hold.
    """

    method: str
    curves: Sequence[Curve]
    curve_of: NDArray[np.int64]
    pooled: Bool
    probe: NDArray[np.int64]
    probe_scores: Floats
    about: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        relations = self.curve_of.shape[1]
        return f"Calibration({self.method}: {len(self.curves)} curves of {relations} relations)"

    def probability(self, scores: Tensor, relation: Tensor, side: Side = "tail") -> Tensor:
        """Return the probabilities of scores.

        Args:
            scores: floats of any shape, finite where a probability is wanted.
            relation: int64 ids of the relations, of the same shape.
            side: the side that was asked for when they were scored.

        Returns:
            float64 of the same shape, on the CPU; NaN where a score is not finite.
        """
        flat = scores.detach().double().cpu().numpy().ravel()
        rows = relation.cpu().numpy().ravel()
        direction = 1 if side == "head" and len(self.curve_of) == 2 else 0
        found = np.full(len(flat), np.nan)
        there = np.flatnonzero(np.isfinite(flat))
        method = CALIBRATIONS.find(self.method)()
        for number, places in group(self.curve_of[direction][rows[there]]).present():
            chosen = there[places]
            found[chosen] = method.probability(flat[chosen], self.curves[number])
        return torch.from_numpy(found).view(scores.shape)

    def is_pooled(self, relation: int, side: Side = "tail") -> bool:
        """Return whether a relation has no curve of its own."""
        return bool(self.pooled[1 if side == "head" and len(self.pooled) == 2 else 0, relation])


@dataclass(frozen=True)
class Reliability:
    """One bin of a reliability plot.

    Attributes:
        predicted: mean probability of what is in it.
        observed: share of it that is true.
        share: what share of everything is in it.
    """

    predicted: float
    observed: float
    share: float


def reliability(
    probability: Floats, labels: Bool, weight: Floats, bins: int = BINS
) -> list[Reliability]:
    """Return the bins that are not empty, of equal width, lowest probabilities first.

    A probability on the border of two bins belongs to the upper one, 1 to the last.

    Args:
        probability: (n,) between 0 and 1, n at least 1.
        labels: (n,) whether it came true.
        weight: (n,) how much each counts, above 0.
        bins: how many.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], probability, side="right")
    total, predicted, observed = (
        np.bincount(place, weights=weight * of, minlength=bins)
        for of in (np.ones(len(weight)), probability, labels)
    )
    return [
        Reliability(
            float(predicted[i] / total[i]),
            float(observed[i] / total[i]),
            float(total[i] / total.sum()),
        )
        for i in np.flatnonzero(total)
    ]


def expected_calibration_error(
    probability: Floats, labels: Bool, weight: Floats, bins: int = BINS
) -> float:
    """Return the mean distance of predicted from observed shares over bins of equal width.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
    binning"; bins count by their weight.

    Args:
        probability: as for ``reliability``.
        labels: as for ``reliability``.
        weight: as for ``reliability``.
        bins: as for ``reliability``.
    """
    found = reliability(probability, labels, weight, bins)
    return sum(one.share * abs(one.predicted - one.observed) for one in found)


def brier_score(probability: Floats, labels: Bool, weight: Floats) -> float:
    """Return the weighted mean of (probability - label) squared (Brier 1950)."""
    return float(np.average((probability - labels) ** 2, weights=weight))
