"""Optimiser steps on the CPU that read and write each touched row once."""

# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numba
import numpy as np
import torch
from torch import Tensor

from dglke_distill.kernels.rows import scatter_rows
from dglke_distill.kernels.threads import (
    NativeKernel,
    argument,
    arguments,
    array_at,
    float_argument,
    integers_at,
    next_task,
)

SGD, ADAGRAD, ROW_WISE_ADAGRAD, ADAM = range(4)

# Floats per task, about: long enough to start, short enough to share evenly.
_FLOATS = 16384
_NONE = -1


@numba.njit
def _sgd(weight, gradient, rate):
    for k in range(weight.size):
        weight[k] -= rate * gradient[k]


@numba.njit
def _adagrad(weight, total, gradient, rate, eps):
    for k in range(weight.size):
        total[k] += gradient[k] * gradient[k]
        weight[k] -= rate * gradient[k] / (np.sqrt(total[k]) + eps)


@numba.njit(fastmath={"reassoc"})
def _mean_square(gradient):
    square = gradient.dtype.type(0)
    for k in range(gradient.size):
        square += gradient[k] * gradient[k]
    return square / gradient.dtype.type(gradient.size)


@numba.njit
def _adam(weight, mean, square, gradient, rate, eps, first, second, scale):
    one = weight.dtype.type(1)
    for k in range(weight.size):
        mean[k] = first * mean[k] + (one - first) * gradient[k]
        square[k] = second * square[k] + (one - second) * gradient[k] * gradient[k]
        weight[k] -= rate * mean[k] / (np.sqrt(square[k]) * scale + eps)


def _update_kernel(data):
    """Sum the gradients of each row, then move the row."""
    method, count, d, block = arguments(data, 0, 4)
    u = argument(data, 4)
    weight = array_at(data, argument(data, 5), (u, d))
    state = array_at(data, argument(data, 6), (u, 1 if method == 2 else d))
    other = array_at(data, argument(data, 7), (u, d))
    # The rows to move, the first gradient of each, and for each gradient the next of its row; or,
    # where `ids` is 0, gradient i belongs to row i.
    ids, first, follower = arguments(data, 8, 3)
    sparse = ids != 0
    rows = integers_at(ids, count)
    heads = integers_at(first, count)
    links = integers_at(follower, argument(data, 11))
    addresses = integers_at(argument(data, 12), argument(data, 11))
    dense = argument(data, 13)
    kind = weight.dtype.type
    rate, eps = kind(float_argument(data, 14)), kind(float_argument(data, 15))
    beta, gamma = kind(float_argument(data, 16)), kind(float_argument(data, 17))
    scale = kind(float_argument(data, 18))
    total = np.empty(d, weight.dtype)
    task = next_task(data)
    while task * block < count:
        for i in range(task * block, min((task + 1) * block, count)):
            row = i
            gradient = array_at(data, dense + i * d * weight.itemsize, d)
            if sparse:
                row = rows[i]
                link = heads[i]
                gradient = array_at(data, addresses[link], d)
                link = links[link]
                if link != _NONE:
                    total[:] = gradient
                    gradient = total
                    while link != _NONE:
                        more = array_at(data, addresses[link], d)
                        for k in range(d):
                            total[k] += more[k]
                        link = links[link]
            if method == 0:
                _sgd(weight[row], gradient, rate)
            elif method == 1:
                _adagrad(weight[row], state[row], gradient, rate, eps)
            elif method == 2:
                state[row, 0] += _mean_square(gradient)
                _sgd(weight[row], gradient, rate / (np.sqrt(state[row, 0]) + eps))
            else:
                _adam(weight[row], state[row], other[row], gradient, rate, eps, beta, gamma, scale)
        task = next_task(data)


_update = NativeKernel(_update_kernel)


