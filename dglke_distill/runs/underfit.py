"""Signs that a training has learned next to nothing, which a figure alone does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from dglke_distill.data.ogb import OgbDataset
from dglke_distill.evaluate import evaluate_subset
from dglke_distill.evaluate.popularity import RelationPopularity
from dglke_distill.runs.workspace import Workspace

_RANKED = 1000
"""Validation triples that relation popularity is ranked on."""
_MOVED = 0.01
"""The share by which a loss must have changed."""


def underfit_warnings(
    history: Sequence[Mapping[str, float]], reached: Optional[float], workspace: Workspace
) -> list[str]:
    """Return lines about a model that is no better than relation popularity, or has not moved.

    Args:
        history: a record per epoch.
        reached: its best validation MRR, if there is one.
        workspace: the data.
    """
    lines = []
    if len(history) > 1:
        first, last = history[0]["loss"], history[-1]["loss"]
        if abs(last - first) < _MOVED * abs(first):
            lines.append(
                f"underfitted: the loss has hardly moved, from {first:.4g} to {last:.4g}; try "
                "more epochs, a higher learning rate, or dglke-distill tune"
            )
    dataset = workspace.dataset
    if reached is not None and len(dataset.valid) and not isinstance(dataset, OgbDataset):
        popular = RelationPopularity(dataset.train, dataset.num_entities, dataset.num_relations)
        found = evaluate_subset(popular, dataset.valid, workspace.known, limit=_RANKED).mrr
        if reached < found:
            lines.append(
                f"underfitted: validation MRR {reached:.4f}, below {found:.4f} of ranking "
                "candidates by how often they stand with the relation; try more epochs, other "
                "settings, or dglke-distill tune"
            )
    return lines
