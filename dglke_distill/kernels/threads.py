"""Runs numba kernels on the very threads that torch uses.

Two OpenMP pools in one process get into each other's way: after each parallel region a pool's
idle threads spin for milliseconds on the cores that the other pool wants. So the kernels are
plain C callbacks, and torch's own OpenMP runtime calls them from all its threads; each call takes
tasks off a shared counter until none are left. Without that runtime (other builds of torch)
Python threads do the same, a little later.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, models, register_model
from torch import Tensor

from dglke_distill.kernels.compiled import cfunc

# The first slots of a kernel's data: the shared task counter, then the arguments.
_COUNTER_SLOTS = 1
# Elements that one thread processes in about the time it takes to wake another.
_WORTH_SHARING = 1 << 16


def set_num_threads(threads: int) -> None:
    """Use `threads` threads for torch, for the kernels here and for other numba code."""
    # numba first: when it starts its threads it sets OpenMP's number, which torch's is, to all.
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _source_digest() -> str:
    """Digest of this package's sources, so that no stale machine code is loaded from the cache.

    numba itself watches only the file of the cached function, not the files that it inlines.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class KernelData(types.RawPointer):
    """The argument of a kernel: the address of its int64 arguments, typed by element type."""

    def __init__(self, dtype: types.Float) -> None:
        """Remember the element type of the arrays behind the addresses."""
        self.dtype = dtype
        super().__init__(f"KernelData({dtype}, {_source_digest()})")


register_model(KernelData)(models.OpaqueModel)


@intrinsic  # type: ignore[untyped-decorator]
def next_task(typing_context: Any, data: Any) -> Any:
    """Take the next task's number off the shared counter."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        counter = builder.bitcast(arguments[0], word.as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(word, 1), "monotonic")

    return types.int64(data), generate


@intrinsic  # type: ignore[untyped-decorator]
def argument(typing_context: Any, data: Any, position: Any) -> Any:
    """Read one int64 argument."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
        slot = builder.add(arguments[1], ir.Constant(ir.IntType(64), _COUNTER_SLOTS))
        return builder.load(builder.gep(words, [slot]))

    return types.int64(data, types.int64), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def arguments(typing_context: Any, data: Any, first: Any, count: Any) -> Any:
    """Read some int64 arguments, one after the other; both numbers are written out."""
    start, number = _COUNTER_SLOTS + first.literal_value, count.literal_value

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        word = ir.IntType(64)
        words = builder.bitcast(given[0], word.as_pointer())
        slots = (builder.gep(words, [ir.Constant(word, start + i)]) for i in range(number))
        return context.make_tuple(builder, signature.return_type, [*map(builder.load, slots)])

    return types.UniTuple(types.int64, number)(data, first, count), generate