@numba.njit(cache=True)
def _link(ids, slots, unique, slot, first, last, follower):
    """Number the distinct ids in order of appearance and chain the positions of equal ids.

    `slots` holds 0 for every id, before and after. Returns the number of distinct ids, or -1
    if an id lies outside the table.
    """
    for number in ids:
        if number < 0 or number >= slots.size:
            return -1
    count = 0
    for position in range(ids.size):
        number = ids[position]
        follower[position] = -1
        at = np.int64(slots[number]) - 1
        if at < 0:
            at = count
            slots[number] = at + 1
            unique[at] = number
            first[at] = position
            count += 1
        else:
            follower[last[at]] = position
        last[at] = position
        slot[position] = at
    for at in range(count):
        slots[unique[at]] = 0
    return count


class RowSlots:
    """Finds equal ids among row gradients in time proportional to their number.

    Keeps one int32 per row of the table, of which it touches only those of the ids.
    """

    def __init__(self, rows: int) -> None:
        """Reserve the slots for a table of `rows` rows."""
        self.slots = np.zeros(rows, np.int32)

    def link(self, ids: Tensor) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Chain equal ids (m,) int64.

        Returns:
            The number k of distinct ids; arrays (m,) int64 of which the first k entries are the
            distinct ids in order of appearance and the first position of each; the next position
            of the same id (-1 at the end) and the number of each position's id, both (m,).

        Raises:
            IndexError: an id lies outside the table.
        """
        m = len(ids)
        unique, slot, first, last, follower = (np.empty(m, np.int64) for _ in range(5))
        count = _link(ids.numpy(), self.slots, unique, slot, first, last, follower)
        if count < 0:
            raise IndexError(f"a row gradient's id lies outside the {self.slots.size} rows")
        return count, unique, first, follower, slot

    def merge(self, stash: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Concatenate (ids, gradient rows) pairs and sum the rows of equal ids."""
        ids = stash[0][0] if len(stash) == 1 else torch.cat([ids for ids, _ in stash])
        rows = stash[0][1] if len(stash) == 1 else torch.cat([rows for _, rows in stash])
        count, unique, _, _, slot = self.link(ids)
        if count == len(ids):
            return ids, rows
        summed = scatter_rows(
            rows.reshape(1, len(ids), -1).contiguous(), torch.from_numpy(slot)[None], count
        )
        return torch.from_numpy(unique[:count].copy()), summed.view(count, *rows.shape[1:])


def update(
    method: int,
    weight: Tensor,
    state: Optional[Tensor],
    other: Optional[Tensor],
    gradient: Optional[Tensor],
    stash: Sequence[tuple[Tensor, Tensor]],
    slots: Optional[RowSlots],
    rate: float,
    eps: float = 0.0,
    betas: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
) -> int:
    """Move weight (E, d) in place by a whole gradient, or by stashed (ids, gradient rows) pairs.

    All tensors contiguous, on the CPU and of the weight's dtype (float32 or float64), ids int64.
    Equal ids are summed first, in order.

    Args:
        method: SGD, ADAGRAD, ROW_WISE_ADAGRAD or ADAM.
        weight: (E, d).
        state: Adagrad's sum of squares (E, d), row-wise (E, 1); Adam's mean (E, d).
        other: Adam's mean square (E, d).
        gradient: (E, d), or None to use `stash`.
        stash: pairs of ids (m,) and rows (m, d).
        slots: for `stash`.
        rate: step size.
        eps: added to the root.
        betas: Adam's decay rates.
        scale: factor of Adam's root (its bias correction).

    Returns:
        The number of rows moved.
    """
    d = weight.shape[1]
    ids = first = follower = addresses = np.empty(0, np.int64)
    count = weight.shape[0]
    if gradient is None:
        assert slots is not None
        numbers = stash[0][0] if len(stash) == 1 else torch.cat([ids for ids, _ in stash])
        count, ids, first, follower, _ = slots.link(numbers)
        step = d * weight.element_size()
        addresses = np.concatenate(
            [np.arange(len(rows)) * step + rows.data_ptr() for _, rows in stash]
        )
    block = max(1, _FLOATS // max(d, 1))
    sizes = method, count, d, block, weight.shape[0]
    links = ids if gradient is None else None, first, follower, len(follower), addresses
    numbers = map(float, (rate, eps, *betas, scale))
    _update(weight.dtype, count * d, *sizes, weight, state, other, *links, gradient, *numbers)
    return count
