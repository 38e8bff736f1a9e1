"""Which answers of a query are already known: a compressed index for filters, built by counting.

A query asks for one side of a triple: ``(head, relation, ?)`` has side ``"tail"`` and
``(?, relation, tail)`` has side ``"head"``. For each side the index keeps one 64-bit word per
distinct fact, ``relation << 32 | answer``, sorted within the segment of the known entity; a query
is two binary searches. A triple takes 16 bytes, an entity as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.triples import SIDES, Side, Triples
from dglke_distill.kernels.known_answers import (
    LOW_BITS,
    contains_private,
    contains_shared,
    copy_answers,
    counting_pass,
    pack_facts,
    query_range,
    query_ranges,
)

Ids = NDArray[np.integer[Any]]
Int64 = NDArray[np.int64]


def order_by_query(triples: Triples, side: Side) -> Ids:
    """Return the row numbers of ``triples`` sorted by (known entity, relation, answer).

    Three stable counting passes, so the time is linear whatever the degrees; rows of equal
    triples keep their order.

    Returns:
        int32 array of shape (n,) (int64 from 2**31 triples on).
    """
    entity, answer = _known_and_answer(triples, side)
    dtype = np.int32 if len(triples) < 2**31 else np.int64
    order: Ids = np.arange(len(triples), dtype=dtype)
    spare: Ids = np.empty(len(triples), dtype)
    for keys in (answer, triples.relation, entity):
        counting_pass(np.ascontiguousarray(keys), _size(keys), order, spare)
        order, spare = spare, order
    return order


def _size(ids: Ids) -> int:
    return int(ids.max()) + 1 if len(ids) else 0


def _known_and_answer(triples: Triples, side: Side) -> tuple[Ids, Ids]:
    if side not in SIDES:
        raise ValueError(f"side must be 'head' or 'tail', not {side!r}")
    columns = (triples.head, triples.tail) if side == "tail" else (triples.tail, triples.head)
    return np.ascontiguousarray(columns[0]), np.ascontiguousarray(columns[1])


class KnownAnswers:
    """The known answers of every query, for filtered ranking and filtered negatives.

    Attributes:
        num_entities: number of entities E.
        offsets: for each side an int64 array of shape (E + 1,): entity e owns the words
            ``offsets[e]`` to ``offsets[e + 1]``.
        packed: for each side an int64 array with a word ``relation << 32 | answer`` per distinct
            fact, sorted within each entity's segment.
    """

    def __init__(
        self, num_entities: int, offsets: dict[Side, Int64], packed: dict[Side, Int64]
    ) -> None:
        """Keep the arrays; use :meth:`build` to make them."""
        self.num_entities = num_entities
        self.offsets = offsets
        self.packed = packed

    @classmethod
    def build(cls, triples: Sequence[Triples], num_entities: int) -> KnownAnswers:
        """Index the union of some triples, for instance of the three splits.

        Linear time (a few seconds for 17M triples); the two sides are sorted in two threads.

        Raises:
            ValueError: an id is negative or an entity id reaches ``num_entities``.
        """
        union = triples[0] if len(triples) == 1 else _concatenate(triples)
        for column in (union.head, union.relation, union.tail):
            if len(column) and int(column.min()) < 0:
                raise ValueError("ids must not be negative")
        if max(_size(union.head), _size(union.tail)) > num_entities:
            raise ValueError(f"an entity id is not below num_entities={num_entities}")

        def one_side(side: Side) -> tuple[Int64, Int64]:
            entity, answer = _known_and_answer(union, side)
            relation = np.ascontiguousarray(union.relation)
            offsets = np.zeros(num_entities + 1, np.int64)
            packed = np.empty(len(union), np.int64)
            order = order_by_query(union, side)
            filled = pack_facts(entity, relation, answer, order, num_entities, offsets, packed)
            return offsets, packed if filled == len(packed) else packed[:filled].copy()

        with ThreadPoolExecutor(2) as pool:
            built = dict(zip(SIDES, pool.map(one_side, SIDES)))
        return cls(num_entities, {s: b[0] for s, b in built.items()},
                   {s: b[1] for s, b in built.items()})  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory held by the index, in bytes."""
        return sum(a.nbytes for part in (self.offsets, self.packed) for a in part.values())

    def triples(self) -> Triples:
        """Return the facts, each once, ordered by head, relation and tail."""
        words, offsets = self.packed["tail"], self.offsets["tail"]
        head = np.repeat(np.arange(self.num_entities), np.diff(offsets))
        return Triples(
            *(column.astype(np.int32) for column in (head, words >> 32, words & LOW_BITS))
        )

    def _query_ids(self, entity: Ids, relation: Ids) -> tuple[Int64, Int64]:
        entities = np.ascontiguousarray(entity, np.int64)
        if len(entities) and (entities.min() < 0 or entities.max() >= self.num_entities):
            raise ValueError(f"an entity id is not below num_entities={self.num_entities}")
        return entities, np.ascontiguousarray(relation, np.int64)

    def answers(self, entity: int, relation: int, side: Side) -> Int64:
        """Return the known answers of one query: distinct entity ids, ascending."""
        if not 0 <= entity < self.num_entities:
            raise ValueError(f"entity id {entity} is not below num_entities={self.num_entities}")
        low, high = query_range(self.offsets[side], self.packed[side], entity, relation)
        return self.packed[side][low:high] & LOW_BITS

    def gather(self, entity: Ids, relation: Ids, side: Side) -> tuple[Int64, Int64]:
        """Return the known answers of many queries.

        Args:
            entity: integer array of shape (b,), the known entities.
            relation: integer array of shape (b,).
            side: the side asked for.

        Returns:
            ``offsets`` int64 (b + 1,) and ``answers`` int64 (k,): query i has the ascending
            answers ``answers[offsets[i]:offsets[i + 1]]``.
        """
        entity, relation = self._query_ids(entity, relation)
        first = np.empty(len(entity), np.int64)
        offsets = np.zeros(len(entity) + 1, np.int64)
        query_ranges(self.offsets[side], self.packed[side], entity, relation, first, offsets)
        answers = np.empty(offsets[-1], np.int64)
        copy_answers(self.packed[side], first, offsets, answers)
        return offsets, answers

    def counts(self, entity: Ids, relation: Ids, side: Side) -> Int64:
        """Return how many known answers each query has: int64 (b,); see :meth:`gather`."""
        entity, relation = self._query_ids(entity, relation)
        first = np.empty(len(entity), np.int64)
        offsets = np.zeros(len(entity) + 1, np.int64)
        query_ranges(self.offsets[side], self.packed[side], entity, relation, first, offsets)
        return np.diff(offsets)

    def contains(
        self, entity: Ids, relation: Ids, candidates: Ids, side: Side
    ) -> NDArray[np.bool_]:
        """Return which candidates are known answers.

        Args:
            entity: integer array of shape (b,), the known entities.
            relation: integer array of shape (b,).
            candidates: integer array of shape (c, n), b a multiple of c: query i meets row
                ``i // (b // c)``.
            side: the side asked for.

        Returns:
            bool array of shape (b, n).

        Raises:
            ValueError: b is not a multiple of c.
        """
        entity, relation = self._query_ids(entity, relation)
        candidates = np.ascontiguousarray(candidates, np.int64)
        chunks, width = candidates.shape
        out = np.zeros((len(entity), width), np.bool_)
        if not out.size:
            return out
        if chunks == 0 or len(entity) % chunks:
            raise ValueError(f"{len(entity)} queries do not divide into {chunks} chunks")
        kernel = contains_shared if 4 * chunks <= len(entity) else contains_private
        kernel(self.offsets[side], self.packed[side], entity, relation, candidates, out)
        return out


