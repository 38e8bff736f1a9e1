"""Which names the nodes and edge types of a DGLGraph have, homogeneous or a heterograph.

Ids of a graph are its own: they restart with each node type, and ``dgl.to_homogeneous`` numbers
types in DGL's order. Names are what a graph and a model have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Optional, Union

from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError

if TYPE_CHECKING:
    import dgl

EdgeType = tuple[str, str, str]
"""DGL's canonical edge type: the types of source, edge and destination."""

NodeNames = Union[str, Sequence[str], Mapping[str, Union[str, Sequence[str]]]]
"""The names of nodes: a key of ``ndata`` whose whole numbers are the names, or a list of names in
the order of nodes (by ``ndata["entity"]`` where the graph has that); by node type in a mapping."""

RelationNames = Union[Sequence[str], Mapping[Union[str, EdgeType], str]]
"""The names of relations: a list by the number that ``edata`` holds; for a heterograph, a mapping
from edge types, canonical or not, to other names than their own."""

_KEYS = ("relation", "etype")
_DEFAULT_EDGE = ("_N", "_E", "_N")


def is_typed(graph: dgl.DGLGraph) -> bool:
    """Whether the types of edges say which relations they are: a heterograph, or a named type.

    Raises:
        UserError: it is a block, which has its nodes twice.
    """
    if graph.is_block:
        raise UserError(
            "the graph is a block (a message-flow graph of dgl.dataloading): give the graph of "
            "the batch's edges, which the loader returns beside it"
        )
    return list(graph.canonical_etypes) != [_DEFAULT_EDGE]


def names_by_type(
    graph: dgl.DGLGraph, given: Optional[NodeNames]
) -> dict[str, Optional[list[str]]]:
    """Return the names of the nodes of each type, None where none are given.

    Args:
        graph: homogeneous, or a heterograph.
        given: see ``NodeNames``.

    Raises:
        UserError: there is no such type or key, or the names are not as many as the nodes.
    """
    if given is None:
        return dict.fromkeys(graph.ntypes)
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(graph.ntypes))
        missing = sorted(set(graph.ntypes) - set(given))
        if unknown or missing:
            raise UserError(
                f"node_names: node type {(unknown or missing)[0]!r} "
                f"{'is none of the graph' if unknown else 'has no names'}; the graph has "
                f"{', '.join(graph.ntypes)}"
            )
        return {t: _names(graph, t, given[t], len(graph.ntypes) > 1) for t in graph.ntypes}
    if not isinstance(given, str):
        stated = all("entity" in graph.nodes[t].data for t in graph.ntypes)
        if len(graph.ntypes) > 1 and not stated:
            raise UserError(
                f"node_names is one list, the graph has the node types {', '.join(graph.ntypes)}: "
                "give a list for each, {type: names}"
            )
    return {t: _names(graph, t, given, False) for t in graph.ntypes}


def _names(
    graph: dgl.DGLGraph, node_type: str, given: Union[str, Sequence[str]], own: bool
) -> list[str]:
    """Return the names of one type's nodes; ``own``: the list is that of the type alone."""
    frame, count = graph.nodes[node_type].data, graph.num_nodes(node_type)
    if isinstance(given, str):
        if given not in frame:
            known = ", ".join(map(str, frame)) or "none"
            raise UserError(
                f"node_names: nodes of type {node_type!r} have no ndata[{given!r}] (keys: {known})"
            )
        return [
            str(n)
            for n in whole_numbers(frame[given], f"ndata[{given!r}] of {node_type!r}").tolist()
        ]
    names = [_checked(name, f"node_names of {node_type!r}") for name in given]
    if "entity" in frame and not own:
        ids = whole_numbers(frame["entity"], f'ndata["entity"] of {node_type!r}').tolist()
        if ids and not 0 <= min(ids) <= max(ids) < len(names):
            raise UserError(
                f'node_names: {len(names)} names, but ndata["entity"] of {node_type!r} goes from '
                f"{min(ids)} to {max(ids)}: give a name for each of these ids"
            )
        return [names[i] for i in ids]
    if len(names) != count:
        raise UserError(
            f"node_names: {len(names)} names for {count} nodes of type {node_type!r}; give one for "
            "each"
        )
    return names


