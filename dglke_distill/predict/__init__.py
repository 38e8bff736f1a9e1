"""Questions to a trained model, in names: what completes (Latvia, uses_currency, ?)."""

from __future__ import annotations

from dglke_distill.predict.named import (
    Candidates,
    Facts,
    NamedModel,
    Prediction,
    Predictions,
    Question,
)
from dglke_distill.predict.names import Name
from dglke_distill.predict.top_k import TopK

__all__ = [
    "Candidates",
    "Facts",
    "Name",
    "NamedModel",
    "Prediction",
    "Predictions",
    "Question",
    "TopK",
]
