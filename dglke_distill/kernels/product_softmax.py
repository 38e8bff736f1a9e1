"""Softmax over all candidates whose scores are products, in two passes that store no scores.

Dao, Fu, Ermon, Rudra, Re 2022, "FlashAttention": the first pass keeps a running maximum and sum per
query over tiles of candidates; the second makes each tile's scores again, turns them into their
gradient, and multiplies that with the candidates and with the queries while it lies in the cache.

Candidates are cut into parts that do not depend on the number of threads. A part owns its rows of
the candidates' gradient; what the parts add to the queries' gradient is summed in their order, so
every result has the same bits on any number of threads.

The floor: b queries and n candidates of d floats take 8 b n d operations in four products, a third
more than with scores kept, and 2 b n powers. For 200 queries, 14,541 candidates and 32 floats one
core with AVX-512 at 225 GFLOP/s needs 3.3 ms and 0.7 ms; the two passes take 5.4 ms, their products
at 190 GFLOP/s, and 2.9 ms on two cores. Keeping the powers for the second pass, which spares a
product and half of the powers, took 5.6 ms on one core and no less on two, since 12 MB then go out
and in. Beside a teacher's scores, which must be read in both passes, two passes took 1.3 times as
long as the one over kept scores in `divergence`, which stays.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import NamedTuple, Optional

import numba
import numpy as np
import torch
from torch import Tensor

from dglke_distill.kernels.product_passes import UNIT, first_pass, second_pass
from dglke_distill.kernels.product_tiles import ROWS, TILE
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    integers_at,
    next_task,
    set_argument,
)

# Parts of the candidates, at most, and tiles of each, at least.
_PARTS = 32
_LEAST_TILES = 2
# Queries per task of the last steps.
_QUERIES = 16


@numba.njit
def _fits(data, i, offsets, answers, n, flag):
    """Whether a query's answers are candidates; else raise the flag."""
    start, stop = offsets[i], offsets[i + 1]
    fits = 0 <= start <= stop <= answers.size
    if fits:
        for a in range(start, stop):
            fits = fits and 0 <= answers[a] < n
    if not fits:
        set_argument(data, flag, 1)
    return fits


def _totals_kernel(data):
    """Per query: binary logarithm of the sum of e^score, sum of the answers' scores."""
    b, n, d = arguments(data, 0, 3)
    parts, padded = arguments(data, 3, 2)
    query = array_at(data, argument(data, 5), (b, argument(data, 6)))
    rows = array_at(data, argument(data, 7), (n, d))
    offset = argument(data, 8) != 0
    bias = array_at(data, argument(data, 8), n)
    offsets = integers_at(argument(data, 9), b + 1)
    answers = integers_at(argument(data, 10), argument(data, 11))
    found = array_at(data, argument(data, 12), (parts, 2, padded))
    out = array_at(data, argument(data, 13), (2, b))
    task = next_task(data)
    while task * _QUERIES < b:
        for i in range(task * _QUERIES, min((task + 1) * _QUERIES, b)):
            highest = found[0, 0, i]
            for part in range(1, parts):
                if found[part, 0, i] > highest:
                    highest = found[part, 0, i]
            total = found.dtype.type(0)
            for part in range(parts):
                total += found[part, 1, i] * np.exp2(found[part, 0, i] - highest)
            out[0, i] = highest + np.log2(total)
            answered = found.dtype.type(0)
            if _fits(data, i, offsets, answers, n, 14):
                for a in range(offsets[i], offsets[i + 1]):
                    row = answers[a]
                    score = bias[row] if offset else found.dtype.type(0)
                    for k in range(d):
                        score += query[i, k] * rows[row, k]
                    answered += score
            out[1, i] = answered
        task = next_task(data)


def _collect_kernel(data):
    """Sum the parts of the queries' gradient, and add `drop` at each answer to all gradients."""
    b, n, d, width = arguments(data, 0, 4)
    parts, padded = arguments(data, 4, 2)
    partial = array_at(data, argument(data, 6), (parts, padded, width))
    query = array_at(data, argument(data, 7), (padded, width))
    rows = array_at(data, argument(data, 8), (n, d))
    offset = argument(data, 9) != 0
    offsets = integers_at(argument(data, 10), b + 1)
    answers = integers_at(argument(data, 11), argument(data, 12))
    drop = array_at(data, argument(data, 13), b)
    query_gradient = array_at(data, argument(data, 14), (b, d))
    rows_gradient = array_at(data, argument(data, 15), (n, d))
    bias_gradient = array_at(data, argument(data, 16), n)
    task = next_task(data)
    # The first task owns the candidates' gradients, the others some queries' each.
    while (task - 1) * _QUERIES < b:
        if task == 0:
            for i in range(b):
                for a in range(offsets[i], offsets[i + 1]):
                    for k in range(d):
                        rows_gradient[answers[a], k] += drop[i] * query[i, k]
                    if offset:
                        bias_gradient[answers[a]] += drop[i]
        else:
            for i in range((task - 1) * _QUERIES, min(task * _QUERIES, b)):
                for k in range(d):
                    query_gradient[i, k] = partial[0, i, k]
                for part in range(1, parts):
                    for k in range(d):
                        query_gradient[i, k] += partial[part, i, k]
                for a in range(offsets[i], offsets[i + 1]):
                    for k in range(d):
                        query_gradient[i, k] += drop[i] * rows[answers[a], k]
        task = next_task(data)


