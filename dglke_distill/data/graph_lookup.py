"""Ids of a model for the nodes and edges of a DGLGraph, looked up by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.data.graph_names import (
    EdgeType,
    NodeNames,
    RelationNames,
    default_names,
    is_typed,
    named_numbers,
    names_by_type,
    number_key,
    relation_name_of,
    whole_numbers,
    with_types,
)
from dglke_distill.data.triples import Vocabulary

if TYPE_CHECKING:
    import dgl


def typed_triple_ids(
    graph: dgl.DGLGraph,
    entities: Vocabulary,
    relations: Vocabulary,
    *,
    node_names: Optional[NodeNames] = None,
    relation_names: Optional[RelationNames] = None,
    relation_key: Optional[str] = None,
) -> dict[EdgeType, tuple[Tensor, Tensor, Tensor]]:
    """Return head, relation and tail ids (edges,) int64 of each edge type, found by names.

    Args:
        graph: homogeneous, with numbered relations, or a heterograph, whose edge types are called
            as relations are.
        entities: names that a model knows; position is id.
        relations: as ``entities``.
        node_names: see ``NodeNames``. None: ``ndata["entity"]`` holds the model's ids, or the
            names are those of ``default_names``.
        relation_names: see ``RelationNames``. None: edge types as they are called; numbers of a
            homogeneous graph are names.
        relation_key: the key of ``edata`` that numbers relations; ``relation``, else ``etype``.

    Raises:
        UserError: a name is unknown, or could be another one's.
    """
    import torch

    names = names_by_type(graph, node_names)
    nodes = {t: _entity_ids(graph, t, names[t], entities) for t in graph.ntypes}
    found: dict[EdgeType, tuple[Tensor, Tensor, Tensor]] = {}
    for edge_type in graph.canonical_etypes:
        head, tail = (ends.long() for ends in graph.edges(etype=edge_type))
        if is_typed(graph):
            relation = torch.full_like(
                head, _relation_id(graph, edge_type, relation_names, relations)
            )
        else:
            relation = _numbered(graph, relation_key, relation_names, relations)
        found[edge_type] = nodes[edge_type[0]][head], relation, nodes[edge_type[2]][tail]
    return found


def _entity_ids(
    graph: dgl.DGLGraph, node_type: str, names: Optional[list[str]], entities: Vocabulary
) -> Tensor:
    """Return the entity ids (nodes,) int64 of one type's nodes."""
    import torch

    dgl = load_dgl()
    frame = graph.nodes[node_type].data
    if names is None and "entity" in frame:
        ids = whole_numbers(frame["entity"], f'ndata["entity"] of {node_type!r}')
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(entities):
            raise UserError(
                f'ndata["entity"] of {node_type!r} goes from {int(ids.min())} to {int(ids.max())}, '
                f"the model's entities from 0 to {len(entities) - 1}"
            )
        return ids
    given = names is not None
    if not graph.num_nodes(node_type):
        return torch.zeros(0, dtype=torch.long, device=graph.device)
    if names is None:
        _refuse_guesses(graph, node_type, entities)
        names = default_names(graph, node_type)
    typed = with_types(node_type, names) if given or len(graph.ntypes) == 1 else names
    called = typed if all(name in entities for name in typed) else names
    absent = next((name for name in called if name not in entities), None)
    if absent is not None and not given:
        fix = (
            f'give node_names, or put the model\'s ids in graph.nodes[{node_type!r}].data["entity"]'
        )
        raise UserError(f"node {absent!r} of type {node_type!r} is no entity of the model: {fix}")
    if not given and dgl.NID not in frame:
        after = str(len(names)) if called is not typed else f"{node_type}:{len(names)}"
        if after in entities:
            raise UserError(
                f"the graph has {len(names)} nodes of type {node_type!r}, the model more (it knows "
                f"{after!r}): their numbers are no names; give node_names, or put the model's ids "
                f'in graph.nodes[{node_type!r}].data["entity"]'
            )
    return torch.tensor([entities.id(name) for name in called], dtype=torch.long).to(graph.device)


def _refuse_guesses(graph: dgl.DGLGraph, node_type: str, entities: Vocabulary) -> None:
    """Refuse numbers of nodes as names where they could be others'."""
    dgl = load_dgl()
    if entities.numeral is not None and len(graph.ntypes) == 1:
        raise UserError(
            f"entities of the model are called by numbers such as {entities.numeral!r}, which need "
            "not be the numbers of the graph's nodes: give node_names, or put the model's ids in "
            'graph.ndata["entity"]'
        )
    types = graph.nodes[node_type].data.get(dgl.NTYPE)
    if types is not None and len(types.unique()) > 1:
        raise UserError(
            "the graph is one that dgl.to_homogeneous made, whose node numbers are DGL's own: give "
            "the heterograph itself, or node_names, or put the model's ids in "
            'graph.ndata["entity"]'
        )


def _relation_id(
    graph: dgl.DGLGraph,
    edge_type: EdgeType,
    given: Optional[RelationNames],
    relations: Vocabulary,
) -> int:
    """Return the relation of an edge type; ids in ``edata["relation"]`` must not say another."""
    name = relation_name_of(edge_type, given)
    stated = graph.edges[edge_type].data.get("relation")
    shown = ", ".join(edge_type)
    try:
        found = relations.id(name)
    except UserError as error:
        raise UserError(
            f"edge type ({shown}): {error}; name it by relation_names, or leave it out by "
            "dgl.edge_type_subgraph"
        ) from None
    if stated is not None and bool((whole_numbers(stated, f"edata of ({shown})") != found).any()):
        raise UserError(
            f'edge type ({shown}) is relation {found} of the model, but its edata["relation"] says '
            "others: remove it, or correct the name by relation_names"
        )
    return found


def _numbered(
    graph: dgl.DGLGraph,
    key: Optional[str],
    given: Optional[RelationNames],
    relations: Vocabulary,
) -> Tensor:
    """Return the relation ids of a homogeneous graph's edges, by the names of its numbers."""
    import torch

    key, numbers = number_key(graph, key, given)
    distinct, places = torch.unique(numbers, return_inverse=True)
    if given is None:
        if relations.numeral is not None:
            raise UserError(
                f"relations of the model are called by numbers such as {relations.numeral!r}, "
                f"which need not be those of edata[{key!r}]: give relation_names"
            )
        names = [str(number) for number in distinct.tolist()]
        unknown = next((name for name in names if name not in relations), None)
        if unknown is not None:
            raise UserError(
                f"edata[{key!r}] has the number {unknown}, which is no name of the model's "
                "relations: give relation_names, a list of names by these numbers"
            )
    else:
        names = named_numbers(distinct.tolist(), key, given)
    ids = torch.tensor([relations.id(name) for name in names], dtype=torch.long)
    return ids.to(graph.device)[places] if len(ids) else numbers
