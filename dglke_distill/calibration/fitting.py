"""Fitting the curves of a model on validation facts, and measuring them on held-out ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.groups import group
from dglke_distill.base.shown import plural
from dglke_distill.calibration.curves import (
    CALIBRATIONS,
    Bool,
    Calibration,
    Curve,
    Floats,
    brier_score,
    expected_calibration_error,
    reliability,
)
from dglke_distill.calibration.settings import DATASET_NEGATIVES, CalibrationSettings
from dglke_distill.data.checks import triple_keys
from dglke_distill.data.triples import SIDES, Dataset, Side, Triples
from dglke_distill.evaluate.triple_scores import score_in_batches
from dglke_distill.models.base import KGEModel

MOST_FACTS = 100_000
"""Facts of a split that are looked at; of more, as many are drawn."""

_FEWEST_FACTS = 10  # below, no curve says anything
_HELD_OUT = 5  # one fifth of what there is no other split for
_PROBES = 32
_FIT, _MEASURE = range(2)


@dataclass(frozen=True)
class _Sample:
    """Facts and negatives, and how much each counts.

    Attributes:
        triples: facts first.
        labels: (n,) whether each is a fact.
        weight: (n,).
    """

    triples: Triples
    labels: Bool
    weight: Floats


def calibrated(
    model: KGEModel,
    dataset: Dataset,
    settings: CalibrationSettings,
    given: Optional[Triples] = None,
) -> Calibration:
    """Fit the curves of a model on validation facts, and measure them on facts of the test split.

    Negatives are sampled, filtered by all known facts, or given. They are weighted so that there
    are ``per_positive`` for each fact, as Tabacof and Costabello (2020, section 4) weight
    corruptions by a given base rate. Where the test split has too few facts, a fifth of the
    validation facts is held out for the figures.

    Args:
        model: the model.
        dataset: its data, with its ids.
        settings: how.
        given: negatives, where ``settings.negatives`` is ``given``.

    Raises:
        UserError: too few validation facts, no negatives, or a negative that is a fact.
        NonFiniteScores: a score is NaN or infinite.
    """
    settings = settings.checked()
    rng = np.random.default_rng([settings.seed, 20_250])
    fit, held, split = _facts(dataset, rng)
    negatives = _negatives(dataset, settings, given, fit, held, split, rng)
    per_positive = settings.per_positive
    if per_positive is None:
        sampled = settings.negatives not in (DATASET_NEGATIVES, "given")
        per_positive = 1.0 if sampled else len(negatives[_FIT]) / len(fit)
    samples = [_sample(facts, false, per_positive) for facts, false in zip((fit, held), negatives)]
    sides: tuple[Side, ...] = ("tail", "head") if model.reciprocal else ("tail",)
    scores = [
        {side: score_in_batches(model, sample.triples, side=side) for side in sides}
        for sample in samples
    ]
    curves, curve_of, pooled = _fitted(dataset.num_relations, samples[_FIT], scores[_FIT], settings)
    probe = samples[_FIT].triples[np.arange(min(_PROBES, len(fit)))]
    about: dict[str, Any] = {
        "negatives": settings.negatives,
        "negatives_per_positive": per_positive,
        "asked_per_positive": settings.per_positive,
        "drawn": settings.drawn,
        "fewest": settings.fewest,
        "seed": settings.seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "fitted_on": {
            "split": "valid",
            "facts": len(fit),
            "negatives": len(negatives[_FIT]),
            "own_curves": int((~pooled).sum()),
            "curves": int(pooled.size),
        },
    }
    found = Calibration(
        settings.method,
        curves,
        curve_of,
        pooled,
        probe.to_array().astype(np.int64),
        scores[_FIT]["tail"][: len(probe)],
        about,
    )
    about["held_out"] = {
        "split": split,
        "facts": len(held),
        "negatives": len(negatives[_MEASURE]),
        **_figures(found, samples[_MEASURE], scores[_MEASURE]),
        "base_rate": {
            "expected_calibration_error": 0.0,
            "brier_score": per_positive / (1 + per_positive) ** 2,
        },
    }
    return found


def _facts(dataset: Dataset, rng: np.random.Generator) -> tuple[Triples, Triples, str]:
    """Return the facts to fit on, those held out, and the split that the latter are of."""
    valid = _some(dataset.valid, rng)
    if len(valid) < _FEWEST_FACTS:
        raise UserError(
            f"{dataset.name}: has {plural(len(valid), 'validation fact')} to calibrate on, which "
            f"is too few; {_FEWEST_FACTS} are needed"
        )
    if len(dataset.test) >= _FEWEST_FACTS:
        return valid, _some(dataset.test, rng), "test"
    order = rng.permutation(len(valid))
    first = max(1, len(valid) // _HELD_OUT)
    return valid[np.sort(order[first:])], valid[np.sort(order[:first])], "valid"


def _some(triples: Triples, rng: np.random.Generator) -> Triples:
    if len(triples) <= MOST_FACTS:
        return triples
    return triples[np.sort(rng.choice(len(triples), MOST_FACTS, replace=False))]


def _negatives(
    dataset: Dataset,
    settings: CalibrationSettings,
    given: Optional[Triples],
    fit: Triples,
    held: Triples,
    split: str,
    rng: np.random.Generator,
) -> tuple[Triples, Triples]:
    """Return the negatives to fit on and those held out."""
    if settings.negatives == DATASET_NEGATIVES:
        found = dataset.valid_negatives, dataset.test_negatives
        if not found[0] or not len(found[0]):
            raise UserError(
                f"--negatives {DATASET_NEGATIVES}: {dataset.name} has no known-false triples in "
                "valid; name a sampler, such as uniform, or a file by @FILE"
            )
        if split == "test" and found[1]:
            return found[0], found[1]
        given = found[0]
    if settings.negatives in (DATASET_NEGATIVES, "given"):
        assert given is not None
        given = _distinct_false(dataset, given)
        if len(given) < _FEWEST_FACTS:
            raise UserError(
                f"--negatives: {len(given)} are too few; {_FEWEST_FACTS} different ones are "
                "needed, since a fifth of them is held out for the figures"
            )
        order = rng.permutation(len(given))
        first = max(1, len(given) // _HELD_OUT)
        return given[np.sort(order[first:])], given[np.sort(order[:first])]
    return _drawn(dataset, settings, fit, _FIT), _drawn(dataset, settings, held, _MEASURE)


def _distinct_false(dataset: Dataset, given: Triples) -> Triples:
    """Return each negative once: a repeated one would be fitted on and held out as well."""
    sizes = dataset.num_entities, dataset.num_relations
    keys = triple_keys(given, *sizes)
    for split in ("train", "valid", "test"):
        facts = np.isin(keys, triple_keys(dataset.split(split), *sizes))
        if facts.any():
            row = int(np.argmax(facts))
            head, relation, tail = (int(of[row]) for of in (given.head, given.relation, given.tail))
            names = (
                dataset.entities[head],
                dataset.relations[relation],
                dataset.entities[tail],
            )
            raise UserError(
                f"--negatives: {', '.join(names)} is a fact of the {split} split; leave it out"
            )
    _, first = np.unique(keys, return_index=True)
    return given[np.sort(first)]


def _drawn(
    dataset: Dataset, settings: CalibrationSettings, facts: Triples, purpose: int
) -> Triples:
    """Return triples made from facts, one side replaced, none of them known."""
    from dglke_distill.data.graph import build_graph
    from dglke_distill.data.known_answers import KnownAnswers
    from dglke_distill.kernels.random import stream_key
    from dglke_distill.sampling.negatives import build_sampler

    relations = dataset.num_relations
    graph = build_graph(dataset.train, dataset.num_entities, num_relations=relations)
    sampler = build_sampler(
        settings.negatives,
        graph,
        relations,
        count=settings.drawn,
        sharing="private",
        filtered=True,
        entity_type=dataset.entity_type,
    )
    sampler.known = KnownAnswers.build(
        [dataset.train, dataset.valid, dataset.test], dataset.num_entities
    )
    head, relation, tail = (of.astype(np.int64) for of in (facts.head, facts.relation, facts.tail))
    parts = []
    for number, side in enumerate(SIDES):
        entity, answer = (head, tail) if side == "tail" else (tail, head)
        key = stream_key(settings.seed, purpose, number)
        candidates, known = sampler.draw(side, entity, relation, answer, key)
        rows, columns = np.nonzero(np.ones(candidates.shape, bool) if known is None else ~known)
        drawn = candidates[rows, columns]
        ends = (entity[rows], drawn) if side == "tail" else (drawn, entity[rows])
        parts.append(np.stack([ends[0], relation[rows], ends[1]], axis=1))
    found = np.concatenate(parts)
    if not len(found):
        raise UserError(
            f"--negatives {settings.negatives}: every triple that could be drawn is a fact; name "
            "another sampler, or a file by @FILE"
        )
    return Triples.from_array(found)


def _sample(facts: Triples, negatives: Triples, per_positive: float) -> _Sample:
    rows = np.concatenate([facts.to_array(), negatives.to_array()])
    labels = np.arange(len(rows)) < len(facts)
    each = per_positive * len(facts) / len(negatives)
    return _Sample(Triples.from_array(rows), labels, np.where(labels, 1.0, each))


def _fitted(
    relations: int,
    sample: _Sample,
    scores: dict[Side, Floats],
    settings: CalibrationSettings,
) -> tuple[list[Curve], NDArray[np.int64], Bool]:
    """Return the curves, the pooled one of each direction first, and which one a relation has."""
    method = CALIBRATIONS.find(settings.method)()
    fewest = method.fewest if settings.fewest is None else settings.fewest
    curves: list[Curve] = [method.fit(of, sample.labels, sample.weight) for of in scores.values()]
    curve_of = np.repeat(np.arange(len(scores)), relations).reshape(len(scores), relations)
    pooled = np.ones(curve_of.shape, np.bool_)
    for relation, rows in group(sample.triples.relation, relations).present():
        facts = int(sample.labels[rows].sum())
        if min(facts, len(rows) - facts) < fewest:
            continue
        for direction, of in enumerate(scores.values()):
            curve_of[direction, relation] = len(curves)
            pooled[direction, relation] = False
            curves.append(method.fit(of[rows], sample.labels[rows], sample.weight[rows]))
    return curves, curve_of, pooled


def _figures(
    calibration: Calibration, sample: _Sample, scores: dict[Side, Floats]
) -> dict[str, Any]:
    """Return the figures of scores as answers to (head, relation, ?), before and after.

    Before, a probability is the logistic function of the score, as without any calibration.
    """
    score = torch.from_numpy(scores["tail"])
    relation = torch.from_numpy(sample.triples.relation.astype(np.int64))
    made = {
        "before": torch.sigmoid(score).numpy(),
        "after": calibration.probability(score, relation).numpy(),
    }
    return {
        when: {
            "expected_calibration_error": expected_calibration_error(
                probability, sample.labels, sample.weight
            ),
            "brier_score": brier_score(probability, sample.labels, sample.weight),
            "reliability": [
                asdict(one) for one in reliability(probability, sample.labels, sample.weight)
            ],
        }
        for when, probability in made.items()
    }
