"""Explicit 64-byte vectors for numba kernels.

Left to itself LLVM picks 32-byte vectors on many AVX-512 machines and an order of summation that
changes with the shape of the loop. Writing the vectors out gives the full width, and the same
bits for the same pair of rows whatever the blocking, without touching any global setting of
numba. On narrower machines LLVM splits the vectors; the bits stay the same.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, Callable

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 64
INT = ir.IntType(64)
# Polynomial of least relative error (2e-9) for 2^t, t in [-1/2, 1/2], by Remez's algorithm.
_POWER_OF_TWO = (
    1.0,
    0.6931471824645996,
    0.24022646248340607,
    0.05550328642129898,
    0.009618489071726799,
    0.0013399930903688073,
    0.0001534581242594868,
)


def integer(value: int) -> Any:
    """Return an int64 constant."""
    return ir.Constant(INT, value)


def _has_avx512() -> bool:
    """Whether numba compiles for a machine with 64-byte vectors."""
    wanted = ("avx512f", "avx512dq", "avx512vl")
    if config.CPU_NAME or config.CPU_FEATURES:
        # The user has numba compile for another machine than this one.
        return all(f"+{name}" in (config.CPU_FEATURES or "") for name in wanted)
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:
        return False
    return all(features.get(name, False) for name in wanted)


class Simd:
    """Emits vector instructions for one element type (float32 or float64).

    Addresses are LLVM pointers to the element type; counts and offsets are in elements.
    """

    avx512 = _has_avx512()

    def __init__(self, builder: ir.IRBuilder, element: types.Float) -> None:
        """Prepare the vector type."""
        self.builder = builder
        self.bits = element.bitwidth
        self.lanes = VECTOR_BYTES * 8 // self.bits
        self.scalar = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.suffix = f"v{self.lanes}f{self.bits}"
        self.zero = self.constant(0.0)

    # -- memory ------------------------------------------------------------------------------

    def pointer(self, address: Any, offset: Any = None, stride: Any = None) -> Any:
        """Turn an integer address plus offset * stride elements into a pointer."""
        pointer = self.builder.inttoptr(address, self.scalar.as_pointer())
        if offset is None:
            return pointer
        if stride is not None:
            offset = self.builder.mul(offset, stride)
        return self.builder.gep(pointer, [offset])

    def at(self, pointer: Any, offset: Any) -> Any:
        """Advance a pointer by elements (an int or an LLVM integer)."""
        if isinstance(offset, int):
            offset = integer(offset)
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Any) -> Any:
        """Load one vector; no alignment beyond the element's is assumed."""
        where = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(where, align=self.bits // 8)

    def store(self, value: Any, pointer: Any) -> None:
        """Store one vector (of any number of lanes)."""
        where = self.builder.bitcast(pointer, value.type.as_pointer())
        self.builder.store(value, where, align=self.bits // 8)

    def load_splat(self, pointer: Any) -> Any:
        """Load one element into every lane."""
        return self.splat(self.builder.load(pointer))

    def local(self, value: Any) -> Any:
        """Return a mutable variable (promoted to a register) holding `value`."""
        return cgutils.alloca_once_value(self.builder, value)

    # -- arithmetic --------------------------------------------------------------------------

    def constant(self, value: float) -> Any:
        """Return a vector with the same value in every lane."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def splat(self, value: Any) -> Any:
        """Repeat a scalar in every lane."""
        first = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        order = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, first, order)

    def call(self, name: str, *values: Any) -> Any:
        """Call the LLVM intrinsic `name` on vectors, with a vector result."""
        kind = ir.FunctionType(self.vector, [value.type for value in values])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, values)

    def magnitude(self, value: Any) -> Any:
        """Absolute value."""
        return self.call(f"llvm.fabs.{self.suffix}", value)

    def root(self, value: Any) -> Any:
        """Square root, correctly rounded."""
        return self.call(f"llvm.sqrt.{self.suffix}", value)

    def multiply_add(self, first: Any, second: Any, third: Any) -> Any:
        """Return first * second + third, rounded once."""
        return self.call(f"llvm.fma.{self.suffix}", first, second, third)

    def at_least(self, value: Any, bound: float) -> Any:
        """Return the larger of `value` and `bound`; NaN becomes `bound`."""
        limit = self.constant(bound)
        return self.builder.select(self.builder.fcmp_ordered(">", value, limit), value, limit)

    def inverse_root(self, value: Any) -> Any:
        """1 / sqrt(value) to about one unit in the last place; the value positive and normal."""
        if not (self.avx512 and self.bits == 32):
            return self.builder.fdiv(self.constant(1.0), self.root(value))
        estimate = self._estimate_inverse_root(value)
        # One step of Newton's iteration doubles the 14 bits of the estimate.
        half = self.builder.fmul(estimate, self.constant(0.5))
        square = self.builder.fmul(value, estimate)
        error = self.multiply_add(self.builder.fneg(square), half, self.constant(0.5))
        return self.multiply_add(estimate, error, estimate)

    def quick_root(self, value: Any, smallest: float) -> Any:
        """Square root to within about one unit in the last place; `smallest` is a normal number.

        Infinity gives NaN. On machines that estimate inverse roots this is twice as fast as the
        rounded root.
        """
        if not (self.avx512 and self.bits == 32):
            return self.root(value)
        estimate = self._estimate_inverse_root(self.at_least(value, smallest))
        root = self.builder.fmul(value, estimate)
        half = self.builder.fmul(estimate, self.constant(0.5))
        error = self.multiply_add(self.builder.fneg(root), half, self.constant(0.5))
        return self.multiply_add(root, error, root)

    def _estimate_inverse_root(self, value: Any) -> Any:
        """1 / sqrt(value) to 14 bits, AVX-512 and float32 only."""
        every = ir.Constant(ir.IntType(16), -1)
        return self.call("llvm.x86.avx512.rsqrt14.ps.512", value, self.zero, every)

    def exponential(self, value: Any) -> Any:
        """e^value for values <= 0, to within about two units in the last place; NaN stays NaN.

        e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2 (W. J. Cody, W. Waite 1980,
        "Software Manual for the Elementary Functions"); e^r by its Taylor series. Results below
        the smallest normal number are 0.
        """
        build, single = self.builder, self.bits == 32
        mantissa, bias, terms = (23, 127, 7) if single else (52, 1023, 13)
        lane = ir.VectorType(ir.IntType(self.bits), self.lanes)
        # Adding 1.5 * 2^mantissa rounds to an integer, which is then in the lowest bits.
        magic = self.constant(1.5 * 2.0**mantissa)
        shifted = self.multiply_add(value, self.constant(1 / math.log(2)), magic)
        steps = build.fneg(build.fsub(shifted, magic))
        # ln 2 in two pieces, the first short enough for its product with n to be exact.
        high = 0.693359375 if single else 0.693147180369123816490
        low = -2.12194440054690583e-4 if single else 1.90821492927058770002e-10
        rest = self.multiply_add(steps, self.constant(high), value)
        rest = self.multiply_add(steps, self.constant(low), rest)
        total = self.constant(1 / math.factorial(terms))
        for term in range(terms - 1, -1, -1):
            total = self.multiply_add(total, rest, self.constant(1 / math.factorial(term)))
        power = build.bitcast(shifted, lane)
        power = build.add(power, ir.Constant(lane, [bias] * self.lanes))
        power = build.shl(power, ir.Constant(lane, [mantissa] * self.lanes))
        result = build.fmul(total, build.bitcast(power, self.vector))
        tiny = build.fcmp_ordered("<", value, self.constant((2 - bias) * math.log(2)))
        return build.select(tiny, self.zero, result)

    def power_of_two(self, value: Any) -> Any:
        """2^value for values <= 1, to within about two units in the last place; NaN stays NaN.

        Half the instructions of `exponential`: the caller has turned e into 2, and values below
        -100 (float32) or -1000 are taken for that, which no sum with a 1 in it notices.
        """
        build, single = self.builder, self.bits == 32
        mantissa, lowest = (23, -100.0) if single else (52, -1000.0)
        lane = ir.VectorType(ir.IntType(self.bits), self.lanes)
        least = self.constant(lowest)
        value = build.select(build.fcmp_ordered("<", value, least), least, value)
        magic = self.constant(1.5 * 2.0**mantissa)
        shifted = build.fadd(value, magic)
        rest = build.fsub(value, build.fsub(shifted, magic))
        terms: Sequence[float] = _POWER_OF_TWO
        if not single:
            terms = tuple(math.log(2) ** k / math.factorial(k) for k in range(14))
        total = self.constant(terms[-1])
        for term in terms[-2::-1]:
            total = self.multiply_add(total, rest, self.constant(term))
        # The integer, in the lowest bits of `shifted`, is added to the exponent.
        steps = build.shl(build.bitcast(shifted, lane), ir.Constant(lane, [mantissa] * self.lanes))
        return build.bitcast(build.add(build.bitcast(total, lane), steps), self.vector)

    def sign(self, value: Any) -> Any:
        """-1, 0 or 1; NaN stays NaN."""
        if self.avx512:
            return self._sign_avx512(value)
        builder = self.builder
        one = self.call(f"llvm.copysign.{self.suffix}", self.constant(1.0), value)
        flat = builder.fcmp_unordered("==", value, self.zero)
        # Adding a NaN to a zero keeps the NaN, and a zero stays zero.
        return builder.select(flat, value, one)

    def _sign_avx512(self, value: Any) -> Any:
        # VFIXUPIMM replaces a number by a constant chosen by its class. Four bits per class, from
        # the lowest: quiet NaN, signalling NaN -> quiet NaN (2); zero -> +0 (8); one -> +1 (10);
        # -inf -> -1 (9); +inf -> +1; negative -> -1; positive -> +1.
        classes = (2, 2, 8, 10, 9, 10, 9, 10)
        table = reduce(operator.or_, (code << 4 * i for i, code in enumerate(classes)))
        lane = ir.IntType(self.bits)
        tables = ir.Constant(ir.VectorType(lane, self.lanes), [table] * self.lanes)
        letter = "s" if self.bits == 32 else "d"
        return self.call(
            f"llvm.x86.avx512.mask.fixupimm.p{letter}.512",
            value,
            value,
            tables,
            ir.Constant(ir.IntType(32), 0),
            ir.Constant(ir.IntType(self.lanes), -1),
            ir.Constant(ir.IntType(32), 4),
        )

    # -- across lanes ------------------------------------------------------------------------

    def shuffle(self, first: Any, second: Any, order: Sequence[int]) -> Any:
        """Pick lanes out of two vectors laid end to end."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
        return self.builder.shuffle_vector(first, second, mask)

    def elements(self, value: Any) -> list[Any]:
        """Return the lanes of a vector as scalars."""
        lanes = [ir.Constant(ir.IntType(32), lane) for lane in range(self.lanes)]
        return [self.builder.extract_element(value, lane) for lane in lanes]

    def sum(self, value: Any) -> Any:
        """Sum the lanes in order."""
        return reduce(self.builder.fadd, self.elements(value))

    def sum_each(self, vectors: list[Any]) -> Any:
        """Sum the lanes of each of `lanes` vectors: one vector holding the sums in order.

        A fixed tree: neighbours within 16 bytes first, since shuffles there are the cheapest.
        """
        part = 128 // self.bits
        for unit, run in ((1, part), (part, self.lanes)):
            left = run // unit
            while left > 1:
                even, odd = (self._alternate(unit, run, first) for first in (0, 1))
                vectors = [
                    self.builder.fadd(self.shuffle(a, b, even), self.shuffle(a, b, odd))
                    for a, b in zip(vectors[::2], vectors[1::2])
                ]
                left //= 2
        return vectors[0]

    def _alternate(self, unit: int, run: int, first: int) -> list[int]:
        """Every other unit of lanes of each run, of one vector and then of the other."""
        return [
            start + offset + lane
            for begin in range(0, self.lanes, run)
            for start in (begin, self.lanes + begin)
            for offset in range(first * unit, run, 2 * unit)
            for lane in range(unit)
        ]


def emits(takes: str, returns: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Make a function that emits vector instructions one that kernels call, with their data first.

    The function is given a `Simd` of the kernel's element type and its arguments as LLVM values.

    Args:
        takes: a letter for each argument behind the data: `i` of an int64, such as a count or an
            address; `f` of a number of the kernel's element type.
        returns: the same letters: none, `f`, or `ff` for a list of two numbers.
    """

    def made(emit: Callable[..., Any]) -> Any:
        def typed(typing_context: Any, data: Any, *others: Any) -> Any:
            kinds = [types.int64 if letter == "i" else data.dtype for letter in takes]
            results = {"": types.void, "f": data.dtype, "ff": types.UniTuple(data.dtype, 2)}

            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                found = emit(Simd(builder, signature.args[0].dtype), *arguments[1:])
                if returns == "ff":
                    return context.make_tuple(builder, signature.return_type, found)
                return found if returns else context.get_dummy_value()

            return results[returns](data, *kinds), generate

        # numba looks at the names of the arguments.
        _, *names = inspect.signature(emit).parameters
        typed.__name__ = emit.__name__
        typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                for name in ("typing_context", "data", *names)
            ]
        )
        return intrinsic(typed)

    return made
