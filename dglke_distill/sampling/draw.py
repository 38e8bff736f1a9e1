"""The numba kernels that draw candidates: from everything, from a pool, or by weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from dglke_distill.data.triples import Side
from dglke_distill.known_answers import KnownAnswers, is_answer, query_range
from dglke_distill.sampling.random import bits_at, uniform_at

__all__ = ["Pools", "alias_table", "coins", "draw", "everything", "redraw_known"]

Int64 = NDArray[np.int64]

_TRIES = 16
# Below this many draws, starting the second thread costs more than it saves.
_PARALLEL_DRAWS = 1 << 15


class Pools(NamedTuple):
    """The sets of entities that candidates are drawn from, end to end.

    Attributes:
        offsets: int64 (p + 1,): pool i has the positions ``offsets[i]`` to ``offsets[i + 1]``.
        entities: int32, the entity at each position; empty when a position is an entity.
        probability: float32, alias table: chance to keep the position drawn; empty when uniform.
        alias: int32, alias table: the position, counted within the pool, taken otherwise.
    """

    offsets: Int64
    entities: NDArray[np.int32]
    probability: NDArray[np.float32]
    alias: NDArray[np.int32]


def everything(num_entities: int) -> Pools:
    """Return one pool of all entities, drawn uniformly."""
    nothing = np.empty(0, np.int32)
    offsets = np.array([0, num_entities], np.int64)
    return Pools(offsets, nothing, np.empty(0, np.float32), nothing)


@njit(cache=True, nogil=True)
def _alias(weights, probability, alias):  # type: ignore[no-untyped-def]
    size = len(weights)
    scaled = weights * (size / weights.sum())
    stack = np.empty(size, np.int64)  # small ones from the left, large ones from the right
    small, large = 0, size
    for i in range(size):
        if scaled[i] < 1.0:
            stack[small] = i
            small += 1
        else:
            large -= 1
            stack[large] = i
    while small > 0 and large < size:
        small -= 1
        low, high = stack[small], stack[large]
        probability[low] = scaled[low]
        alias[low] = high
        scaled[high] -= 1.0 - scaled[low]
        if scaled[high] < 1.0:
            large += 1
            stack[small] = high
            small += 1
    while small > 0:  # left over by rounding
        small -= 1
        probability[stack[small]] = 1.0
        alias[stack[small]] = stack[small]
    for i in range(large, size):
        probability[stack[i]] = 1.0
        alias[stack[i]] = stack[i]


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return (probability, alias) for drawing i with chance ``weights[i] / weights.sum()``.

    Vose 1991, "A linear algorithm for generating random numbers with a given distribution".

    Raises:
        ValueError: a weight is negative, or none is positive.
    """
    weights = np.ascontiguousarray(weights, np.float64)
    if not len(weights) or weights.min() < 0 or not weights.sum() > 0:
        raise ValueError("weights must be non-negative and not all zero")
    probability, alias = np.empty(len(weights), np.float32), np.empty(len(weights), np.int32)
    _alias(weights, probability, alias)
    return probability, alias


@njit(cache=True, nogil=True)
def coins(key, chance):  # type: ignore[no-untyped-def]
    """Return bool (b,): coin i, of stream ``key``, falls True with probability ``chance[i]``."""
    out = np.empty(len(chance), np.bool_)
    for i in range(len(chance)):
        out[i] = uniform_at(key, i) < chance[i]
    return out


@njit(cache=True, nogil=True)
def _draw_one(bits, start, size, entities, probability, alias):  # type: ignore[no-untyped-def]
    # One draw serves twice: its whole part is the position, its fraction the alias coin.
    place = np.float64(np.int64(bits >> np.uint64(11))) * 2.0**-53 * size
    position = np.int64(place)
    if len(probability) > 0 and place - position >= probability[start + position]:
        position = np.int64(alias[start + position])
    if len(entities) > 0:
        return np.int64(entities[start + position])
    return start + position


def _draw(key, pool, offsets, entities, probability, alias, out):  # type: ignore[no-untyped-def]
    width = out.shape[1]
    for i in prange(len(pool)):
        start = offsets[pool[i]]
        size = offsets[pool[i] + 1] - start
        for j in range(width):
            bits = bits_at(key, i * width + j)
            out[i, j] = _draw_one(bits, start, size, entities, probability, alias)


