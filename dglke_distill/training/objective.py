"""What a training step minimises: the hard loss against the facts, plus the regulariser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from dglke_distill.data.triples import Side
from dglke_distill.kernels import (
    multiplies_late,
    pairwise,
    softmax_cross_entropy,
    take_rows,
)
from dglke_distill.models.base import KGEModel
from dglke_distill.models.rows import EntityRows, QueryVectors
from dglke_distill.sampling.batch import Answers, Batch, Queries
from dglke_distill.training.loss import Loss
from dglke_distill.training.regularizers import Regularizer
from dglke_distill.training.scored import ScoredBatch


class Objectives(NamedTuple):
    """A batch's loss: the scalar to minimise and the named parts it is made of."""

    total: Tensor
    parts: dict[str, Tensor]


class Moment(NamedTuple):
    """Where training stands: ``epoch`` of ``epochs`` and ``step`` of ``steps``, from 0."""

    epoch: int = 0
    epochs: int = 1
    step: int = 0
    steps: int = 1

    @property
    def progress(self) -> float:
        """Share of all steps taken, in [0, 1)."""
        return self.step / self.steps


START = Moment()

# Queries of a group that fetch the rows of their relations one by one.
_FEW = 1024


class Objective(nn.Module):
    """What a step minimises. Parameters of its own are trained and saved beside the model's."""

    def forward(self, model: KGEModel, batch: Batch, moment: Moment = START) -> Objectives:
        """Return the loss of a batch.

        Args:
            model: the model that learns.
            batch: what it is asked.
            moment: where training stands, for losses that change as it goes on.
        """
        raise NotImplementedError


class Group(NamedTuple):
    """b queries of a batch that meet candidates together.

    Attributes:
        numbers: places in the batch of the groups they come from, one after the other.
        query: what meets the candidates.
        offsets: (b + 1,) int64, where each query's answers begin.
        answers: (k,) int64 rows of the entities.
        candidates: (c, n) rows of sampled ones, see ``KGEModel.score``; None: all entities.
        known: as in ``ScoredBatch``.
        weight: as in ``ScoredBatch``.
    """

    numbers: tuple[int, ...]
    query: QueryVectors
    offsets: Tensor
    answers: Tensor
    candidates: Optional[Tensor]
    known: Optional[Tensor]
    weight: Optional[Tensor]

    @classmethod
    def of(cls, numbers: tuple[int, ...], queries: Queries, query: QueryVectors) -> Group:
        """Return the group that queries are, ``numbers`` their places in the batch."""
        found = queries.all_answers()
        rest = queries.candidates, queries.known, queries.weight
        return cls(numbers, query, found.offsets, found.entities, *rest)


class Asked(NamedTuple):
    """A batch put to a model: its entities and its groups, which are scored when they are met.

    ``quick`` says that all scores come as products, beside which much else would take its time.
    """

    model: KGEModel
    entities: EntityRows
    groups: list[Group]
    queries: list[tuple[Queries, QueryVectors]]
    triples: int
    quick: bool = False

    def scored(self, products: bool = False) -> Iterator[tuple[float, Group, ScoredBatch]]:
        """Score one group after the other.

        Args:
            products: leave scores of all entities not multiplied out where kernels gain by it.

        Yields:
            The share of the batch's triples that a group stands for, the group, its scores.
        """
        for group in self.groups:
            yield len(group.answers) / max(1, self.triples), group, self.score(group, products)

    def score(self, group: Group, products: bool = False) -> ScoredBatch:
        """Return the scores of a group; see ``scored``."""
        model, query = self.model, group.query
        positive = None
        if group.candidates is None:
            scores = model.scores_over_all(query, self.entities, products)
        else:
            positive = model.score(query, self.entities, group.answers[:, None]).squeeze(1)
            scores = model.score(query, self.entities, group.candidates)
        return ScoredBatch(
            scores, group.offsets, group.answers, positive, group.known, group.weight
        )

    def beside(self, group: Group) -> ScoredBatch:
        """Return this model's scores of what another one's group met."""
        found = [self.score(each) for number in group.numbers for each in self.of([number])]
        if group.candidates is not None:
            return found[0]
        scores = torch.cat([each.logits for each in found])
        return ScoredBatch(scores, group.offsets, group.answers, weight=group.weight)

    def of(self, numbers: Sequence[int]) -> list[Group]:
        """Return the groups of some places in the batch, which another model may have joined."""
        joined = [group for group in self.groups if group.numbers == tuple(numbers)]
        return joined or [Group.of((number,), *self.queries[number]) for number in numbers]


def ask(model: KGEModel, batch: Batch, quick: bool = False) -> Asked:
    """Put a batch's queries to a model.

    Args:
        model: the model.
        batch: its questions.
        quick: where all scores come as products and both sides are asked alike, ask them together.
    """
    entities = model.encode(batch.nodes, batch.blocks)
    if quick and batch.nodes is None and _multiplies_late(model, entities):
        return _ask_together(model, batch, entities)
    asked = [(q, model.query(entities, q.entity, q.relation, q.side)) for q in batch.queries]
    groups = [Group.of((number,), *each) for number, each in enumerate(asked)]
    triples = sum(queries.triples for queries in batch.queries)
    return Asked(model, entities, _joined(model, groups), asked, triples)


def _multiplies_late(model: KGEModel, entities: EntityRows) -> bool:
    """Return whether the scores of all entities come as products."""
    function = model.score_function
    late = model.has_vectors and multiplies_late(function.kernel, entities.vectors)
    return late and not function.transforms_candidates


