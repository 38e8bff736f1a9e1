"""Scores of many given triples, batch by batch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.data.triples import Side, Triples
from dglke_distill.evaluate.ranking import NonFiniteScores, device_of, evaluation_mode


class ScoresTriples(Protocol):
    """Anything that can be classified with; ``models.base.KGEModel`` is one."""

    def score_triples(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        """Score triples: ids (b,) int64 to floats (b,), higher is more plausible."""
        ...


def score_in_batches(
    model: ScoresTriples, triples: Triples, batch_size: int = 8192, side: Side = "tail"
) -> NDArray[np.float64]:
    """Return the scores of triples.

    Args:
        model: scores triples; a module is put into evaluation mode for the duration. For the side
            ``head`` a ``models.base.KGEModel``.
        triples: n of them.
        batch_size: triples scored at once.
        side: whether as answers to (head, relation, ?), side ``tail``, or to (?, relation, tail).

    Returns:
        (n,) finite scores.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
    """
    columns = [
        torch.from_numpy(c.astype(np.int64)) for c in (triples.head, triples.relation, triples.tail)
    ]
    device = device_of(model)
    score = model.score_triples if side == "tail" else _as_heads(model)
    scores = np.empty(len(triples), np.float64)
    with torch.no_grad(), evaluation_mode(model):
        for first in range(0, len(triples), batch_size):
            part = slice(first, first + batch_size)
            made = score(*(column[part].to(device) for column in columns))
            scores[part] = made.double().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        head, relation, tail = (int(column[bad[0]]) for column in columns)
        known, answer = (tail, head) if side == "head" else (head, tail)
        raise NonFiniteScores(known, relation, side, float(scores[bad[0]]), answer)
    return scores


def _as_heads(model: Any) -> Any:
    """Return what scores triples as answers to (?, relation, tail)."""

    def score(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        nodes, rows = torch.unique(torch.cat([head, tail]), return_inverse=True)
        entities = model.encode(nodes, model.encoder.blocks_for(nodes))
        query = model.query(entities, rows[len(head) :], relation, "head")
        found: Tensor = model.score(query, entities, rows[: len(head), None]).squeeze(1)
        return found

    return score
