"""Triple classification: is this triple true or false?

Needs known-false triples, as CoDEx ships them (Safavi, Koutra 2020, "CoDEx: a comprehensive
knowledge graph completion benchmark"). Each relation has its own threshold, chosen on the valid
split (Socher, Chen, Manning, Ng 2013, "Reasoning with neural tensor networks for knowledge base
completion"), because scores of different relations do not compare.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.groups import group
from dglke_distill.data.triples import Dataset, Triples
from dglke_distill.evaluate.triple_scores import ScoresTriples, score_in_batches

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]
Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The score from which on a triple counts as true.

    Attributes:
        overall: chosen over all relations; for relations without valid triples.
        by_relation: float64 array of shape (R,), ``overall`` where there was nothing to choose by.
    """

    overall: float
    by_relation: Floats


@dataclass(frozen=True)
class ClassificationResult:
    """Figures on the test split's true and false triples.

    Attributes:
        roc_auc: area under the ROC curve of the raw scores, over all relations together.
        average_precision: of the raw scores, over all relations together.
        accuracy: with the thresholds of each relation.
        f1: of the true class, with the thresholds of each relation.
        valid_accuracy: as ``accuracy``, on the split that chose the thresholds.
        true_triples: number of true test triples.
        false_triples: number of false test triples.
        seconds: wall clock time.
    """

    roc_auc: float
    average_precision: float
    accuracy: float
    f1: float
    valid_accuracy: float
    true_triples: int
    false_triples: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures in the form of ``results.json``."""
        return asdict(self)


def _best_threshold(scores: Floats, labels: Labels) -> float:
    """Return the threshold of highest accuracy; of several, the one that accepts fewest.

    It lies half way between two neighbouring scores, above all of them, or at the lowest.
    """
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    # Accepting the first k: right are the true ones among them and the false ones after them.
    right = np.concatenate([[0], np.cumsum(np.where(labels, 1, -1))])
    possible = np.ones(len(right), np.bool_)
    possible[1:-1] = scores[1:] < scores[:-1]
    k = int(np.argmax(np.where(possible, right, -len(right))))
    if k == 0:
        return float(np.nextafter(scores[0], np.inf))
    if k == len(scores):
        return float(scores[-1])
    middle = scores[k] + (scores[k - 1] - scores[k]) / 2
    return float(middle if middle > scores[k] else scores[k - 1])


def choose_thresholds(
    scores: Floats, labels: Labels, relation: Ids, num_relations: int
) -> Thresholds:
    """Choose for each relation the threshold of highest accuracy.

    Args:
        scores: (n,) finite scores of valid triples, n at least 1.
        labels: (n,) whether they are true.
        relation: (n,) relation ids.
        num_relations: number of relations R.
    """
    overall = _best_threshold(scores, labels)
    by_relation = np.full(num_relations, overall)
    for one, rows in group(relation).present():
        by_relation[one] = _best_threshold(scores[rows], labels[rows])
    return Thresholds(overall, by_relation)


def classification_metrics(
    scores: Floats, labels: Labels, relation: Ids, thresholds: Thresholds
) -> dict[str, float]:
    """Return ``roc_auc``, ``average_precision``, ``accuracy`` and ``f1`` of (n,) scored triples."""
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

    accepted = scores >= thresholds.by_relation[relation]
    return {
        "roc_auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "accuracy": float(accuracy_score(labels, accepted)),
        "f1": float(f1_score(labels, accepted)),
    }


def classify(
    model: ScoresTriples, dataset: Dataset, *, batch_size: int = 8192
) -> ClassificationResult:
    """Choose thresholds on the valid triples and their negatives, and report on the test ones.

    Args:
        model: scores triples; a module is put into evaluation mode for the duration.
        dataset: one with ``valid_negatives`` and ``test_negatives``.
        batch_size: triples scored at once.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
        UserError: the dataset has no false triples.
    """
    valid_negatives, test_negatives = dataset.valid_negatives, dataset.test_negatives
    if not valid_negatives or not test_negatives:
        raise UserError(
            f"dataset {dataset.name!r} has no known-false triples in valid and test, which triple "
            "classification needs; use one that has them, such as codex-s"
        )
    started = time.perf_counter()
    valid = _scored(model, dataset.valid, valid_negatives, batch_size)
    thresholds = choose_thresholds(*valid, dataset.num_relations)
    test = _scored(model, dataset.test, test_negatives, batch_size)
    return ClassificationResult(
        **classification_metrics(*test, thresholds),
        valid_accuracy=classification_metrics(*valid, thresholds)["accuracy"],
        true_triples=len(dataset.test),
        false_triples=len(test_negatives),
        seconds=time.perf_counter() - started,
    )


def _scored(
    model: ScoresTriples, true: Triples, false: Triples, batch_size: int
) -> tuple[Floats, Labels, Ids]:
    """Return scores, labels and relations of the true triples followed by the false ones."""
    triples = Triples.from_array(np.concatenate([true.to_array(), false.to_array()]))
    scores = score_in_batches(model, triples, batch_size)
    return scores, np.arange(len(triples)) < len(true), triples.relation
