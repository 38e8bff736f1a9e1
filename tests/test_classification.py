"""Triple classification against brute force and against scikit-learn called directly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.evaluate import NonFiniteScores, classify
from dglke_distill.evaluate.classification import choose_thresholds
from dglke_distill.models import build_model

ENTITIES, RELATIONS = 30, 5


def triples(rng, number, relations=RELATIONS):
    columns = (rng.integers(0, n, number) for n in (ENTITIES, relations, ENTITIES))
    return Triples.from_array(np.stack(list(columns), axis=1))


def made_up_dataset(rng, **changes):
    parts = {
        "train": triples(rng, 50),
        "valid": triples(rng, 60, RELATIONS - 1),  # the last relation has no valid triples
        "test": triples(rng, 80),
        "valid_negatives": triples(rng, 70, RELATIONS - 1),
        "test_negatives": triples(rng, 90),
        **changes,
    }
    names = [f"entity {i}" for i in range(ENTITIES)]
    relations = Vocabulary(size=RELATIONS, kind="relation")
    return Dataset("made up", Vocabulary(names), relations, **parts)


@given(
    st.lists(
        st.tuples(st.integers(-4, 4), st.booleans(), st.integers(0, 2)), min_size=1, max_size=30
    )
)
def test_thresholds_are_as_accurate_as_any_could_be(rows):
    scores, labels, relation = (np.array(column) for column in zip(*rows))
    scores = scores / 7
    thresholds = choose_thresholds(scores, labels, relation, 4)

    def best(chosen):
        tried = np.unique(np.concatenate([scores, [-1.0, 1.0]]))
        return max(np.mean((scores[chosen] >= t) == labels[chosen]) for t in tried)

    everything = np.ones(len(rows), bool)
    assert np.mean((scores >= thresholds.overall) == labels) == best(everything)
    for one in range(3):
        chosen = relation == one
        if chosen.any():
            accepted = scores[chosen] >= thresholds.by_relation[one]
            assert np.mean(accepted == labels[chosen]) == best(chosen)
        else:
            assert thresholds.by_relation[one] == thresholds.overall
    assert thresholds.by_relation[3] == thresholds.overall


def test_thresholds_by_hand():
    scores = np.array([3.0, 1.0, 5.0, 5.0, -2.0, -4.0])
    labels = np.array([True, False, False, False, True, True])
    thresholds = choose_thresholds(scores, labels, np.array([0, 0, 1, 1, 2, 2]), 3)
    assert thresholds.by_relation[0] == 2.0
    assert thresholds.by_relation[1] > 5.0
    assert thresholds.by_relation[2] == -4.0


def test_neighbouring_floats_are_told_apart():
    low = 1.0
    high = np.nextafter(low, 2.0)
    scores, labels = np.array([low, high]), np.array([False, True])
    threshold = choose_thresholds(scores, labels, np.array([0, 0]), 1).by_relation[0]
    assert ((scores >= threshold) == labels).all()


def test_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    dataset = made_up_dataset(rng)
    model = build_model(ModelConfig(name="DistMult", dim=8), ENTITIES, RELATIONS)
    model.reset(seed=0, scale=1.0)
    with torch.no_grad():  # quarters, so that sums are exact in any order and ties stay ties
        for parameter in model.parameters():
            parameter.copy_((parameter * 4).round() / 4)
    result = classify(model, dataset, batch_size=32)

    def direct(true, false):
        rows = np.concatenate([true.to_array(), false.to_array()])
        entity, relation = model.entity_embeddings.numpy(), model.relation_embeddings.numpy()
        scores = (entity[rows[:, 0]] * relation[rows[:, 1]] * entity[rows[:, 2]]).sum(axis=1)
        return scores, np.arange(len(rows)) < len(true), rows[:, 1]

    from sklearn import metrics  # not by every worker of the fast lane

    scores, labels, relation = direct(dataset.test, dataset.test_negatives)
    thresholds = choose_thresholds(
        *(np.asarray(v) for v in direct(dataset.valid, dataset.valid_negatives)), RELATIONS
    )
    accepted = scores >= thresholds.by_relation[relation]
    assert result.roc_auc == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert result.average_precision == pytest.approx(
        metrics.average_precision_score(labels, scores)
    )
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, accepted))
    assert result.f1 == pytest.approx(metrics.f1_score(labels, accepted))
    assert result.valid_accuracy > 0.55, "thresholds were chosen on these very triples"
    assert (result.true_triples, result.false_triples) == (80, 90)
    assert json.loads(json.dumps(result.to_dict()))["roc_auc"] == result.roc_auc


def test_a_dataset_without_false_triples_is_refused():
    rng = np.random.default_rng(0)
    model = build_model(ModelConfig(name="DistMult", dim=4), ENTITIES, RELATIONS)
    for missing in ("valid_negatives", "test_negatives"):
        with pytest.raises(UserError, match="'made up' has no known-false triples"):
            classify(model, made_up_dataset(rng, **{missing: None}))


def test_scores_that_are_not_finite_are_refused():
    class Diverged:
        def score_triples(self, head, relation, tail):
            return torch.where(head == 7, torch.nan, 1.0)

    rng = np.random.default_rng(0)
    valid = Triples.from_array(np.array([[0, 0, 1], [7, 2, 3]]))
    with pytest.raises(NonFiniteScores, match=r"candidate 3 for the query \(7, 2, \?\) is nan"):
        classify(Diverged(), made_up_dataset(rng, valid=valid))
