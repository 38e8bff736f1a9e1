"""Which entities and relations the nodes and edges of a DGLGraph stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl

if TYPE_CHECKING:
    import dgl


def triple_ids(
    graph: dgl.DGLGraph, num_entities: int, num_relations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return head, relation and tail ids (edges,) int64 of a graph's edges.

    Entity ids are read from ``graph.ndata["entity"]`` or ``graph.ndata[dgl.NID]`` if present, else
    node ids are entity ids. In a subgraph of a subgraph DGL's ids are those of the larger
    subgraph: put entity ids in ``graph.ndata["entity"]`` before it is taken. Relation ids are read
    from ``graph.edata["relation"]`` alone.

    Args:
        graph: any homogeneous graph.
        num_entities: entity ids are below.
        num_relations: relation ids are below.

    Raises:
        ValueError: the edges carry no relation ids (see ``relation_ids``), node ids restart with
            each node type (``dgl.to_homogeneous`` of a graph with several), so that they are no
            entity ids, or an id is out of range.
    """
    import torch

    dgl = load_dgl()
    relation = relation_ids(graph).long()
    head, tail = (ids.long() for ids in graph.edges())
    _check(relation, num_relations, 'relation ids in edata["relation"]')
    ids = next((graph.ndata[k] for k in ("entity", dgl.NID) if k in graph.ndata), None)
    if "entity" not in graph.ndata and dgl.NID in graph.ndata and dgl.NTYPE in graph.ndata:
        if len(torch.unique(graph.ndata[dgl.NTYPE])) > 1:
            raise ValueError('nodes of several types: put entity ids in ndata["entity"]')
    if ids is None:
        if graph.num_nodes() != num_entities:
            raise ValueError(
                f"the graph has {graph.num_nodes()} nodes, the model {num_entities} entities: put "
                'entity ids in ndata["entity"], or where node ids are entity ids build the graph '
                f"with num_nodes={num_entities}"
            )
        return head, relation, tail
    _check(ids, num_entities, "entity ids of the nodes")
    return ids.long()[head], relation, ids.long()[tail]


def relation_ids(graph: dgl.DGLGraph) -> Tensor:
    """Return a graph's own statement of its relations, ``edata["relation"]``, (edges,) integers.

    Nothing else is taken for it: ``dgl.to_homogeneous`` numbers the types of a heterograph in
    DGL's order, which is not that of a dataset's or a model's relations.

    Raises:
        ValueError: the graph is a heterograph or a block, or states no relation ids.
    """
    dgl = load_dgl()
    fix = (
        'set graph.edata["relation"] to the relation ids of the dataset, which are the positions '
        "of their names in dataset.relations (model.relations of a loaded model)"
    )
    if graph.is_block or len(graph.ntypes) > 1 or len(graph.canonical_etypes) > 1:
        kind = "block" if graph.is_block else "heterograph"
        raise ValueError(
            f"the graph is a {kind}, whose ids are those of its types: make one graph of it by "
            f'dgl.to_homogeneous, put entity ids in graph.ndata["entity"], and {fix}'
        )
    if "relation" in graph.edata:
        relation: Tensor = graph.edata["relation"]
        if relation.dim() != 1 or relation.is_floating_point() or relation.is_complex():
            raise ValueError(
                f'graph.edata["relation"] is {relation.dtype} of shape {tuple(relation.shape)}: '
                "one integer per edge is needed"
            )
        return relation
    if dgl.ETYPE in graph.edata:
        raise ValueError(
            "the graph has DGL's edge types (dgl.ETYPE), which DGL numbered in its own order, and "
            f"no relation ids: {fix}"
        )
    raise ValueError(f"the graph has no relation ids: {fix}")


def _check(ids: Tensor, count: int, what: str) -> None:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise ValueError(
            f"{what} go from {int(ids.min())} to {int(ids.max())}, the model's from 0 to "
            f"{count - 1}"
        )
