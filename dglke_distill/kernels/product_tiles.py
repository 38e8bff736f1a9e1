"""The inner loops of softmaxes over products that are never stored, as vector instructions.

Queries come by sixes or twelves (`ROWS`), candidates by tiles of `TILE`, so that all strides but
those of the vectors' own length are constants.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Callable, Literal

from llvmlite import ir
from numba.core import cgutils

from dglke_distill.kernels.simd import INT, Simd, emits, integer

ROWS = 12
"""Queries that are multiplied together, and candidates whose gradients are."""
TILE = 96
"""Candidates of a tile: a multiple of ROWS and of two vectors of float32."""

# With 32 registers of 64 bytes all rows of two vectors fit; with 16 of 32 bytes a quarter does.
_AT_ONCE = ROWS if Simd.avx512 else ROWS // 4

Start = Literal["zero", "own", "row"]


def product_tile(
    vectors: int, row_stride: int, step_stride: int, start: Start
) -> Callable[..., None]:
    """out[r, :] = start + sum over t < count of left[r, t] * right[t, :], of `ROWS` rows.

    Every element is summed in the order of t, whatever the blocking. Arguments: data; left, whose
    element (r, t) lies at r * row_stride + t * step_stride; right and its stride; out and its
    stride; count; first: the address of the row of `vectors` vectors that sums start from, for
    start "row". "zero" starts from zeros, "own" from what `out` holds.
    """

    @emits("iiiiiii")
    def tile(simd, left, right, right_stride, out, out_stride, count, first):
        given = left, right, right_stride, out, out_stride, count, first
        for row in range(0, ROWS, _AT_ONCE):
            _generate_products(simd, vectors, row_stride, step_stride, start, row, given)

    return tile  # type: ignore[no-any-return]


def _generate_products(
    simd: Simd, vectors: int, row_stride: int, step_stride: int, start: Start, row: int, given: Any
) -> None:
    left, right, right_stride, out, out_stride, count, first = given
    build = simd.builder
    rows = range(row, row + _AT_ONCE)
    columns = [vector * simd.lanes for vector in range(vectors)]
    targets = [simd.pointer(out, integer(r), out_stride) for r in rows]
    if start == "row":
        source = simd.pointer(first)
        begin = [simd.load(simd.at(source, column)) for column in columns]
        totals = [[simd.local(value) for value in begin] for _ in rows]
    elif start == "own":
        totals = [
            [simd.local(simd.load(simd.at(target, column))) for column in columns]
            for target in targets
        ]
    else:
        totals = [[simd.local(simd.zero) for _ in columns] for _ in rows]
    lefts, rights = simd.pointer(left), simd.pointer(right)
    with cgutils.for_range(build, count, intp=INT) as loop:
        where = build.gep(rights, [build.mul(loop.index, right_stride)])
        others = [simd.load(simd.at(where, column)) for column in columns]
        factors = build.gep(lefts, [build.mul(loop.index, integer(step_stride))])
        for r, sums in zip(rows, totals):
            factor = simd.load_splat(simd.at(factors, r * row_stride))
            for other, total in zip(others, sums):
                build.store(simd.multiply_add(factor, other, build.load(total)), total)
    for target, sums in zip(targets, totals):
        for column, total in zip(columns, sums):
            simd.store(build.load(total), simd.at(target, column))


def _highest(simd: Simd, values: list[Any]) -> Any:
    """The largest of some vectors, lane by lane, NaN aside where it is not the first."""
    best = values[0]
    for value in values[1:]:
        best = simd.builder.select(simd.builder.fcmp_ordered(">", value, best), value, best)
    return best


@emits("iii")
def softmax_row(simd, row, highest, total):
    """Add a tile of a query's scores to its running softmax.

    Arguments: data; the addresses of the TILE scores, of the highest score so far (one element) and
    of the sum of 2^(score - highest) so far (one vector, whose lanes are to be summed).
    """
    builder = simd.builder
    row, highest, total = (simd.pointer(address) for address in (row, highest, total))
    values = [simd.load(simd.at(row, k)) for k in range(0, TILE, simd.lanes)]
    before = builder.load(highest)
    _raise_highest(simd, _highest(simd, values), before, highest, [total])
    top = simd.load_splat(highest)
    _add_powers(simd, [builder.fsub(value, top) for value in values], total)


@emits("ii")
def small_row(simd, row, total):
    """`softmax_row` for scores so small that the highest need not be known: it counts as 0."""
    row = simd.pointer(row)
    values = [simd.load(simd.at(row, k)) for k in range(0, TILE, simd.lanes)]
    _add_powers(simd, values, simd.pointer(total))


def _add_powers(simd: Simd, values: list[Any], total: Any) -> None:
    """Add 2^value of some vectors to a vector of sums in memory."""
    added = [simd.power_of_two(value) for value in values]
    while len(added) > 1:
        pairs = [simd.builder.fadd(a, b) for a, b in zip(added[::2], added[1::2])]
        added = pairs + added[2 * len(pairs) :]
    simd.store(simd.builder.fadd(simd.load(total), added[0]), total)


def _raise_highest(simd: Simd, best: Any, before: Any, highest: Any, totals: list[Any]) -> None:
    """Where a lane of `best` exceeds the highest so far, raise that and scale the sums down."""
    build = simd.builder
    above = build.fcmp_ordered(">", best, simd.splat(before))
    lanes = ir.IntType(simd.lanes)
    found = build.icmp_unsigned("!=", build.bitcast(above, lanes), ir.Constant(lanes, 0))
    with build.if_then(found, likely=False):
        lane_best = simd.elements(best)
        top = before
        for value in lane_best:
            top = build.select(build.fcmp_ordered(">", value, top), value, top)
        build.store(top, highest)
        scale = simd.power_of_two(simd.splat(build.fsub(before, top)))
        for total in totals:
            simd.store(build.fmul(simd.load(total), scale), total)


@emits("ifff")
def gradient_row(simd, row, shift, factor, extra):
    """Replace a tile of a query's scores by factor * 2^(score - shift) + extra."""
    builder = simd.builder
    row = simd.pointer(row)
    shift, factor, extra = (simd.splat(value) for value in (shift, factor, extra))
    for k in range(0, TILE, simd.lanes):
        place = simd.at(row, k)
        power = simd.power_of_two(builder.fsub(simd.load(place), shift))
        simd.store(simd.multiply_add(power, factor, extra), place)


