"""Soft-label losses: how far a student's scores are from its teacher's, candidate by candidate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Optional

import torch.nn.functional as F
from torch import Tensor

from dglke_distill.base.capabilities import Declares
from dglke_distill.base.schema import Field
from dglke_distill.config import SoftLabelConfig, components
from dglke_distill.config.registry import Component, NoOptions, Registry
from dglke_distill.training.scored import weighted_mean


class SoftLoss(Component, Declares):
    """Base of the soft losses; a subclass writes ``rows``."""

    default_scale: ClassVar[str] = "none"
    """How scores of a teacher of another kind are made comparable when the setting is auto."""
    of_distributions: ClassVar[bool] = False
    """Whether softmaxes are compared: scores are then logits, as the hard loss reads them."""
    keepable: ClassVar[bool] = False
    """Whether a teacher's scores may be kept in half precision, as differences from the best."""
    fused_kernel: ClassVar[Optional[str]] = None
    """Kernel that works the loss over all entities out together with a hard loss that names it too:
    ``softmax`` takes the ``temperature`` of the options."""
    shortcuts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "keepable": ("rows", "__call__"),
        "fused_kernel": ("rows", "__call__"),
        "per_candidate": ("rows", "__call__"),
    }

    def __call__(self, student: Tensor, teacher: Tensor, weight: Optional[Tensor] = None) -> Tensor:
        """Return the loss, averaged over queries with their weights.

        Args:
            student: (b, n) scores, differentiated.
            teacher: (b, n), of the same candidates.
            weight: (b,) or None.
        """
        return weighted_mean(self.rows(student, teacher), weight)

    def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of each query, (b,)."""
        raise NotImplementedError

    def per_candidate(self, student: Tensor, teacher: Tensor) -> Optional[Tensor]:
        """Return what every candidate costs by itself, (b, n), or None if they are compared."""
        return None


class Huber(SoftLoss):
    """Huber loss between scores, as in IterDE and DualDE.

    0.5 (s - t)^2 where |s - t| <= delta, else delta (|s - t| - delta / 2) (Huber 1964).
    """

    name = "huber"
    default_scale = "standardize"

    class Options(NoOptions):
        """``delta``, and whether candidates are averaged or summed."""

        delta: float = Field(1.0, gt=0, description="where the loss becomes linear")
        reduction: Literal["mean", "sum"] = Field("mean", description="over the candidates")

    def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See ``SoftLoss.rows``."""
        each = self._each(student, teacher)
        return each.sum(dim=-1) if self.options.reduction == "sum" else each.mean(dim=-1)

    def per_candidate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See ``SoftLoss.per_candidate``."""
        return self._each(student, teacher)

    def _each(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.huber_loss(student, teacher, reduction="none", delta=self.options.delta)


class KullbackLeibler(SoftLoss):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) over the candidates.

    Hinton, Vinyals, Dean 2015, "Distilling the knowledge in a neural network", section 2.
    """

    name = "kl"
    default_scale = "calibrate"
    of_distributions = keepable = True
    fused_kernel = "softmax"

    class Options(NoOptions):
        """The ``temperature`` T that softens both distributions."""

        temperature: float = Field(1.0, gt=0, description="T, that softens both distributions")

    def rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See ``SoftLoss.rows``."""
        temperature = self.options.temperature
        ours = F.log_softmax(student / temperature, dim=-1)
        theirs = F.log_softmax(teacher / temperature, dim=-1)
        each = F.kl_div(ours, theirs, reduction="none", log_target=True)
        return each.sum(dim=-1) * temperature**2


SOFT_LOSSES: Registry[type[SoftLoss]] = components.SOFT_LOSSES


def build_soft_loss(config: SoftLabelConfig) -> SoftLoss:
    """Build the soft loss that the configuration names.

    Raises:
        UserError: unknown name or option.
    """
    made: SoftLoss = SOFT_LOSSES.build(config.name, config.options)
    return made
