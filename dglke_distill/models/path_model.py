"""The model whose entities have vectors only once something is asked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import Side
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import Encoder
from dglke_distill.models.rows import EntityRows, QueryVectors
from dglke_distill.models.score_function import ScoreFunction

CHUNK_FLOATS = 1 << 24
"""Floats of edges' vectors and states held at once where no gradients are wanted."""
TOGETHER = 16
"""Queries asked of a teacher at once: the facts that answer any of them are left out for all."""


class PathModel(KGEModel):
    """A model whose queries are what costs: they hold the scores of all entities already.

    Relations always have a second vector for head queries, since messages start from either end.

    Args:
        encoder: a ``PathEncoder``.
        score_function: says by ``edge_product`` that its query is a product: DGL multiplies.
        num_relations: relations of the dataset.
        reciprocal: always so.
        entity_bias: as in ``KGEModel``.
        dtype: of the weights.

    Raises:
        UserError: the score function passes no such messages.
    """

    has_vectors = False

    def __init__(
        self,
        encoder: Encoder,
        score_function: ScoreFunction,
        num_relations: int,
        *,
        reciprocal: bool = True,
        entity_bias: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate the vectors of queries; ``reset`` fills them."""
        if not score_function.edge_product:
            raise UserError(
                "model.encoder path: messages are products of an entity's state and an edge's "
                f"vector, which {type(score_function).__name__} does not have; set model.name to "
                "DistMult"
            )
        super().__init__(
            encoder,
            score_function,
            num_relations,
            reciprocal=True,
            entity_bias=entity_bias,
            dtype=dtype,
        )
        self._teaches = False

    def reset(self, seed: int, scale: Optional[float] = None) -> None:
        """Initialise all weights from a seed; query vectors are normal, ``scale`` 1 by default."""
        super().reset(seed, scale)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.relation_weight.normal_(0.0, scale or 1.0, generator=generator)

    def require_vectors(self, what: str) -> None:
        """See ``KGEModel.require_vectors``.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{what} needs a vector for each entity, and a model with the encoder path has none; "
            "distil it into a student with the encoder lookup, and use that"
        )

    def as_teacher(self) -> PathModel:
        """Return a fixed copy that leaves out the facts which answer what it is asked."""
        made = copy.deepcopy(self)
        made._teaches = True
        made.requires_grad_(False).eval()
        return made

    def encode(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> EntityRows:
        """Take entities (u,) int64, or all of them, and the graph that messages pass along."""
        if nodes is None and blocks is None and self._frozen is not None:
            return self._frozen
        bias: Optional[Tensor] = self.bias_weight
        if bias is not None and nodes is not None:
            bias = bias[nodes]
        return EntityRows(self.encoder(nodes), bias, blocks[0] if blocks else None)

    def encode_range(self, start: int, stop: int) -> EntityRows:
        """Take the entities ``start`` to ``stop`` (exclusive)."""
        nodes = torch.arange(start, stop, device=self.device)
        bias = self.bias_weight
        return EntityRows(self.encoder(nodes), None if bias is None else bias[start:stop])

    def query(
        self, entities: EntityRows, entity: Tensor, relation: Tensor, side: Side
    ) -> QueryVectors:
        """Pass the messages of queries; see ``KGEModel.query``. ``vectors`` are scores (b, E)."""
        kind = self.relation_ids(relation, side)
        distinct, inverse = torch.unique(kind, return_inverse=True)
        rows = self.relation_rows(distinct)
        known, asked = _ids(entities)[entity], rows[inverse]
        parts = torch.arange(len(known), device=known.device).split(self._at_once(len(known)))
        scores = [
            self.encoder.scores(
                self._graph(entities, known[some], kind[some]), known[some], asked[some]
            )
            for some in parts
        ]
        if not scores:
            scores = [rows.new_zeros(0, self.num_entities)]
        return QueryVectors(torch.cat(scores), rows, inverse, "tail")

    def _at_once(self, queries: int) -> int:
        """Return how many queries to pass messages of at once."""
        if torch.is_grad_enabled():
            return max(1, queries)
        edges = 2 * self.encoder.facts.shape[1]
        each = (edges + 4 * self.num_entities) * self.encoder.dim
        return max(1, min(CHUNK_FLOATS // max(1, each), TOGETHER if self._teaches else queries))

    def _graph(self, entities: EntityRows, known: Tensor, kind: Tensor) -> Any:
        if entities.graph is not None:
            return entities.graph
        if self._teaches:
            return self.encoder.without_answers(known, kind)
        return self.encoder.whole()

    def _compared(
        self,
        query: QueryVectors,
        entities: EntityRows,
        candidates: Optional[Tensor],
        exact: bool,
    ) -> Tensor:
        """Read candidates' scores out of their query's."""
        ids = _ids(entities)
        if candidates is None:
            return query.vectors.index_select(1, ids)
        rows = ids[candidates].repeat_interleave(len(query.vectors) // len(candidates), dim=0)
        return query.vectors.gather(1, rows)


def _ids(entities: EntityRows) -> Tensor:
    return entities.vectors[:, 0].long()
