"""RESCAL: a relation is a whole bilinear form, which a hidden layer may be added to."""

from __future__ import annotations

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.kernels import take_rows
from dglke_distill.models.hidden import WithHiddenLayer


class RESCAL(WithHiddenLayer):
    """score(h, r, t) = h^T M_r t, with h, t of shape (dim,) and M_r of shape (dim, dim).

    Nickel, Tresp, Kriegel 2011, "A three-way model for collective learning on multi-relational
    data". A relation has dim * dim floats, row by row. Tables start uniform in +-sqrt(6/dim).

    With ``hidden`` = k units score(h, r, t) = (h^T M_r + relu(W h + b_r)^T V) t, as
    ``WithHiddenLayer`` has it.
    """

    kernel = "dot"
    by_relation = True

    @property
    def published_floats(self) -> int:
        """A matrix per relation."""
        return self.dim * self.dim

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return M^T h to meet tails, M t to meet heads: (b, dim), one matrix for all of them."""
        form, bias = relation.view(-1), None
        if form.numel() > self.dim * self.dim:
            form, bias = form.split((self.dim * self.dim, self.hidden))
        matrix = form.view(self.dim, self.dim)
        query = entity @ (matrix if side == "tail" else matrix.T)
        return query if bias is None else query + self.through(entity, bias)

    def query_rows(self, entity: Tensor, rows: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Pass all queries through the hidden layer at once; as ``ScoreFunction.query_rows``."""
        if not self.hidden:
            return super().query_rows(entity, rows, relation, side)
        forms, biases = rows.split((self.dim * self.dim, self.hidden), 1)
        met = super().query_rows(entity, forms.contiguous(), relation, side)
        return met + self.through(entity, take_rows(biases.contiguous(), relation))

    def relation_of(self, form: Tensor) -> Tensor:
        """Return the form itself, row by row, and biases of zero."""
        return torch.cat([form.flatten(), form.new_zeros(self.hidden)])
