"""What a hard-label loss is, and how costs of queries become one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Optional

from pydantic import BaseModel
from torch import Tensor

from dglke_distill.base.capabilities import Declares
from dglke_distill.base.errors import UserError
from dglke_distill.config.registry import NoOptions
from dglke_distill.kernels import Scores

__all__ = ["MODES", "Loss", "masked_mean", "total_weight", "weighted_mean"]

MODES = ("negatives", "one_vs_all", "k_vs_all")


class Loss(Declares):
    """Base of the losses; a subclass writes ``sampled``, ``over_all`` or both."""

    Options: ClassVar[type[BaseModel]] = NoOptions
    name: ClassVar[str] = ""
    modes: ClassVar[tuple[str, ...]] = MODES
    """The modes of training that it works in."""
    takes_products: ClassVar[bool] = False
    """Whether ``over_all`` is faster on products that are not multiplied out."""
    shortcuts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "takes_products": ("over_all",),
        "fused_kernel": ("over_all",),
        "per_triple": ("sampled",),
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

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        known: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
    ) -> Tensor:
        """Return the mean loss of sampled negatives.

        Args:
            positive: (b,) scores of the true triples.
            negative: (b, n) scores of their negatives.
            known: (b, n) bool, true where a negative is a known fact and must not count.
            weight: (b,) weights of the positives; the mean is weighted by them.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def over_all(
        self, scores: Scores, offsets: Tensor, answers: Tensor, weight: Optional[Tensor] = None
    ) -> Tensor:
        """Return the loss over all entities, per true triple.

        Args:
            scores: (b, E) scores of every entity for each query; may be overwritten. Only a loss
                that ``takes_products`` is given some that are not multiplied out.
            offsets: (b + 1,) int64; answers of query i are ``answers[offsets[i]:offsets[i + 1]]``.
            answers: (k,) int64 entity ids.
            weight: (b,) weights of the queries.

        Returns:
            A scalar: the weighted sum over the k true triples, divided by their total weight.
        """
        raise NotImplementedError

    def per_triple(
        self, positive: Tensor, negative: Tensor, known: Optional[Tensor]
    ) -> Optional[Tensor]:
        """Return what every triple adds to the loss of its query, or None if triples are compared.

        Args:
            positive: (b,) scores of the true triples.
            negative: (b, n) scores of their negatives.
            known: (b, n) bool, negatives that do not count, or None.

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


def weighted_mean(values: Tensor, weight: Optional[Tensor]) -> Tensor:
    """Return the mean of (b,) values, weighted if weights (b,) are given."""
    return values.mean() if weight is None else (values * weight).sum() / weight.sum()


def masked_mean(values: Tensor, known: Optional[Tensor]) -> Tensor:
    """Return the mean over the last axis of (b, n) values, entries marked in ``known`` left out."""
    if known is None:
        return values.mean(dim=-1)
    kept = (~known).to(values.dtype)
    return (values * kept).sum(dim=-1) / kept.sum(dim=-1).clamp(min=1)


def total_weight(offsets: Tensor, weight: Optional[Tensor]) -> Tensor:
    """Return the number of true triples behind (b + 1,) offsets, each with its query's weight."""
    counts = offsets[1:] - offsets[:-1]
    return counts.sum() if weight is None else (counts * weight).sum()