def _checked(name: object, where: str) -> str:
    if not isinstance(name, str):
        raise UserError(f"{where}: {name!r} is no text; give names as str")
    if not name.strip() or any(sign in name for sign in "\t\n\r\0"):
        raise UserError(f"{where}: {name!r} is empty or has a tab or line end in it: rename it")
    return name


def whole_numbers(values: Tensor, where: str) -> Tensor:
    """Return a column of whole numbers as int64.

    Raises:
        UserError: it is none.
    """
    if values.dim() != 1 or values.is_floating_point() or values.is_complex():
        raise UserError(
            f"{where} is {values.dtype} of shape {tuple(values.shape)}: one whole number each is "
            "needed"
        )
    return values.long()


def default_names(graph: dgl.DGLGraph, node_type: str) -> list[str]:
    """Return names for nodes that have none: their numbers, after their type if there are several.

    The numbers of a subgraph's nodes are those of the graph that it was taken from.
    """
    dgl = load_dgl()
    frame = graph.nodes[node_type].data
    count = graph.num_nodes(node_type)
    numbers = frame[dgl.NID].tolist() if dgl.NID in frame else range(count)
    names = [str(number) for number in numbers]
    return with_types(node_type, names) if len(graph.ntypes) > 1 else names


def with_types(node_type: str, names: Sequence[str]) -> list[str]:
    """Return names that tell the nodes of one type from those of others."""
    return [f"{node_type}:{name}" for name in names]


def number_key(
    graph: dgl.DGLGraph, key: Optional[str], names: Optional[RelationNames]
) -> tuple[str, Tensor]:
    """Return the key of ``edata`` that numbers the relations of a homogeneous graph, and it.

    Args:
        graph: homogeneous.
        key: the key, if it is stated.
        names: whether names are stated, without which DGL's own types are not taken.

    Raises:
        UserError: there is no such key, or DGL's types alone, whose names are not stated.
    """
    dgl = load_dgl()
    data = graph.edata
    keys = [key] if key is not None else [k for k in _KEYS if k in data]
    if key is None and not keys and dgl.ETYPE in data:
        keys = [dgl.ETYPE]
    if not keys or keys[0] not in data:
        known = ", ".join(map(str, data)) or "none"
        what = "relation or etype" if key is None else repr(key)
        raise UserError(
            f"the graph has no edata of {what} (keys: {known}): say by relation_key which key "
            "numbers the relations"
        )
    if keys[0] == dgl.ETYPE and names is None:
        raise UserError(
            "the graph has DGL's edge types (dgl.ETYPE), which dgl.to_homogeneous numbered in its "
            "own order: give the heterograph itself, or say what they are by "
            "relation_names=heterograph.etypes and node_names"
        )
    return keys[0], whole_numbers(data[keys[0]], f"edata[{keys[0]!r}]")


def relation_name_of(edge_type: EdgeType, given: Optional[RelationNames]) -> str:
    """Return the relation that an edge type of a heterograph is.

    Raises:
        UserError: names are given as a list, which says nothing of types.
    """
    if given is None:
        return edge_type[1]
    if not isinstance(given, Mapping):
        raise UserError(
            "relation_names is a list, the graph has edge types: give {edge type: name}, or "
            "nothing where types are called as relations are"
        )
    return given.get(edge_type, given.get(edge_type[1], edge_type[1]))


def named_numbers(numbers: Sequence[int], key: str, given: RelationNames) -> list[str]:
    """Return the names of relation numbers.

    Raises:
        UserError: a number has none.
    """
    if isinstance(given, (str, Mapping)):
        raise UserError("relation_names: give a list, in which the place of a name is its number")
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(given):
        raise UserError(
            f"relation_names has {len(given)} names, edata[{key!r}] goes from {min(numbers)} to "
            f"{max(numbers)}: give a name for each number"
        )
    return [_checked(given[number], "relation_names") for number in numbers]
