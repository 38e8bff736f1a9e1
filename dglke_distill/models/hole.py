"""HolE: circular correlation of head and tail."""

from __future__ import annotations

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.models.score_function import ScoreFunction


class HolE(ScoreFunction):
    """score(h, r, t) = sum_k r_k sum_i h_i t_((k + i) mod dim), with h, r, t of shape (dim,).

    Nickel, Rosasco, Poggio 2016, "Holographic embeddings of knowledge graphs". Summed over t first
    or h first, it is a dot product with the circular convolution of h and r, or with the circular
    correlation of r and t, both computed by fast Fourier transform in dim log dim steps.
    Tables start uniform in +-sqrt(6/dim).
    """

    kernel = "dot"

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return the convolution of r and h, or the correlation of r and t: (b, dim)."""
        spectrum = torch.fft.rfft(relation)
        if side == "head":
            spectrum = spectrum.conj()
        return torch.fft.irfft(spectrum * torch.fft.rfft(entity), n=self.dim)