_draw_serial = njit(cache=True, nogil=True)(_draw)
_draw_parallel = njit(cache=True, parallel=True)(_draw)


def draw(key: np.uint64, pools: Pools, pool: Int64, count: int) -> Int64:
    """Draw candidates.

    Args:
        key: stream key.
        pools: where to draw from.
        pool: int64 (rows,), the pool of each row; it must not be empty.
        count: candidates per row, drawn with replacement.

    Returns:
        int64 entity ids of shape (rows, count).
    """
    out = np.empty((len(pool), count), np.int64)
    kernel = _draw_parallel if out.size >= _PARALLEL_DRAWS else _draw_serial
    kernel(key, pool, *pools, out)
    return out


@njit(cache=True, nogil=True)
def _free_entity(packed, low, high, rank):  # type: ignore[no-untyped-def]
    """Return the rank-th entity, counting from 0, that is not an answer."""
    first, last = low, high  # the answers below it: those with answer - position <= rank
    while first < last:
        middle = (first + last) >> 1
        if (packed[middle] & 0xFFFFFFFF) - (middle - low) <= rank:
            first = middle + 1
        else:
            last = middle
    return rank + (first - low)


def _redraw(
    key,
    tries,
    pool,
    offsets,
    entities,
    probability,
    alias,
    known_offsets,
    packed,
    entity,
    relation,
    out,
    known,
):  # type: ignore[no-untyped-def]  # noqa: E501
    width = out.shape[1]
    for i in prange(len(pool)):
        low, high = query_range(known_offsets, packed, entity[i], relation[i])
        start = offsets[pool[i]]
        size = offsets[pool[i] + 1] - start
        exhausted = False
        for j in range(width):
            if high == low or not is_answer(packed, low, high, relation[i], out[i, j]):
                continue
            counter = (i * width + j) * (tries + 1)
            found = False
            for attempt in range(tries):
                if exhausted or found:
                    break
                bits = bits_at(key, counter + attempt)
                chosen = _draw_one(bits, start, size, entities, probability, alias)
                if not is_answer(packed, low, high, relation[i], chosen):
                    out[i, j] = chosen
                    found = True
            share = uniform_at(key, counter + tries)
            if not found and not exhausted and len(entities) == 0:
                free = size - (high - low)
                if free > 0:
                    out[i, j] = _free_entity(packed, low, high, np.int64(share * free))
                    found = True
            elif not found and not exhausted:
                first = np.int64(share * size)
                for step in range(size):
                    chosen = np.int64(entities[start + (first + step) % size])
                    if not is_answer(packed, low, high, relation[i], chosen):
                        out[i, j] = chosen
                        found = True
                        break
            if not found:
                exhausted = True
                known[i, j] = True


_redraw_serial = njit(cache=True, nogil=True)(_redraw)
_redraw_parallel = njit(cache=True, parallel=True)(_redraw)


def redraw_known(
    key: np.uint64,
    pools: Pools,
    pool: Int64,
    index: KnownAnswers,
    side: Side,
    entity: Int64,
    relation: Int64,
    candidates: Int64,
) -> NDArray[np.bool_]:
    """Replace known answers among private candidates, in place.

    Uniform draws from everything are replaced by an exact uniform draw from the entities that are
    not answers. Other pools are drawn from again, up to 16 times, and after that the first
    pool member that is not an answer is taken from a random place on.

    Args:
        key: stream key, not the one that drew ``candidates``.
        pools: where the candidates were drawn from.
        pool: int64 (b,), the pool of each row.
        index: known answers. side: the side asked for.
        entity: int64 (b,), known entities. relation: int64 (b,).
        candidates: int64 (b, n), changed in place.

    Returns:
        bool (b, n): candidates that are still known because their pool has no other member.
    """
    known = np.zeros(candidates.shape, np.bool_)
    exact = not len(pools.entities) and not len(pools.probability)
    kernel = _redraw_parallel if candidates.size >= _PARALLEL_DRAWS else _redraw_serial
    kernel(key, 0 if exact else _TRIES, pool, *pools, index.offsets[side], index.packed[side],
           entity, relation, candidates, known)  # fmt: skip
    return known
