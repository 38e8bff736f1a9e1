"""The numba kernels of the known-answer index: sorting by counting, searching, matching.

Facts stand as 64-bit words ``relation << 32 | answer``, sorted within the segment of each known
entity; see :mod:`dglke_distill.data.known_answers`.
"""

from __future__ import annotations

import numpy as np

from dglke_distill.kernels.compiled import njit

LOW_BITS = np.int64(0xFFFFFFFF)
# Queries with more answers than this many times their candidates are searched, not walked.
MARK_LIMIT = 32


@njit(cache=True, nogil=True)
def counting_pass(keys, num_keys, before, after):  # type: ignore[no-untyped-def]
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
def pack_facts(entity, relation, answer, order, num_entities, offsets, packed):  # type: ignore[no-untyped-def]
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
def lower_bound(packed, low, high, word):  # type: ignore[no-untyped-def]
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
    low = lower_bound(packed, low, high, word)
    # Most queries have few answers, so look nearby before searching the whole segment.
    step = 1
    while low + step < high and packed[low + step] >> 32 == relation:
        step <<= 1
    return low, lower_bound(packed, low, min(high, low + step), word + (np.int64(1) << 32))


@njit(cache=True, nogil=True)
def mark_answers(packed, low, high, bits):  # type: ignore[no-untyped-def]
    """Set the bits of some answers in ``bits``, uint64 of shape (1024,), cleared first (numba)."""
    bits[:] = 0
    for at in range(low, high):
        bits[(packed[at] & LOW_BITS) >> 6 & 1023] |= np.uint64(1) << np.uint64(packed[at] & 63)


# The two helpers below are inlined: counting references to their arrays at each call would cost
# more than what they do.
@njit(inline="always")
def may_be_answer(bits, entity):  # type: ignore[no-untyped-def]
    """Return whether the bit of an entity is set, its id modulo 65,536 (numba)."""
    return (bits[entity >> 6 & 1023] >> np.uint64(entity & 63)) & np.uint64(1) != 0


@njit(inline="always")
def is_answer(packed, low, high, entity):  # type: ignore[no-untyped-def]
    """Return whether ``entity`` is among one query's answers ``packed[low:high]``, not empty."""
    # Every word of the range has the query's relation above the answer. Branch-free halving:
    # whether to go right is a coin toss that a processor cannot predict.
    word = (packed[low] & ~LOW_BITS) | np.int64(entity)
    size = high - low
    while size > 1:
        half = size >> 1
        low += half if packed[low + half] <= word else 0
        size -= half
    return packed[low] == word


@njit(cache=True, nogil=True)
def query_ranges(offsets, packed, entity, relation, first, counts):  # type: ignore[no-untyped-def]
    """Write where each query's answers begin, and to ``counts`` (b + 1,) how many came before."""
    for i in range(len(entity)):
        low, high = query_range(offsets, packed, entity[i], relation[i])
        first[i] = low
        counts[i + 1] = counts[i] + high - low


@njit(cache=True, nogil=True)
def copy_answers(packed, first, offsets, answers):  # type: ignore[no-untyped-def]
    """Copy the answers that begin at ``first`` to ``offsets`` of ``answers``."""
    for i in range(len(first)):
        for j in range(offsets[i + 1] - offsets[i]):
            answers[offsets[i] + j] = packed[first[i] + j] & LOW_BITS


@njit(cache=True, nogil=True)
def contains_shared(offsets, packed, entity, relation, candidates, out):  # type: ignore[no-untyped-def]
    """Mark known answers among candidates that many queries share: walk the answers.

    Per chunk, a hash table with open addressing leads from a candidate to its last position and
    ``following`` from there to equal ones; a bit per candidate spares most look-ups.
    """
    chunks, width = candidates.shape
    rows = len(entity) // chunks
    table = np.empty(1 << np.int64(np.ceil(np.log2(4 * width))), np.int32)
    last = len(table) - 1
    following = np.empty(width, np.int32)
    bits = np.zeros(1024, np.uint64)
    for chunk in range(chunks):
        table[:] = -1
        bits[:] = 0
        for j in range(width):
            candidate = candidates[chunk, j]
            slot = (candidate * 0x9E3779B1 >> 15) & last
            while table[slot] >= 0 and candidates[chunk, table[slot]] != candidate:
                slot = (slot + 1) & last
            following[j] = table[slot]
            table[slot] = j
            bits[(candidate >> 6) & 1023] |= np.uint64(1) << np.uint64(candidate & 63)
        for i in range(chunk * rows, (chunk + 1) * rows):
            low, high = query_range(offsets, packed, entity[i], relation[i])
            if high - low > MARK_LIMIT * width:
                for j in range(width):
                    out[i, j] = is_answer(packed, low, high, candidates[chunk, j])
                continue
            for at in range(low, high):
                answer = packed[at] & LOW_BITS
                if not may_be_answer(bits, answer):
                    continue
                slot = (answer * 0x9E3779B1 >> 15) & last
                while table[slot] >= 0 and candidates[chunk, table[slot]] != answer:
                    slot = (slot + 1) & last
                j = np.int64(table[slot])
                while j >= 0:
                    out[i, j] = True
                    j = np.int64(following[j])


@njit(cache=True, nogil=True)
def contains_private(offsets, packed, entity, relation, candidates, out):  # type: ignore[no-untyped-def]
    """Mark known answers among candidates of few queries: look the candidates up."""
    rows, width = len(entity) // len(candidates), candidates.shape[1]
    bits = np.zeros(1024, np.uint64)
    for i in range(len(entity)):
        low, high = query_range(offsets, packed, entity[i], relation[i])
        if low == high:
            continue
        marked = high - low <= MARK_LIMIT * width
        if marked:
            mark_answers(packed, low, high, bits)
        row = candidates[i // rows]
        for j in range(width):
            if not marked or may_be_answer(bits, row[j]):
                out[i, j] = is_answer(packed, low, high, row[j])
