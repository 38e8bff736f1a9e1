"""Which entities are NodePiece's anchors: well connected ones, and some drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.triples import Triples
from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.random import stream_key

__all__ = ["choose_anchors", "page_rank"]

Int64 = NDArray[np.int64]

_CHOICE = 3
_DAMPING, _ITERATIONS, _TOLERANCE = 0.85, 100, 1e-6


def choose_anchors(
    triples: Triples,
    num_entities: int,
    count: int,
    degree_share: float,
    pagerank_share: float,
    seed: int,
) -> Int64:
    """Return (count,) int64 distinct entities: first by degree, then by PageRank, then random ones.

    Among equals the lower id wins. Random ones have edges as long as there are such.
    """
    degree = np.bincount(triples.head, minlength=num_entities)
    degree += np.bincount(triples.tail, minlength=num_entities)
    free = np.ones(num_entities, np.bool_)

    def take(order: Int64, number: int) -> Int64:
        taken = order[free[order]][:number]
        free[taken] = False
        return taken

    found = [take(np.argsort(-degree, kind="stable"), round(count * degree_share))]
    by_rank = min(round(count * pagerank_share), count - len(found[0]))
    if by_rank:
        rank = page_rank(triples, num_entities)
        found.append(take(np.argsort(-rank, kind="stable"), by_rank))
    order = np.random.default_rng(int(stream_key(seed, _CHOICE))).permutation(num_entities)
    order = np.concatenate([order[degree[order] > 0], order[degree[order] == 0]])
    found.append(take(order, count - sum(map(len, found))))
    return np.concatenate(found)


def page_rank(triples: Triples, num_entities: int) -> NDArray[np.float64]:
    """Return the PageRank of each entity, (num_entities,), along edges from heads to tails.

    Brin, Page 1998, "The anatomy of a large-scale hypertextual web search engine"; damping 0.85,
    entities without tails lead everywhere.
    """
    return _page_rank(triples.head, triples.tail, num_entities, _DAMPING, _ITERATIONS, _TOLERANCE)


@njit(cache=True, nogil=True)
def _page_rank(head, tail, size, damping, iterations, tolerance):  # type: ignore[no-untyped-def]
    out = np.zeros(size, np.int64)
    for node in head:
        out[node] += 1
    rank = np.full(size, 1.0 / size)
    share, following = np.empty(size), np.empty(size)
    for _ in range(iterations):
        idle = 0.0
        for node in range(size):
            if out[node] > 0:
                share[node] = rank[node] / out[node]
            else:
                idle += rank[node]
        following[:] = 0.0
        for edge in range(len(head)):
            following[tail[edge]] += share[head[edge]]
        change = 0.0
        for node in range(size):
            value = (1.0 - damping + damping * idle) / size + damping * following[node]
            change += abs(value - rank[node])
            rank[node] = value
        if change < tolerance:
            break
    return rank
