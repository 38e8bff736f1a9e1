"""RotH: a relation rotates and moves entities in hyperbolic space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.base.schema import Field
from dglke_distill.data.triples import Side
from dglke_distill.kernels import KernelName
from dglke_distill.kernels.hyperbolic import point_of, tangent_of, time_of
from dglke_distill.models.complex_numbers import multiply
from dglke_distill.models.hidden import HiddenLayerOptions
from dglke_distill.models.rote import RotE

# Distance from the origin beyond which float32 no longer tells points apart well; the authors' code
# ends its ball at nearly the same, 6.2.
_FARTHEST = 6.0


class RotHOptions(HiddenLayerOptions):
    """Options of RotH."""

    curvature: float = Field(
        1.0, gt=0, le=1e9, description="of the space, its sign left out; near 0 the model is RotE"
    )


class RotH(RotE):
    """score(h, r, t) = -distance(move_r(h exp(i p_r)), t)^2 in a hyperbolic space of dim floats.

    Chami, Wolf, Juan, Sala, Ravi, Re 2020, "Low-dimensional hyperbolic knowledge graph
    embeddings", section 4.2; its biases are ``entity_bias``. Tables hold tangent vectors at the
    origin, (dim,), as there, in units of the space's radius and of length 6 at most; ``kernel``
    takes them for the points they lead to. Two things are not as there. The curvature c is an
    option, the same for all relations; the score is the kernel's, of curvature -1, divided by c.
    And a relation moves points by the isometry that takes the origin to its own point (the paper
    adds that point from the other side, h + m for m + h, and sums in hyperbolic space do not
    commute): only so do both sides of a triple give it the same score. Entities and moves start as
    those of RotE. What ``hidden`` units add, as in RotE, is added to the query's tangent vector,
    which is then of length 6 at most too.
    """

    Options = RotHOptions
    kernel: KernelName = "hyperbolic_squared"
    affine = False

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the floats make whole complex numbers, and scale distances."""
        super().__init__(dim, options)
        self.score_scale = 1.0 / options.curvature

    def entity_view(self, vectors: Tensor) -> Tensor:
        """Shorten tangent vectors (u, dim) that would lead too far."""
        return vectors * (_FARTHEST / vectors.norm(dim=-1, keepdim=True).clamp(min=_FARTHEST))

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Rotate and move the head to meet tails; move the tail back and rotate it: (b, dim)."""
        tangent, phase, bias = relation.split([self.dim, self.dim // 2, self.hidden], dim=-1)
        move, point = point_of(self.entity_view(tangent)), point_of(entity)
        if side == "head":
            point, phase = _moved(point, -move), -phase
        point = multiply(point, torch.cat([phase.cos(), phase.sin()], dim=-1))
        query = tangent_of(_moved(point, move) if side == "tail" else point)
        return self.entity_view(query + self.through(entity, bias)) if self.hidden else query


def _moved(points: Tensor, move: Tensor) -> Tensor:
    """Apply the boost, an isometry, that takes the origin to ``move``; both (b, dim)."""
    along = (points * move).sum(-1, keepdim=True) / (1.0 + time_of(move)) + time_of(points)
    return points + move * along
