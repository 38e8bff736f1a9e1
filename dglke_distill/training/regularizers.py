"""Penalties on the embeddings that a batch touches, averaged over its triples.

Each distinct row is penalised once and multiplied by how often the batch uses it, which equals the
sum over triples at a fraction of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Optional

import torch
from torch import Tensor

from dglke_distill.config import RegularizerConfig, components
from dglke_distill.config.registry import Component, Registry
from dglke_distill.kernels import cubed_magnitudes, take_rows
from dglke_distill.models.base import KGEModel
from dglke_distill.models.complex import ComplEx
from dglke_distill.models.rows import EntityRows, QueryVectors
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.sampling.batch import Queries


@dataclass(frozen=True)
class Usage:
    """What the penalised triples are made of: distinct rows and how often each is used.

    Attributes:
        entities: (u, coordinates) squared magnitudes of the distinct entities.
        as_known: (u,) times each is the known entity of a triple.
        as_answer: (u,) times each is the answer.
        relations: (v, coordinates) squared magnitudes of the distinct relations.
        relation_count: (v,) triples of each relation.
        queries: (b, d_q) query vectors.
        query_count: (b,) triples of each query.
    """

    entities: Tensor
    as_known: Tensor
    as_answer: Tensor
    relations: Tensor
    relation_count: Tensor
    queries: Tensor
    query_count: Tensor


class Penalty(Component):
    """Base of the penalties; a subclass writes ``parts``."""

    sums_cubes: ClassVar[bool] = False
    """Whether it is the sum of cubed magnitudes, which a kernel works out; never inherited."""

    def parts(self, usage: Usage) -> tuple[Tensor, Tensor]:
        """Return the penalty of entities and that of relations, summed over triples: two scalars.

        Args:
            usage: what the triples are made of.
        """
        raise NotImplementedError


class NoPenalty(Penalty):
    """Nothing is penalised."""

    name = "none"

    def parts(self, usage: Usage) -> tuple[Tensor, Tensor]:
        """See ``Penalty.parts``."""
        nothing = usage.entities.new_zeros(())
        return nothing, nothing


class L2(Penalty):
    """Squared L2 norm of the head, the tail and the relation of each triple."""

    name = "l2"

    def parts(self, usage: Usage) -> tuple[Tensor, Tensor]:
        """See ``Penalty.parts``."""
        count = usage.as_known + usage.as_answer
        return count @ usage.entities.sum(1), usage.relation_count @ usage.relations.sum(1)


class N3(Penalty):
    """Nuclear 3-norm: sum of cubed magnitudes of head, tail and relation.

    Lacroix, Usunier, Obozinski 2018, equation 6.
    """

    name = "n3"
    sums_cubes = True

    def parts(self, usage: Usage) -> tuple[Tensor, Tensor]:
        """See ``Penalty.parts``."""
        count = usage.as_known + usage.as_answer
        cubed_entities, cubed_relations = (
            (rows * rows.clamp(min=torch.finfo(rows.dtype).tiny).sqrt()).sum(1)
            for rows in (usage.entities, usage.relations)
        )
        return count @ cubed_entities, usage.relation_count @ cubed_relations


class DURA(Penalty):
    """Duality-induced regulariser: |query|^2 + |answer|^2 for the side that is asked.

    Zhang, Cai, Wang 2020, "Duality-induced regularizer for tensor factorization based knowledge
    graph completion", equation 6; asking both sides yields both of its halves.
    """

    name = "dura"

    def parts(self, usage: Usage) -> tuple[Tensor, Tensor]:
        """See ``Penalty.parts``."""
        value = usage.query_count @ usage.queries.square().sum(1)
        return value + usage.as_answer @ usage.entities.sum(1), value.new_zeros(())


REGULARIZERS: Registry[type[Penalty]] = components.REGULARIZERS


class Regularizer:
    """A weighted penalty per triple.

    Args:
        penalty: what is penalised.
        weight: multiplies the entity part.
        relation_weight: multiplies the relation part.
    """

    def __init__(self, penalty: Penalty, weight: float, relation_weight: float) -> None:
        """Keep the penalty and its weights."""
        self.penalty, self.weight, self.relation_weight = penalty, weight, relation_weight

    def __call__(
        self,
        model: KGEModel,
        entities: EntityRows,
        query: QueryVectors,
        queries: Queries,
        quick: bool = False,
    ) -> Tensor:
        """Return the penalty of a batch's queries and their true answers, a scalar.

        Args:
            model: what was asked.
            entities: what was asked.
            query: what was asked.
            queries: what was asked.
            quick: sum over entities as often as they occur, by a kernel that knows some penalties,
                which gives the same to within rounding.
        """
        if queries.answers is not None:
            answers = queries.answers.entities
            count = queries.answers.offsets.diff()
        else:
            assert queries.answer is not None
            answers, count = queries.answer, torch.ones_like(queries.entity)
        if quick and vars(type(self.penalty)).get("sums_cubes", False):
            found = self._cubes(model.score_function, entities, query, queries, answers, count)
            if found is not None:
                return found / len(answers)
        touched, rows = torch.unique(torch.cat([queries.entity, answers]), return_inverse=True)
        known_rows, answer_rows = rows.split([len(queries.entity), len(answers)])
        dtype = entities.vectors.dtype
        weights = count.to(dtype)

        def counted(index: Tensor, values: Optional[Tensor], size: int) -> Tensor:
            return torch.bincount(index, values, minlength=size).to(dtype)

        magnitudes = model.score_function.squared_magnitudes
        entity_part, relation_part = self.penalty.parts(
            Usage(
                entities=magnitudes(take_rows(entities.vectors, touched)),
                as_known=counted(known_rows, weights, len(touched)),
                as_answer=counted(answer_rows, None, len(touched)),
                relations=magnitudes(query.relation_rows),
                relation_count=counted(query.relation, weights, len(query.relation_rows)),
                queries=query.vectors,
                query_count=weights,
            )
        )
        value = self.weight * entity_part + self.relation_weight * relation_part
        return value / len(answers)

    def _cubes(
        self,
        function: ScoreFunction,
        entities: EntityRows,
        query: QueryVectors,
        queries: Queries,
        answers: Tensor,
        count: Tensor,
    ) -> Optional[Tensor]:
        """Return the weighted sum of cubes, or None where the kernel cannot take its rows."""
        magnitudes = type(function).squared_magnitudes
        if magnitudes not in (ScoreFunction.squared_magnitudes, ComplEx.squared_magnitudes):
            return None
        by_pairs = magnitudes is ComplEx.squared_magnitudes
        rows = take_rows(entities.vectors, torch.cat([queries.entity, answers]))
        weights = torch.cat([count, torch.ones_like(answers)]).to(rows.dtype)
        relations = count
        if len(query.relation_rows) < len(count):
            size = len(query.relation_rows)
            relations = torch.bincount(query.relation, count, minlength=size)
        value = self.weight * cubed_magnitudes(rows, weights, by_pairs)
        return value + self.relation_weight * cubed_magnitudes(
            query.relation_rows, relations.to(rows.dtype), by_pairs
        )


def build_regularizer(config: RegularizerConfig) -> Optional[Regularizer]:
    """Build the regulariser that the configuration names; None for ``none`` or weight 0.

    Raises:
        UserError: unknown name or option.
    """
    penalty: Penalty = REGULARIZERS.build(
        config.name, config.options or {}, where=f"regularizer.options of {config.name}"
    )
    relation = config.weight if config.relation_weight is None else config.relation_weight
    if penalty.name == "none" or (config.weight == 0 and relation == 0):
        return None
    return Regularizer(penalty, config.weight, relation)
