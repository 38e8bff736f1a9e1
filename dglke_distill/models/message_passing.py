"""Layers that pass messages along typed edges, on whole DGL graphs and on message-flow blocks.

No layer has a bias and each keeps the scale of its input, so an entity table that starts at the
scale its score function likes is encoded at that scale.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.dgl_import import load_dgl


def correlate(left: Tensor, right: Tensor) -> Tensor:
    """Circular correlation over the last axis: out_k = sum_i left_i right_((k + i) mod d)."""
    spectrum = torch.fft.rfft(left).conj() * torch.fft.rfft(right)
    return torch.fft.irfft(spectrum, n=left.shape[-1])


COMPOSITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "subtract": torch.sub,
    "multiply": torch.mul,
    "correlate": correlate,
}


class RelationalLayer(nn.Module):
    """What both layers share: the mean over incoming edges, and relation vectors per layer."""

    def relation_table(self, previous: Optional[Tensor]) -> Tensor:
        """Return this layer's vector of each relation, given the layer before's (None: first)."""
        raise NotImplementedError

    def reset(self, generator: torch.Generator) -> None:
        """Fill the layer's own weights."""
        raise NotImplementedError

    def forward(self, graph: Any, vectors: Tensor, relations: Tensor) -> Tensor:
        """Pass messages once.

        Args:
            graph: a homogeneous graph or a block with ``edata["relation"]`` (edges,) int64; the
                destinations of a block are the first of its sources.
            vectors: (sources, dim).
            relations: what ``relation_table`` returned.

        Returns:
            (destinations, dim).
        """
        raise NotImplementedError


def _mean_weight(graph: Any, dtype: torch.dtype) -> Tensor:
    """Return 1 / in-degree of each destination, (destinations, 1), and 1 where there is no edge."""
    return graph.in_degrees().clamp(min=1).to(dtype).reciprocal()[:, None]


def _fill(weight: Tensor, generator: torch.Generator) -> None:
    """Fill matrices (..., rows, columns) uniformly such that a product keeps its input's scale."""
    bound = (3.0 / weight.shape[-2]) ** 0.5
    weight.uniform_(-bound, bound, generator=generator)


class BasisLayer(RelationalLayer):
    """R-GCN with basis decomposition.

    out_v = h_v W_self + sum_{(u, r) into v} h_u W_r / |edges into v|, W_r = sum_b a_rb V_b, with
    h (dim,), W and V (dim, dim), a (relations, bases). Schlichtkrull, Kipf, Bloem, van den Berg,
    Titov, Welling 2018, "Modeling relational data with graph convolutional networks", equations 2
    and 3; the mean over all edges is the normalisation that the paper uses for link prediction.

    The sums over edges are taken before the products with V, one fused sparse product for all
    bases, so no message of an edge is ever held in memory.
    """

    def __init__(self, dim: int, num_relations: int, bases: int, dtype: torch.dtype) -> None:
        """Allocate the weights; ``num_relations`` counts inverse relations too."""
        super().__init__()
        self.basis = nn.Parameter(torch.zeros(bases, dim, dim, dtype=dtype))
        self.coefficient = nn.Parameter(torch.zeros(num_relations, bases, dtype=dtype))
        self.self_loop = nn.Parameter(torch.zeros(dim, dim, dtype=dtype))

    def relation_table(self, previous: Optional[Tensor]) -> Tensor:
        """Return the coefficients, (relations, bases)."""
        return self.coefficient

    def reset(self, generator: torch.Generator) -> None:
        """Fill matrices uniformly and coefficients such that W_r has a basis matrix's scale."""
        _fill(self.basis, generator)
        _fill(self.self_loop, generator)
        self.coefficient.normal_(0.0, len(self.basis) ** -0.5, generator=generator)

    def forward(self, graph: Any, vectors: Tensor, relations: Tensor) -> Tensor:
        """Pass messages once: (sources, dim) to (destinations, dim)."""
        fn = load_dgl().function
        with graph.local_scope():
            graph.srcdata["vector"] = vectors[:, None, :]
            graph.edata["share"] = relations[graph.edata["relation"]][:, :, None]
            graph.update_all(fn.u_mul_e("vector", "share", "message"), fn.sum("message", "total"))
            total = graph.dstdata["total"]
        mean = total.flatten(1) * _mean_weight(graph, vectors.dtype)
        own = vectors[: graph.num_dst_nodes()] @ self.self_loop
        return own + mean @ self.basis.flatten(0, 1)


