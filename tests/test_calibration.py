"""Curves against scikit-learn's own, figures against loops."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from calibration_fixtures import RELATIONS, scores_of, toy
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from dglke_distill.base.errors import UserError
from dglke_distill.calibration import (
    CALIBRATIONS,
    brier_score,
    expected_calibration_error,
    reliability,
)
from dglke_distill.calibration import fitting as calibrating
from dglke_distill.calibration.fitting import calibrated
from dglke_distill.calibration.settings import CalibrationSettings
from dglke_distill.data.triples import Dataset, Triples


class Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose decision is its only feature."""

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Scores:
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, x: Any) -> Any:
        return (x[:, 0] > 0).astype(int)

    def decision_function(self, x: Any) -> Any:
        return x[:, 0]


def sklearns(method: str, scores: Any, labels: Any, weight: Any) -> Any:
    """scikit-learn's calibration of scores that are there already, as a function of scores."""
    from sklearn.frozen import FrozenEstimator

    made = CalibratedClassifierCV(FrozenEstimator(Scores().fit(None, None)), method=method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Since FrozenEstimator does not appear")
        made.fit(scores[:, None], labels.astype(int), sample_weight=weight)
    return lambda asked: made.predict_proba(asked[:, None])[:, 1]


def sample(seed: int, count: int = 400, weighted: bool = True) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.3
    scores = rng.normal(size=count) * 3 - 20 + 4 * labels
    weight = rng.uniform(0.1, 5, count) if weighted else np.ones(count)
    return scores, labels, weight


# --- curves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "theirs"), [("platt", "sigmoid"), ("isotonic", "isotonic")])
def test_curves_are_those_of_sklearns_calibrated_classifier(
    name: str, theirs: str, weighted: bool
) -> None:
    method = CALIBRATIONS.find(name)()
    for seed in range(3):
        scores, labels, weight = sample(seed, weighted=weighted)
        curve = method.fit(scores, labels, weight)
        assert method.check(curve) == ""
        asked = np.linspace(-60, 20, 500)
        expected = sklearns(theirs, scores, labels, weight)(asked)
        assert method.probability(asked, curve) == pytest.approx(expected, abs=2e-4)


def test_platt_is_logistic_regression_on_much_data_and_meets_its_own_equations() -> None:
    scores, labels, weight = sample(5, 5_000)
    method = CALIBRATIONS.find("platt")()
    curve = method.fit(scores, labels, weight)
    plain = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        scores[:, None], labels, sample_weight=weight
    )
    expected = plain.predict_proba(scores[:, None])[:, 1]
    found = method.probability(scores, curve)
    assert found == pytest.approx(expected, abs=2e-3)
    facts, negatives = weight[labels].sum(), weight[~labels].sum()
    target = np.where(labels, (facts + 1) / (facts + 2), 1 / (negatives + 2))
    assert (weight * (found - target)).sum() == pytest.approx(0, abs=1e-4)
    assert (weight * (found - target) * scores).sum() == pytest.approx(0, abs=1e-2)


def test_isotonic_is_sklearns_regression() -> None:
    scores, labels, weight = sample(6)
    scores = np.round(scores)  # with ties
    method = CALIBRATIONS.find("isotonic")()
    curve = method.fit(scores, labels, weight)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels, weight)
    asked = np.linspace(-40, 10, 333)
    assert method.probability(asked, curve) == pytest.approx(theirs.predict(asked), abs=1e-12)


@pytest.mark.parametrize("name", ["platt", "isotonic"])
def test_curves_never_fall_and_hold_at_extremes(name: str) -> None:
    method = CALIBRATIONS.find(name)()
    scores, labels, weight = sample(7)
    labels = scores < np.median(scores)  # the wrong way round
    curve = method.fit(scores, labels, weight)
    share = np.average(labels, weights=weight)
    assert method.probability(np.array([-1e300, 0, 1e300]), curve) == pytest.approx(
        [share] * 3, abs=5e-3
    )
    apart = np.where(labels, 5.0, -5.0)  # perfectly apart
    curve = method.fit(apart, labels, weight)
    low, high = method.probability(np.array([-5.0, 5.0]), curve)
    assert 0 <= low < 0.01 and 0.99 < high <= 1 and np.isfinite([low, high]).all()
    flat = method.fit(np.full(len(labels), 3.0), labels, weight)
    assert method.probability(np.array([3.0, 9.0]), flat) == pytest.approx([share] * 2, abs=5e-3)
    assert method.probability(np.array([-1e308, 1e308]), curve) == pytest.approx([0, 1], abs=0.01)


