"""numba's compiler; what it keeps on disk saves time, and is no condition of anything."""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from typing import Any, Callable

from numba import cfunc, njit
from numba.core.caching import Cache

__all__ = ["cfunc", "njit"]


def _forgiving(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step of the cache that does nothing where its disk is full or not ours."""

    @wraps(call)
    def step(*arguments: Any) -> Any:
        with suppress(OSError):
            return call(*arguments)

    return step


# For functions and callbacks alike, whoever compiles them.
Cache.save_overload = _forgiving(Cache.save_overload)
Cache.load_overload = _forgiving(Cache.load_overload)
