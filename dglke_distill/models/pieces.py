"""Into what equal pieces vectors are cut, where shared codebooks hold the pieces."""

from __future__ import annotations

from typing import Literal, Optional

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
