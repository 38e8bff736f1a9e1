"""The score-function half of the model contract: write ``query``, inherit everything else."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from dglke_distill.data.triples import Side
from dglke_distill.models.kernels import KernelName

__all__ = ["NoOptions", "ScoreFunction"]


class NoOptions(BaseModel):
    """The options of a score function that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreFunction(nn.Module):
    """How plausible a triple is, written as a comparison of a query with a candidate.

    A subclass sets ``kernel`` and writes ``query``; both sides of a triple must yield the same
    score. Everything about ids, sampling, chunks, devices and ranking is the base's.

    Args:
        dim: floats per entity.
        options: validated instance of the class's ``Options``.
    """

    Options: ClassVar[type[BaseModel]] = NoOptions
    kernel: KernelName
    """A name of ``kernels.pairwise``; may be set per instance from the options."""
    score_scale: float = 1.0
    """What scores are the kernel's result times; positive, may be set per instance."""
    by_relation: ClassVar[bool] = False
    """Whether ``query`` and ``candidate`` are called once per distinct relation, with a relation
    row of shape (1, d_r) (for score functions whose relation is a whole matrix)."""
    parts: ClassVar[int] = 1
    """How many halves of equal length make up an entity: 2 for complex numbers and two roles."""
    transforms_candidates: ClassVar[bool] = False
    """Whether the candidate vector depends on the relation; then ``candidate`` is called."""

    def __init__(self, dim: int, options: BaseModel) -> None:
        """Remember the size and the options."""
        super().__init__()
        self.dim = dim
        self.options: Any = options

    @property
    def relation_floats(self) -> int:
        """Floats per relation; by default as many as an entity has."""
        return self.dim

    def init_entity(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the entity table (n, dim) in place; ``scale`` None means the model's own default."""
        bound = (6.0 / self.dim) ** 0.5 if scale is None else scale
        weight.uniform_(-bound, bound, generator=generator)

    def init_relation(
        self, weight: Tensor, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the relation table (n, relation_floats) in place."""
        bound = (6.0 / self.dim) ** 0.5 if scale is None else scale
        weight.uniform_(-bound, bound, generator=generator)

    def entity_view(self, vectors: Tensor) -> Tensor:
        """Return entity vectors (u, dim) as scoring sees them, e.g. normalised; default: as is."""
        return vectors

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Combine the known entity with the relation.

        Args:
            entity: (b, dim), the known entity of each triple.
            relation: (b, relation_floats), or (1, relation_floats) with ``by_relation``.
            side: the side to be predicted.

        Returns:
            (b, d_q), to be compared with candidates by ``kernel``.
        """
        raise NotImplementedError

    def candidate(self, vectors: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Transform candidates by their relation; only with ``transforms_candidates``.

        Args:
            vectors: (p, n, dim); p is 1 with ``by_relation``.
            relation: (p, relation_floats).
            side: the side to be predicted.

        Returns:
            (p, n, d_q).
        """
        raise NotImplementedError

    def relation_query(self, head: Tensor, tail: Tensor) -> Tensor:
        """Return what a relation meets by dot product to give the score, if the score allows it.

        Only for scores that are linear in the relation; the default says that this one is not.

        Args:
            head: (b, dim).
            tail: (b, dim).

        Returns:
            (b, relation_floats), whose dot product with a relation row is the triple's score.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot predict relations")

    def relation_of(self, form: Tensor) -> Optional[Tensor]:
        """Return the relation whose bilinear form is nearest to one given, if the score is one.

        Args:
            form: (dim, dim), the matrix M of a score h M t.

        Returns:
            (relation_floats,), nearest in squared error; None where scores are not bilinear or the
            nearest relation is not worked out, which is the default.
        """
        return None

    def squared_magnitudes(self, vectors: Tensor) -> Tensor:
        """Return squared magnitudes of coordinates, shape (u, coordinates), for regularisers.

        Complex models return the squared moduli, half as many as floats.
        """
        return vectors.square()
