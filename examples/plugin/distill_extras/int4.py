"""Tables of four bits a float: 16 levels between the least and the greatest float of a row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.compression.table import Rows, StoredTable

LEVELS = 15


class Int4(StoredTable):
    """Rows as four-bit levels, two a byte, with a least value and a step of half precision."""

    def __init__(self, rows: int, dim: int, options: Any) -> None:
        """Allocate the codes."""
        super().__init__(rows, dim, options)
        self.register_buffer("codes", torch.zeros(rows, (dim + 1) // 2, dtype=torch.uint8))
        self.register_buffer("least", torch.zeros(rows, 1, dtype=torch.float16))
        self.register_buffer("step", torch.zeros(rows, 1, dtype=torch.float16))

    def fit(self, table: Tensor) -> None:
        """Store a table (rows, dim) at its nearest levels."""
        least, greatest = table.amin(1, keepdim=True), table.amax(1, keepdim=True)
        self.least, self.step = least.half(), ((greatest - least) / LEVELS).half()
        step = self.step.float().clamp(min=torch.finfo(torch.float16).tiny)
        codes = ((table - self.least.float()) / step).round().clamp(0, LEVELS).to(torch.uint8)
        if self.dim % 2:
            codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
        self.codes = codes[:, ::2] | codes[:, 1::2] << 4

    def decode(self, rows: Rows) -> Tensor:
        """Return rows as float32 (n, dim)."""
        pairs = self.codes[rows]
        codes = torch.stack([pairs & LEVELS, pairs >> 4], dim=-1).flatten(-2)[..., : self.dim]
        return codes.float() * self.step[rows].float() + self.least[rows].float()

    @property
    def bytes_per_row(self) -> int:
        """Return half a byte for each float, and the two numbers of the row."""
        return (self.dim + 1) // 2 + 4