def _concatenate(parts: Sequence[Triples]) -> Triples:
    return Triples(*(np.concatenate([np.empty(0, np.int32), *(getattr(p, c) for p in parts)])
                     for c in ("head", "relation", "tail")))  # fmt: skip


def group_by_query(triples: Triples, side: Side) -> tuple[Ids, Int64]:
    """Group triples by query, the distinct pairs of known entity and relation.

    Returns:
        ``order`` integer (n,), row numbers as :func:`order_by_query` gives them, and ``starts``
        int64 (q + 1,): query i has the triples ``order[starts[i]:starts[i + 1]]``.
    """
    entity, _ = _known_and_answer(triples, side)
    order = order_by_query(triples, side)
    known, relation = entity[order], triples.relation[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (known[1:] != known[:-1]) | (relation[1:] != relation[:-1])
    return order, np.append(np.flatnonzero(new), len(order)).astype(np.int64)


def unique_queries(triples: Triples, side: Side) -> tuple[Int64, Int64, Int64, Int64]:
    """Return the distinct queries of some triples with their answers, for ranking.

    Returns:
        ``entity`` int64 (q,), ``relation`` int64 (q,), ``offsets`` int64 (q + 1,) and ``answers``
        int64 (k,): query i has the distinct, ascending answers
        ``answers[offsets[i]:offsets[i + 1]]``. Queries are ordered by entity, then relation.
    """
    entity, answer = _known_and_answer(triples, side)
    order, starts = group_by_query(triples, side)
    first, given = order[starts[:-1]], answer[order]
    new_fact = np.ones(len(order), np.bool_)
    new_fact[1:] = given[1:] != given[:-1]
    new_fact[starts[:-1]] = True
    offsets = np.append(0, np.cumsum(new_fact))[starts].astype(np.int64)
    answers = given[new_fact].astype(np.int64)
    return (
        entity[first].astype(np.int64),
        triples.relation[first].astype(np.int64),
        offsets,
        answers,
    )