_totals = NativeKernel(_totals_kernel)
_collect = NativeKernel(_collect_kernel)


class Softmax(NamedTuple):
    """What the first pass found.

    Attributes:
        bits: (b,) binary logarithms of the sums of e^score.
        answered: (b,) sums of the answers' scores.
        query: the padded queries.
        packed: the same in units of ln 2, transposed by ``ROWS``.
    """

    bits: Tensor
    answered: Tensor
    query: Tensor
    packed: Tensor

    @property
    def log_total(self) -> Tensor:
        """Natural logarithms of the sums of e^score, (b,)."""
        return self.bits * math.log(2)


def _parts_of(n: int) -> tuple[int, int]:
    """Return tiles of a part and the number of parts."""
    tiles = -(-n // TILE)
    each = max(_LEAST_TILES, -(-tiles // _PARTS))
    return each, -(-tiles // each)


def product_softmax(
    query: Tensor, rows: Tensor, bias: Optional[Tensor], offsets: Tensor, answers: Tensor
) -> Softmax:
    """Run the first pass.

    All tensors contiguous, on the CPU, float ones of one dtype (float32 or float64).

    Args:
        query: (b, d), b and d at least 1.
        rows: (n, d), n at least 1.
        bias: (n,) added to the scores of a candidate, or None.
        offsets: (b + 1,) int64; the answers of query i are answers[offsets[i]:offsets[i + 1]].
        answers: (k,) int64 candidates.

    Raises:
        IndexError: an answer that is no candidate, or offsets that do not fit the answers.
    """
    (b, d), n = query.shape, rows.shape[0]
    lanes = 64 // query.element_size()
    width, padded = -(-d // lanes) * lanes, -(-b // ROWS) * ROWS
    tiles, parts = _parts_of(n)
    if (padded, width) != (b, d):
        query = torch.nn.functional.pad(query, (0, width - d, 0, padded - b))
    packed = (query * UNIT).view(-1, ROWS, width).transpose(1, 2).contiguous()
    found = query.new_empty(parts, 2, padded)
    first_pass(
        query.dtype, b * n * d, padded, n, d, width, lanes, tiles, parts, packed, rows, bias, found
    )
    out = query.new_empty(2, b)
    sizes = b, n, d, parts, padded
    given = query, width, rows, bias, offsets, answers, len(answers)
    left = _totals(query.dtype, b * (parts * 32 + d), *sizes, *given, found, out, 0)
    if left[-1]:
        raise IndexError(f"an answer lies outside the {n} candidates, or the offsets do not fit")
    return Softmax(out[0], out[1], query, packed)


def product_gradients(
    softmax: Softmax,
    rows: Tensor,
    bias: Optional[Tensor],
    offsets: Tensor,
    answers: Tensor,
    factor: Tensor,
    extra: Tensor,
    drop: Tensor,
) -> tuple[Tensor, Tensor, Optional[Tensor]]:
    """Run the second pass: gradients of query (b, d), rows (n, d) and bias (n,), None without one.

    The gradient of score j of query i is factor_i * its share of the softmax + extra_i, plus drop_i
    for each time that j is an answer.

    Args:
        softmax: of the first pass.
        rows: as there.
        bias: as there.
        offsets: as there.
        answers: as there.
        factor: (b,).
        extra: (b,).
        drop: (b,). All of the scores' dtype, contiguous.
    """
    query = softmax.query
    padded, width = query.shape
    (n, d), b = rows.shape, len(factor)
    tiles, parts = _parts_of(n)
    missing = (0, padded - b)
    pad = torch.nn.functional.pad
    factor, extra = pad(factor, missing), pad(extra, missing)
    # Of a query that pads, every power is next to 0, whatever the biases.
    shift = pad(softmax.bits, missing, value=math.inf)
    partial = query.new_empty(parts, padded, width)
    query_gradient, rows_gradient = query.new_empty(b, d), torch.empty_like(rows)
    bias_gradient = None if bias is None else torch.empty_like(bias)
    sizes = padded, n, d, width, 64 // query.element_size(), tiles, parts
    given = softmax.packed, rows, bias, query, shift, factor, extra
    made = rows_gradient, bias_gradient
    second_pass(query.dtype, b * n * d, *sizes, *given, partial, *made)
    summed = b, n, d, width, parts, padded
    facts = offsets, answers, len(answers), drop
    work = b * (parts + 2) * d
    _collect(query.dtype, work, *summed, partial, query, rows, bias, *facts, query_gradient, *made)
    return query_gradient, rows_gradient, bias_gradient
