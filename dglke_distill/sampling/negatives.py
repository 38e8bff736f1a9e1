"""Negative samplers: which wrong answers a positive triple is compared with.

Every sampler is a DGL negative sampler and works in anyone's
``dgl.dataloading.as_edge_prediction_sampler(..., negative_sampler=sampler)``, with a graph that
carries ``edata["relation"]``. ``BatchLoader`` uses the same draws without building pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.groups import group, offsets_of
from dglke_distill.base.schema import BaseModel, Field
from dglke_distill.config import components
from dglke_distill.config.registry import NoOptions, Registry
from dglke_distill.data.triples import SIDES, Side, Triples
from dglke_distill.kernels.random import stream_key
from dglke_distill.sampling.base import Int64, NegativeSampler, Rows
from dglke_distill.sampling.draw import Pools, alias_table, coins

if TYPE_CHECKING:
    from dgl import DGLGraph

    from dglke_distill.config import NegativesConfig

__all__ = [
    "NEGATIVE_SAMPLERS",
    "BernoulliNegatives",
    "DegreeNegatives",
    "NegativeSampler",
    "TypedNegatives",
    "UniformNegatives",
    "build_sampler",
    "configured_sampler",
]

_COINS = 100


class UniformNegatives(NegativeSampler):
    """Every entity is equally likely."""

    name = "uniform"


class BernoulliNegatives(NegativeSampler):
    """Uniform entities; the side is tossed per positive, so that facts are hit less often.

    The head is replaced with probability tph / (tph + hpt), where tph is the relation's mean
    number of tails per head and hpt of heads per tail (Wang, Zhang, Feng, Chen 2014, "Knowledge
    Graph Embedding by Translating on Hyperplanes", section 4.1). With the triples cancelled that
    is tails / (heads + tails), the numbers of distinct entities on the relation's sides.
    """

    name = "bernoulli"

    def prepare(self, triples: Triples, entity_type: Optional[NDArray[np.int32]]) -> None:
        """Compute ``head_chance``, float64 (R,)."""
        self.sides = "alternate"  # one question per positive; its side is tossed
        heads, tails = (
            np.diff(_seen_with(triples.relation, column, self.num_relations, self.num_entities)[0])
            for column in (triples.head, triples.tail)
        )
        self.head_chance = tails / np.maximum(heads + tails, 1)

    def split(
        self, head: Int64, relation: Int64, tail: Int64, turn: int, key: np.uint64
    ) -> list[tuple[Side, Rows]]:
        """Toss the side of each positive."""
        replace_head = coins(stream_key(int(key), _COINS), self.head_chance[relation])
        return [("tail", np.flatnonzero(~replace_head)), ("head", np.flatnonzero(replace_head))]


class DegreeNegatives(NegativeSampler):
    """Entities are drawn with probability proportional to a power of their degree.

    The exponent 0.75 is that of word2vec (Mikolov et al. 2013, "Distributed Representations of
    Words and Phrases", section 2.2). Entities that no train triple mentions are never drawn.
    """

    name = "degree"

    class Options(NoOptions):
        """Options of the degree-weighted sampler."""

        exponent: float = Field(
            0.75, ge=0, le=16, description="power of the degree; 0: those in train"
        )

    def prepare(self, triples: Triples, entity_type: Optional[NDArray[np.int32]]) -> None:
        """Build the alias table."""
        degree = np.bincount(triples.head, minlength=self.num_entities).astype(np.float64)
        degree += np.bincount(triples.tail, minlength=self.num_entities)
        weights = np.where(degree > 0, degree**self.options.exponent, 0.0)
        probability, alias = alias_table(weights)
        for side, pools in self.pools.items():
            self.pools[side] = pools._replace(probability=probability, alias=alias)


class TypedNegatives(NegativeSampler):
    """Only entities that could stand there: of the right type, or seen there with the relation.

    With ``constraint="type"`` candidates have the type of the entity they replace; positives of a
    batch are grouped by it, so that chunks can be shared within a group, and each type present
    draws its own ``count``. With ``"relation"`` they are drawn from the entities that some train
    triple has on that side of the relation. Batches mix hundreds of relations, so chunks cannot
    be shared and the sampler draws private candidates, whatever ``sharing`` says. ``"auto"``
    is ``"type"`` where the dataset has entity types.
    """

    name = "typed"

    class Options(NoOptions):
        """Options of the type-constrained sampler."""

        constraint: Literal["auto", "relation", "type"] = Field(
            "auto", description="what candidates share with the replaced entity"
        )

    def prepare(self, triples: Triples, entity_type: Optional[NDArray[np.int32]]) -> None:
        """Build the pools: one per type, or one per relation and side."""
        no_alias = np.empty(0, np.float32), np.empty(0, np.int32)
        self.entity_type: Optional[NDArray[np.int32]] = None
        if self.options.constraint == "type" and entity_type is None:
            raise UserError(
                "negatives.options.constraint is 'type' but the dataset has no entity types: "
                "choose relation"
            )
        if self.options.constraint != "relation" and entity_type is not None:
            if len(entity_type) != self.num_entities or entity_type.min() < 0:
                raise ValueError("entity_type must hold one id from 0 on per entity")
            self.entity_type = entity_type
            order, offsets = group(entity_type)
            self.pools = dict.fromkeys(SIDES, Pools(offsets, order.astype(np.int32), *no_alias))
            return
        self.sharing = "private"
        for side, column in (("head", triples.head), ("tail", triples.tail)):
            offsets, entities = _seen_with(
                triples.relation, column, self.num_relations, self.num_entities
            )
            self.pools[side] = Pools(offsets, entities, *no_alias)  # type: ignore[index]

    def pool_of(self, side: Side, relation: Int64, answer: Int64) -> Int64:
        """Return the type of each answer, or the relation."""
        return relation if self.entity_type is None else self.entity_type[answer].astype(np.int64)

    def split(
        self, head: Int64, relation: Int64, tail: Int64, turn: int, key: np.uint64
    ) -> list[tuple[Side, Rows]]:
        """Group the positives of each side by the type of the answer, where chunks need it."""
        groups = super().split(head, relation, tail, turn, key)
        if self.entity_type is None or self.sharing == "private":
            return groups
        split: list[tuple[Side, Rows]] = []
        for side, _ in groups:
            kinds = self.entity_type[tail if side == "tail" else head]
            split += [(side, np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)]
        return split


def _seen_with(
    relation: NDArray[np.int32], entity: NDArray[np.int32], num_relations: int, num_entities: int
) -> tuple[Int64, NDArray[np.int32]]:
    """Return ``offsets`` int64 (R + 1,) and the distinct entities of each relation, ascending."""
    pairs = np.unique(relation.astype(np.int64) * num_entities + entity)
    return offsets_of(pairs // num_entities, num_relations), (pairs % num_entities).astype(np.int32)


NEGATIVE_SAMPLERS: Registry[type[NegativeSampler]] = components.NEGATIVE_SAMPLERS


def build_sampler(
    name: str,
    graph: DGLGraph,
    num_relations: Optional[int] = None,
    *,
    options: Union[BaseModel, Mapping[str, Any], None] = None,
    **settings: Any,
) -> NegativeSampler:
    """Build the sampler called ``name``; the arguments are those of :class:`NegativeSampler`.

    Raises:
        UserError: no such sampler, or a wrong option.
    """
    return NEGATIVE_SAMPLERS.find(name)(graph, num_relations, options=options, **settings)


def configured_sampler(
    config: NegativesConfig, graph: DGLGraph, num_relations: int, **rest: Any
) -> NegativeSampler:
    """Build the sampler that settings describe.

    Args:
        config: the settings.
        graph: what positives are of.
        num_relations: relations of the dataset.
        rest: what no setting of negatives says: ``entity_type`` and ``seed``.

    Raises:
        UserError: no such sampler, or a wrong option.
    """
    return build_sampler(
        config.sampler,
        graph,
        num_relations,
        count=config.count,
        sharing=config.sharing,
        chunk_size=config.chunk_size,
        filtered=config.filtered,
        sides=config.sides,
        options=config.options,
        **rest,
    )
