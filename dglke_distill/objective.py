"""What a training step minimises: the hard loss against the facts, plus the regulariser."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.losses import Loss
from dglke_distill.models.base import KGEModel
from dglke_distill.regularizers import Regularizer
from dglke_distill.sampling.batch import Batch

__all__ = ["HardObjective", "Objective", "Objectives"]


class Objectives(NamedTuple):
    """A batch's loss: the scalar to minimise and the named parts it is made of."""

    total: Tensor
    parts: dict[str, Tensor]


Objective = Callable[[KGEModel, Batch], Objectives]


class HardObjective:
    """The loss against the facts themselves, plus the regulariser.

    Args:
        loss: hard-label loss.
        regularizer: penalty, or None.
    """

    def __init__(self, loss: Loss, regularizer: Optional[Regularizer] = None) -> None:
        """Keep both."""
        self.loss, self.regularizer = loss, regularizer

    def __call__(self, model: KGEModel, batch: Batch) -> Objectives:
        """Return the loss of a batch; its groups of queries count by their share of triples."""
        entities = model.encode(batch.nodes, batch.blocks)
        sizes = [q.answers.entities.numel() if q.answers else len(q.entity) for q in batch.queries]
        hard = entities.vectors.new_zeros(())
        penalty = entities.vectors.new_zeros(())
        for queries, size in zip(batch.queries, sizes):
            share = size / sum(sizes)
            query = model.query(entities, queries.entity, queries.relation, queries.side)
            if queries.candidates is None:
                answers = queries.answers
                if answers is not None:
                    offsets, ids = answers.offsets, answers.entities
                else:
                    assert queries.answer is not None
                    offsets = torch.arange(size + 1, device=queries.entity.device)
                    ids = queries.answer
                scores = model.score(query, entities)
                value = self.loss.over_all(scores, offsets, ids, queries.weight)
            else:
                assert queries.answer is not None
                positive = model.score(query, entities, queries.answer[:, None]).squeeze(1)
                negative = model.score(query, entities, queries.candidates)
                value = self.loss.sampled(positive, negative, queries.known, queries.weight)
            hard = hard + share * value
            if self.regularizer is not None:
                penalty = penalty + share * self.regularizer(model, entities, query, queries)
        parts = {"hard": hard.detach()}
        if self.regularizer is not None:
            parts["penalty"] = penalty.detach()
        return Objectives(hard + penalty, parts)
