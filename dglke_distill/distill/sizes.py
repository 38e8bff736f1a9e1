"""The sizes of a chain, from the first to the last."""

from __future__ import annotations

from dglke_distill.base.errors import UserError
from dglke_distill.config.sections import MOST_FLOATS

__all__ = ["divided"]

_LEAST_RATIO = 1.001


def divided(first: int, last: int, ratio: float) -> list[int]:
    """Return the sizes from ``first`` down to ``last``, each about ``ratio`` smaller, even.

    Raises:
        UserError: the sizes do not fall, or the ratio is not clearly above 1.
    """
    if not ratio >= _LEAST_RATIO:
        raise UserError(f"--ratio: must be above 1, at least {_LEAST_RATIO}, is {ratio:g}")
    if not 1 <= last < first <= MOST_FLOATS:
        raise UserError(
            f"--to {last}: must be at least 1 and below --from {first}, which is at most "
            f"{MOST_FLOATS}"
        )
    dims, size = [first], first / ratio
    while size > last * 1.0001 and 2 * round(size / 2) > last:
        if 2 * round(size / 2) < dims[-1]:
            dims.append(2 * round(size / 2))
        size /= ratio
    return [*dims, last]