def _ask_together(model: KGEModel, batch: Batch, entities: EntityRows) -> Asked:
    """Put all queries against all entities to a model, as one group if it has reciprocals."""
    groups = list(batch.queries)
    if model.reciprocal and len(groups) > 1:
        groups = [_as_tails(model, groups)]
    asked = [(queries, _query(model, entities, queries)) for queries in groups]
    numbers = tuple(range(len(batch.queries)))
    places = [numbers] if len(groups) < len(numbers) else [(number,) for number in numbers]
    whole = [Group.of(place, *each) for place, each in zip(places, asked)]
    triples = sum(queries.triples for queries in groups)
    return Asked(model, entities, _joined(model, whole), asked, triples, True)


def _query(model: KGEModel, entities: EntityRows, queries: Queries) -> QueryVectors:
    """Build queries; for a few, fetching each relation's row is quicker than finding equal ones."""
    entity, function = queries.entity, model.score_function
    if len(entity) > _FEW or function.by_relation:
        return model.query(entities, entity, queries.relation, queries.side)
    rows = model.relation_rows(model.relation_ids(queries.relation, queries.side))
    side: Side = "tail" if model.reciprocal else queries.side
    vectors = function.query(take_rows(entities.vectors, entity), rows, side)
    return QueryVectors(vectors, rows, torch.arange(len(rows), device=rows.device), side)


def _as_tails(model: KGEModel, groups: list[Queries]) -> Queries:
    """Join groups as queries for tails, those for heads by reciprocal relations."""
    relation = torch.cat([model.relation_ids(group.relation, group.side) for group in groups])
    answer = answers = weight = None
    if groups[0].answer is not None:
        answer = torch.cat([group.answer for group in groups if group.answer is not None])
    else:
        kept = [group.answers for group in groups if group.answers is not None]
        offsets = _end_to_end([each.offsets for each in kept])
        answers = Answers(offsets, torch.cat([each.entities for each in kept]))
    weights = [group.weight for group in groups if group.weight is not None]
    if weights:
        weight = torch.cat(weights)
    entity = torch.cat([group.entity for group in groups])
    return Queries("tail", entity, relation, answer, answers, None, None, weight)


class HardObjective(Objective):
    """The loss against the facts themselves, plus the regulariser.

    Args:
        loss: hard-label loss.
        regularizer: penalty, or None.
        relation_weight: weight of ``relation_loss``; 0 leaves it out.
        hard_weight: weight of the loss itself.
    """

    def __init__(
        self,
        loss: Loss,
        regularizer: Optional[Regularizer] = None,
        relation_weight: float = 0.0,
        hard_weight: float = 1.0,
    ) -> None:
        """Keep them."""
        super().__init__()
        self.loss, self.regularizer = loss, regularizer
        self.relation_weight, self.hard_weight = relation_weight, hard_weight

    def forward(self, model: KGEModel, batch: Batch, moment: Moment = START) -> Objectives:
        """Return the loss of a batch; its groups of queries count by their share of triples."""
        products = self.loss.takes_products
        asked = ask(model, batch, products)
        hard = asked.entities.vectors.new_zeros(())
        for share, _, scored in asked.scored(products):
            hard = hard + self.loss(scored) * share
        extra, parts = self.extras(model, asked)
        return Objectives(self.hard_weight * hard + extra, {"hard": hard.detach(), **parts})

    def extras(self, model: KGEModel, asked: Asked) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of penalty and relation prediction, and both as named parts."""
        total = asked.entities.vectors.new_zeros(())
        parts: dict[str, Tensor] = {}
        if self.regularizer is not None:
            penalty = total.new_zeros(())
            for queries, query in asked.queries:
                share = queries.triples / asked.triples
                found = self.regularizer(model, asked.entities, query, queries, asked.quick)
                penalty = penalty + share * found
            total = total + penalty
            parts["penalty"] = penalty.detach()
        if self.relation_weight:
            relation = total.new_zeros(())
            for queries, _ in asked.queries:
                share = queries.triples / asked.triples
                relation = relation + share * relation_loss(model, asked.entities, queries)
            total = total + self.relation_weight * relation
            parts["relation"] = relation.detach()
        return total, parts


def relation_loss(model: KGEModel, entities: EntityRows, queries: Queries) -> Tensor:
    """Return the mean cross-entropy of the true relation among all, given head and tail.

    Chen, Minervini, Riedel, Stenetorp 2021, "Relation prediction as an auxiliary training objective
    for improving multi-relational graph representations", equation 2.
    """
    asked = queries.all_answers()
    counts = asked.offsets.diff()
    known, relation = (
        torch.repeat_interleave(ids, counts)
        for ids in (queries.entity, model.relation_ids(queries.relation, queries.side))
    )
    head, tail = known, asked.entities
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


def _joined(model: KGEModel, groups: list[Group]) -> list[Group]:
    """Join groups that meet all entities, so that these are scored in one product."""
    whole = [group for group in groups if group.candidates is None]
    if len(whole) < 2 or model.score_function.transforms_candidates:
        return groups
    # Without transformed candidates the score looks at nothing but the query's vector.
    query = whole[0].query._replace(vectors=torch.cat([g.query.vectors for g in whole]))
    weights = [group.weight for group in whole if group.weight is not None]
    joined = Group(
        tuple(number for group in whole for number in group.numbers),
        query,
        _end_to_end([group.offsets for group in whole]),
        torch.cat([group.answers for group in whole]),
        None,
        None,
        torch.cat(weights) if weights else None,
    )
    return [*(group for group in groups if group.candidates is not None), joined]


def _end_to_end(offsets: list[Tensor]) -> Tensor:
    """Join the offsets of groups whose answers are laid end to end."""
    joined = [offsets[0]]
    for each in offsets[1:]:
        joined.append(each[1:] + joined[-1][-1])
    return torch.cat(joined)
