"""RESCAL: a relation is a whole bilinear form."""

from __future__ import annotations

from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.models.score_function import ScoreFunction

__all__ = ["RESCAL"]


class RESCAL(ScoreFunction):
    """score(h, r, t) = h^T M_r t, with h, t of shape (dim,) and M_r of shape (dim, dim).

    Nickel, Tresp, Kriegel 2011, "A three-way model for collective learning on multi-relational
    data". A relation has dim * dim floats, row by row. Tables start uniform in +-sqrt(6/dim).
    """

    kernel = "dot"
    by_relation = True

    @property
    def relation_floats(self) -> int:
        """A matrix per relation."""
        return self.dim * self.dim

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return M^T h to meet tails, M t to meet heads: (b, dim), one matrix for all of them."""
        matrix = relation.view(self.dim, self.dim)
        return entity @ (matrix if side == "tail" else matrix.T)

    def relation_of(self, form: Tensor) -> Tensor:
        """Return the form itself, row by row."""
        return form.flatten()