class CompositionLayer(RelationalLayer):
    """CompGCN.

    out_v = c(h_v, s) W_self + sum_{(u, r) into v} c(h_u, z_r) W_direction(r) / |edges into v|,
    with h, z, s (dim,), W (dim, dim), one W for the dataset's relations and one for their inverses;
    c(h, z) is h - z, h * z or their circular correlation. The next layer's z is z W_relation.
    Vashishth, Sanyal, Nitin, Talukdar 2020, "Composition-based multi-relational graph convolutional
    networks". The mean over edges takes the place of its code's symmetric normalisation, which
    needs degrees that a sampled neighbourhood does not show.
    """

    def __init__(
        self, dim: int, num_relations: int, composition: str, first: bool, dtype: torch.dtype
    ) -> None:
        """Allocate the weights; ``num_relations`` counts inverse relations too."""
        super().__init__()
        self.composition = composition
        self.compose = COMPOSITIONS[composition]
        self.num_forward = num_relations // 2
        rows = num_relations if first else dim
        self.first = first
        self.relation = nn.Parameter(torch.zeros(rows, dim, dtype=dtype))
        self.self_relation = nn.Parameter(torch.zeros(1, dim, dtype=dtype))
        self.direction = nn.Parameter(torch.zeros(2, dim, dim, dtype=dtype))
        self.self_loop = nn.Parameter(torch.zeros(dim, dim, dtype=dtype))

    def relation_table(self, previous: Optional[Tensor]) -> Tensor:
        """Return z, (relations, dim): a table in the first layer, else transformed from it."""
        return self.relation if previous is None else previous @ self.relation

    def reset(self, generator: torch.Generator) -> None:
        """Fill matrices uniformly and relation vectors so that composing keeps the scale."""
        _fill(self.direction, generator)
        _fill(self.self_loop, generator)
        dim = self.self_relation.shape[1]
        deviation = {"subtract": 1e-3, "multiply": 1.0, "correlate": dim**-0.5}[self.composition]
        self.self_relation.normal_(0.0, deviation, generator=generator)
        if self.first:
            self.relation.normal_(0.0, deviation, generator=generator)
        else:
            _fill(self.relation, generator)

    def forward(self, graph: Any, vectors: Tensor, relations: Tensor) -> Tensor:
        """Pass messages once: (sources, dim) to (destinations, dim)."""
        fn = load_dgl().function

        def compose(edges: Any) -> dict[str, Tensor]:
            return {
                "composed": self.compose(edges.src["vector"], relations[edges.data["relation"]])
            }

        own = self.compose(vectors[: graph.num_dst_nodes()], self.self_relation) @ self.self_loop
        if not graph.num_edges():  # isolated entities; a Fourier transform of nothing is an error
            return own
        weight = _mean_weight(graph, vectors.dtype)
        inverse = (graph.edata["relation"] >= self.num_forward).to(vectors.dtype)[:, None]
        with graph.local_scope():
            graph.srcdata["vector"] = vectors
            graph.apply_edges(compose)
            composed = graph.edata["composed"]
            # Not fn.copy_e: in single precision DGL sums that by libxsmm, which stops at blocks
            # that were made without edge ids.
            graph.srcdata["one"] = vectors.new_ones(len(vectors), 1)
            for direction, share in enumerate((1.0 - inverse, inverse)):
                graph.edata["message"] = composed * share
                graph.update_all(
                    fn.u_mul_e("one", "message", "message"), fn.sum("message", "total")
                )
                own = own + (graph.dstdata["total"] * weight) @ self.direction[direction]
        return own
