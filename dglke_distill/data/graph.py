"""Triples as a DGL graph, and the index of known answers.

The graph holds the train split only: what a model may learn from, and nothing that it is tested on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import numpy as np
import torch

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.data.graph_ids import relation_ids
from dglke_distill.data.known_answers import KnownAnswers, group_by_query, unique_queries
from dglke_distill.data.triples import Triples

if TYPE_CHECKING:
    import dgl

__all__ = [
    "KnownAnswers",
    "build_graph",
    "graph_triples",
    "group_by_query",
    "unique_queries",
]


def build_graph(
    triples: Triples,
    num_entities: int,
    *,
    inverse: bool = False,
    num_relations: Optional[int] = None,
) -> dgl.DGLGraph:
    """Build a homogeneous graph with one edge per triple and its relation on the edge.

    Args:
        triples: the train split.
        num_entities: number of nodes, whether or not they occur in ``triples``.
        inverse: append every edge reversed, with ``relation + num_relations``, so that messages
            pass both ways. Edge i is triple i; its inverse is edge ``i + len(triples)``.
        num_relations: number of relations; needed only when ``inverse`` is set and the last
            relations may not occur in ``triples``.

    Returns:
        A graph with int64 ids and ``edata["relation"]`` (int64).

    Raises:
        ValueError: a relation id reaches ``num_relations``.
    """
    dgl = load_dgl()
    head, relation, tail = (
        torch.from_numpy(column.astype(np.int64))
        for column in (triples.head, triples.relation, triples.tail)
    )
    largest = int(relation.max()) + 1 if len(relation) else 0
    if num_relations is None:
        num_relations = largest
    elif largest > num_relations:
        raise ValueError(f"a relation id is not below num_relations={num_relations}")
    if inverse:
        head, tail = torch.cat([head, tail]), torch.cat([tail, head])
        relation = torch.cat([relation, relation + num_relations])
    graph = dgl.graph((head, tail), num_nodes=num_entities, idtype=torch.int64)
    graph.edata["relation"] = relation
    return graph


def graph_triples(graph: dgl.DGLGraph, num_relations: Optional[int] = None) -> Triples:
    """Return the triples of a graph in edge order, the reverse of :func:`build_graph`.

    Args:
        graph: a graph with ``edata["relation"]``.
        num_relations: leave out edges whose relation is this or more, which are the inverses
            that ``build_graph(..., inverse=True)`` appends; None keeps every edge.

    Raises:
        ValueError: the graph has no relation ids (see ``graph_ids.relation_ids``), or inverse
            edges are not the last ones.
    """
    relation = relation_ids(graph)
    head, tail = graph.edges(order="eid")
    count = len(relation)
    if num_relations is not None:
        count = int((relation < num_relations).sum())
        if bool((relation[:count] >= num_relations).any()):
            raise ValueError("inverse edges must come after all the others")
    return Triples(*(c[:count].cpu().numpy().astype(np.int32) for c in (head, relation, tail)))
