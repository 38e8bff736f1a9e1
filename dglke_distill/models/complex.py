"""ComplEx: a complex diagonal bilinear form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.models.complex_numbers import conjugate, multiply, require_even, squared_moduli
from dglke_distill.models.score_function import ScoreFunction, fill_normally


class ComplEx(ScoreFunction):
    """score(h, r, t) = Re(sum_k h_k r_k conj(t_k)), with h, r, t of dim/2 complex numbers.

    Trouillon, Welbl, Riedel, Gaussier, Bouchard 2016, "Complex embeddings for simple link
    prediction". As Re(a conj(b)) is a dot product of floats, the query is h r, or conj(r) t.
    Tables start normal with deviation 1e-3, as in Lacroix, Usunier, Obozinski 2018's code (kbc).
    """

    kernel = "dot"
    parts = 2

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the floats make whole complex numbers."""
        require_even(dim, "ComplEx", "complex numbers of two floats each")
        super().__init__(dim, options)

    init_entity = init_relation = fill_normally

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return h r to meet tails, conj(r) t to meet heads: (b, dim)."""
        return multiply(entity, relation if side == "tail" else conjugate(relation))

    def relation_query(self, head: Tensor, tail: Tensor) -> Tensor:
        """Return conj(h) t: Re(h r conj(t)) is its dot product with r; (b, dim)."""
        return multiply(conjugate(head), tail)

    def relation_of(self, form: Tensor) -> Tensor:
        """Return the mean of the blocks' diagonals that share a real or an imaginary part."""
        half = self.dim // 2
        real = form[:half, :half].diagonal() + form[half:, half:].diagonal()
        imaginary = form[:half, half:].diagonal() - form[half:, :half].diagonal()
        return torch.cat([real, imaginary]) / 2

    def squared_magnitudes(self, vectors: Tensor) -> Tensor:
        """Return the squared moduli, (u, dim/2)."""
        return squared_moduli(vectors)
