"""Product quantisation: each piece of a row is the nearest of a few learned pieces."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.compression.table import Rows, StoredTable
from dglke_distill.config.sections import MOST_SEED
from dglke_distill.models.pieces import CodedVectors, PieceOptions, equal_pieces, packed

SAMPLE = 1 << 16
"""Most rows that codebooks are learned from, evenly spaced; all rows are then coded."""


WHOLE_PIECES = {1: torch.float32, 2: torch.float64, 4: torch.complex128}
"""The number type as wide as a piece of so many floats."""


DECODED_AT_ONCE = 1 << 12
"""Rows whose places in the codebooks are held: few enough to reuse memory, which is fast."""


class PQOptions(PieceOptions):
    """Options of ``pq``."""

    iterations: int = Field(25, ge=1, le=100_000, description="most iterations of k-means")
    seed: int = Field(0, ge=0, le=MOST_SEED, description="seed of k-means")


class PQ(StoredTable):
    """A row is the concatenation of pieces out of codebooks.

    Jégou, Douze, Schmid 2011, "Product quantization for nearest neighbor search". The codebooks
    are the centres that k-means finds among the pieces of rows, of 65,536 at most.

    Attributes:
        codes: (rows, pieces) uint8; with 4 bits (rows, ceil(pieces / 2)), the even piece in the
            lower half of a byte.
        codebooks: (pieces, 2**bits, dim / pieces) float32.
    """

    Options = PQOptions

    def __init__(self, rows: int, dim: int, options: Any) -> None:
        """Allocate codes and codebooks.

        Raises:
            UserError: the pieces do not divide the row.
        """
        super().__init__(rows, dim, options)
        self.pieces = equal_pieces(dim, options.pieces, "pq")
        self.entries = 2**options.bits
        width = self.pieces if options.bits == 8 else -(-self.pieces // 2)
        self.register_buffer("codes", torch.zeros(rows, width, dtype=torch.uint8))
        shape = (self.pieces, self.entries, dim // self.pieces)
        self.register_buffer("codebooks", torch.zeros(shape))
        self.codes: Tensor
        self.codebooks: Tensor

    def fit(self, table: Tensor) -> None:
        """Learn the codebooks by k-means (scikit-learn) and take each piece's nearest entry."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        codebooks, codes = torch.zeros_like(self.codebooks), []
        step = -(-len(table) // SAMPLE)
        for piece, part in enumerate(table.cpu().chunk(self.pieces, dim=1)):
            sample = part[::step].contiguous()
            distinct = torch.unique(sample, dim=0)
            if len(distinct) <= self.entries:  # as of codebooks that were trained: nothing is lost
                whole, numbers = torch.unique(part, dim=0, return_inverse=True)
                if len(whole) <= self.entries:
                    codebooks[piece, : len(whole)] = whole
                    codes.append(numbers.to(torch.uint8))
                    continue
            means = KMeans(
                min(self.entries, len(distinct)),
                n_init=1,
                max_iter=self.options.iterations,
                random_state=self.options.seed,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                means.fit(sample.numpy())
            assigned = means.labels_ if step == 1 else means.predict(part.contiguous().numpy())
            centres = torch.from_numpy(means.cluster_centers_).to(codebooks.dtype)
            codebooks[piece, : len(centres)] = centres
            codes.append(torch.from_numpy(assigned).to(torch.uint8))
        self.codebooks = codebooks.to(table.device)
        self.codes = packed(torch.stack(codes, dim=1).to(table.device), self.options.bits)

    def take(self, coded: CodedVectors) -> bool:
        """Take codes and codebooks of as many pieces and entries as it has."""
        if coded.codebooks.shape != self.codebooks.shape:
            return False
        self.codes, self.codebooks = (part.clone() for part in coded)
        return True

    def coded(self) -> CodedVectors:
        """Return the codes and the codebooks."""
        return CodedVectors(self.codes, self.codebooks)

    def entry_numbers(self, rows: Rows) -> Tensor:
        """Return the numbers (n, pieces) uint8 of rows' entries in the codebooks."""
        codes = self.codes[rows]
        if self.options.bits == 4:
            codes = torch.stack([codes & 15, codes >> 4], dim=2).flatten(1)[:, : self.pieces]
        return codes

    def decode(self, rows: Rows) -> Tensor:
        """Return rows as float32 (n, dim)."""
        numbers = self.entry_numbers(rows)
        first = torch.arange(0, self.pieces * self.entries, self.entries, device=numbers.device)
        entries = self.codebooks.flatten(0, 1)
        whole = WHOLE_PIECES.get(entries.shape[1])
        if whole is not None:  # a piece is copied as one number, four times as fast
            entries = entries.view(whole).flatten()
        made = entries.new_empty(numbers.numel(), *entries.shape[1:])
        parts = zip(numbers.split(DECODED_AT_ONCE), made.split(DECODED_AT_ONCE * self.pieces))
        for part, place in parts:
            torch.index_select(entries, 0, (part + first.int()).flatten(), out=place)
        return made.view(torch.float32).view(len(numbers), self.dim)

    @property
    def bytes_per_row(self) -> int:
        """A byte or half a byte per piece."""
        return int(self.codes.shape[1])

    @property
    def shared_bytes(self) -> int:
        """The codebooks."""
        return self.codebooks.nbytes
