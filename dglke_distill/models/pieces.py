"""Vectors that are cut into equal pieces, which shared codebooks hold."""

from __future__ import annotations

from typing import Literal, NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.config.sections import MOST_FLOATS


class PieceOptions(NoOptions):
    """Options of pieces and of their codebooks."""

    pieces: Optional[int] = Field(
        None,
        ge=1,
        le=MOST_FLOATS,
        description="pieces of a vector, equally long; None: two floats each",
    )
    bits: Literal[4, 8] = Field(8, description="bits per piece: 16 or 256 learned pieces")


class CodedVectors(NamedTuple):
    """Vectors as the pieces that codes name in codebooks.

    Attributes:
        codes: uint8, (n, pieces); of 16 entries (n, ceil(pieces / 2)), see ``packed``.
        codebooks: (pieces, 256 or 16 entries, dim / pieces) float32.
    """

    codes: Tensor
    codebooks: Tensor


def packed(codes: Tensor, bits: int) -> Tensor:
    """Return codes (n, pieces) uint8 as they are stored.

    Args:
        codes: the numbers of entries.
        bits: of a code; 4: two are put into a byte, that of the even piece into its lower half.
    """
    if bits == 8:
        return codes
    even, odd = codes[:, ::2], codes[:, 1::2]
    return even | (torch.nn.functional.pad(odd, (0, even.shape[1] - odd.shape[1])) << 4)


def equal_pieces(dim: int, pieces: Optional[int], where: str) -> int:
    """Return into how many pieces vectors are cut.

    Args:
        dim: floats of a vector.
        pieces: what was asked for; None: two floats each.
        where: the option, for the message.

    Raises:
        UserError: the pieces do not divide the vector; those that do are named.
    """
    pieces = pieces or max(1, dim // 2)
    if dim % pieces:
        fitting = [n for n in range(2, dim + 1) if dim % n == 0]
        near = sorted(sorted(fitting, key=lambda n: abs(n - pieces))[:4])
        raise UserError(
            f"{where}: {dim} floats do not make {pieces} equal pieces; set pieces to a divisor, "
            f"e.g. {' or '.join(map(str, near or [1]))}"
        )
    return pieces
