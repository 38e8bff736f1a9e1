"""What a hard-label loss is, and how costs of queries become one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Optional

from torch import Tensor

from dglke_distill.base.capabilities import Declares
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel
from dglke_distill.config.registry import NoOptions
from dglke_distill.training.scored import ScoredBatch

MODES = ("negatives", "one_vs_all", "k_vs_all")


class Loss(Declares):
    """Base of the losses; a subclass writes ``__call__``, one function of the scores."""

    Options: ClassVar[type[BaseModel]] = NoOptions
    name: ClassVar[str] = ""
    modes: ClassVar[tuple[str, ...]] = MODES
    """The modes of training that it works in."""
    takes_products: ClassVar[bool] = False
    """Whether it is faster on products that are not multiplied out."""
    shortcuts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "takes_products": ("__call__",),
        "fused_kernel": ("__call__",),
        "per_triple": ("__call__",),
    }

    def __init__(self, options: Any) -> None:
        """Keep the validated options."""
        self.options = options

    @property
    def scale(self) -> float:
        """What scores are multiplied by where the loss reads them as logits of a distribution."""
        return 1.0

    @property
    def margin(self) -> float:
        """What makes a score the logit of its triple, added; 0 where triples are only compared."""
        return 0.0

    @property
    def fused_kernel(self) -> Optional[str]:
        """Kernel that works the loss over all entities out together with a soft loss that names it.

        It is given the scores times ``scale``; see ``DistillationObjective``.
        """
        return None

    def __call__(self, batch: ScoredBatch) -> Tensor:
        """Return the mean loss per true triple, a scalar.

        Args:
            batch: the scores; where the mode is not ``negatives``, those of all entities.
        """
        raise NotImplementedError

    def per_triple(self, batch: ScoredBatch) -> Optional[Tensor]:
        """Return what every triple adds to the loss of its query, or None if triples are compared.

        Args:
            batch: scores of sampled candidates.

        Returns:
            (b, 1 + n), the true triple's first; a row's sum is the loss of its query.
        """
        return None

    def check_mode(self, mode: str) -> None:
        """Refuse a mode of training that the loss does not work in.

        Raises:
            UserError: it is one.
        """
        if mode not in self.modes:
            raise UserError(
                f"loss.name {self.name!r} cannot train with training.mode {mode}: set "
                f"training.mode to {' or '.join(self.modes)}, or choose softmax or bce"
            )


def masked_mean(values: Tensor, known: Optional[Tensor]) -> Tensor:
    """Return the mean over the last axis of (b, n) values, entries marked in ``known`` left out."""
    if known is None:
        return values.mean(dim=-1)
    kept = (~known).to(values.dtype)
    return (values * kept).sum(dim=-1) / kept.sum(dim=-1).clamp(min=1)