@intrinsic  # type: ignore[untyped-decorator]
def float_argument(typing_context: Any, data: Any, position: Any) -> Any:
    """Read one argument as the float64 whose bits it holds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = builder.bitcast(arguments[0], ir.DoubleType().as_pointer())
        slot = builder.add(arguments[1], ir.Constant(ir.IntType(64), _COUNTER_SLOTS))
        return builder.load(builder.gep(words, [slot]))

    return types.float64(data, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def set_argument(typing_context: Any, data: Any, position: Any, value: Any) -> Any:
    """Overwrite one int64 argument, to report something to the caller."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
        slot = builder.add(arguments[1], ir.Constant(ir.IntType(64), _COUNTER_SLOTS))
        builder.store(arguments[2], builder.gep(words, [slot]))
        return context.get_dummy_value()

    return types.void(data, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _typed_pointer(typing_context: Any, data: Any, address: Any) -> Any:
    """Turn an address into a pointer to the element type of `data`."""
    pointer = types.CPointer(data.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], context.get_value_type(pointer))

    return pointer(data, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _integer_pointer(typing_context: Any, address: Any) -> Any:
    """Turn an address into a pointer to int64."""
    pointer = types.CPointer(types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.int64), generate


@numba.njit  # type: ignore[untyped-decorator]
def array_at(data, address, shape):  # type: ignore[no-untyped-def]
    """View memory as an array of the kernel's element type."""
    return carray(_typed_pointer(data, address), shape)


@numba.njit  # type: ignore[untyped-decorator]
def integers_at(address, shape):  # type: ignore[no-untyped-def]
    """View memory as an array of int64."""
    return carray(_integer_pointer(address), shape)


_DTYPES = {torch.float32: types.float32, torch.float64: types.float64}
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def _openmp_parallel() -> Optional[Callable[..., None]]:
    """Find GOMP_parallel of the OpenMP runtime that torch has loaded."""
    candidates = [*(Path(torch.__file__).parent / "lib").glob("libgomp*.so*"), "libgomp.so.1"]
    for candidate in candidates:
        try:
            library = ctypes.CDLL(str(candidate), mode=getattr(os, "RTLD_NOLOAD", 0))
            run = library.GOMP_parallel
        except (OSError, AttributeError):
            continue
        run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        run.restype = None
        return run  # type: ignore[no-any-return]
    return None


Argument = Union[int, float, Tensor, "np.ndarray[Any, Any]", None]


class _Words(dict[type, Callable[[Any], int]]):
    """What reads an argument of a type as kernels do: an int64, an address, a double's bits."""

    def __missing__(self, kind: type) -> Callable[[Any], int]:
        found = self[kind] = next(read for known, read in self.items() if issubclass(kind, known))
        return found


_words = _Words(
    {
        Tensor: Tensor.data_ptr,
        int: int,
        float: lambda value: struct.unpack("q", struct.pack("d", value))[0],
        type(None): lambda nothing: 0,
        np.ndarray: lambda array: array.ctypes.data,
    }
)


@lru_cache(maxsize=1)
def _python_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="kernels")


class NativeKernel:
    """A function `kernel(data)` compiled per element type on first use, cached on disk.

    The function reads its int64 arguments (sizes and addresses) with `argument`, and takes tasks
    off the shared counter with `next_task` until it gets one that does not exist.
    """

    def __init__(self, function: Callable[[Any], None]) -> None:
        """Wrap a module-level function; nothing is compiled yet."""
        self.function = function
        self.compiled: dict[torch.dtype, Any] = {}
        self.lock = threading.Lock()

    def compile(self, dtype: torch.dtype) -> Any:
        """Return the C callback for an element type."""
        with self.lock:
            if dtype not in self.compiled:
                kind = types.void(KernelData(_DTYPES[dtype]))
                callback = cfunc(kind, cache=True, error_model="numpy")(self.function)
                self.compiled[dtype] = (_CALLBACK(callback.address), callback)
        return self.compiled[dtype]

    def __call__(self, dtype: torch.dtype, work: int, *arguments: Argument) -> Any:
        """Run the kernel on torch's threads and return its arguments as it left them.

        Args:
            dtype: the element type, torch.float32 or torch.float64.
            work: about how many elements are processed; too little is not worth sharing.
            arguments: what the kernel reads, in order; None is 0.
        """
        callback, compiled = self.compiled.get(dtype) or self.compile(dtype)
        data = (ctypes.c_int64 * (_COUNTER_SLOTS + len(arguments)))(
            0, *[each if type(each) is int else _words[type(each)](each) for each in arguments]
        )
        threads = torch.get_num_threads()
        if threads == 1 or work < _WORTH_SHARING:
            callback(ctypes.addressof(data))
            return data[_COUNTER_SLOTS:]
        parallel = _openmp_parallel()
        if parallel is not None:
            # Always the full team: OpenMP ends threads that a smaller team would leave over.
            parallel(compiled.address, ctypes.addressof(data), threads, 0)
            return data[_COUNTER_SLOTS:]
        address = ctypes.addressof(data)
        others = [_python_threads().submit(callback, address) for _ in range(threads - 1)]
        callback(address)
        for other in others:
            other.result()
        return data[_COUNTER_SLOTS:]