@emits("iiii")
def transposed_tile(simd, source, stride, target, width):
    """Write TILE rows of `width` elements, `stride` apart, as `width` rows of TILE elements.

    `width` is a multiple of the vector's length.
    """
    builder = simd.builder
    lanes = simd.lanes
    reads, writes = simd.pointer(source), simd.pointer(target)
    step = integer(lanes)
    zero = integer(0)
    with cgutils.for_range_slice(builder, zero, integer(TILE), step, intp=INT) as (j, _):
        with cgutils.for_range_slice(builder, zero, width, step, intp=INT) as (k, _):
            corner = builder.add(builder.mul(j, stride), k)
            rows = [
                simd.load(
                    builder.gep(reads, [builder.add(corner, builder.mul(integer(line), stride))])
                )
                for line in range(lanes)
            ]
            corner = builder.add(builder.mul(k, integer(TILE)), j)
            for line, column in enumerate(_transposed(simd, rows)):
                simd.store(column, simd.at(builder.gep(writes, [corner]), line * TILE))


def _transposed(simd: Simd, rows: list[Any]) -> list[Any]:
    """Transpose a square of elements held in as many vectors as each has lanes."""
    unit = len(rows) // 2
    while unit:
        # Swap the off-diagonal halves of every square of 2 * unit rows and columns.
        low, high = [], []
        for lane in range(len(rows)):
            inside = lane % (2 * unit)
            low.append(lane if inside < unit else lane - unit + len(rows))
            high.append(lane + unit if inside < unit else lane + len(rows))
        moved = list(rows)
        for i in range(len(rows)):
            if i % (2 * unit) < unit:
                moved[i] = simd.shuffle(rows[i], rows[i + unit], low)
                moved[i + unit] = simd.shuffle(rows[i], rows[i + unit], high)
        rows = moved
        unit //= 2
    return rows
