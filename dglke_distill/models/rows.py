"""What passes between encoders, score functions and losses."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from torch import Tensor

from dglke_distill.data.triples import Side


class EntityRows(NamedTuple):
    """Encoded entities: vectors (u, dim) and biases (u, 1) or None.

    ``graph``: what a model without such vectors passes messages along, if a batch brought it.
    """

    vectors: Tensor
    bias: Optional[Tensor]
    graph: Any = None


class QueryVectors(NamedTuple):
    """Queries ready to meet candidates.

    ``vectors`` (b, d_q); ``relation_rows`` (v, d_r) of the distinct relations and ``relation``
    (b,) rows into them; ``side`` as the score function sees it.
    """

    vectors: Tensor
    relation_rows: Tensor
    relation: Tensor
    side: Side
