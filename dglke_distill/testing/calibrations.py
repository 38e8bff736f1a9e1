"""The contract of calibration methods."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Callable, Optional
from unittest import mock

import numpy as np

from dglke_distill.calibration import CALIBRATIONS, CalibrationMethod
from dglke_distill.calibration.curves import Bool, Curve, Floats
from dglke_distill.testing.common import check_name

Formula = Callable[[float, Mapping[str, list[float]]], float]
"""Takes a score and a curve, its arrays as lists; returns the probability."""

_FAR = np.array([-1e30, -1e6, 1e6, 1e30])


def check_calibration(
    kind: type[CalibrationMethod], formula: Optional[Formula] = None, *, equal: float = 1e-6
) -> None:
    """Check that curves rise, hold probabilities, come back from a file, and count weights.

    Scores are drawn that tell facts from negatives well, badly, perfectly, not at all, and the
    wrong way round.

    Args:
        kind: the class.
        formula: what makes a probability of a score and a curve, on plain floats; None: not
            compared.
        equal: largest difference of probabilities where a triple of weight 2 stands for two.
    """
    check_name(CALIBRATIONS, kind)
    assert kind.parts, "name in `parts` the arrays that a curve consists of"
    assert isinstance(kind.fewest, int) and kind.fewest >= 1, "say in `fewest` how few facts do"
    method = kind()
    for what, scores, labels, weight in _samples():
        curve = _fitted(method, scores, labels, weight, what)
        with _no_scikit_learn():
            fault = method.check(curve)
            assert not fault, f"{what}: its own curve is not sound: {fault}"
            _check_probabilities(method, curve, scores, formula, what)
        twice = np.repeat(np.arange(len(scores)), np.where(np.arange(len(scores)) % 3, 1, 2))
        heavy = np.where(np.arange(len(scores)) % 3, 1.0, 2.0) * weight
        one = method.probability(scores, _fitted(method, scores, labels, heavy, what))
        other = method.probability(
            scores, _fitted(method, scores[twice], labels[twice], weight[twice], what)
        )
        off = float(np.abs(one - other).max())
        assert off <= equal, f"{what}: a weight of 2 is not two triples, off by {off:.3g}"
    with _no_scikit_learn():
        _check_refusals(method)


def _samples() -> Iterator[tuple[str, Floats, Bool, Floats]]:
    """Yield scores, labels and weights of n triples."""
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3 == 0
    noise = random.normal(size=90)
    weight = random.uniform(0.5, 2.0, size=90)
    ones = np.ones(90)
    yield "scores that tell", noise + 2 * labels, labels, ones
    yield "weighted triples", noise + 2 * labels, labels, weight
    yield "large scores", 1e4 * (noise + labels) - 1e5, labels, ones
    yield "tied scores", np.round(noise + labels), labels, ones
    yield "scores that tell perfectly", 9.0 * labels + np.abs(noise), labels, ones
    yield "scores that tell nothing", noise, labels, ones
    yield "scores that tell the wrong way", noise - 2 * labels, labels, ones
    yield "equal scores", np.full(90, 0.25), labels, ones
    yield "two triples", np.array([0.0, 1.0]), np.array([False, True]), np.ones(2)


def _fitted(
    method: CalibrationMethod, scores: Floats, labels: Bool, weight: Floats, what: str
) -> Curve:
    """Fit a curve twice; return it as it comes back from a file."""
    given = scores.copy(), labels.copy(), weight.copy()
    made = [method.fit(*given) for _ in range(2)]
    same = all(np.array_equal(a, b) for a, b in zip(given, (scores, labels, weight)))
    assert same, f"{what}: fit changes what it is given"
    first, second = made
    assert set(first) == set(method.parts), f"{what}: fit returns {sorted(first)}, see `parts`"
    for part in method.parts:
        array = np.asarray(first[part])
        assert array.ndim == 1, f"{what}: {part} has {array.ndim} dimensions, a curve's have one"
        assert np.isfinite(array).all(), f"{what}: {part} is not finite"
        assert np.array_equal(array, second[part]), f"{what}: {part} differs the second time"
    return {part: np.array(first[part], np.float64) for part in method.parts}


def _check_probabilities(
    method: CalibrationMethod,
    curve: Curve,
    scores: Floats,
    formula: Optional[Formula],
    what: str,
) -> None:
    ends = scores.min() - 1, scores.max() + 1
    grid = np.sort(np.concatenate([scores, np.linspace(*ends, 200), _FAR]))
    with np.errstate(all="raise", under="ignore"):
        found = method.probability(grid, curve)
    assert found.shape == grid.shape, f"{what}: {found.shape} probabilities of {grid.shape} scores"
    assert np.isfinite(found).all(), f"{what}: a probability is not finite"
    assert ((found >= 0) & (found <= 1)).all(), f"{what}: a probability is below 0 or above 1"
    assert (np.diff(found) >= -1e-12).all(), f"{what}: the probability falls as the score rises"
    mixed = np.random.default_rng(1).permutation(len(grid))
    assert np.array_equal(method.probability(grid[mixed], curve), found[mixed]), (
        f"{what}: a probability hangs on the other scores"
    )
    assert method.probability(np.zeros(0), curve).shape == (0,), f"{what}: no scores at all"
    if formula is not None:
        plain = {part: array.tolist() for part, array in curve.items()}
        for score, probability in zip(grid.tolist(), found.tolist()):
            wanted = formula(score, plain)
            assert math.isclose(probability, wanted, rel_tol=1e-9, abs_tol=1e-12), (
                f"{what}: score {score:g} has probability {probability:.9g}, by the formula "
                f"{wanted:.9g}"
            )


def _check_refusals(method: CalibrationMethod) -> None:
    """Give curves as a file may hold them; what is called sound must then work."""
    random = np.random.default_rng(2)
    for _ in range(60):
        lengths = random.integers(0, 4, size=len(method.parts))
        curve = {
            part: random.choice([-1e300, -1.0, 0.0, 0.5, 1.0, 1e300], size=length)
            for part, length in zip(method.parts, lengths)
        }
        fault = method.check(curve)
        assert isinstance(fault, str), "check returns a text, empty where all is well"
        if not fault:
            what = f"the curve { ({p: a.tolist() for p, a in curve.items()}) }, which check accepts"
            with np.errstate(all="ignore"):
                found = method.probability(np.array([-1e30, -1.0, 0.0, 1.0, 1e30]), curve)
            assert ((found >= 0) & (found <= 1)).all(), f"{what}: no probability"
            assert (np.diff(found) >= 0).all(), f"{what}: the probability falls"
    empty = {part: np.zeros(0) for part in method.parts}
    assert method.check(empty), "check calls a curve of nothing sound"


@contextmanager
def _no_scikit_learn() -> Iterator[None]:
    """Within it scikit-learn cannot be imported: only ``fit`` may need it."""
    with mock.patch.dict("sys.modules", {"sklearn": None}):
        yield
