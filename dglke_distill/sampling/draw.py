"""The numba kernels that draw candidates: from everything, from a pool, or by weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import Side
from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.known_answers import (
    MARK_LIMIT,
    is_answer,
    mark_answers,
    may_be_answer,
    query_range,
)
from dglke_distill.kernels.random import bits_at, uniform_at

Int64 = NDArray[np.int64]

_TRIES = 16
_UNIT = 2.0**-53


class Pools(NamedTuple):
    """The sets of entities that candidates are drawn from, end to end.

    Attributes:
        offsets: int64 (p + 1,): pool i has the positions ``offsets[i]`` to ``offsets[i + 1]``.
        entities: int32, the entity at each position, ascending within a pool; empty when a
            position is an entity.
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


# The two helpers below are inlined: counting references to their arrays at each call would cost
# ten times the draw.
@njit(inline="always")
def _position(bits, size):  # type: ignore[no-untyped-def]
    """Return a real number in [0, size): its whole part is the position, the rest a coin."""
    return np.float64(np.int64(bits >> np.uint64(11))) * _UNIT * size


@njit(inline="always")
def _weighted(place, start, probability, alias):  # type: ignore[no-untyped-def]
    """Return a position drawn through the alias table, without a branch to mispredict."""
    position = np.int64(place)
    other = np.int64(alias[start + position])
    keep = np.int64(np.floor(place - position - probability[start + position]))  # -1 or 0
    return other ^ ((other ^ position) & keep)


@njit(cache=True, nogil=True)
def _draw(key, pool, offsets, entities, probability, alias, out):  # type: ignore[no-untyped-def]
    width = out.shape[1]
    for i in range(len(pool)):
        start = offsets[pool[i]]
        size = offsets[pool[i] + 1] - start
        if len(probability) > 0:
            for j in range(width):
                place = _position(bits_at(key, i * width + j), size)
                out[i, j] = start + _weighted(place, start, probability, alias)
        else:
            for j in range(width):
                out[i, j] = start + np.int64(_position(bits_at(key, i * width + j), size))
        if len(entities) > 0:
            for j in range(width):
                out[i, j] = entities[out[i, j]]


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
    _draw(key, pool, *pools, out)
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


@njit(cache=True, nogil=True)
def _free_members(entities, start, size, packed, low, high, free):  # type: ignore[no-untyped-def]
    """Write the pool members that are no answers to ``free``; return how many. Both ascend."""
    count, i, end = np.int64(0), start, start + size
    while i < end and low < high:  # a merge without branches to mispredict
        member, answer = np.int64(entities[i]), packed[low] & 0xFFFFFFFF
        free[count] = member
        count += np.int64(member < answer)
        i += np.int64(member <= answer)
        low += np.int64(answer <= member)
    for rest in range(i, end):
        free[count] = entities[rest]
        count += 1
    return count


@njit(cache=True, nogil=True)
def _redraw(key, pool, pools, known_offsets, packed, entity, relation, out, known):  # type: ignore[no-untyped-def]
    offsets, entities, probability, alias = pools
    width, stride = out.shape[1], _TRIES + 1
    answer_bits = np.zeros(1024, np.uint64)
    everything, weighted = len(entities) == 0, len(probability) > 0
    free = np.empty(0 if everything else np.max(offsets[1:] - offsets[:-1]), np.int32)
    for i in range(len(pool)):
        low, high = query_range(known_offsets, packed, entity[i], relation[i])
        if high == low:
            continue
        start = offsets[pool[i]]
        size = offsets[pool[i] + 1] - start
        answers = high - low
        num_free = size - answers if everything else -1  # -1: not listed yet
        # Listing the free members costs a step each; finding and replacing an answer some 64.
        if not everything and not weighted:
            if (size + answers) * (size - answers) <= 64 * width * answers:
                num_free = _free_members(entities, start, size, packed, low, high, free)
                if num_free > 0:
                    for j in range(width):
                        bits = bits_at(key, (i * width + j) * stride)
                        out[i, j] = free[np.int64(_position(bits, num_free))]
                else:
                    known[i] = True
                continue
        marked = answers <= MARK_LIMIT * width
        if marked:
            mark_answers(packed, low, high, answer_bits)
        for j in range(width):
            if marked and not may_be_answer(answer_bits, out[i, j]):
                continue
            if not is_answer(packed, low, high, out[i, j]):
                continue
            counter = (i * width + j) * stride
            found = False
            for attempt in range(_TRIES if num_free < 0 or weighted else 0):
                place = _position(bits_at(key, counter + attempt), size)
                chosen = start + np.int64(place)
                if weighted:
                    chosen = start + _weighted(place, start, probability, alias)
                if not everything:
                    chosen = np.int64(entities[chosen])
                if not is_answer(packed, low, high, chosen):
                    out[i, j] = chosen
                    found = True
                    break
            if found:
                continue
            if num_free < 0:
                num_free = _free_members(entities, start, size, packed, low, high, free)
            if num_free == 0:
                known[i, j] = True
                continue
            rank = np.int64(_position(bits_at(key, counter + _TRIES), num_free))
            out[i, j] = _free_entity(packed, low, high, rank) if everything else free[rank]


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

    The replacement follows the pool's own distribution, given that it is no answer: drawn at once
    from the members that are none, or, from weighted and from large pools, drawn again up to 16
    times and only then taken uniformly from those members.

    Args:
        key: stream key, not the one that drew ``candidates``.
        pools: where the candidates were drawn from.
        pool: int64 (b,), the pool of each row.
        index: known answers.
        side: the side asked for.
        entity: int64 (b,), known entities.
        relation: int64 (b,).
        candidates: int64 (b, n), changed in place.

    Returns:
        bool (b, n): candidates that are still known because their pool has no other member.
    """
    known = np.zeros(candidates.shape, np.bool_)
    _redraw(key, pool, tuple(pools), index.offsets[side], index.packed[side], entity,
            relation, candidates, known)  # fmt: skip
    return known
