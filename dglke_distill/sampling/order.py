"""In which order an epoch visits the triples, how they are gathered, and how much each counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.known_answers import order_by_query
from dglke_distill.data.triples import SIDES, Triples
from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.random import epoch_position

_START = 4


def subsampling_weights(triples: Triples) -> NDArray[np.float32]:
    """Return how much each triple counts, so that frequent queries do not drown the rare.

    The weight is 1 / sqrt(n(h, r) + n(r, t)), where n counts the triples with the same head and
    relation, or relation and tail, and the count begins at 4 for the first one (Sun et al.
    2019, "RotatE", and its code; originally word2vec). As there, a loss divides by the sum of the
    weights of a batch: ``(weight * loss).sum() / weight.sum()``.

    Returns:
        float32 array of shape (n,), not normalised.
    """
    # In place from here on: at OGB's scale every copy of a column is a noticeable part of a run.
    total = np.full(len(triples), 2 * (_START - 1), np.int32)
    for side in SIDES:
        known = triples.head if side == "tail" else triples.tail
        _add_query_sizes(order_by_query(triples, side), known, triples.relation, total)
    weights = total.view(np.float32)
    _inverse_roots(total, weights)
    return weights


@njit(cache=True, nogil=True)
def _add_query_sizes(order, known, relation, total):  # type: ignore[no-untyped-def]
    """Add to each triple how many share its known entity and relation, neighbours in ``order``."""
    begin = 0
    while begin < len(order):
        first = order[begin]
        end = begin + 1
        while (
            end < len(order)
            and known[order[end]] == known[first]
            and relation[order[end]] == relation[first]
        ):
            end += 1
        for i in range(begin, end):
            total[order[i]] += end - begin
        begin = end


@njit(cache=True, nogil=True)
def _inverse_roots(total, out):  # type: ignore[no-untyped-def]
    """Write 1 / sqrt(total), which may be the same memory."""
    for i in range(len(total)):
        out[i] = 1.0 / np.sqrt(np.float64(total[i]))


@njit(cache=True, nogil=True)
def visit(key, size, first, out):  # type: ignore[no-untyped-def]
    """Write what an epoch visits from its ``first`` step on: a stretch of a permutation."""
    for i in range(len(out)):
        out[i] = epoch_position(key, size, first + i)


@njit(cache=True, nogil=True)
def gather_columns(edges, head, relation, tail, out):  # type: ignore[no-untyped-def]
    """Copy the rows ``edges`` (b,) of three columns into ``out`` (3, b)."""
    for i in range(len(edges)):
        out[0, i], out[1, i], out[2, i] = head[edges[i]], relation[edges[i]], tail[edges[i]]


@njit(cache=True, nogil=True)
def collect_queries(order, starts, asked, answer, rows, offsets, answers):  # type: ignore[no-untyped-def]
    """Copy the triples of each query into ``rows`` and their distinct answers into ``answers``."""
    filled = distinct = 0
    for i in range(len(asked)):
        for at in range(starts[asked[i]], starts[asked[i] + 1]):
            row = order[at]
            rows[filled] = row
            filled += 1
            if distinct == offsets[i] or answers[distinct - 1] != answer[row]:
                answers[distinct] = answer[row]
                distinct += 1
        offsets[i + 1] = distinct
