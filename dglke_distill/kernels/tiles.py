"""The inner loops of the pairwise kernels, as generators of vector instructions.

Every tile exists per kernel: for the l1 distance sum_k |q_k - c_k|, the l2 distance
sqrt(sum_k (q_k - c_k)^2), the complex modulus sum_k |q_k - c_k| over complex k (real parts in the
first half of a row, imaginary parts in the second) and the dot product sum_k q_k c_k. Rows are a
multiple of the vector length long (for the modulus: their halves are). A score is the dot product
or the negated distance.

Lane m of an accumulator sums the coordinates k = m mod lanes in order, then the lanes are summed
in a fixed tree: the bits of a score depend on its two rows alone.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numba
from numba.core import cgutils

from dglke_distill.kernels.simd import INT, Simd, emits, integer

KERNELS = ("dot", "l1", "l2", "complex_modulus")

# Below this squared modulus the direction of a difference is scaled towards 0, so that its
# gradient is finite, and 0 at 0.
_SMALLEST_SQUARE = {32: 1e-37, 64: 1e-300}


def by_kernel(tile: Callable[[str], Any], skip: Sequence[str] = ()) -> Callable[..., None]:
    """Return a compiled function (kind, data, *arguments) that runs the tile KERNELS[kind].

    Kernels to skip are not compiled; asking for one does nothing.
    """
    dot, l1, l2, modulus = (tile("l1" if name in skip else name) for name in KERNELS)
    skips_dot, skips_modulus = "dot" in skip, "complex_modulus" in skip

    @numba.njit
    def run(kind, data, *arguments):  # type: ignore[no-untyped-def]
        if kind == 1:
            l1(data, *arguments)
        elif kind == 2:
            l2(data, *arguments)
        elif kind == 0:
            if not skips_dot:
                dot(data, *arguments)
        elif not skips_modulus:
            modulus(data, *arguments)

    return run  # type: ignore[no-any-return]


def _parts(kernel: str) -> int:
    """Vectors that make up one step along a row: real and imaginary parts for the modulus."""
    return 2 if kernel == "complex_modulus" else 1


def _accumulate(simd: Simd, kernel: str, total: Any, query: Sequence[Any], other: Any) -> Any:
    """Add the contribution of one step of a row to the lanes' sums."""
    build = simd.builder
    if kernel == "dot":
        return simd.multiply_add(query[0], other[0], total)
    difference = [build.fsub(a, b) for a, b in zip(query, other)]
    if kernel == "l1":
        return build.fadd(total, simd.magnitude(difference[0]))
    if kernel == "l2":
        return simd.multiply_add(difference[0], difference[0], total)
    square = build.fmul(difference[0], difference[0])
    square = simd.multiply_add(difference[1], difference[1], square)
    return build.fadd(total, simd.quick_root(square, _SMALLEST_SQUARE[simd.bits]))


