"""Random numbers that are a function of their position, so that any batch can be drawn alone.

A stream is a 64-bit key derived from (seed, purpose, epoch, batch, ...). Its i-th number is the
SplitMix64 output at counter i (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators"), so the number of threads, and where a resumed run starts, cannot change it. The order
of an epoch is a keyed permutation that is computed point by point and never stored.
"""

from __future__ import annotations

import numpy as np

from dglke_distill.kernels.compiled import njit

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT = 2.0**-53
_ROUNDS = 8


def stream_key(*parts: int) -> np.uint64:
    """Return the key of the stream named by some integers; every integer and the order count."""
    key = 0
    for part in parts:
        word = (key ^ (int(part) & _MASK)) + _STEP & _MASK
        word = (word ^ word >> 30) * _FIRST & _MASK
        word = (word ^ word >> 27) * _SECOND & _MASK
        key = word ^ word >> 31
    return np.uint64(key)


@njit(cache=True, nogil=True)
def bits_at(key, counter):  # type: ignore[no-untyped-def]
    """Return the 64 random bits of stream ``key`` (uint64) at ``counter`` (numba)."""
    word = key + (np.uint64(counter) + np.uint64(1)) * np.uint64(_STEP)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(_FIRST)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(_SECOND)
    return word ^ (word >> np.uint64(31))


@njit(cache=True, nogil=True)
def uniform_at(key, counter):  # type: ignore[no-untyped-def]
    """Return a float64 in [0, 1) with 53 random bits (numba)."""
    return np.float64(np.int64(bits_at(key, counter) >> np.uint64(11))) * _UNIT


@njit(cache=True, nogil=True)
def epoch_position(key, size, position):  # type: ignore[no-untyped-def]
    """Return where ``position`` goes under a random permutation of ``range(size)`` (numba).

    A Feistel network over the smallest power of two that holds ``size`` (Luby, Rackoff 1988),
    walked along its cycle until it falls inside (Black, Rogaway 2002): constant memory, any
    position by itself, on average under two walks.
    """
    bits = 6
    while (1 << bits) < size:
        bits += 1
    low_bits = np.uint64(bits // 2)
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    high_mask = (np.uint64(1) << (np.uint64(bits) - low_bits)) - np.uint64(1)
    word = np.uint64(position)
    while True:
        low, high = word & low_mask, word >> low_bits
        for turn in range(0, _ROUNDS, 2):
            salt = np.uint64(turn) << np.uint64(40)
            low ^= (bits_at(key, high | salt)) & low_mask
            high ^= (bits_at(key, low | salt | (np.uint64(1) << np.uint64(40)))) & high_mask
        word = (high << low_bits) | low
        if word < np.uint64(size):
            return np.int64(word)
