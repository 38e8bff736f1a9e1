"""Steps of Bellman and Ford's algorithm with learned messages, on DGL's own sparse kernels.

A step takes the states of entities, for several queries at once, along edges. No message is ever
held: sums, maxima and minima over incoming edges are one fused sparse product each.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from dglke_distill.base.dgl_import import load_dgl

Aggregation = Literal["sum", "mean", "pna"]
"""How messages that meet are joined."""

_SCALES = 3
_STATISTICS = 4
_LEAST_SCALE = 1e-2
_LEAST_VARIANCE = 1e-6


def fill(weight: Tensor, inputs: int, generator: torch.Generator) -> None:
    """Fill a weight uniformly within 1 / sqrt(inputs), in place."""
    bound = inputs**-0.5
    weight.uniform_(-bound, bound, generator=generator)


def usual_messages(graph: Any, dtype: torch.dtype) -> Tensor:
    """Return the mean over a graph's nodes of the logarithm of 1 + in-degree, and at least .01."""
    return graph.in_degrees().to(dtype).log1p().mean().clamp(min=_LEAST_SCALE)


class BellmanFordLayer(nn.Module):
    """One step: out_v = x_v + relu(norm([x_v; join of messages into v] W + b)).

    A message along (u, r, v) is x_u * w_r, elementwise; every entity also receives its start
    vector, which is 0 for all but the known one. w_r is a vector per layer, or, with ``by_query``,
    w_r(q) = q W_r + w_r. Zhu, Zhang, Xhonneux, Tang 2021, "Neural Bellman-Ford networks: a general
    graph neural network framework for link prediction", equations 3 to 5, with the indicator as
    boundary and the message of DistMult. ``pna`` joins by mean, maximum, minimum and standard
    deviation, each as it is, times and over the logarithm of the number of messages, relative to
    its mean in the graph (Corso, Cavalleri, Beaini, Lio, Velickovic 2020, "Principal neighbourhood
    aggregation for graph nets").

    Args:
        dim: floats of a state.
        kinds: edge kinds: relations and their inverses.
        aggregation: how messages are joined.
        by_query: whether an edge's vector depends on the query.
        dtype: of the weights.
    """

    def __init__(
        self, dim: int, kinds: int, aggregation: Aggregation, by_query: bool, dtype: torch.dtype
    ) -> None:
        """Allocate the weights; ``reset`` fills them."""
        super().__init__()
        self.aggregation = aggregation
        joined = dim * (1 + (_SCALES * _STATISTICS if aggregation == "pna" else 1))
        self.relation = nn.Parameter(torch.zeros(kinds, dim, dtype=dtype))
        self.of_query = (
            nn.Parameter(torch.zeros(kinds, dim, dim, dtype=dtype)) if by_query else None
        )
        self.join = nn.Parameter(torch.zeros(joined, dim, dtype=dtype))
        self.shift = nn.Parameter(torch.zeros(dim, dtype=dtype))
        self.norm_scale = nn.Parameter(torch.ones(dim, dtype=dtype))
        self.norm_shift = nn.Parameter(torch.zeros(dim, dtype=dtype))

    def reset(self, generator: torch.Generator) -> None:
        """Fill the weights: edges' vectors near 1 in size, products that keep their input's."""
        self.relation.normal_(generator=generator)
        if self.of_query is not None:
            fill(self.of_query, self.of_query.shape[1], generator)
            fill(self.relation, self.relation.shape[1], generator)
        fill(self.join, len(self.join), generator)
        self.shift.zero_()
        self.norm_scale.fill_(1.0)
        self.norm_shift.zero_()

    def edge_vectors(self, query: Tensor) -> Tensor:
        """Return what edges of each kind multiply states by: (kinds, b, dim), or (kinds, 1, dim).

        Args:
            query: (b, dim), the vectors of what is asked.
        """
        table = self.relation[:, None, :]
        if self.of_query is None:
            return table
        return torch.einsum("bi,kij->kbj", query, self.of_query) + table

    def forward(
        self,
        graph: Any,
        states: Tensor,
        own: Tensor,
        start: Tensor,
        edges: Tensor,
        usual: Tensor,
    ) -> Tensor:
        """Take one step.

        Args:
            graph: s sources and n destinations, and e edges.
            states: (s, ..., dim) of the sources.
            own: (n, ..., dim), the destinations' states before.
            start: (n, ..., dim), what each destination receives beside its messages.
            edges: (e, ..., dim), what each edge multiplies by.
            usual: what ``usual_messages`` returned.

        Returns:
            (n, ..., dim).
        """
        received = self._joined(graph, states, edges, start, usual)
        made = torch.cat([own, received], dim=-1) @ self.join + self.shift
        made = layer_norm(made, (made.shape[-1],), self.norm_scale, self.norm_shift)
        return made.relu() + own

    def _joined(
        self, graph: Any, states: Tensor, edges: Tensor, start: Tensor, usual: Tensor
    ) -> Tensor:
        """Join the messages into each node with its start vector: (n, ..., dim or 12 dim)."""
        ops = load_dgl().ops
        none = not graph.num_edges()  # DGL's kernels want at least one
        total = start if none else ops.u_mul_e_sum(graph, states, edges) + start
        if self.aggregation == "sum":
            return total
        degree = graph.in_degrees().to(states.dtype).view(-1, *[1] * (states.dim() - 1))
        mean = total / (degree + 1)
        if self.aggregation == "mean":
            return mean
        squares, highest, lowest = start.square(), start, start
        if not none:
            squares = ops.u_mul_e_sum(graph, states.square(), edges.square()) + squares
            met = degree > 0  # DGL says 0 where nothing arrives
            found = ops.u_mul_e_max(graph, states, edges)
            highest = torch.where(met, torch.maximum(found, start), start)
            found = ops.u_mul_e_min(graph, states, edges)
            lowest = torch.where(met, torch.minimum(found, start), start)
        variance = squares / (degree + 1) - mean.square()
        deviation = variance.clamp(min=_LEAST_VARIANCE).sqrt()
        joined = torch.cat([mean, highest, lowest, deviation], dim=-1)
        scale = (degree + 1).log() / usual
        return torch.cat([joined, joined * scale, joined / scale.clamp(min=_LEAST_SCALE)], dim=-1)