def _slopes(simd: Simd, kernel: str, query: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """Derivative of the distance by `query`; for l2, times the distance."""
    build = simd.builder
    difference = [build.fsub(a, b) for a, b in zip(query, other)]
    if kernel == "l1":
        return [simd.sign(difference[0])]
    if kernel == "l2":
        return difference
    square = build.fmul(difference[0], difference[0])
    square = simd.multiply_add(difference[1], difference[1], square)
    scale = simd.inverse_root(simd.at_least(square, _SMALLEST_SQUARE[simd.bits]))
    return [build.fmul(part, scale) for part in difference]


def score_tile(kernel: str, rows: int) -> Callable[..., None]:
    """Scores of `rows` consecutive queries with lanes / rows indexed candidates.

    Arguments: data; query, first query, last query; candidate rows; index, first candidate, number
    of candidates in the index row; out; d. All arrays are given as addresses, `index` as that of
    the chunk's row, `out` as that of the whole (b, n). Rows past the last query repeat it.
    """

    @emits("iiiiiiiii")
    def tile(simd, query, first, last, candidate, index, start, count, out, d):
        build, columns, parts = simd.builder, simd.lanes // rows, _parts(kernel)
        words = build.inttoptr(index, INT.as_pointer())
        final = build.sub(count, integer(1))

        def clamped(value: Any, step: int, limit: Any) -> Any:
            moved = build.add(value, integer(step))
            return build.select(build.icmp_signed("<", moved, limit), moved, limit)

        numbers = [clamped(first, step, last) for step in range(rows)]
        queries = [simd.pointer(query, number, d) for number in numbers]
        others = [
            simd.pointer(candidate, build.load(build.gep(words, [clamped(start, step, final)])), d)
            for step in range(columns)
        ]
        totals = [simd.local(simd.zero) for _ in range(simd.lanes)]
        length = build.sdiv(d, integer(parts))
        begin, step = integer(0), integer(simd.lanes)
        with cgutils.for_range_slice(build, begin, length, step, intp=INT) as (k, _):
            offsets = [k, build.add(k, length)][:parts]
            left = [[simd.load(simd.at(row, o)) for o in offsets] for row in queries]
            for column, row in enumerate(others):
                right = [simd.load(simd.at(row, o)) for o in offsets]
                for line in range(rows):
                    total = totals[line * columns + column]
                    before = build.load(total)
                    build.store(_accumulate(simd, kernel, before, left[line], right), total)
        sums = simd.sum_each([build.load(total) for total in totals])
        if kernel == "l2":
            sums = simd.root(sums)
        if kernel != "dot":
            sums = build.fneg(sums)
        outs = [simd.at(simd.pointer(out, number, count), start) for number in numbers]
        fits = build.icmp_signed("<=", build.add(start, integer(columns)), count)
        with build.if_else(fits) as (whole, partial):
            with whole:
                for line, target in enumerate(outs):
                    lanes = range(line * columns, (line + 1) * columns)
                    simd.store(simd.shuffle(sums, sums, list(lanes)), target)
            with partial:
                buffer = simd.local(sums)
                source = build.bitcast(buffer, simd.scalar.as_pointer())
                with cgutils.for_range(build, build.sub(count, start), intp=INT) as loop:
                    for line, target in enumerate(outs):
                        lane = build.add(loop.index, integer(line * columns))
                        score = build.load(build.gep(source, [lane]))
                        build.store(score, build.gep(target, [loop.index]))

    return tile  # type: ignore[no-any-return]


def strip_tile(kernel: str, rows: int) -> Callable[..., None]:
    """Gradients of `rows` queries and all candidates of a block, in one vector of coordinates.

    The weights are the gradient of the scores, for l2 divided by the scores.

    Arguments: data; query strip, gradient strip of the queries, each (rows, parts * lanes) packed;
    candidate strip and gradient strip, each (count, parts * lanes) packed; weights as the address
    of (rows, stride) at the block's first candidate; stride; count. Adds to both gradients.
    """

    @emits("iiiiiii")
    def tile(simd, query, query_gradient, candidate, candidate_gradient, weight, stride, count):
        build, parts, lanes = simd.builder, _parts(kernel), simd.lanes
        steps = [part * lanes for part in range(parts)]

        def places(address: Any, line: int) -> list[Any]:
            return [simd.at(simd.pointer(address), line * parts * lanes + step) for step in steps]

        left = [[simd.load(p) for p in places(query, line)] for line in range(rows)]
        sums = [
            [simd.local(simd.load(p)) for p in places(query_gradient, line)] for line in range(rows)
        ]
        weights = [simd.pointer(weight, integer(line), stride) for line in range(rows)]
        with cgutils.for_range(build, count, intp=INT) as loop:
            offset = build.mul(loop.index, integer(parts * lanes))
            sources = [simd.at(simd.at(simd.pointer(candidate), offset), s) for s in steps]
            targets = [simd.at(simd.at(simd.pointer(candidate_gradient), offset), s) for s in steps]
            right = [simd.load(p) for p in sources]
            pulls = [simd.load(p) for p in targets]
            for line in range(rows):
                scale = simd.load_splat(build.gep(weights[line], [loop.index]))
                slopes = _slopes(simd, kernel, left[line], right)
                negative = build.fneg(scale)
                if kernel != "l2":
                    scale, negative = negative, scale
                for part in range(parts):
                    total = sums[line][part]
                    build.store(simd.multiply_add(scale, slopes[part], build.load(total)), total)
                    pulls[part] = simd.multiply_add(negative, slopes[part], pulls[part])
            for value, target in zip(pulls, targets):
                simd.store(value, target)
        for line in range(rows):
            for total, place in zip(sums[line], places(query_gradient, line)):
                simd.store(build.load(total), place)

    return tile  # type: ignore[no-any-return]


def gather_tile(kernel: str, vectors: int, scatter: bool = False) -> Callable[..., None]:
    """Gradient of one row from its scores with many others, in `vectors` steps of coordinates.

    The weights are the gradient of the scores, for l2 divided by the scores.

    Arguments: data; the row's address at the first coordinate; the others' address at that
    coordinate; numbers of the other rows (int64), their weights, their count; target at the
    coordinate (overwritten); d; with `scatter` the address, at that coordinate, of the others'
    gradient, which is added to. The imaginary parts, if any, lie d / 2 further on.
    """

    @emits("iiiiiiii")
    def tile(simd, anchor, others, numbers, weights, count, target, d, scattered):
        build, parts = simd.builder, _parts(kernel)
        half = build.sdiv(d, integer(2))
        words = build.inttoptr(numbers, INT.as_pointer())
        scales = simd.pointer(weights)

        def places(pointer: Any) -> list[list[Any]]:
            starts = [pointer, build.gep(pointer, [half])][:parts]
            return [[simd.at(start, v * simd.lanes) for start in starts] for v in range(vectors)]

        left = [[simd.load(p) for p in pair] for pair in places(simd.pointer(anchor))]
        sums = [[simd.local(simd.zero) for _ in range(parts)] for _ in range(vectors)]
        with cgutils.for_range(build, count, intp=INT) as loop:
            number = build.load(build.gep(words, [loop.index]))
            scale = simd.load_splat(build.gep(scales, [loop.index]))
            if kernel in ("l1", "complex_modulus"):
                scale = build.fneg(scale)
            opposite = scale if kernel == "dot" else build.fneg(scale)
            pulls = places(simd.pointer(scattered, number, d))
            for v, pair in enumerate(places(simd.pointer(others, number, d))):
                right = [simd.load(p) for p in pair]
                slopes = right if kernel == "dot" else _slopes(simd, kernel, left[v], right)
                for part in range(parts):
                    total = sums[v][part]
                    build.store(simd.multiply_add(scale, slopes[part], build.load(total)), total)
                    if scatter:
                        slope = left[v][part] if kernel == "dot" else slopes[part]
                        pull = simd.multiply_add(opposite, slope, simd.load(pulls[v][part]))
                        simd.store(pull, pulls[v][part])
        for v, pair in enumerate(places(simd.pointer(target))):
            for part, place in enumerate(pair):
                simd.store(build.load(sums[v][part]), place)

    return tile  # type: ignore[no-any-return]