# --- figures ------------------------------------------------------------------------------------


def test_expected_calibration_error_is_what_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    for bins in (1, 2, 10, 15):
        p = rng.random(500)
        p[:6] = [0, 1, 0.1, 0.5, 0.2, 0.3]
        labels, weight = rng.random(500) < p**2, rng.uniform(0.1, 3, 500)
        edges = np.linspace(0, 1, bins + 1)
        error = 0.0
        for i in range(bins):
            last = i == bins - 1
            inside = [j for j in range(500) if edges[i] <= p[j] and (last or p[j] < edges[i + 1])]
            w = sum(weight[j] for j in inside)
            if w:
                predicted = sum(weight[j] * p[j] for j in inside) / w
                observed = sum(weight[j] * labels[j] for j in inside) / w
                error += w / weight.sum() * abs(predicted - observed)
        assert expected_calibration_error(p, labels, weight, bins) == pytest.approx(error)
        assert brier_score(p, labels, weight) == pytest.approx(
            brier_score_loss(labels, p, sample_weight=weight)
        )


def test_bins_of_a_reliability_plot_are_sklearns() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(400) ** 3
    labels = rng.random(400) < p
    observed, predicted = calibration_curve(labels, p, n_bins=10)
    found = reliability(p, labels, np.ones(400))
    assert [one.observed for one in found] == pytest.approx(observed)
    assert [one.predicted for one in found] == pytest.approx(predicted)
    assert sum(one.share for one in found) == pytest.approx(1)


# --- a model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("name", "theirs"), [("platt", "sigmoid"), ("isotonic", "isotonic")])
@pytest.mark.parametrize("per_positive", [None, 7.0])
def test_each_relation_has_the_curve_that_sklearn_fits_to_its_scores(
    name: str, theirs: str, reciprocal: bool, per_positive: Any
) -> None:
    model, data = toy(reciprocal)
    settings = CalibrationSettings(name, "dataset", per_positive=per_positive, fewest=20, seed=3)
    found = calibrated(model, data, settings)
    true, false = data.valid.to_array(), data.valid_negatives.to_array()  # type: ignore[union-attr]
    rows = np.concatenate([true, false])
    labels = np.arange(len(rows)) < len(true)
    n = len(false) / len(true) if per_positive is None else per_positive
    weight = np.where(labels, 1.0, n * len(true) / len(false))
    asked = np.linspace(-8, 8, 50)
    sides = ("tail", "head") if reciprocal else ("tail",)
    assert found.curve_of.shape == (len(sides), RELATIONS)
    for side in sides:
        scores = scores_of(model, rows, side)
        for relation in range(RELATIONS):
            own = rows[:, 1] == relation
            few = min(labels[own].sum(), (~labels[own]).sum()) < 20
            assert found.is_pooled(relation, side) == few == (relation == 3)  # type: ignore[arg-type]
            part = np.ones(len(rows), bool) if few else own
            expected = sklearns(theirs, scores[part], labels[part], weight[part])(asked)
            got = found.probability(
                torch.from_numpy(asked),
                torch.full((50,), relation),
                side,  # type: ignore[arg-type]
            )
            assert got.numpy() == pytest.approx(expected, abs=5e-4)


def test_figures_are_of_held_out_facts_and_weigh_the_base_rate() -> None:
    model, data = toy()
    found = calibrated(model, data, CalibrationSettings("platt", "dataset", per_positive=4.0))
    rows = np.concatenate([data.test.to_array(), data.test_negatives.to_array()])  # type: ignore[union-attr]
    labels = np.arange(len(rows)) < len(data.test)
    weight = np.where(labels, 1.0, 4.0 * len(data.test) / (~labels).sum())
    scores = scores_of(model, rows)
    after = found.probability(torch.from_numpy(scores), torch.from_numpy(rows[:, 1].astype(int)))
    held = found.about["held_out"]
    assert (held["split"], held["facts"], held["negatives"]) == ("test", 60, 100)
    said = {"before": 1 / (1 + np.exp(-scores)), "after": after.numpy()}
    for when, p in {**said, "base_rate": np.full(len(rows), 1 / 5)}.items():
        assert held[when]["brier_score"] == pytest.approx(
            brier_score_loss(labels, p, sample_weight=weight)
        )
        assert held[when]["expected_calibration_error"] == pytest.approx(
            expected_calibration_error(p, labels, weight), rel=1e-6, abs=1e-12
        )
    assert (
        held["after"]["expected_calibration_error"] < held["before"]["expected_calibration_error"]
    )
    total = sum(one["share"] * one["observed"] for one in held["after"]["reliability"])
    assert total == pytest.approx(1 / 5)


