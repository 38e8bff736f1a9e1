"""What a training step receives, and the loader that yields it.

Everything random about batch i of epoch e is a function of (seed, e, i): a run that stops resumes
with ``epoch(e, start=i)``, and the number of threads does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import graph_triples
from dglke_distill.data.known_answers import group_by_query
from dglke_distill.data.triples import SIDES, Side
from dglke_distill.kernels.random import stream_key
from dglke_distill.sampling.fact_weights import FactWeights
from dglke_distill.sampling.order import collect_queries, gather_columns, subsampling_weights, visit
from dglke_distill.sampling.unique import Relabeler

if TYPE_CHECKING:
    from dgl import DGLGraph
    from dgl.heterograph import DGLBlock

    from dglke_distill.sampling.base import NegativeSampler
    from dglke_distill.sampling.neighbors import NeighborBlocks

Mode = Literal["negatives", "one_vs_all", "k_vs_all"]
Int64 = NDArray[np.int64]

_ORDER, _NEGATIVES, _NEIGHBORS = range(3)


@dataclass(frozen=True)
class Answers:
    """The answers of each query, end to end.

    Attributes:
        offsets: int64 (b + 1,); query i has ``entities[offsets[i]:offsets[i + 1]]``.
        entities: int64 (k,), rows of ``Batch.nodes``, distinct and ascending within a query.
    """

    offsets: Tensor
    entities: Tensor


@dataclass(frozen=True)
class Queries:
    """Questions of one side, all asked against the same kind of candidates.

    Attributes:
        side: the side that is asked for.
        entity: int64 (b,), rows of ``Batch.nodes``: the known entity.
        relation: int64 (b,), relation ids from 0 to R - 1 on both sides.
        answer: int64 (b,), rows of ``Batch.nodes``: the true answer; None in mode ``k_vs_all``.
        answers: every train answer of each query; only in mode ``k_vs_all``.
        candidates: int64 (c, n), rows of ``Batch.nodes``, b a multiple of c: query i meets row
            ``i // (b // c)``. None: all entities.
        known: bool (b, n), candidates that are train facts and that losses leave out; None when
            there are none to leave out, because draws are unfiltered or all were replaced.
        weight: float32 (b,), weights of the facts and of subsampling, not normalised; None without.
    """

    side: Side
    entity: Tensor
    relation: Tensor
    answer: Optional[Tensor]
    answers: Optional[Answers]
    candidates: Optional[Tensor]
    known: Optional[Tensor]
    weight: Optional[Tensor]

    @property
    def triples(self) -> int:
        """How many true triples they stand for."""
        return len(self.answers.entities if self.answers else self.entity)

    def all_answers(self) -> Answers:
        """Return the answers end to end, however many each query has; not to be written to."""
        if self.answers is not None:
            return self.answers
        assert self.answer is not None
        return Answers(_one_each(len(self.answer), self.answer.device), self.answer)


@lru_cache(maxsize=16)
def _one_each(count: int, device: torch.device) -> Tensor:
    """Return the offsets (count + 1,) of queries with an answer each; nobody writes to them."""
    return torch.arange(count + 1, device=device)


@dataclass(frozen=True)
class Batch:
    """One training step's questions. All tensors are fresh: none is reused by a later batch.

    Attributes:
        nodes: int64 (u,), the distinct entities, in order of first use. None: all entities, and
            rows are ids.
        queries: one or more groups, none empty.
        edges: int64 (B,), the positives' edges in the train graph. In mode ``k_vs_all`` those of
            all queries; an edge stands there twice if both its sides are asked.
        head: int64 (B,), entity ids of the positives.
        relation: int64 (B,), relation ids of the positives.
        tail: int64 (B,), entity ids of the positives.
        blocks: message-flow graphs whose destinations are ``nodes``; None with a lookup encoder.
    """

    nodes: Optional[Tensor]
    queries: tuple[Queries, ...]
    edges: Tensor
    head: Tensor
    relation: Tensor
    tail: Tensor
    blocks: Optional[list[DGLBlock]]


class BatchLoader:
    """Yields the batches of an epoch, in any of the three training modes.

    - ``negatives``: ``batch_size`` triples, each with drawn candidates for one side or both.
    - ``one_vs_all``: ``batch_size`` triples, both sides, all entities as candidates.
    - ``k_vs_all``: ``batch_size`` distinct queries of both sides with all their train answers.

    The last batch of an epoch may be smaller. An epoch visits every triple (or query) once, in an
    order drawn anew. Memory beyond the graph: 12 bytes per triple, 8 per entity, in ``k_vs_all``
    8 more per triple, with subsampling 4 more.

    Args:
        graph: the train graph, with or without inverse edges, which are no positives.
        num_relations: number of relations, without inverses.
        batch_size: triples, or queries in ``k_vs_all``.
        mode: as above.
        sampler: draws the negatives; only in mode ``negatives``.
        neighbors: draws the message-flow blocks of an encoder that needs them.
        seed: of everything random.
        subsampling: give each positive the weight 1 / sqrt(n(h, r) + n(r, t)), see
            :func:`subsampling_weights`; not in ``k_vs_all``, whose queries are distinct.
        weights: float32 (n,), how much each positive counts, from 0 on; None: all alike.
        weighting: what weights do: ``loss`` multiplies each positive's share of the loss, a query
            of ``k_vs_all`` counting as the mean of its positives; ``sampling`` draws what a batch
            visits in proportion, with replacement, a query in proportion to their sum.
        device: where the tensors of a batch go; blocks follow.

    Raises:
        UserError: settings that exclude each other.
    """

    def __init__(
        self,
        graph: DGLGraph,
        num_relations: int,
        *,
        batch_size: int,
        mode: Mode = "negatives",
        sampler: Optional[NegativeSampler] = None,
        neighbors: Optional[NeighborBlocks] = None,
        seed: int = 0,
        subsampling: bool = False,
        weights: Optional[NDArray[np.float32]] = None,
        weighting: Literal["loss", "sampling"] = "loss",
        device: Union[str, torch.device] = "cpu",
    ) -> None:
        """Check the settings and prepare what every epoch shares."""
        if mode not in ("negatives", "one_vs_all", "k_vs_all"):
            raise UserError(f"training.mode is {mode!r}: choose negatives, one_vs_all or k_vs_all")
        if mode == "k_vs_all" and subsampling:
            raise UserError("training.subsampling weighs triples: it does not go with k_vs_all")
        if (mode == "negatives") != (sampler is not None):
            raise ValueError("mode 'negatives' needs a sampler and the other modes take none")
        if batch_size < 1:
            raise UserError("training.batch_size must be at least 1")
        self.mode, self.batch_size, self.seed = mode, batch_size, seed
        self.sampler, self.neighbors = sampler, neighbors
        self.device = torch.device(device)
        self.num_entities = int(graph.num_nodes())
        triples = graph_triples(graph, num_relations)
        if not len(triples):
            raise ValueError("the train graph has no edges")
        self._columns = triples.head, triples.relation, triples.tail
        self._weights = subsampling_weights(triples) if subsampling else None
        self._relabel = Relabeler(self.num_entities if mode == "negatives" else 0)
        self._groups = (
            [group_by_query(triples, side) for side in SIDES] if mode == "k_vs_all" else []
        )
        self._size = len(triples)
        if mode == "k_vs_all":
            self._size = sum(len(starts) - 1 for _, starts in self._groups)
        self._facts = None if weights is None else FactWeights(weights, self._groups, weighting)
        if self._facts is not None and len(self._facts) != len(triples):
            raise ValueError(f"{len(self._facts)} weights for {len(triples)} triples")
        if self._facts is not None and self._facts.of_facts is not None:
            own = self._facts.of_facts
            self._weights = own if self._weights is None else self._weights * own

    def __len__(self) -> int:
        """Return the number of batches of an epoch, a smaller last one included."""
        return -(-self._size // self.batch_size)

    def epoch(self, epoch: int, start: int = 0, stop: Optional[int] = None) -> Iterator[Batch]:
        """Yield the batches of epoch ``epoch`` from number ``start`` on, up to ``stop``."""
        make = {
            "negatives": self._negatives, "one_vs_all": self._one_vs_all,
            "k_vs_all": self._k_vs_all,
        }[self.mode]  # fmt: skip
        for index in range(start, len(self) if stop is None else stop):
            yield make(epoch, index)

    def _positions(self, epoch: int, index: int) -> Int64:
        """Return what the batch visits: positions below the size of an epoch, int64."""
        first = index * self.batch_size
        out = np.empty(min(self.batch_size, self._size - first), np.int64)
        key = stream_key(self.seed, _ORDER, epoch)
        if self._facts is not None and self._facts.upto is not None:
            self._facts.draw(key, first, out)
        else:
            visit(key, self._size, first, out)
        return out

    def _negatives(self, epoch: int, index: int) -> Batch:
        assert self.sampler is not None
        edges = self._positions(epoch, index)
        columns = np.empty((3, len(edges)), np.int64)
        gather_columns(edges, *self._columns, columns)
        head, relation, tail = columns
        key = stream_key(self.seed, _NEGATIVES, epoch, index)
        turn = epoch * len(self) + index
        parts: list[Int64] = []
        groups = []
        for number, (side, rows) in enumerate(self.sampler.split(head, relation, tail, turn, key)):
            if rows is not None and not len(rows):
                continue
            chosen = columns if rows is None else columns[:, rows]
            entity, answer = (chosen[0], chosen[2]) if side == "tail" else (chosen[2], chosen[0])
            candidates, known = self.sampler.draw(
                side, entity, chosen[1], answer, stream_key(int(key), number)
            )
            parts += [entity, answer, candidates]
            groups.append((side, chosen[1], known, edges if rows is None else edges[rows]))
        nodes, labels = self._relabel(parts)
        queries = tuple(
            Queries(
                side,
                self._tensor(labels[3 * i]),
                self._tensor(given),
                self._tensor(labels[3 * i + 1]),
                None,
                self._tensor(labels[3 * i + 2]),
                None if known is None else self._tensor(known),
                self._weight(asked),
            )
            for i, (side, given, known, asked) in enumerate(groups)
        )
        return self._batch(torch.from_numpy(nodes), queries, edges, columns, epoch, index)

    def _one_vs_all(self, epoch: int, index: int) -> Batch:
        edges = self._positions(epoch, index)
        columns = np.empty((3, len(edges)), np.int64)
        gather_columns(edges, *self._columns, columns)
        head, relation, tail = (self._tensor(column) for column in columns)
        weight = self._weight(edges)
        queries = (
            Queries("tail", head, relation, tail, None, None, None, weight),
            Queries("head", tail, relation, head, None, None, None, weight),
        )
        return self._batch(None, queries, edges, columns, epoch, index)

    def _k_vs_all(self, epoch: int, index: int) -> Batch:
        positions = np.sort(self._positions(epoch, index))
        boundary = len(self._groups[0][1]) - 1  # head queries come first
        queries, edges = [], []
        for side, (order, starts), asked in zip(
            SIDES, self._groups, np.split(positions, [np.searchsorted(positions, boundary)])
        ):
            if not len(asked):
                continue
            asked = asked - boundary if side == "tail" else asked
            sizes = starts[asked + 1] - starts[asked]
            rows = np.empty(int(sizes.sum()), np.int64)
            offsets = np.zeros(len(asked) + 1, np.int64)
            head, relation, tail = self._columns
            known, answer = (head, tail) if side == "tail" else (tail, head)
            answers = np.empty(len(rows), np.int64)
            collect_queries(order, starts, asked, answer, rows, offsets, answers)
            first = order[starts[asked]]
            weight = None if self._facts is None else self._facts.of_queries(side, asked)
            queries.append(
                Queries(
                    side,
                    self._tensor(known[first].astype(np.int64)),
                    self._tensor(relation[first].astype(np.int64)),
                    None,
                    Answers(self._tensor(offsets), self._tensor(answers[: offsets[-1]].copy())),
                    None,
                    None,
                    None if weight is None else self._tensor(weight),
                )
            )
            edges.append(rows)
        all_edges = np.concatenate(edges)
        columns = np.empty((3, len(all_edges)), np.int64)
        gather_columns(all_edges, *self._columns, columns)
        return self._batch(None, tuple(queries), all_edges, columns, epoch, index)

    def _batch(
        self,
        nodes: Optional[Tensor],
        queries: tuple[Queries, ...],
        edges: Int64,
        columns: Int64,
        epoch: int,
        index: int,
    ) -> Batch:
        blocks = None
        positives = torch.from_numpy(edges)
        if self.neighbors is not None:
            nodes = torch.arange(self.num_entities) if nodes is None else nodes
            key = int(stream_key(self.seed, _NEIGHBORS, epoch, index))
            blocks = self.neighbors.sample(nodes, positives, seed_key=key)
            if self.device.type != "cpu":
                blocks = [block.to(self.device) for block in blocks]
        head, relation, tail = (self._tensor(column) for column in columns)
        nodes = None if nodes is None else nodes.to(self.device)
        return Batch(nodes, queries, positives.to(self.device), head, relation, tail, blocks)

    def _weight(self, edges: Int64) -> Optional[Tensor]:
        return None if self._weights is None else self._tensor(self._weights[edges])

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)
