"""DGL's edge sampler with relations: negatives that know their relation and their positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.sampling.base import NegativeSampler

if TYPE_CHECKING:
    from dgl import DGLGraph

_dgl = load_dgl()
_Sampler: Any = _dgl.dataloading.Sampler
_EdgePredictionSampler: Any = _dgl.dataloading.base.EdgePredictionSampler


class NoNeighbors(_Sampler):  # type: ignore[misc]
    """The node sampler of models that look entities up: it draws no neighbours, and no blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.output_device = None

    def sample(
        self, g: DGLGraph, seed_nodes: Tensor, exclude_eids: Optional[Tensor] = None
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """Return the nodes (n,) as inputs and outputs, and no blocks."""
        return seed_nodes, seed_nodes, []


class RelationSampler(_EdgePredictionSampler):  # type: ignore[misc]
    """``dgl.dataloading.as_edge_prediction_sampler`` for graphs of relations.

    A loader yields what it yields with DGL's own sampler: input nodes, the graph of the positives,
    the graph of the negatives, and blocks. Beside that:

    - the negative graph's ``edata["relation"]`` is the relation of its positive, and
      ``edata["positive"]`` that positive's place among the edges of the positive graph, so that
      ``positive_scores[negative_graph.edata["positive"]]`` stands beside the negative scores.
      Filtered draws may leave pairs out; what is left says whose it is.
    - ``ndata["entity"]`` of both graphs holds entity ids, so that ``model(graph)`` scores either.

    Args:
        negative_sampler: one of ours (``sampling.negatives.build_sampler``).
        sampler: DGL's node sampler, for encoders that need blocks. None: no blocks.
        exclude: as for ``as_edge_prediction_sampler``.
        reverse_eids: as for ``as_edge_prediction_sampler``.

    Raises:
        UserError: the negative sampler is none of ours, whose pairs do not say whose they are.
    """

    def __init__(
        self,
        negative_sampler: NegativeSampler,
        sampler: Optional[Any] = None,
        *,
        exclude: Any = None,
        reverse_eids: Optional[Tensor] = None,
    ) -> None:
        if not isinstance(negative_sampler, NegativeSampler):
            raise UserError(
                f"the negative sampler is a {type(negative_sampler).__name__}, whose pairs do not "
                "say which positive they belong to: take one of "
                "dglke_distill.sampling.negatives.build_sampler"
            )
        super().__init__(
            NoNeighbors() if sampler is None else sampler,
            exclude=exclude,
            reverse_eids=reverse_eids,
            negative_sampler=negative_sampler,
        )

    def sample(self, g: DGLGraph, seed_edges: Tensor) -> tuple[Any, DGLGraph, DGLGraph, list[Any]]:
        """Return input nodes, positive graph, negative graph and blocks of a batch.

        Args:
            g: the train graph, with ``edata["relation"]``.
            seed_edges: (b,) ids of edges.

        Raises:
            UserError: edges are given by type: the graph must be homogeneous.
            ValueError: the graph states no relation ids.
        """
        if isinstance(seed_edges, Mapping):
            raise UserError(
                "edges are given by type: make one graph of the heterograph by "
                "kd.to_dgl(kd.from_dgl(graph)), whose edata says the relations"
            )
        pairs = self.negative_sampler.draw_pairs(g, seed_edges)
        positive = g.edge_subgraph(
            seed_edges, relabel_nodes=False, output_device=self.output_device
        )
        eids = positive.edata[_dgl.EID]
        count = {g.ntypes[0]: g.num_nodes()}
        negative = _dgl.heterograph({g.canonical_etypes[0]: (pairs.source, pairs.target)}, count)
        positive, negative = _dgl.compact_graphs([positive, negative])
        positive.edata[_dgl.EID] = eids
        # By values, not by columns that are gathered later: the graphs go through processes.
        positive.edata["relation"] = g.edata["relation"][seed_edges.long()].to(positive.device)
        negative.edata["positive"] = pairs.positive
        negative.edata["relation"] = positive.edata["relation"][pairs.positive]
        nodes = positive.ndata[_dgl.NID]
        entity = g.ndata["entity"][nodes.long()] if "entity" in g.ndata else nodes
        positive.ndata["entity"] = negative.ndata["entity"] = entity
        excluded = _dgl.dataloading.base.find_exclude_eids(
            g, seed_edges, self.exclude, self.reverse_eids, None, self.output_device
        )
        inputs, _, blocks = self.sampler.sample(g, nodes, excluded)
        return inputs, positive, negative, blocks
