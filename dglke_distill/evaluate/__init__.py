"""Measuring models: filtered ranking, relation categories and triple classification."""

from __future__ import annotations

from dglke_distill.evaluate.categories import CATEGORIES, relation_categories
from dglke_distill.evaluate.classification import ClassificationResult, classify
from dglke_distill.evaluate.metrics import Metrics, RankingResult
from dglke_distill.evaluate.ogb import evaluate_given, popularity_control
from dglke_distill.evaluate.protocols import PROTOCOLS, evaluate_by
from dglke_distill.evaluate.ranking import NonFiniteScores, ScoresAll, evaluate, evaluate_subset

__all__ = [
    "CATEGORIES",
    "PROTOCOLS",
    "ClassificationResult",
    "Metrics",
    "NonFiniteScores",
    "RankingResult",
    "ScoresAll",
    "classify",
    "evaluate",
    "evaluate_by",
    "evaluate_given",
    "evaluate_subset",
    "popularity_control",
    "relation_categories",
]
