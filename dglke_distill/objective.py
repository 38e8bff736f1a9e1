"""What a training step minimises: the hard loss against the facts, plus the regulariser."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.losses import Loss
from dglke_distill.models.base import KGEModel, QueryVectors
from dglke_distill.regularizers import Regularizer
from dglke_distill.sampling.batch import Batch, Queries

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
        triples = sum(_triples(queries) for queries in batch.queries)
        hard = entities.vectors.new_zeros(())
        penalty = entities.vectors.new_zeros(())
        whole: list[tuple[Queries, QueryVectors]] = []
        for queries in batch.queries:
            share = _triples(queries) / triples
            query = model.query(entities, queries.entity, queries.relation, queries.side)
            if queries.candidates is None:
                whole.append((queries, query))
            else:
                assert queries.answer is not None
                positive = model.score(query, entities, queries.answer[:, None]).squeeze(1)
                negative = model.score(query, entities, queries.candidates)
                value = self.loss.sampled(positive, negative, queries.known, queries.weight)
                hard = hard + share * value
            if self.regularizer is not None:
                penalty = penalty + share * self.regularizer(model, entities, query, queries)
        for asked in _joined(model, whole):
            share = len(asked.answers) / triples
            scores = model.score(asked.query, entities)
            value = self.loss.over_all(scores, asked.offsets, asked.answers, asked.weight)
            hard = hard + share * value
        parts = {"hard": hard.detach()}
        if self.regularizer is not None:
            parts["penalty"] = penalty.detach()
        return Objectives(hard + penalty, parts)


class _Asked(NamedTuple):
    """Queries against all entities, with their answers end to end."""

    query: QueryVectors
    offsets: Tensor
    answers: Tensor
    weight: Optional[Tensor]


def _triples(queries: Queries) -> int:
    return len(queries.answers.entities if queries.answers else queries.entity)


def _asked(queries: Queries, query: QueryVectors) -> _Asked:
    if queries.answers is not None:
        return _Asked(query, queries.answers.offsets, queries.answers.entities, queries.weight)
    assert queries.answer is not None
    offsets = torch.arange(len(queries.answer) + 1, device=queries.answer.device)
    return _Asked(query, offsets, queries.answer, queries.weight)


def _joined(model: KGEModel, whole: list[tuple[Queries, QueryVectors]]) -> list[_Asked]:
    """Join groups that meet the same candidates, so that these are scored in one product."""
    groups = [_asked(queries, query) for queries, query in whole]
    if len(groups) < 2 or model.score_function.transforms_candidates:
        return groups
    offsets = [groups[0].offsets]
    for group in groups[1:]:
        offsets.append(group.offsets[1:] + offsets[-1][-1])
    # Without transformed candidates the score looks at nothing but the query's vector.
    query = groups[0].query._replace(vectors=torch.cat([g.query.vectors for g in groups]))
    weights = [group.weight for group in groups if group.weight is not None]
    return [
        _Asked(
            query,
            torch.cat(offsets),
            torch.cat([group.answers for group in groups]),
            torch.cat(weights) if weights else None,
        )
    ]
