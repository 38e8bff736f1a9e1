"""Which entities are NodePiece's anchors: well connected ones, and some drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.groups import group
from dglke_distill.data.triples import Triples
from dglke_distill.kernels.random import stream_key

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
    from scipy.sparse import csr_matrix

    size = num_entities
    into = group(triples.tail, size)
    heads = triples.head[into.order]
    edges = csr_matrix((np.ones(len(heads)), heads, into.offsets), shape=(size, size))
    degree = np.bincount(triples.head, minlength=size)
    leading = degree > 0
    rank = np.full(size, 1 / size)
    for _ in range(_ITERATIONS):
        share = np.divide(rank, degree, out=np.zeros(size), where=leading)
        # Added one after the other: pairwise sums order some nearly equal entities otherwise.
        idle = np.cumsum(np.where(leading, 0, rank))[-1]
        everywhere = (1 - _DAMPING + _DAMPING * idle) / size
        before, rank = rank, everywhere + _DAMPING * (edges @ share)
        if np.abs(rank - before).sum() < _TOLERANCE:
            break
    return rank
