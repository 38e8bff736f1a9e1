"""Tables of signs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.compression.table import Rows, StoredTable


class Binary(StoredTable):
    """x ≈ scale * sign(x), the scale of a row being the mean of its magnitudes.

    That scale is the least-squares one (Rastegari, Ordonez, Redmon, Farhadi 2016, "XNOR-Net:
    ImageNet classification using binary convolutional neural networks", section 3.1).

    Attributes:
        codes: (rows, ceil(dim / 8)) uint8, the sign of coordinate k in bit k mod 8 of byte k // 8.
        scale: (rows, 1) bfloat16.
    """

    def __init__(self, rows: int, dim: int, options: Any) -> None:
        """Allocate bits and scales."""
        super().__init__(rows, dim, options)
        self.register_buffer("codes", torch.zeros(rows, -(-dim // 8), dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(rows, 1, dtype=torch.bfloat16))
        self.codes: Tensor
        self.scale: Tensor

    def fit(self, table: Tensor) -> None:
        """Keep signs (that of 0 is +) and mean magnitudes."""
        self.scale = table.abs().mean(dim=1, keepdim=True).bfloat16()
        padding = 8 * self.codes.shape[1] - self.dim
        bits = torch.nn.functional.pad((table >= 0).to(torch.uint8), (0, padding))
        weights = 1 << torch.arange(8, dtype=torch.uint8, device=table.device)
        self.codes = (bits.unflatten(1, (-1, 8)) * weights).sum(dim=2, dtype=torch.uint8)

    def decode(self, rows: Rows) -> Tensor:
        """Return rows as float32 (n, dim)."""
        codes = self.codes[rows]
        places = torch.arange(8, dtype=torch.uint8, device=codes.device)
        bits = (codes[:, :, None] >> places) & 1
        signs = bits.flatten(1)[:, : self.dim].float() * 2 - 1
        return signs * self.scale[rows].float()

    @property
    def bytes_per_row(self) -> int:
        """A bit per float, and two bytes for the scale."""
        return int(self.codes.shape[1]) + 2