def test_without_a_test_split_a_fifth_of_the_validation_facts_is_held_out() -> None:
    model, data = toy(test=0)
    found = calibrated(model, data, CalibrationSettings(seed=1))
    assert found.about["held_out"]["split"] == "valid"
    assert found.about["held_out"]["facts"] == 40
    assert found.about["fitted_on"]["facts"] == 160
    fit, held, _ = calibrating._facts(data, np.random.default_rng([1, 20_250]))
    both = {tuple(row) for row in np.concatenate([fit.to_array(), held.to_array()]).tolist()}
    assert both == {tuple(row) for row in data.valid.to_array().tolist()} and len(both) == 200


@pytest.mark.parametrize("sampler", ["uniform", "bernoulli", "degree", "typed"])
def test_sampled_negatives_are_no_facts_and_differ_in_one_place(sampler: str) -> None:
    _, data = toy()
    settings = CalibrationSettings(negatives=sampler, drawn=3).checked()
    drawn = calibrating._drawn(data, settings, data.valid, 0).to_array().tolist()
    facts = {
        tuple(row)
        for split in (data.train, data.valid, data.test)
        for row in split.to_array().tolist()
    }
    valid = data.valid.to_array().tolist()
    heads, tails = ({(row[0], row[1]) for row in valid}, {(row[1], row[2]) for row in valid})
    assert len(drawn) > 4 * len(valid)
    for h, r, t in drawn:
        assert (h, r, t) not in facts
        assert (h, r) in heads or (r, t) in tails
    again = calibrating._drawn(data, settings, data.valid, 0).to_array().tolist()
    other = calibrating._drawn(data, settings, data.valid, 1).to_array().tolist()
    assert again == drawn and other != drawn


def test_the_mean_probability_is_the_base_rate_that_was_asked_for() -> None:
    model, data = toy()
    for n in (1.0, 50.0):
        found = calibrated(model, data, CalibrationSettings(per_positive=n, fewest=10**6))
        observed = sum(
            one["share"] * one["observed"]
            for one in found.about["held_out"]["after"]["reliability"]
        )
        assert observed == pytest.approx(1 / (1 + n))
        rows = calibrating._drawn(data, CalibrationSettings(), data.valid, 0).to_array()
        rows = np.concatenate([data.valid.to_array(), rows])
        labels = np.arange(len(rows)) < len(data.valid)
        weight = np.where(labels, 1.0, n * labels.sum() / (~labels).sum())
        p = found.probability(
            torch.from_numpy(scores_of(model, rows)), torch.from_numpy(rows[:, 1].astype(int))
        )
        assert np.average(p.numpy(), weights=weight) == pytest.approx(1 / (1 + n), rel=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "plat"}, "--method: unknown calibration method 'plat'; did you mean 'platt'"),
        ({"negatives": "unifrm"}, "--negatives 'unifrm': give a sampler (uniform,"),
        ({"per_positive": 0}, "--negatives-per-positive 0: give a number from 1e-6"),
        ({"per_positive": float("nan")}, "--negatives-per-positive nan"),
        ({"per_positive": float("inf")}, "--negatives-per-positive inf"),
        ({"per_positive": -1.0}, "--negatives-per-positive -1.0"),
        ({"drawn": 0}, "--drawn 0"),
        ({"fewest": 1}, "--fewest 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(change: dict[str, Any], said: str) -> None:
    model, data = toy()
    with pytest.raises(UserError) as error:
        calibrated(model, data, CalibrationSettings(**change))
    assert said in str(error.value)


def test_too_little_data_is_named() -> None:
    model, data = toy()
    few = Dataset("toy", data.entities, data.relations, data.train, data.valid[:4], data.test)
    with pytest.raises(UserError, match="4 validation facts to calibrate on, which is too few"):
        calibrated(model, few, CalibrationSettings())
    with pytest.raises(UserError, match="no known-false triples"):
        calibrated(model, Dataset("toy", data.entities, data.relations, data.train, data.valid,
                                  data.test), CalibrationSettings(negatives="dataset"))  # fmt: skip
    negatives = Triples.from_array(
        np.concatenate([data.valid_negatives.to_array(), data.test.to_array()[:1]])  # type: ignore[union-attr]
    )
    with pytest.raises(UserError, match="is a fact of the test split; leave it out"):
        calibrated(model, data, CalibrationSettings(negatives="given"), negatives)
