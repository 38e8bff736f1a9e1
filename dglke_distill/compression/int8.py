"""Tables of bytes and scales."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.compression.table import Rows, StoredTable
from dglke_distill.config.registry import NoOptions

LEVELS = 127


class Int8Options(NoOptions):
    """Options of ``int8``."""

    scale: Literal["row", "column"] = Field(
        "row", description="a scale for each row (2 bytes each), or for each column (shared)"
    )
    affine: bool = Field(
        False, description="levels from the least to the greatest value, not around 0"
    )


class Int8(StoredTable):
    """x ≈ scale * code, or offset + scale * code, with whole codes from -127 to 127.

    The scale is the smallest bfloat16 with which the greatest magnitude (affine: half the range)
    is at most 127 levels, so that the error is at most half a scale.

    Attributes:
        codes: (rows, dim) int8.
        scale: (rows, 1) or (1, dim) bfloat16.
        offset: as ``scale``; only if affine.
    """

    Options = Int8Options
    relations = "int8"

    def __init__(self, rows: int, dim: int, options: Any) -> None:
        """Allocate codes and scales."""
        super().__init__(rows, dim, options)
        shape = (rows, 1) if options.scale == "row" else (1, dim)
        self.register_buffer("codes", torch.zeros(rows, dim, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(shape, dtype=torch.bfloat16))
        self.codes: Tensor
        self.scale: Tensor
        if options.affine:
            self.register_buffer("offset", torch.zeros(shape, dtype=torch.bfloat16))
            self.offset: Tensor

    def fit(self, table: Tensor) -> None:
        """Round to the nearest level."""
        axis = 1 if self.options.scale == "row" else 0
        if self.options.affine:
            low, high = table.amin(axis, keepdim=True), table.amax(axis, keepdim=True)
            self.offset = ((low + high) / 2).bfloat16()
            table = table - self.offset.float()
        self.scale = bfloat16_above(table.abs().amax(axis, keepdim=True) / LEVELS)
        step = self.scale.float()
        codes = torch.where(step > 0, table / step, 0.0).round()
        self.codes = codes.clamp(-LEVELS, LEVELS).to(torch.int8)

    def decode(self, rows: Rows) -> Tensor:
        """Return rows as float32 (n, dim)."""
        per_row = self.options.scale == "row"
        vectors = self.codes[rows].float() * (self.scale[rows] if per_row else self.scale).float()
        if self.options.affine:
            vectors += (self.offset[rows] if per_row else self.offset).float()
        return vectors

    @property
    def bytes_per_row(self) -> int:
        """A byte per float; with scales of rows, two for each scale and each offset."""
        own = 2 * (1 + self.options.affine) if self.options.scale == "row" else 0
        return self.dim + own

    @property
    def shared_bytes(self) -> int:
        """Scales and offsets of columns."""
        shared = self.options.scale == "column"
        return 2 * self.dim * (1 + self.options.affine) if shared else 0


def bfloat16_above(values: Tensor) -> Tensor:
    """Return the smallest bfloat16 numbers that are not below the float32 ``values`` (≥ 0)."""
    near = values.bfloat16()
    following = (near.view(torch.int16) + 1).view(torch.bfloat16)
    return torch.where(near.float() < values, following, near)
