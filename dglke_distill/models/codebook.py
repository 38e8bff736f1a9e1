"""Entity vectors put together from a few shared pieces, which are what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn

from dglke_distill.config.components import STORAGES
from dglke_distill.models.encoders import Encoder
from dglke_distill.models.pieces import CodedVectors, PieceOptions, equal_pieces, packed
from dglke_distill.models.score_function import ScoreFunction


class CodebookEncoder(Encoder):
    """A vector is the concatenation of pieces out of codebooks (product quantisation).

    Which entry an entity has of each codebook is fixed before training: those nearest to the
    vectors that the training starts from (``train --init``), or, of entities without one, drawn at
    random (Shi, Mudigere, Naumov, Yang 2020, "Compositional embeddings using complementary
    partitions for memory-efficient recommendation systems"). The codebooks are trained as those of
    Chen, Li, Sun 2020, "Differentiable product quantization for end-to-end embedding compression",
    but for the codes, which stay. ``compress --to pq`` with as many pieces changes nothing then.

    Args:
        num_entities: rows.
        dim: floats per entity.
        options: validated ``PieceOptions``, which mean what they do in ``compress --to pq``.
        dtype: of the codebooks.

    Attributes:
        codes: (num_entities, pieces) uint8.
        codebooks: (pieces, 2**bits, dim / pieces).
    """

    Options = PieceOptions
    takes_vectors = wants_vectors = True

    def __init__(
        self, num_entities: int, dim: int, options: PieceOptions, dtype: torch.dtype
    ) -> None:
        """Allocate codes and codebooks.

        Raises:
            UserError: the pieces do not divide the vector.
        """
        super().__init__()
        self.num_entities, self.dim, self.options = num_entities, dim, options
        pieces = equal_pieces(dim, options.pieces, "model.encoder_options.pieces")
        self.register_buffer("codes", torch.zeros(num_entities, pieces, dtype=torch.uint8))
        self.codes: Tensor
        shape = (pieces, 2**options.bits, dim // pieces)
        self.codebooks = nn.Parameter(torch.zeros(shape, dtype=dtype))

    @classmethod
    def build(
        cls, num_entities: int, num_relations: int, dim: int, options: Any, dtype: torch.dtype
    ) -> CodebookEncoder:
        """Build from the sizes of a dataset and validated options."""
        return cls(num_entities, dim, options, dtype)

    @property
    def bytes_per_entity(self) -> int:
        """A byte per piece, as codes are kept while the codebooks are trained."""
        return int(self.codes.shape[1])

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Draw codes, and codebooks from vectors as the score function likes them."""
        pieces, entries, _ = self.codebooks.shape
        with torch.no_grad():
            self.codes.random_(0, entries, generator=generator)
            drawn = self.codebooks.new_zeros(entries, self.dim)
            score_function.init_entity(drawn, scale, generator)
            self.codebooks.copy_(drawn.view(entries, pieces, -1).transpose(0, 1))

    def take_vectors(self, vectors: Tensor, entities: Tensor) -> None:
        """Learn the codebooks from vectors (n, dim) of entities (n,) and take the nearest entries.

        Args:
            vectors: float32 or float64.
            entities: ids, int64.
        """
        options = {"pieces": len(self.codebooks), "bits": self.options.bits}
        table = STORAGES.build("pq", options, len(vectors), self.dim, where="options of pq")
        table.fit(vectors.detach().float())
        with torch.no_grad():
            self.codebooks.copy_(table.codebooks)
            self.codes[entities.to(self.codes.device)] = table.entry_numbers(slice(None)).to(
                self.codes.device
            )

    def coded(self) -> CodedVectors:
        """Return the codes, as they are stored, and the codebooks."""
        codebooks = self.codebooks.detach().float()
        return CodedVectors(packed(self.codes, self.options.bits), codebooks)

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) of entity ids (u,) int64, or of all entities in id order."""
        codes = self.codes if nodes is None else self.codes[nodes]
        pieces, entries, width = self.codebooks.shape
        first = torch.arange(0, pieces * entries, entries, device=codes.device)
        rows = self.codebooks.view(pieces * entries, width)
        return nn.functional.embedding(codes + first, rows).view(len(codes), self.dim)
