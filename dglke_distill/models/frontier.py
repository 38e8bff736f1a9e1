"""The best entities of each query, and the edges that leave them.

Entity v of query i of b is row v b + i.
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_rows(scores: Tensor, limit: int) -> Tensor:
    """Return the flat rows of the ``limit`` best entities of each query, without those at -inf.

    Args:
        scores: (n, b).
        limit: entities per query.
    """
    found = scores.topk(min(limit, len(scores)), dim=0)
    rows = found.indices * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
    return rows[found.values > -torch.inf].sort().values


def edges_of(
    chosen: Tensor, outgoing: tuple[Tensor, ...], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the edges out of rows: sources as places in ``chosen``, target rows and edge ids.

    Args:
        chosen: (c,) rows.
        outgoing: the graph's CSR form: offsets, targets, edge ids.
        count: queries.

    Returns:
        (e,) int64 each.
    """
    offsets, targets, ids = outgoing
    node = chosen // count
    sizes = offsets[node + 1] - offsets[node]
    source = torch.arange(len(chosen), device=chosen.device).repeat_interleave(sizes)
    begins = offsets[node] - (sizes.cumsum(0) - sizes)
    place = begins[source] + torch.arange(len(source), device=chosen.device)
    return source, targets[place] * count + (chosen % count)[source], ids[place]
