"""What stands for an entity in NodePiece: the anchors nearest to it, and its relations.

Anchors are found for all entities at once, in rounds: what is at distance d of an entity is at
distance d - 1 of one of its neighbours. A row that is full with k anchors needs no further one, and
whoever looks for anchors through it finds those k, so no distance comes out too long; which of
several equally distant anchors an entity gets is drawn by a hash of both. Nothing but the graph's
neighbour lists, the anchors next to each entity and the result is held: about 16 bytes per edge and
5 k + 4 m bytes per entity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.data.graph import graph_triples
from dglke_distill.data.triples import Triples
from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.random import bits_at, stream_key
from dglke_distill.models.node_piece_anchors import choose_anchors

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_ANCHORS, _CONTEXT = 1, 2
_ROWS = 1 << 13


class Tokens(NamedTuple):
    """The tokens of E entities.

    Attributes:
        anchors: (A,) int64, entities that are anchors.
        nearest: (E, k) int32, positions in ``anchors`` by ascending distance, then position; A
            where no further one is within reach.
        distance: (E, k) uint8, edges on the shortest way; ``max_distance + 1`` beyond reach.
        context: (E, m) int32, relations that leave the entity, ascending, inverse ones from the
            number of relations R on; 2 R where there are no more.
    """

    anchors: Int64
    nearest: Int32
    distance: NDArray[np.uint8]
    context: Int32


def tokenise(
    graph: Any,
    num_relations: int,
    *,
    anchors: int,
    per_entity: int,
    context: int,
    max_distance: int,
    degree_share: float,
    pagerank_share: float,
    seed: int,
) -> Tokens:
    """Find the tokens of all entities of a graph.

    Args:
        graph: train graph with inverse edges, ``build_graph(train, n, inverse=True)``.
        num_relations: relations of the dataset, inverses not counted.
        anchors: how many entities are anchors, at most all.
        per_entity: k.
        context: m.
        max_distance: edges beyond which no anchor is looked for.
        degree_share: share of anchors that have the most edges.
        pagerank_share: share of those that PageRank puts first; the rest is random.
        seed: of all draws.
    """
    triples, size = graph_triples(graph, num_relations), graph.num_nodes()
    chosen = choose_anchors(triples, size, anchors, degree_share, pagerank_share, seed)
    nearest, distance = nearest_anchors(triples, size, chosen, per_entity, max_distance, seed)
    return Tokens(
        chosen, nearest, distance, relation_context(triples, size, num_relations, context, seed)
    )


def nearest_anchors(
    triples: Triples, num_entities: int, anchors: Int64, count: int, max_distance: int, seed: int
) -> tuple[Int32, NDArray[np.uint8]]:
    """Return ``nearest`` and ``distance`` of ``Tokens``; edges are walked both ways.

    Args:
        triples: edges.
        num_entities: E.
        anchors: (A,) distinct ids.
        count: k.
        max_distance: at most 254.
        seed: of the draws among equally distant anchors.
    """
    offsets, neighbors = _adjacency(triples.head, triples.tail, num_entities)
    position = np.full(num_entities, -1, np.int32)
    position[anchors] = np.arange(len(anchors), dtype=np.int32)
    nearest = np.full((num_entities, count), len(anchors), np.int32)
    distance = np.full((num_entities, count), max_distance + 1, np.uint8)
    filled = np.zeros(num_entities, np.int32)
    nearest[anchors, 0], distance[anchors, 0], filled[anchors] = position[anchors], 0, 1
    lists = (offsets, neighbors, *_beside(offsets, neighbors, position))
    key = stream_key(seed, _ANCHORS)
    for step in range(1, max_distance + 1):

        def advance(start: int, stop: int, step: int = step) -> int:
            return int(_advance(start, stop, step, key, lists, nearest, distance, filled))

        # From the third round on only what the last one found leads further.
        if not _over_rows(advance, num_entities) and step > 1:
            break
    return nearest, distance


def _over_rows(work: Callable[[int, int], int], size: int) -> int:
    """Sum ``work(start, stop)`` over pieces of all rows, in threads; rows depend on no other."""
    starts = range(0, size, _ROWS)
    stops = [min(start + _ROWS, size) for start in starts]
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        return sum(pool.map(work, starts, stops))


@njit(cache=True, nogil=True)
def _adjacency(head, tail, size):  # type: ignore[no-untyped-def]
    """Return offsets int64 (size + 1,) and neighbours int32, each edge at both of its ends."""
    offsets = np.zeros(size + 1, np.int64)
    for edge in range(len(head)):
        offsets[head[edge] + 1] += 1
        offsets[tail[edge] + 1] += 1
    for node in range(size):
        offsets[node + 1] += offsets[node]
    place = offsets[:-1].copy()
    neighbors = np.empty(offsets[-1], np.int32)
    for edge in range(len(head)):
        first, second = head[edge], tail[edge]
        neighbors[place[first]] = second
        place[first] += 1
        neighbors[place[second]] = first
        place[second] += 1
    return offsets, neighbors


@njit(cache=True, nogil=True)
def _beside(offsets, neighbors, position):  # type: ignore[no-untyped-def]
    """Return, in the same form, the distinct anchors next to each entity, ascending."""
    size = len(offsets) - 1
    total = 0
    for neighbor in neighbors:
        total += position[neighbor] >= 0
    found, places = np.empty(total, np.int32), np.zeros(size + 1, np.int64)
    total = 0
    for node in range(size):
        first = total
        for at in range(offsets[node], offsets[node + 1]):
            if position[neighbors[at]] >= 0:
                found[total] = position[neighbors[at]]
                total += 1
        found[first:total].sort()
        kept = first
        for at in range(first, total):
            if at == first or found[at] != found[kept - 1]:
                found[kept] = found[at]
                kept += 1
        total = kept
        places[node + 1] = total
    return places, found[:total]


@njit(cache=True, nogil=True)
def _offer(anchor, stream, row, have, keys, chosen, count, room):  # type: ignore[no-untyped-def]
    """Keep an anchor if it is new and of the ``room`` least hashes; return how many are kept."""
    key = bits_at(stream, anchor)
    largest = 0
    if count == room:
        for i in range(1, count):
            if keys[i] > keys[largest]:
                largest = i
        if key >= keys[largest]:
            return count
    for i in range(count):
        if chosen[i] == anchor:
            return count
    for i in range(have):
        if row[i] == anchor:
            return count
    if count < room:
        largest = count
        count += 1
    keys[largest], chosen[largest] = key, anchor
    return count


@njit(cache=True, nogil=True)
def _advance(start, stop, step, key, lists, nearest, distance, filled):  # type: ignore[no-untyped-def]
    """Give entities ``start`` to ``stop`` their anchors at distance ``step``; return how many.

    ``lists`` are the neighbours and the anchors beside each entity, as offsets and ids each.
    """
    offsets, neighbors, beside_offsets, beside = lists
    width = nearest.shape[1]
    keys, chosen = np.empty(width, np.uint64), np.empty(width, np.int32)
    added = 0
    for node in range(start, stop):
        have = filled[node]
        room = width - have
        if room == 0:
            continue
        count, stream, row = 0, bits_at(key, node), nearest[node]
        if step == 1:
            for at in range(beside_offsets[node], beside_offsets[node + 1]):
                count = _offer(beside[at], stream, row, have, keys, chosen, count, room)
        else:
            for at in range(offsets[node], offsets[node + 1]):
                neighbor = neighbors[at]
                if step == 2:
                    # Of a long list as many, all different, as there might be room for.
                    first, length = beside_offsets[neighbor], beside_offsets[neighbor + 1]
                    length -= first
                    shift, stride = np.int64(0), np.int64(1)
                    if length > width:
                        bits = bits_at(stream, -1 - neighbor)
                        shift = np.int64((bits >> np.uint64(32)) % np.uint64(length))
                        stride += np.int64((bits & np.uint64(0xFFFFFFFF)) % np.uint64(length))
                        while math.gcd(stride, length) > 1:
                            stride += 1
                    for i in range(min(length, width)):
                        anchor = beside[first + (shift + i * stride) % length]
                        count = _offer(anchor, stream, row, have, keys, chosen, count, room)
                else:
                    for i in range(width):
                        if distance[neighbor, i] == step - 1:
                            anchor = nearest[neighbor, i]
                            count = _offer(anchor, stream, row, have, keys, chosen, count, room)
        chosen[:count].sort()
        for i in range(count):
            row[have + i] = chosen[i]
            distance[node, have + i] = step
        filled[node] = have + count
        added += count
    return added


def relation_context(
    triples: Triples, num_entities: int, num_relations: int, count: int, seed: int
) -> Int32:
    """Return ``context`` of ``Tokens``: up to ``count`` of the relations that leave each entity.

    A tail is left by the inverse of the relation that reaches it. Of more than ``count`` those are
    taken that come first in a random order of the entity's own.
    """
    context = np.full((num_entities, count), 2 * num_relations, np.int32)
    if count:
        key = stream_key(seed, _CONTEXT)
        _gather_context(triples.head, triples.relation, 0, key, 2 * num_relations, context)
        _gather_context(
            triples.tail, triples.relation, num_relations, key, 2 * num_relations, context
        )
        context.sort(axis=1)
    return context


@njit(cache=True, nogil=True)
def _gather_context(entity, relation, shift, key, nothing, context):  # type: ignore[no-untyped-def]
    width = context.shape[1]
    for edge in range(len(entity)):
        row, kind = context[entity[edge]], relation[edge] + shift
        stream = bits_at(key, entity[edge])
        worst, worst_key, known = 0, np.uint64(0), False
        for i in range(width):
            if row[i] == kind:
                known = True
                break
            if row[i] == nothing:
                worst, worst_key = i, np.uint64(0xFFFFFFFFFFFFFFFF)
                break
            mine = bits_at(stream, row[i])
            if i == 0 or mine > worst_key:
                worst, worst_key = i, mine
        if not known and bits_at(stream, kind) <= worst_key:
            row[worst] = kind
