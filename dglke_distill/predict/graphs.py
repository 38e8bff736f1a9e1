"""Scores of the edges of DGL graphs, whose names or ids are the model's."""

from __future__ import annotations

from typing import Any, Optional, Union

import torch
from torch import Tensor

from dglke_distill.data.graph_lookup import typed_triple_ids
from dglke_distill.data.graph_names import EdgeType, NodeNames, RelationNames, is_typed
from dglke_distill.predict.part import Part


class ScoresGraphs(Part):
    """The part of a ``NamedModel`` that scores graphs: calling it."""

    def forward(
        self,
        graph: Any,
        *,
        node_names: Optional[NodeNames] = None,
        relation_names: Optional[RelationNames] = None,
        relation_key: Optional[str] = None,
    ) -> Union[Tensor, dict[EdgeType, Tensor]]:
        """Score the edges of a DGLGraph, differentiably, as answers to (head, relation, ?).

        Ids in ``edata["relation"]`` and ``ndata["entity"]`` are the model's own, as ``to_dgl``
        writes them. Without them, names decide which entities and relations a graph has: edge
        types of a heterograph are relations by their names, and nodes are called as
        ``kd.from_dgl`` calls them.

        Args:
            graph: homogeneous, or a heterograph.
            node_names: as for ``kd.from_dgl``.
            relation_names: as for ``kd.from_dgl``.
            relation_key: as for ``kd.from_dgl``.

        Returns:
            (edges,) scores in edge order; for a heterograph, these by canonical edge type.

        Raises:
            UserError: a name is unknown, or ids could be other than the model's.
            ValueError: as ``KGEModel.forward``.
        """
        named = (node_names, relation_names, relation_key) != (None, None, None)
        if not named and self._states_ids(graph):
            scores: Tensor = self.model(graph)
            return scores
        found = typed_triple_ids(
            graph,
            self.entities,
            self.relations,
            node_names=node_names,
            relation_names=relation_names,
            relation_key=relation_key,
        )
        ids = [torch.cat(column).to(self.model.device) for column in zip(*found.values())]
        parts = self.model.score_triples(*ids).split([len(head) for head, _, _ in found.values()])
        return dict(zip(found, parts)) if is_typed(graph) else parts[0]

    def _states_ids(self, graph: Any) -> bool:
        """Whether a graph goes by ids alone, not by names."""
        if is_typed(graph):  # of one type, such as (person, edge, person), it may hold many
            return (
                len(graph.ntypes) == len(graph.etypes) == 1
                and graph.etypes[0] not in self.relations
                and "relation" in graph.edata
            )
        return "relation" in graph.edata or "etype" not in graph.edata
