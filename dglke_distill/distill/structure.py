"""Soft labels on the entities' vectors: lengths, angles and distances instead of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dglke_distill.base.schema import BaseModel, Field
from dglke_distill.config.registry import NoOptions

_SMALLEST = 1e-8


class Structure(nn.Module):
    """Base of the structure terms; a subclass writes ``forward``.

    Args:
        options: validated instance of the class's ``Options``.
        student: floats of the student's vectors.
        teacher: of the teacher's.
    """

    name = ""
    Options: type[BaseModel] = NoOptions

    def __init__(self, options: Any, student: int, teacher: int) -> None:
        """Keep the options."""
        super().__init__()
        self.options = options

    def forward(self, student: Tensor, teacher: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            student: (u, d) vectors.
            teacher: (u, D) of the same entities, without gradients.
            heads: (B,) rows of the true triples' heads.
            tails: (B,) of their tails.
        """
        raise NotImplementedError


class LengthAngle(Structure):
    """Huber losses on |h| / |t| and on cos(h, t) of true triples: DualDE's structure difference.

    Zhu, Zhang, Chen, Chen, Cheng, Zhang, Chen 2022, "DualDE: dually distilling knowledge graph
    embedding for faster and cheaper reasoning", section 3.2.
    """

    name = "length_angle"

    def forward(self, student: Tensor, teacher: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
        """See ``Structure.forward``."""
        return self.each(student, teacher, heads, tails).mean()

    def each(self, student: Tensor, teacher: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
        """Return the term of every triple, (B,)."""
        terms = []
        for vectors in (student, teacher):
            head, tail = vectors[heads], vectors[tails]
            ratio = head.norm(dim=1) / tail.norm(dim=1).clamp(min=_SMALLEST)
            terms.append((ratio, F.cosine_similarity(head, tail, dim=1, eps=_SMALLEST)))
        (ratio, angle), (its_ratio, its_angle) = terms
        lengths = F.huber_loss(ratio, its_ratio, reduction="none")
        return lengths + F.huber_loss(angle, its_angle, reduction="none")


class RelationalDistance(Structure):
    """Huber losses on normalised pairwise distances and on angles of triplets of entities.

    Park, Kim, Lu, Cho 2019, "Relational knowledge distillation", equations 5 and 7.
    """

    name = "relational"

    class Options(NoOptions):
        """Weights of both terms, and how many entities of a batch are compared."""

        distance: float = Field(1.0, ge=0, description="weight of distances")
        angle: float = Field(2.0, ge=0, description="weight of angles")
        entities: int = Field(128, ge=3, le=1 << 20, description="compared in a batch")

    def forward(self, student: Tensor, teacher: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
        """See ``Structure.forward``."""
        rows = torch.unique(torch.stack([heads, tails], dim=1).flatten()[: self.options.entities])
        ours, theirs = student[rows], teacher[rows]
        total = student.new_zeros(())
        if len(rows) < 2:  # a single loop: nothing to compare
            return total
        if self.options.distance:
            total = total + self.options.distance * F.huber_loss(
                _distances(ours), _distances(theirs)
            )
        if self.options.angle:
            total = total + self.options.angle * F.huber_loss(_angles(ours), _angles(theirs))
        return total


def _distances(vectors: Tensor) -> Tensor:
    """Return distances between all pairs of (m, d), divided by their mean: (m, m)."""
    squared = (vectors[:, None] - vectors[None]).square().sum(dim=-1)
    distances = squared.clamp(min=_SMALLEST).sqrt()
    apart = ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    return distances / distances[apart].mean().clamp(min=_SMALLEST)


def _angles(vectors: Tensor) -> Tensor:
    """Return the cosine at j of every triplet (i, j, k) of (m, d): (m, m, m), j first."""
    edges = F.normalize(vectors[None] - vectors[:, None], dim=-1, eps=_SMALLEST)
    return edges @ edges.mT


class FitNet(Structure):
    """Mean squared error between the teacher's vectors and a learned linear map of the student's.

    Romero, Ballas, Kahou, Chassang, Gatta, Bengio 2015, "FitNets: hints for thin deep nets",
    equation 3, with a linear regressor.
    """

    name = "fitnet"

    def __init__(self, options: Any, student: int, teacher: int) -> None:
        """Start the map at zero, so that its start depends on no seed."""
        super().__init__(options, student, teacher)
        self.projection = nn.Parameter(torch.zeros(student, teacher))

    def forward(self, student: Tensor, teacher: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
        """See ``Structure.forward``."""
        rows = torch.unique(torch.cat([heads, tails]))
        mapped = student[rows] @ self.projection.to(student.dtype)
        return F.mse_loss(mapped, teacher[rows])


STRUCTURES: Mapping[str, type[Structure]] = {
    kind.name: kind for kind in (LengthAngle, RelationalDistance, FitNet)
}
