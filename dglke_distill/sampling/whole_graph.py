"""The whole train graph for each batch, without the batch's own facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.data.graph_ids import relation_ids

if TYPE_CHECKING:
    from dgl import DGLGraph


class WholeGraph:
    """Stands where ``NeighborBlocks`` does, for encoders that pass messages along every edge.

    Args:
        graph: train graph with inverse edges, ``build_graph(triples, n, inverse=True)``.

    Raises:
        ValueError: the graph has no relation ids or an odd number of edges.
    """

    def __init__(self, graph: DGLGraph) -> None:
        """Number the facts, equal ones alike."""
        self._relation = relation_ids(graph)
        if graph.num_edges() % 2:
            raise ValueError("build the graph with build_graph(..., inverse=True)")
        self._source, self._target = graph.edges(order="eid")
        self._nodes, self._half = int(graph.num_nodes()), graph.num_edges() // 2
        columns = (each[: self._half] for each in (self._source, self._relation, self._target))
        self._fact = torch.unique(torch.stack(list(columns)), dim=1, return_inverse=True)[1]

    def sample(
        self, nodes: Tensor, exclude_edges: Optional[Tensor] = None, *, seed_key: int = 0
    ) -> list[DGLGraph]:
        """Return the graph that a batch may look at.

        Args:
            nodes: not looked at: messages reach every entity.
            exclude_edges: int64 (B,), edges below ``num_edges / 2``: they, equal facts and the
                inverses of both are left out. None: nothing is.
            seed_key: not used: nothing is drawn.

        Returns:
            One graph of all entities, with ``edata["relation"]``.
        """
        keep = torch.ones(2 * self._half, dtype=torch.bool)
        if exclude_edges is not None:
            banned = torch.zeros(self._half, dtype=torch.bool)
            banned[self._fact[exclude_edges]] = True  # facts have numbers below their count
            keep = ~banned[self._fact].repeat(2)
        graph = load_dgl().graph(
            (self._source[keep], self._target[keep]), num_nodes=self._nodes, idtype=torch.int64
        )
        graph.edata["relation"] = self._relation[keep]
        return [graph]
