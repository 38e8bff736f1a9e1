"""Which answers of a query are already known: a compressed index for filters, built by counting.

A query asks for one side of a triple: ``(head, relation, ?)`` has side ``"tail"`` and
``(?, relation, tail)`` has side ``"head"``. For each side the index keeps one 64-bit word per
distinct fact, ``relation << 32 | answer``, sorted within the segment of the known entity; a query
is two binary searches. Seventeen million triples take 16 bytes each and 8 bytes per entity and side.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from dglke_distill.data.triples import SIDES, Side, Triples

__all__ = [
    "KnownAnswers",
    "group_by_query",
    "is_answer",
    "order_by_query",
    "query_range",
    "unique_queries",
]

Ids = NDArray[np.integer[Any]]
Int64 = NDArray[np.int64]

_LOW = np.int64(0xFFFFFFFF)
# Below this many pairs, starting the second thread costs more than it saves.
_PARALLEL_PAIRS = 1 << 16


@njit(cache=True, nogil=True)
def _counting_pass(keys, num_keys, before, after):  # type: ignore[no-untyped-def]
    """Stable counting sort: reorder ``before`` (row numbers) by ``keys`` into ``after``."""
    start = np.zeros(num_keys + 1, np.int64)
    for key in keys:
        start[key + 1] += 1
    for key in range(num_keys):
        start[key + 1] += start[key]
    for row in before:
        key = keys[row]
        after[start[key]] = row
        start[key] += 1


@njit(cache=True, nogil=True)
def _pack(entity, relation, answer, order, num_entities, offsets, packed):  # type: ignore[no-untyped-def]
    """Write the distinct facts in order; return how many there are."""
    filled = 0
    previous = -1
    for row in order:
        word = (np.int64(relation[row]) << 32) | np.int64(answer[row])
        known = np.int64(entity[row])
        if known != previous or packed[filled - 1] != word:
            packed[filled] = word
            offsets[known + 1] += 1
            filled += 1
        previous = known
    for known in range(num_entities):
        offsets[known + 1] += offsets[known]
    return filled


@njit(cache=True, nogil=True)
def _lower_bound(packed, low, high, word):  # type: ignore[no-untyped-def]
    """Return the first position in ``packed[low:high]`` whose word is not below ``word``."""
    while low < high:
        middle = (low + high) >> 1
        if packed[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def query_range(offsets, packed, entity, relation):  # type: ignore[no-untyped-def]
    """Return the half-open range of ``packed`` that holds the answers of one query (numba)."""
    low, high = offsets[entity], offsets[entity + 1]
    word = np.int64(relation) << 32
    low = _lower_bound(packed, low, high, word)
    # Most queries have few answers, so look nearby before searching the whole segment.
    step = 1
    while low + step < high and packed[low + step] >> 32 == relation:
        step <<= 1
    return low, _lower_bound(packed, low, min(high, low + step), word + (np.int64(1) << 32))


@njit(cache=True, nogil=True)
def is_answer(packed, low, high, relation, entity):  # type: ignore[no-untyped-def]
    """Return whether ``entity`` is among the answers ``packed[low:high]`` of one query (numba)."""
    word = (np.int64(relation) << 32) | np.int64(entity)
    at = _lower_bound(packed, low, high, word)
    return at < high and packed[at] == word


@njit(cache=True, nogil=True)
def _ranges(offsets, packed, entity, relation, first, counts):  # type: ignore[no-untyped-def]
    for i in range(len(entity)):
        low, high = query_range(offsets, packed, entity[i], relation[i])
        first[i] = low
        counts[i + 1] = counts[i] + high - low


@njit(cache=True, nogil=True)
def _copy_answers(packed, first, offsets, answers):  # type: ignore[no-untyped-def]
    for i in range(len(first)):
        for j in range(offsets[i + 1] - offsets[i]):
            answers[offsets[i] + j] = packed[first[i] + j] & _LOW


@njit(cache=True, nogil=True)
def _hash_chunk(candidates, table, following):  # type: ignore[no-untyped-def]
    """Fill an open-addressing table: candidate -> its last position; equal ones are chained."""
    mask = len(table) - 1
    table[:] = -1
    for j in range(len(candidates)):
        slot = (candidates[j] * 0x9E3779B1 >> 7) & mask
        while table[slot] >= 0 and candidates[table[slot]] != candidates[j]:
            slot = (slot + 1) & mask
        following[j] = table[slot]
        table[slot] = j


def _contains(offsets, packed, entity, relation, candidates, tables, following, out):  # type: ignore[no-untyped-def]
    """Mark known answers. ``tables`` has one hash table per chunk, or none for private rows."""
    rows_per_chunk = len(entity) // len(candidates)
    width = candidates.shape[1]
    for i in prange(len(entity)):
        low, high = query_range(offsets, packed, entity[i], relation[i])
        chunk = i // rows_per_chunk
        shared = len(tables) > 0
        if shared and high - low < 4 * width:  # few answers: look each up among the candidates
            mask = tables.shape[1] - 1
            for at in range(low, high):
                answer = packed[at] & _LOW
                slot = (answer * 0x9E3779B1 >> 7) & mask
                while tables[chunk, slot] >= 0 and candidates[chunk, tables[chunk, slot]] != answer:
                    slot = (slot + 1) & mask
                j = np.int64(tables[chunk, slot])
                while j >= 0:
                    out[i, j] = True
                    j = np.int64(following[chunk, j])
        elif high > low:
            for j in range(width):
                out[i, j] = is_answer(packed, low, high, relation[i], candidates[chunk, j])


_contains_serial = njit(cache=True, nogil=True)(_contains)
_contains_parallel = njit(cache=True, parallel=True)(_contains)


def order_by_query(triples: Triples, side: Side) -> Ids:
    """Return the row numbers of ``triples`` sorted by (known entity, relation, answer).

    Three stable counting passes, so the time is linear whatever the degrees; rows of equal
    triples keep their order.

    Returns:
        int32 array of shape (n,) (int64 from 2**31 triples on).
    """
    entity, answer = _known_and_answer(triples, side)
    dtype = np.int32 if len(triples) < 2**31 else np.int64
    order, spare = np.arange(len(triples), dtype=dtype), np.empty(len(triples), dtype)
    for keys in (answer, triples.relation, entity):
        _counting_pass(np.ascontiguousarray(keys), _size(keys), order, spare)
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
            filled = _pack(entity, relation, answer, order, num_entities, offsets, packed)
            return offsets, packed if filled == len(packed) else packed[:filled].copy()

        with ThreadPoolExecutor(2) as pool:
            built = dict(zip(SIDES, pool.map(one_side, SIDES)))
        return cls(num_entities, {s: b[0] for s, b in built.items()},
                   {s: b[1] for s, b in built.items()})  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory held by the index, in bytes."""
        return sum(a.nbytes for part in (self.offsets, self.packed) for a in part.values())

    def answers(self, entity: int, relation: int, side: Side) -> Int64:
        """Return the known answers of one query: distinct entity ids, ascending."""
        low, high = query_range(self.offsets[side], self.packed[side], entity, relation)
        return self.packed[side][low:high] & _LOW

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
        entity, relation = _query_ids(entity, relation)
        first = np.empty(len(entity), np.int64)
        offsets = np.zeros(len(entity) + 1, np.int64)
        _ranges(self.offsets[side], self.packed[side], entity, relation, first, offsets)
        answers = np.empty(offsets[-1], np.int64)
        _copy_answers(self.packed[side], first, offsets, answers)
        return offsets, answers

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
        entity, relation = _query_ids(entity, relation)
        candidates = np.ascontiguousarray(candidates, np.int64)
        chunks, width = candidates.shape
        out = np.zeros((len(entity), width), np.bool_)
        if not out.size:
            return out
        if chunks == 0 or len(entity) % chunks:
            raise ValueError(f"{len(entity)} queries do not divide into {chunks} chunks")
        shared = chunks if chunks * 2 <= len(entity) else 0
        size = 1 << (4 * width - 1).bit_length()
        tables = np.empty((shared, size), np.int32)
        following = np.empty((shared, width), np.int32)
        for chunk in range(shared):
            _hash_chunk(candidates[chunk], tables[chunk], following[chunk])
        kernel = _contains_parallel if out.size >= _PARALLEL_PAIRS else _contains_serial
        kernel(self.offsets[side], self.packed[side], entity, relation, candidates, tables,
               following, out)  # fmt: skip
        return out


def _query_ids(entity: Ids, relation: Ids) -> tuple[Int64, Int64]:
    return np.ascontiguousarray(entity, np.int64), np.ascontiguousarray(relation, np.int64)


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
