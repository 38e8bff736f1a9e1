"""Where embedding tables lie, and tables of two bytes a float.

A table is in this process's memory, in memory that several processes share, or in a file that may
be larger than memory. Its optimiser state lies where it lies.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Optional, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dglke_distill.base.disk import preallocate, writing

CODED = (torch.bfloat16, torch.float16)
"""Dtypes in which a table is only stored: its rows are decoded to float32 to be used."""


_SHARED_MEMORY = Path("/dev/shm")


class Place:
    """This process's own memory; subclasses know others."""

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a new tensor of zeros that lies here."""
        return torch.zeros(tuple(shape), dtype=dtype)


class SharedTables(Place):
    """Memory that processes share: a tensor that is sent to another one is not copied."""

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a new tensor of zeros that lies here."""
        # Untouched pages take no memory, so that only the shared copy does.
        with writing(_SHARED_MEMORY):
            return torch.empty(tuple(shape), dtype=dtype).share_memory_().zero_()


class FileTables(Place):
    """Files of a folder, mapped and shared: of them memory holds what was touched last, if it fits.

    They take their room on disk when they are made: without it no run begins.
    The files have no name any more once they are mapped, and vanish with the last process that
    maps them, however it ends.

    Args:
        folder: where; it is made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a new tensor of zeros that lies here."""
        count = math.prod(shape)
        if count == 0:
            return torch.zeros(tuple(shape), dtype=dtype)
        size = count * torch.empty((), dtype=dtype).element_size()
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        name = self.folder / f".table-{os.getpid()}-{os.urandom(6).hex()}"
        descriptor = os.open(name, flags, 0o600)
        os.unlink(name)
        try:
            preallocate(descriptor, size, self.folder)
            # What torch itself does with a descriptor that another process has sent it.
            storage = cast(Any, torch.UntypedStorage)._new_shared_fd_cpu(descriptor, size)
        finally:
            os.close(descriptor)
        return torch.empty(0, dtype=dtype).set_(storage).view(tuple(shape))


_place: ContextVar[Place] = ContextVar("place", default=Place())  # noqa: B039 (it has no state)


@contextmanager
def tables_in(place: Place) -> Iterator[None]:
    """Let the tables that are made inside lie in a place."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def new_table(rows: int, floats: int, dtype: torch.dtype) -> nn.Parameter:
    """Return a table of zeros (rows, floats) in the place that ``tables_in`` has set."""
    place = _place.get()
    if torch.empty(0).device.type != "cpu":  # only sizes are asked for, or another device
        return nn.Parameter(torch.zeros(rows, floats, dtype=dtype))
    table = nn.Parameter(place.zeros((rows, floats), dtype))
    table.place = place  # type: ignore[attr-defined]
    return table


def place_of(parameter: Tensor) -> Optional[Place]:
    """Return where a parameter's state should lie; None: beside it, on its own device."""
    place: Optional[Place] = getattr(parameter, "place", None)
    return place if parameter.device.type == "cpu" else None


class _StashedCodes(torch.autograd.Function):
    """Decoded rows whose gradient is kept as (ids, gradient rows) in ``weight.row_gradients``."""

    @staticmethod
    def forward(ctx: Any, weight: nn.Parameter, ids: Tensor) -> Tensor:
        """Gather and decode."""
        ctx.weight, ctx.ids = weight, ids
        return weight.detach().index_select(0, ids).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Append to the stash."""
        weight = cast(Any, ctx.weight)
        if getattr(weight, "row_gradients", None) is None:
            weight.row_gradients = []
        weight.row_gradients.append((ctx.ids, grad))
        return None, None


def coded_rows(weight: nn.Parameter, ids: Tensor) -> Tensor:
    """Gather rows of a coded table (E, d) by ids (u,) int64 and decode them to (u, d) float32.

    Their float32 gradients are appended to ``weight.row_gradients`` for ``training.optim``,
    whatever ``row_sparse`` says.
    """
    if weight.requires_grad and torch.is_grad_enabled():
        result: Tensor = _StashedCodes.apply(weight, ids)
        return result
    return weight.detach().index_select(0, ids).float()


def round_at_random(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round float32 to a coded dtype, up or down with chances that keep the mean.

    A step smaller than half the distance of two codes would vanish if it was rounded to the
    nearest one; so it is taken in a fair share of the cases. (Gupta, Agrawal, Gopalakrishnan,
    Narayanan 2015, "Deep learning with limited numerical precision".) Values too large for the
    dtype become its largest. The draws are those of torch's global generator.

    Args:
        values: float32 of any shape, finite.
        dtype: bfloat16 or float16.
    """
    limit = torch.finfo(dtype).max
    values = values.clamp(-limit, limit)
    if dtype == torch.bfloat16:  # float32 without its last 16 bits, which are the chance to go up
        chance = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device)
        whole = (values.contiguous().view(torch.int32) + chance) >> 16
        return whole.to(torch.int16).view(dtype)
    near = values.to(dtype)
    error = values - near.float()
    # Neighbouring codes of one sign are neighbouring integers; sign and magnitude are apart.
    bits = near.view(torch.int16)
    away = torch.where(near.float() < 0, error < 0, error > 0) | (near == 0)
    other = torch.where(away, bits + 1, bits - 1)
    signed = torch.where(error < 0, torch.tensor(-32767, dtype=torch.int16), 1)
    other = torch.where(near == 0, signed, other).to(torch.int16).view(dtype)
    gap = (other.float() - near.float()).abs()
    move = torch.rand_like(values) * gap < error.abs()
    return torch.where(move, other, near)
