"""DistMult: a relation is a diagonal bilinear form."""

from __future__ import annotations

from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.models.score_function import ScoreFunction, fill_normally


class DistMult(ScoreFunction):
    """score(h, r, t) = sum_k h_k r_k t_k, with h, r, t of shape (dim,).

    Yang, Yih, He, Gao, Deng 2015, "Embedding entities and relations for learning and inference in
    knowledge bases". Tables start normal with deviation 1e-3, as in Lacroix et al. 2018's code.
    """

    kernel = "dot"
    edge_product = True

    init_entity = init_relation = fill_normally

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return h * r, or t * r: (b, dim)."""
        return entity * relation

    def relation_query(self, head: Tensor, tail: Tensor) -> Tensor:
        """Return h t, (b, dim)."""
        return head * tail

    def relation_of(self, form: Tensor) -> Tensor:
        """Return the diagonal."""
        return form.diagonal()
