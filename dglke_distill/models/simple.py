"""SimplE: two roles per entity, two vectors per relation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dglke_distill.data.triples import Side
from dglke_distill.models.complex_numbers import require_even
from dglke_distill.models.score_function import ScoreFunction, fill_normally


class SimplE(ScoreFunction):
    """score(h, r, t) = (<h_as_head, r, t_as_tail> + <t_as_head, r_inverse, h_as_tail>) / 2.

    <a, b, c> = sum_k a_k b_k c_k. An entity (dim,) is its vector as head followed by its vector as
    tail, a relation (dim,) is r followed by r_inverse; each part has dim/2 floats. Kazemi, Poole
    2018, "SimplE embedding for link prediction in knowledge graphs". Tables start normal with
    deviation 1e-3, as in Lacroix et al. 2018's code.
    """

    kernel = "dot"
    parts = 2

    def __init__(self, dim: int, options: Any) -> None:
        """Check that the floats make two roles."""
        require_even(dim, "SimplE", "two vectors of equal size, as head and as tail")
        super().__init__(dim, options)

    init_entity = init_relation = fill_normally

    def query(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Return what meets a candidate's [as head, as tail]: (b, dim)."""
        as_head, as_tail = entity.chunk(2, dim=-1)
        forward, inverse = relation.chunk(2, dim=-1)
        if side == "tail":
            return torch.cat([inverse * as_tail, forward * as_head], dim=-1) / 2
        return torch.cat([forward * as_tail, inverse * as_head], dim=-1) / 2
