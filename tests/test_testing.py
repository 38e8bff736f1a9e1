"""The published contracts: our own components keep them, and what does not is found out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_formulas import IDS, REFERENCES, VARIANTS, fill_core, reference
from pydantic import ConfigDict
from test_distill_soft import CASES as SOFT_CASES
from test_losses import CASES as LOSS_CASES
from test_losses import sigmoid, softmax

from dglke_distill import testing
from dglke_distill.calibration import CALIBRATIONS
from dglke_distill.calibration.isotonic import Isotonic
from dglke_distill.calibration.platt import Platt
from dglke_distill.compression import STORAGES
from dglke_distill.compression.int8 import Int8
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.sources import DatasetSource
from dglke_distill.distill.methods import METHODS, IterDE
from dglke_distill.distill.schedules import SCHEDULES, Constant
from dglke_distill.distill.soft import SOFT_LOSSES, Huber
from dglke_distill.interop import FORMATS
from dglke_distill.interop.npz import NumPyArchive
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.models.distmult import DistMult
from dglke_distill.testing.common import ring
from dglke_distill.training.losses import LOSSES, LogisticLoss


def product(h: list[float], r: list[float], t: list[float]) -> float:
    return sum(a * b * c for a, b, c in zip(h, r, t))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_score_functions(name: str, options: Any) -> None:
    def formula(h: Any, r: Any, t: Any, **given: Any) -> float:
        return reference(name, given, h, r, t)

    kind = SCORE_FUNCTIONS.find(name)
    dim = 8 if name != "MEIM" else 12
    testing.check_score_function(kind, formula, options=options, dim=dim, prepare=fill_core)


def test_every_score_function_is_among_them() -> None:
    assert {name for name, _ in VARIANTS} == set(REFERENCES) == set(SCORE_FUNCTIONS)


@pytest.mark.parametrize(("name", "options", "formula"), LOSS_CASES)
def test_losses(name: str, options: Any, formula: Any) -> None:
    scale = options.get("scale", 1.0)

    def entropy(scores: list[float], answers: list[int], **given: Any) -> float:
        shares = softmax([scale * score for score in scores])
        return -sum(math.log(shares[answer]) for answer in answers)

    def binary(scores: list[float], answers: list[int], **given: Any) -> float:
        signs = [1 if i in answers else -1 for i in range(len(scores))]
        return -sum(math.log(sigmoid(sign * score)) for sign, score in zip(signs, scores))

    testing.check_loss(
        LOSSES.find(name),
        lambda positive, negatives, **given: formula(positive, negatives),
        over_all={"softmax": entropy, "bce": binary}.get(name),
        options=options,
        detached="temperature" in options,
    )


@pytest.mark.parametrize(("name", "options", "formula"), SOFT_CASES)
def test_soft_losses(name: str, options: Any, formula: Any) -> None:
    testing.check_soft_loss(SOFT_LOSSES.find(name), formula, options=options)


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    testing.check_method(METHODS.find(name))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    testing.check_schedule(SCHEDULES.find(name))


@pytest.mark.parametrize(
    ("name", "error"),
    [("float32", 0.0), ("float16", 1e-3), ("int8", 0.006), ("pq", 0.5), ("binary", 0.6)],
)
def test_storages(name: str, error: float) -> None:
    testing.check_storage(STORAGES.find(name), error)


@pytest.mark.parametrize("name", FORMATS)
def test_export_formats(name: str, tmp_path: Path) -> None:
    testing.check_export_format(FORMATS.find(name), tmp_path)


def logistic_curve(score: float, curve: Any) -> float:
    z = curve["slope"][0] * score + curve["intercept"][0]
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def steps(score: float, curve: Any) -> float:
    points = list(zip(curve["score"], curve["value"]))
    if score <= points[0][0]:
        return float(points[0][1])
    for (x, y), (u, v) in zip(points, points[1:]):
        if score <= u:
            return float(y + (v - y) * (score - x) / (u - x))
    return float(points[-1][1])


@pytest.mark.parametrize(("name", "formula"), [("platt", logistic_curve), ("isotonic", steps)])
def test_calibrations(name: str, formula: Any) -> None:
    testing.check_calibration(CALIBRATIONS.find(name), formula)


# --- what does not keep to them -----------------------------------------------------------------


class OneSided(DistMult):
    def query(self, entity: Any, relation: Any, side: str) -> Any:
        return entity * relation * (2 if side == "head" else 1)


class NotFinite(DistMult):
    def query(self, entity: Any, relation: Any, side: str) -> Any:
        return entity * relation + 0 * (entity - 0.5).square().sum(1, keepdim=True).sqrt()


class CountsKnown(LogisticLoss):
    name = "counts_known"

    def __call__(self, batch: Any) -> Any:
        return super().__call__(batch._replace(known=None))


class Doubled(Huber):
    name = "doubled"

    def rows(self, student: Any, teacher: Any) -> Any:
        return 2 * super().rows(student, teacher)


class Rising(IterDE):
    name = "rising"

    def dims(self, dims: Any) -> list[int]:
        return [dims[0], 2 * dims[0], dims[-1]]


class Negative(Constant):
    name = "negative"

    def weight(self, moment: Any, hard: float, soft: float) -> float:
        return 0.5 - moment.progress


class Understated(Int8):
    @property
    def bytes_per_row(self) -> int:
        return self.dim


class Untidy(NumPyArchive):
    name = "untidy"

    def write(self, loaded: Any, options: Any, place: Path) -> None:
        super().write(loaded, options, place)
        with torch.no_grad():
            loaded.model.relation_weight.zero_()


class TakesAll(DistMult):
    class Options(NoOptions):
        model_config = ConfigDict(extra="ignore")


class Random(DatasetSource):
    name = "random"
    licence = "CC0-1.0"

    def load(self) -> Any:
        return ring(int(torch.randint(8, 1000, ())))


class Falling(Platt):
    name = "falling"

    def probability(self, scores: Any, curve: Any) -> Any:
        return 1 - super().probability(scores, curve)


class Unweighted(Platt):
    name = "unweighted"

    def fit(self, scores: Any, labels: Any, weight: Any) -> Any:
        return super().fit(scores, labels, np.ones(len(scores)))


class Trusting(Isotonic):
    name = "trusting"

    def check(self, curve: Any) -> str:
        return ""


class NeedsMuch(Platt):
    name = "needs_much"

    def probability(self, scores: Any, curve: Any) -> Any:
        import sklearn  # noqa: F401

        return super().probability(scores, curve)


def huber(student: list[float], teacher: list[float]) -> float:
    off = [abs(s - t) for s, t in zip(student, teacher)]
    return sum(0.5 * x * x if x <= 1 else x - 0.5 for x in off) / len(off)


def logistic(positive: float, negatives: list[float]) -> float:
    false = sum(-math.log(sigmoid(-n)) for n in negatives) / len(negatives)
    return 0.5 * (-math.log(sigmoid(positive)) + false)


def steps_of_none(score: float, curve: Any) -> float:
    return 0.5


@pytest.mark.parametrize(("kind", "error"), [(NeedsMuch, ImportError), (Trusting, Exception)])
def test_a_calibration_that_trusts_files_or_needs_scikit_learn(kind: Any, error: Any) -> None:
    with pytest.raises(error):
        testing.check_calibration(kind)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda _: testing.check_score_function(OneSided, product), "OneSided: scores of heads"),
        (lambda _: testing.check_score_function(NotFinite, product), "equal vectors"),
        (lambda _: testing.check_score_function(TakesAll, product), "an unknown option is taken"),
        (lambda _: testing.check_loss(CountsKnown, logistic), "known facts among the negatives"),
        (lambda _: testing.check_soft_loss(Doubled, huber), "doubled: rows"),
        (lambda _: testing.check_method(Rising), "which rise"),
        (lambda _: testing.check_schedule(Negative), "negative: the weight is -"),
        (lambda _: testing.check_storage(Understated, 0.006), "80 rows take"),
        (lambda _: testing.check_storage(Int8, 0.001), "off by"),
        (lambda place: testing.check_export_format(Untidy, place), "untidy|other bytes|changed"),
        (lambda _: testing.check_dataset(Random), "other triples"),
        (lambda _: testing.check_calibration(Falling), "the probability falls as the score rises"),
        (lambda _: testing.check_calibration(Unweighted), "a weight of 2 is not two triples"),
        (lambda _: testing.check_calibration(Platt, steps_of_none), "by the formula 0.5"),
    ],
)  # fmt: skip
def test_what_breaks_a_contract_is_found_out(check: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=words):
        check(tmp_path)


def test_a_dataset_and_a_class_that_is_not_registered() -> None:
    class Ring(DatasetSource):
        name = "ring"
        licence = "CC0-1.0"

        def load(self) -> Any:
            return ring()

    testing.check_dataset(Ring)

    class Own(DistMult):
        pass

    testing.check_score_function(Own, product)
    assert not SCORE_FUNCTIONS.knows("Own")
