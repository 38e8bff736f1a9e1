"""What a training step minimises: the hard loss against the facts, plus the regulariser."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.losses import Loss
from dglke_distill.models.base import EntityRows, KGEModel, QueryVectors
from dglke_distill.models.kernels import pairwise, softmax_cross_entropy, take_rows
from dglke_distill.regularizers import Regularizer
from dglke_distill.sampling.batch import Batch, Queries

__all__ = ["HardObjective", "Objective", "Objectives", "relation_loss"]


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
        relation_weight: weight of ``relation_loss``; 0 leaves it out.
    """

    def __init__(
        self,
        loss: Loss,
        regularizer: Optional[Regularizer] = None,
        relation_weight: float = 0.0,
    ) -> None:
        """Keep them."""
        self.loss, self.regularizer = loss, regularizer
        self.relation_weight = relation_weight

    def __call__(self, model: KGEModel, batch: Batch) -> Objectives:
        """Return the loss of a batch; its groups of queries count by their share of triples."""
        entities = model.encode(batch.nodes, batch.blocks)
        triples = sum(_triples(queries) for queries in batch.queries)
        hard = entities.vectors.new_zeros(())
        penalty = entities.vectors.new_zeros(())
        relation = entities.vectors.new_zeros(())
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
            if self.relation_weight:
                relation = relation + share * relation_loss(model, entities, queries)
        for asked in _joined(model, whole):
            share = len(asked.answers) / triples
            scores = model.score(asked.query, entities)
            value = self.loss.over_all(scores, asked.offsets, asked.answers, asked.weight)
            hard = hard + share * value
        parts = {"hard": hard.detach()}
        if self.regularizer is not None:
            parts["penalty"] = penalty.detach()
        if self.relation_weight:
            parts["relation"] = relation.detach()
        return Objectives(hard + penalty + self.relation_weight * relation, parts)


def relation_loss(model: KGEModel, entities: EntityRows, queries: Queries) -> Tensor:
    """Return the mean cross-entropy of the true relation among all, given head and tail.

    Chen, Minervini, Riedel, Stenetorp 2021, "Relation prediction as an auxiliary training objective
    for improving multi-relational graph representations", equation 2.
    """
    asked = _answers_of(queries)
    counts = asked.offsets.diff()
    known, relation = (
        torch.repeat_interleave(ids, counts)
        for ids in (queries.entity, model.relation_ids(queries.relation, queries.side))
    )
    head, tail = known, asked.answers
    if queries.side == "head" and not model.reciprocal:
        head, tail = tail, head
    vectors = model.score_function.relation_query(
        take_rows(entities.vectors, head), take_rows(entities.vectors, tail)
    )
    offsets = torch.arange(len(relation) + 1, device=relation.device)
    total = softmax_cross_entropy(
        pairwise("dot", vectors, model.relation_weight), offsets, relation, None, inplace=True
    )
    return total / len(relation)


class _Asked(NamedTuple):
    """Queries against all entities, with their answers end to end."""

    query: QueryVectors
    offsets: Tensor
    answers: Tensor
    weight: Optional[Tensor]


class _AnswersOf(NamedTuple):
    """The answers of queries end to end: offsets (b + 1,) and rows of entities (k,)."""

    offsets: Tensor
    answers: Tensor


def _triples(queries: Queries) -> int:
    return len(queries.answers.entities if queries.answers else queries.entity)


def _answers_of(queries: Queries) -> _AnswersOf:
    if queries.answers is not None:
        return _AnswersOf(queries.answers.offsets, queries.answers.entities)
    assert queries.answer is not None
    offsets = torch.arange(len(queries.answer) + 1, device=queries.answer.device)
    return _AnswersOf(offsets, queries.answer)


def _joined(model: KGEModel, whole: list[tuple[Queries, QueryVectors]]) -> list[_Asked]:
    """Join groups that meet the same candidates, so that these are scored in one product."""
    groups = [_Asked(query, *_answers_of(queries), queries.weight) for queries, query in whole]
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
