"""Platt scaling: a logistic curve of the score."""

from __future__ import annotations

from typing import Any

import numpy as np

from dglke_distill.calibration.curves import Bool, CalibrationMethod, Curve, Floats


class Platt(CalibrationMethod):
    """The probability is 1 / (1 + exp(-(slope * score + intercept))), slope not below 0.

    Platt 1999, "Probabilistic outputs for support vector machines", with its smoothed targets
    (facts + 1) / (facts + 2) and 1 / (negatives + 2), counted by weight: so that the slope is
    finite where scores tell facts and negatives apart perfectly.
    """

    name = "platt"
    parts = ("slope", "intercept")
    fewest = 20

    def fit(self, scores: Floats, labels: Bool, weight: Floats) -> dict[str, Floats]:
        """See ``CalibrationMethod.fit``."""
        facts, negatives = float(weight[labels].sum()), float(weight[~labels].sum())
        target = np.where(labels, (facts + 1) / (facts + 2), 1 / (negatives + 2))
        middle, spread = float(scores.mean()), float(scores.std())
        slope = 0.0
        if spread > 1e-12 * max(1.0, abs(middle)):
            slope, intercept = _logistic((scores - middle) / spread, target, weight)
            slope /= spread
            intercept -= slope * middle
        if slope <= 0:  # the best curve that does not fall is flat
            share = float(np.average(target, weights=weight))
            slope, intercept = 0.0, float(np.log(share / (1 - share)))
        return {"slope": np.array([slope]), "intercept": np.array([intercept])}

    def check(self, curve: Curve) -> str:
        """See ``CalibrationMethod.check``."""
        if any(len(curve[part]) != 1 for part in self.parts):
            return "it needs one slope and one intercept"
        return "its slope is below 0" if curve["slope"][0] < 0 else ""

    def probability(self, scores: Floats, curve: Curve) -> Floats:
        """See ``CalibrationMethod.probability``."""
        with np.errstate(over="ignore"):  # exp of a large number is infinite, the quotient 0
            found: Any = 1 / (1 + np.exp(-(curve["slope"] * scores + curve["intercept"])))
        return found  # type: ignore[no-any-return]


def _logistic(scores: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Return slope and intercept of the likeliest logistic curve for targets between 0 and 1."""
    from sklearn.linear_model import LogisticRegression

    # A target of .9 is nine tenths of a true triple and one of a false one, at the same score.
    both = np.concatenate([weight * target, weight * (1 - target)])
    truth = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    model.fit(np.tile(scores, 2)[:, None], truth, sample_weight=both)
    return float(model.coef_[0, 0]), float(model.intercept_[0])
