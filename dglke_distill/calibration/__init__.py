"""Probabilities of scores: curves per relation, how they are fitted, and their file.

A method is a class in a file of its own and a line in ``config.components``. What reads a model
needs torch and numpy alone; ``calibration.fitting`` needs scikit-learn.
"""

from __future__ import annotations

from dglke_distill.calibration.curves import (
    CALIBRATIONS,
    Calibration,
    CalibrationMethod,
    Reliability,
    brier_score,
    expected_calibration_error,
    reliability,
)

__all__ = [
    "CALIBRATIONS",
    "Calibration",
    "CalibrationMethod",
    "Reliability",
    "brier_score",
    "expected_calibration_error",
    "reliability",
]
