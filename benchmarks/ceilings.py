"""What this machine can do at best: the yardsticks that the other benchmarks are held against.

    python benchmarks/ceilings.py --threads 2

Three figures, each the best of several runs, so that a passing disturbance does not lower them:

- fp32 matrix products in GFLOP/s, a multiply and an add counting as two, for the shape of ranking
  (1024 queries of 512 floats against 14,541 entities) or any other;
- copying a block far larger than the caches, in GB/s, bytes read plus bytes written;
- L1 distances in G elements/s: subtract, drop the sign, add, on vectors that stay in registers.
  No kernel that does these three steps per element can be faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["Ceilings", "best_seconds", "copy_rate", "l1_rate", "matmul_rate", "measure"]

_ACCUMULATORS = 8
_VECTORS = 16  # 1 KiB of operands: always in the first-level cache


@dataclass(frozen=True)
class Ceilings:
    """The three figures, for the number of threads they were measured with.

    Attributes:
        threads: cores used.
        matmul_gflops: GFLOP/s of fp32 matrix products.
        copy_gb: GB/s read plus written.
        l1_gelements: G elements/s of L1 distances.
    """

    threads: int
    matmul_gflops: float
    copy_gb: float
    l1_gelements: float

    def or_better(self, other: Ceilings) -> Ceilings:
        """Return the higher of each figure: a ceiling is not lowered by a disturbance."""
        return Ceilings(
            self.threads,
            max(self.matmul_gflops, other.matmul_gflops),
            max(self.copy_gb, other.copy_gb),
            max(self.l1_gelements, other.l1_gelements),
        )

    def __str__(self) -> str:
        """Return one line for people."""
        return (
            f"ceilings with {self.threads} threads: fp32 matmul {self.matmul_gflops:.0f} GFLOP/s, "
            f"copy {self.copy_gb:.0f} GB/s, L1 {self.l1_gelements:.0f} G elements/s"
        )


def best_seconds(run: Callable[[], Any], repeats: int = 7) -> float:
    """Return the shortest of several runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def matmul_rate(m: int = 1024, k: int = 512, n: int = 14541) -> float:
    """Return the GFLOP/s of an (m, k) by (k, n) fp32 product, with the threads torch has."""
    left, right = torch.randn(m, k), torch.randn(n, k)
    out = torch.empty(m, n)
    return 2e-9 * m * k * n / best_seconds(lambda: torch.mm(left, right.T, out=out))


def copy_rate(mebibytes: int = 256) -> float:
    """Return the GB/s, read plus written, of copying a block with the threads torch has."""
    source = torch.ones(mebibytes * 2**18)
    target = torch.zeros_like(source)
    return 2e-9 * source.numel() * 4 / best_seconds(lambda: target.copy_(source))


@intrinsic  # type: ignore[misc]
def _sum_distances(typing_context, address, rounds):  # type: ignore[no-untyped-def]
    """Add up |x - c| for ``rounds`` 64-byte vectors x and eight c that stay in registers."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address, rounds = arguments
        vector = ir.VectorType(ir.FloatType(), 16)
        operands = builder.inttoptr(address, vector.as_pointer())
        number = ir.IntType(64)

        def load(index):  # type: ignore[no-untyped-def]
            return builder.load(builder.gep(operands, [index]), align=4)

        fixed = [load(ir.Constant(number, i)) for i in range(_ACCUMULATORS)]
        zero = ir.Constant(vector, [0.0] * 16)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in fixed]
        kind = ir.FunctionType(vector, [vector])
        fabs = cgutils.get_or_insert_function(builder.module, kind, "llvm.fabs.v16f32")
        with cgutils.for_range(builder, rounds) as loop:
            moving = load(builder.and_(loop.index, ir.Constant(number, _VECTORS - 1)))
            for total, value in zip(sums, fixed):
                distance = builder.call(fabs, [builder.fsub(moving, value)])
                builder.store(builder.fadd(builder.load(total), distance), total)
        together = zero
        for total in sums:
            together = builder.fadd(together, builder.load(total))
        return builder.extract_element(together, ir.Constant(ir.IntType(32), 0))

    return types.float32(types.int64, types.int64), generate


@numba.njit(parallel=True)
def _distances_on_all_threads(address, rounds, threads, out):  # type: ignore[no-untyped-def]
    for thread in numba.prange(threads):
        out[thread] = _sum_distances(address, rounds)


def l1_rate(rounds: int = 200_000) -> float:
    """Return the G elements/s of L1 distances with the threads numba has."""
    threads = numba.get_num_threads()
    operands = np.random.default_rng(0).random(_VECTORS * 16).astype(np.float32)
    out = np.empty(threads, np.float32)
    seconds = best_seconds(
        lambda: _distances_on_all_threads(operands.ctypes.data, rounds, threads, out), repeats=50
    )
    return 1e-9 * threads * rounds * 16 * _ACCUMULATORS / seconds


def measure(threads: int) -> Ceilings:
    """Set the number of threads of torch and numba, and measure all three figures."""
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return Ceilings(threads, matmul_rate(), copy_rate(), l1_rate())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    print(measure(parser.parse_args().threads))
