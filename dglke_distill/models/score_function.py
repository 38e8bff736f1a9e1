"""The score-function half of the model contract: write ``query``, inherit everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.capabilities import Declares
from dglke_distill.base.schema import BaseModel
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Side
from dglke_distill.kernels import KernelName, take_rows


class HiddenLayer(NamedTuple):
    """What a hidden layer of k units adds to queries of entities e: relu(e @ inner.T + b) @ outer.

    Attributes:
        inner: (k, dim).
        bias: (v, k), the b of v relations.
        outer: (k, d_q).
    """

    inner: Tensor
    bias: Tensor
    outer: Tensor

    def apply(self, entity: Tensor) -> Tensor:
        """Return what is added, (b, d_q), for entities (b, dim): v is b, or 1 for all of them."""
        return torch.relu(entity @ self.inner.T + self.bias) @ self.outer


class ScoreFunction(nn.Module, Declares):
    """How plausible a triple is, written as a comparison of a query with a candidate.

    A subclass sets ``kernel`` and writes ``query``; both sides of a triple must yield the same
    score. Everything about ids, sampling, chunks, devices and ranking is the base's.

    Args:
        dim: floats per entity.
        options: validated instance of the class's ``Options``.
    """

    name: ClassVar[str] = ""
    """The name that settings give it; by default the class's own."""
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
    affine: bool = True
    """Whether queries without their ``hidden_layer``, and candidates that relations move, are
    affine maps of the entity's vector with the relation fixed, and scores the kernel's own result:
    formats of tables need it. May be set per instance."""
    shortcuts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "query_rows": ("query",),
        "relation_query": ("query",),
        "relation_of": ("query",),
    }
    edge_product: ClassVar[bool] = False
    """Whether ``query`` is the elementwise product of entity and relation on both sides, so that
    DGL's kernels pass it along edges."""
    one_sided: bool = False
    """Whether a triple's score depends on the side that is asked, so that it takes reciprocal
    relations; may be set per instance."""

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

    def init_shared(self, scale: Optional[float], generator: torch.Generator) -> None:
        """Fill the parameters that all entities and relations share, if there are any, in place."""

    def entity_view(self, vectors: Tensor) -> Tensor:
        """Return entity vectors (u, dim) as scoring sees them, e.g. normalised; default: as is."""
        return vectors

    def relation_view(self, rows: Tensor) -> Tensor:
        """Return relation rows (v, relation_floats) as ``query`` sees them; default: as they are.

        Called once for the distinct relations of a batch.
        """
        return rows

    def known_view(self, entity: Tensor) -> Tensor:
        """Return the known entities (b, dim) of a batch as ``query`` sees them; default: as is."""
        return entity

    def query_view(self, query: Tensor) -> Tensor:
        """Return the queries (b, d_q) of a batch as candidates meet them; default: as they are."""
        return query

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

    def query_rows(self, entity: Tensor, rows: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return the queries of a batch whose relations are distinct rows and their numbers.

        Args:
            entity: (b, dim), the known entities.
            rows: (v, d_r), the distinct relations as ``relation_view`` returns them.
            relation: (b,) int64 rows of ``rows``.
            side: the side to be predicted.

        Returns:
            (b, d_q).
        """
        if not self.by_relation:
            return self.query(entity, take_rows(rows, relation), side)
        order = torch.argsort(relation, stable=True)
        counts = torch.bincount(relation, minlength=len(rows)).tolist()
        groups = take_rows(entity, order).split(counts)
        # One split, not a slice per relation: each slice's gradient is as large as the whole table.
        made = [self.query(group, row, side) for group, row in zip(groups, rows.split(1))]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return take_rows(torch.cat(made), back)

    def whole_query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return what candidates meet, of entities and relations as their tables hold them.

        Args:
            entity: (b, dim), entity vectors.
            relation: (b, relation_floats) rows, or (1, relation_floats) with ``by_relation``.
            side: the side to be predicted.

        Returns:
            (b, d_q).
        """
        known, row = self.known_view(entity), self.relation_view(relation)
        return self.query_view(self.query(known, row, side))

    def hidden_layer(self, rows: Tensor) -> Optional[HiddenLayer]:
        """Return the part of queries that is no affine map of the entity; None: there is none.

        Args:
            rows: (v, relation_floats), relations as their table holds them.
        """
        return None

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


def fill_normally(
    function: ScoreFunction, weight: Tensor, scale: Optional[float], generator: torch.Generator
) -> None:
    """Fill a table in place, normal with deviation ``scale``, 1e-3 by default."""
    weight.normal_(0.0, 1e-3 if scale is None else scale, generator=generator)
