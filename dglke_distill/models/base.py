"""The one contract: an encoder turns ids into vectors, a score function compares them.

Training, ranking, prediction and distillation all call ``KGEModel.query`` and ``KGEModel.score``,
so that none of them can drift from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Optional

import torch
from torch import Tensor, nn

from dglke_distill.data.graph_ids import triple_ids
from dglke_distill.data.triples import Side
from dglke_distill.kernels import Scores, pairwise, products, table_rows, take_rows
from dglke_distill.models.rows import EntityRows, QueryVectors
from dglke_distill.models.score_function import ScoreFunction


class KGEModel(nn.Module):
    """A knowledge-graph embedding over the entities and relations of a DGL graph.

    Args:
        encoder: ids to vectors (see ``models.encoders``).
        score_function: compares queries with candidates.
        num_relations: relations of the dataset, reciprocal ones not counted.
        reciprocal: give each relation a second embedding and ask (?, r, t) as (t, r + R, ?)
            (Lacroix, Usunier, Obozinski 2018, "Canonical tensor decomposition for knowledge base
            completion").
        entity_bias: add one learned float per candidate entity to its scores.
        dtype: dtype of the tables.
    """

    has_vectors: ClassVar[bool] = True
    """Whether every entity has a vector of its own, whatever is asked."""

    def __init__(
        self,
        encoder: nn.Module,
        score_function: ScoreFunction,
        num_relations: int,
        *,
        reciprocal: bool = False,
        entity_bias: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate the tables; ``reset`` fills them."""
        super().__init__()
        self.encoder: Any = encoder
        self.score_function = score_function.to(dtype)
        self.num_relations = num_relations
        self.reciprocal = reciprocal
        rows = num_relations * (2 if reciprocal else 1)
        self.relation_weight = nn.Parameter(
            torch.zeros(rows, score_function.relation_floats, dtype=dtype)
        )
        self.bias_weight = (
            nn.Parameter(torch.zeros(self.num_entities, 1, dtype=dtype)) if entity_bias else None
        )
        self._frozen: Optional[EntityRows] = None

    @property
    def num_entities(self) -> int:
        """Number of entities."""
        return int(self.encoder.num_entities)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.relation_weight.device

    @property
    def block_rows(self) -> int:
        """Most entities that may be encoded at once where all are gone through."""
        return max(1, self.num_entities)

    @property
    def floats_per_entity(self) -> int:
        """Floats of an entity: its vector and, if there is one, the bias."""
        return self.score_function.dim + (self.bias_weight is not None)

    @property
    def bytes_per_entity(self) -> int:
        """Bytes stored per entity: what the encoder keeps of it and, if there is one, the bias."""
        bias = 0 if self.bias_weight is None else self.bias_weight.element_size()
        return int(self.encoder.bytes_per_entity) + bias

    def reset(self, seed: int, scale: Optional[float] = None) -> None:
        """Initialise all tables from a seed."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.encoder.reset(self.score_function, scale, generator)
            self.score_function.init_relation(self.relation_weight, scale, generator)
            self.score_function.init_shared(scale, generator)
            if self.bias_weight is not None:
                self.bias_weight.zero_()

    def require_vectors(self, what: str) -> None:
        """Refuse work that needs a vector for each entity, where there is none.

        Args:
            what: the work, for the message.

        Raises:
            UserError: ``has_vectors`` is False.
        """

    def as_teacher(self) -> Optional[KGEModel]:
        """Return a fixed copy for teaching, where it is more than fixed vectors; else None."""
        return None

    def set_row_sparse(self, entities: bool, relations: bool) -> None:
        """Choose per table whether gradients are kept for touched rows only (see ``optim``)."""
        self.encoder.set_row_sparse(entities)
        self.relation_weight.row_sparse = relations  # type: ignore[attr-defined]
        if self.bias_weight is not None:
            self.bias_weight.row_sparse = entities  # type: ignore[attr-defined]

    def encode(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> EntityRows:
        """Encode entities.

        Args:
            nodes: (u,) int64 distinct entity ids; None means all of them in id order.
            blocks: message-flow graphs that end in ``nodes``, for encoders that need them.
        """
        if nodes is None and self._frozen is not None:
            return self._frozen
        vectors = self.score_function.entity_view(self.encoder(nodes, blocks))
        bias: Optional[Tensor] = self.bias_weight
        if self.bias_weight is not None and nodes is not None:
            bias = table_rows(self.bias_weight, nodes)
        return EntityRows(vectors, bias)

    def encode_range(self, start: int, stop: int) -> EntityRows:
        """Encode the entities ``start`` to ``stop`` (exclusive), for work done block by block."""
        if self._frozen is not None:
            vectors, bias, _ = self._frozen
            return EntityRows(vectors[start:stop], None if bias is None else bias[start:stop])
        vectors = self.score_function.entity_view(self.encoder(None)[start:stop])
        return EntityRows(
            vectors, None if self.bias_weight is None else self.bias_weight[start:stop]
        )

    @contextmanager
    def frozen(self) -> Iterator[EntityRows]:
        """Encode all entities once, without gradients, and reuse them inside the context."""
        before = self._frozen
        with torch.no_grad():
            self._frozen = self.encode(None)
            try:
                yield self._frozen
            finally:
                self._frozen = before

    def relation_ids(self, relation: Tensor, side: Side) -> Tensor:
        """Map dataset relation ids (b,) to rows of the relation table for queries of a side."""
        return relation + self.num_relations if self.reciprocal and side == "head" else relation

    def relation_rows(self, ids: Tensor) -> Tensor:
        """Return rows (v, relation_floats) of the relation table by their numbers (v,) int64."""
        return table_rows(self.relation_weight, ids)

    def query(
        self, entities: EntityRows, entity: Tensor, relation: Tensor, side: Side
    ) -> QueryVectors:
        """Build queries.

        Args:
            entities: encoded entities.
            entity: (b,) int64 rows of ``entities``, the known entity.
            relation: (b,) int64 dataset relation ids.
            side: the side to be predicted.
        """
        distinct, inverse = torch.unique(self.relation_ids(relation, side), return_inverse=True)
        side = "tail" if self.reciprocal else side
        rows = self.relation_rows(distinct)
        function = self.score_function
        known = function.known_view(take_rows(entities.vectors, entity))
        vectors = function.query_rows(known, function.relation_view(rows), inverse, side)
        return QueryVectors(function.query_view(vectors), rows, inverse, side)

    def score(
        self,
        query: QueryVectors,
        entities: EntityRows,
        candidates: Optional[Tensor] = None,
        *,
        exact: bool = False,
    ) -> Tensor:
        """Score candidates; higher is more plausible.

        Args:
            query: b queries.
            entities: encoded entities, u of them.
            candidates: (c, n) int64 rows of ``entities``, b a multiple of c, query i meeting row
                ``i // (b // c)``; None for every entity in ``entities``.
            exact: forbid matrix-product expansions of distances (ranking).

        Returns:
            (b, n) scores, n = u when ``candidates`` is None.
        """
        function = self.score_function
        scores = self._compared(query, entities, candidates, exact)
        ours = not torch.is_grad_enabled()  # a block of a ranking is large, and not copied then
        if function.score_scale != 1.0:
            scale = function.score_scale
            scores = scores.mul_(scale) if ours else scores * scale
        if entities.bias is None:
            return scores
        if candidates is None:
            return scores.add_(entities.bias.T) if ours else scores + entities.bias.T
        chunks, n = candidates.shape
        bias = take_rows(entities.bias, candidates.reshape(-1)).view(chunks, 1, n)
        return (scores.view(chunks, -1, n) + bias).view(-1, n)

    def _compared(
        self, query: QueryVectors, entities: EntityRows, candidates: Optional[Tensor], exact: bool
    ) -> Tensor:
        """Compare queries with candidates: scores as the kernel has them; see ``score``."""
        function = self.score_function
        if function.transforms_candidates:
            return self._score_transformed(query, entities, candidates, exact)
        return pairwise(function.kernel, query.vectors, entities.vectors, candidates, exact=exact)

    def scores_over_all(
        self, query: QueryVectors, entities: EntityRows, unmultiplied: bool = False
    ) -> Scores:
        """Return the scores (b, u) of b queries and all u encoded entities, for a loss over them.

        Args:
            query: as for ``score``.
            entities: as for ``score``.
            unmultiplied: return ``Products`` where the scores are some and the kernels gain by it.
        """
        function = self.score_function
        if unmultiplied and self.has_vectors and not function.transforms_candidates:
            vectors, bias, _ = entities
            found = products(function.kernel, query.vectors, vectors, bias, function.score_scale)
            if found is not None:
                return found
        return self.score(query, entities)

    def _score_transformed(
        self, query: QueryVectors, entities: EntityRows, candidates: Optional[Tensor], exact: bool
    ) -> Tensor:
        """Score where candidates depend on the relation: once per distinct (relation, chunk)."""
        function, b = self.score_function, len(query.vectors)
        if candidates is None:
            scores = query.vectors.new_empty(b, len(entities.vectors))
            pieces, where = [], []
            for i, row in enumerate(query.relation_rows.split(1)):
                chosen = torch.nonzero(query.relation == i).squeeze(1)
                moved = function.candidate(entities.vectors[None], row, query.side)[0]
                piece = pairwise(function.kernel, query.vectors[chosen], moved, exact=exact)
                del moved  # before the next one is made: it is as large as the table
                if not torch.is_grad_enabled():  # pieces kept between tables would tear up the heap
                    scores[chosen] = piece
                    continue
                pieces.append(piece)
                where.append(chosen)
            if not pieces:
                return scores
            if len(pieces) == 1:
                return pieces[0]
            return scores.index_copy(0, torch.cat(where), torch.cat(pieces))
        chunks, n = candidates.shape
        chunk = torch.arange(b, device=candidates.device) // (b // chunks)
        pairs, inverse = torch.unique(query.relation * chunks + chunk, return_inverse=True)
        vectors = take_rows(entities.vectors, candidates[pairs % chunks].reshape(-1))
        relation = pairs // chunks
        if function.by_relation:  # pairs are sorted by relation: no matrix is copied
            counts = torch.bincount(relation, minlength=len(query.relation_rows)) * n
            groups = vectors[None].split(counts.tolist(), dim=1)
            rows = query.relation_rows.split(1)
            moved = torch.cat(
                [function.candidate(group, row, query.side)[0] for group, row in zip(groups, rows)]
            )
        else:
            vectors = vectors.view(len(pairs), n, -1)
            relation_rows = take_rows(query.relation_rows, relation)
            moved = function.candidate(vectors, relation_rows, query.side).flatten(0, 1)
        index = inverse[:, None] * n + torch.arange(n, device=candidates.device)
        return pairwise(function.kernel, query.vectors, moved, index, exact=exact)

    def score_all(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Score every entity as the answer of each query, without gradients, as ranking needs it.

        Args:
            entity: (b,) int64 entity ids.
            relation: (b,) int64 relation ids.
            side: the side to be predicted.

        Returns:
            (b, num_entities) scores.
        """
        with torch.no_grad():
            entities = self.encode(None)
            return self.score(self.query(entities, entity, relation, side), entities, exact=True)

    def score_triples(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        """Score triples given as (b,) int64 ids; returns (b,), differentiable."""
        if not len(head):
            return self.relation_rows(head).new_zeros(0)
        nodes, rows = torch.unique(torch.cat([head, tail]), return_inverse=True)
        entities = self.encode(nodes, self.encoder.blocks_for(nodes))
        query = self.query(entities, rows[: len(head)], relation, "tail")
        return self.score(query, entities, rows[len(head) :, None]).squeeze(1)

    def forward(self, graph: Any) -> Tensor:
        """Score the edges of a DGLGraph.

        Ids are read as ``graph_ids.triple_ids`` says.

        Returns:
            (number of edges,) scores in edge order, as answers to (head, relation, ?),
            differentiable.

        Raises:
            ValueError: the graph does not say which entities and relations it has.
        """
        relations = self.num_relations * (2 if self.reciprocal else 1)
        ids = triple_ids(graph, self.num_entities, relations)
        return self.score_triples(*ids)

    @property
    def entity_embeddings(self) -> Tensor:
        """All entity vectors, (num_entities, dim), detached.

        Raises:
            UserError: ``has_vectors`` is False.
        """
        self.require_vectors("what was asked for")
        with torch.no_grad():
            return self.encode(None).vectors.detach()

    @property
    def relation_embeddings(self) -> Tensor:
        """The relation table, (relations, relation_floats), detached."""
        return self.relation_weight.detach()
