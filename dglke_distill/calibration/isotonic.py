"""Isotonic regression: the best curve of all that do not fall."""

from __future__ import annotations

import numpy as np

from dglke_distill.calibration.curves import Bool, CalibrationMethod, Curve, Floats


class Isotonic(CalibrationMethod):
    """The probability is read off straight lines between points that do not fall.

    Zadrozny, Elkan 2002, "Transforming classifier scores into accurate multiclass probability
    estimates". It takes any shape, and so more facts than Platt's curve; scores beyond those that
    it was fitted on have the probability at the end.
    """

    name = "isotonic"
    parts = ("score", "value")
    fewest = 100

    def fit(self, scores: Floats, labels: Bool, weight: Floats) -> dict[str, Floats]:
        """See ``CalibrationMethod.fit``."""
        from sklearn.isotonic import IsotonicRegression

        found = IsotonicRegression(y_min=0, y_max=1, increasing=True, out_of_bounds="clip")
        found.fit(scores, labels.astype(np.float64), sample_weight=weight)
        return {
            "score": np.asarray(found.X_thresholds_, np.float64),
            "value": np.asarray(found.y_thresholds_, np.float64),
        }

    def check(self, curve: Curve) -> str:
        """See ``CalibrationMethod.check``."""
        score, value = curve["score"], curve["value"]
        if len(score) != len(value) or not len(score):
            return "it needs as many scores as values, and at least one"
        if (np.diff(score) <= 0).any() or (np.diff(value) < 0).any():
            return "its points do not rise"
        return "a value is no probability" if value[0] < 0 or value[-1] > 1 else ""

    def probability(self, scores: Floats, curve: Curve) -> Floats:
        """See ``CalibrationMethod.probability``."""
        return np.interp(scores, curve["score"], curve["value"])
