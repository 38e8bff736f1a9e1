"""The other Kullback-Leibler divergence: the student's distribution from its teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from dglke_distill.config.registry import NoOptions
from dglke_distill.distill.soft import SoftLoss


class ReverseKL(SoftLoss):
    """T^2 KL(softmax(student / T) || softmax(teacher / T)) over the candidates.

    It seeks a mode of the teacher's, where the ordinary one covers them all (Gu, Dong, Wei, Huang
    2023, "MiniLLM").
    """

    name = "reverse_kl"
    default_scale = "calibrate"

    class Options(NoOptions):
        """The ``temperature`` T that softens both distributions."""

        temperature: float = Field(1.0, gt=0)

    def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the divergence of each query, (b,)."""
        temperature = self.options.temperature
        ours = F.log_softmax(student / temperature, dim=-1)
        theirs = F.log_softmax(teacher / temperature, dim=-1)
        return (ours.exp() * (ours - theirs)).sum(dim=-1) * temperature**2
