"""What a way to store a table must do."""

from __future__ import annotations

from typing import Any, ClassVar, Optional, Union

import torch
from torch import Tensor, nn

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel
from dglke_distill.config.registry import NoOptions
from dglke_distill.models.pieces import CodedVectors

Rows = Union[slice, Tensor]
"""Consecutive rows, or rows by their numbers (n,) int64."""


class StoredTable(nn.Module):
    """A table of floats kept in fewer bytes; rows come back as float32.

    A subclass registers its codes as buffers of known shapes, any content of which is a table, and
    writes ``fit``, ``decode``, ``bytes_per_row`` and, where rows share something, ``shared_bytes``.

    Args:
        rows: number of rows.
        dim: floats per row.
        options: validated ``Options`` of the class.
    """

    Options: ClassVar[type[BaseModel]] = NoOptions
    relations: ClassVar[str] = "float16"
    """Kind that stores the relations of a model whose entities are stored by this one."""

    def __init__(self, rows: int, dim: int, options: Any) -> None:
        """Remember the sizes; a subclass registers its buffers."""
        super().__init__()
        self.rows, self.dim, self.options = rows, dim, options

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows

    def fit(self, table: Tensor) -> None:
        """Store a table (rows, dim) float32."""
        raise NotImplementedError

    def take(self, coded: CodedVectors) -> bool:
        """Take rows that are coded already; returns whether it has, which most cannot."""
        return False

    def coded(self) -> Optional[CodedVectors]:
        """Return the codes and codebooks that rows are put together from; None: it has none."""
        return None

    def decode(self, rows: Rows) -> Tensor:
        """Return rows as float32 (n, dim); only these are decoded."""
        raise NotImplementedError

    @property
    def bytes_per_row(self) -> int:
        """Bytes kept for each row, its scales counted."""
        raise NotImplementedError

    @property
    def shared_bytes(self) -> int:
        """Bytes kept once for all rows, such as codebooks."""
        return 0


class FloatTable(StoredTable):
    """Rows as floats of another width.

    Attributes:
        weight: (rows, dim).
    """

    dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(self, rows: int, dim: int, options: Any) -> None:
        """Allocate the table."""
        super().__init__(rows, dim, options)
        self.register_buffer("weight", torch.zeros(rows, dim, dtype=self.dtype))
        self.weight: Tensor

    def fit(self, table: Tensor) -> None:
        """Round the floats.

        Raises:
            UserError: one of them is too large for the width.
        """
        self.weight = table.to(self.dtype)
        if not torch.isfinite(self.weight).all():
            largest = f"{torch.finfo(self.dtype).max:g}"
            raise UserError(f"a weight is beyond {largest}, the greatest number of this storage")

    def decode(self, rows: Rows) -> Tensor:
        """Return rows as float32 (n, dim)."""
        return self.weight[rows].float()

    @property
    def bytes_per_row(self) -> int:
        """Bytes of the floats."""
        return self.dim * self.weight.element_size()


class Float32(FloatTable):
    """Rows as they are."""

    relations = "float32"


class Float16(FloatTable):
    """Rows as IEEE half floats: 11 significant bits, magnitudes from 6e-8 to 65,504."""

    dtype = torch.float16
