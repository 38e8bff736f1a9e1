"""Datasets out of DGL graphs: names and types are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.data.checks import find_warnings
from dglke_distill.data.graph_names import (
    NodeNames,
    RelationNames,
    default_names,
    is_typed,
    named_numbers,
    names_by_type,
    number_key,
    relation_name_of,
    with_types,
)
from dglke_distill.data.split import split_triples
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

if TYPE_CHECKING:
    import dgl

_MASKS = {
    "train": ("train_edge_mask", "train_mask"),
    "valid": ("valid_edge_mask", "val_edge_mask", "valid_mask", "val_mask"),
    "test": ("test_edge_mask", "test_mask"),
}
"""Keys of ``edata`` that say which split an edge is of; those of ``dgl.data`` come first, whose
``*_edge_mask`` leaves the inverse edges out."""
_MOST = np.iinfo(np.int32).max


def from_dgl(
    graph: dgl.DGLGraph,
    *,
    name: str = "graph",
    node_names: Optional[NodeNames] = None,
    relation_names: Optional[RelationNames] = None,
    relation_key: Optional[str] = None,
    valid: Optional[dgl.DGLGraph] = None,
    test: Optional[dgl.DGLGraph] = None,
    split_seed: int = 0,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Dataset:
    """Make a dataset of a DGL graph: edges are triples, edge types or their numbers relations.

    Of a homogeneous graph, ``edata["relation"]``, else ``edata["etype"]`` numbers the relations.
    Edge types of a heterograph are relations by their own names, node types are kept as
    ``entity_type`` and ``entity_type_names``; two canonical types of one name are one relation,
    told apart by the types of its entities.

    Splits are those of the masks in ``edata`` (``train_mask``, ``val_mask``, ``test_mask``, or
    ``*_edge_mask`` as ``dgl.data`` has them), those of ``valid`` and ``test``, or made as one
    file of facts is split.

    Args:
        graph: homogeneous, or a heterograph.
        name: the dataset's name.
        node_names: a key of ``ndata`` of whole numbers, a list of names, or these by node type.
            None: a node is called by its number, as in ``"7"``, after its type where there are
            several, as in ``"drug:7"``. Names that occur in two types get their types before
            them.
        relation_names: a list of names by number; for a heterograph, names of edge types that
            are to be called otherwise. None: numbers, or the edge types' own names.
        relation_key: the key of ``edata`` that numbers relations.
        valid: a graph of the valid split, with the same nodes; its keys and types are those of
            ``graph``.
        test: as ``valid``.
        split_seed: seed where edges are split here.
        split_fractions: shares of train, valid and test where edges are split here.

    Returns:
        The dataset; entity ids are in the order of nodes, type after type as in ``graph.ntypes``.

    Raises:
        UserError: the graph has no edges, does not say what its relations are, or names do not
            fit.
    """
    for what, each in (("graph", graph), ("valid", valid), ("test", test)):
        if each is None and what != "graph":
            continue
        if not hasattr(each, "canonical_etypes"):
            raise UserError(f"{what} is {each!r:.100}: give a DGL graph")
        is_typed(each)  # refuses blocks
    nodes = _Nodes(graph, node_names)
    relations = _Relations(graph, relation_names, relation_key)
    entities, types = nodes.vocabulary, nodes.types
    vocabulary = relations.vocabulary
    warnings: list[str] = []
    whole, masks = _facts(graph, nodes, relations)
    if not len(whole):
        raise UserError(f"{name}: the graph has no edges; add them")
    if valid is not None or test is not None:
        if masks is not None:
            raise UserError(f"{name}: masks in edata and graphs of splits are given: give one")
        empty = whole[np.zeros(0, np.int64)]
        splits = {
            "train": whole,
            "valid": empty if valid is None else _of_split(valid, graph, "valid", nodes, relations),
            "test": empty if test is None else _of_split(test, graph, "test", nodes, relations),
        }
    elif masks is not None:
        splits = {split: whole[np.flatnonzero(rows)] for split, rows in masks.items()}
        outside = len(whole) - int(np.logical_or.reduce(list(masks.values())).sum())
        if outside:
            warnings.append(f"{name}: {outside} edges are in no split's mask and were left out")
    else:
        found = split_triples(
            whole, len(nodes.names), len(relations.names), fractions=split_fractions,
            seed=split_seed, entities=nodes.names, relations=relations.names,
        )  # fmt: skip
        splits = {"train": found.train, "valid": found.valid, "test": found.test}
        warnings.append(
            f"{name}: split with seed {split_seed} into {len(found.train)} train, "
            f"{len(found.valid)} valid and {len(found.test)} test triples; {found.duplicates} "
            "duplicates removed"
        )
    if not len(splits["train"]):
        raise UserError(f"{name}: no edge is in the train split; mark some by train_mask")
    if relations.numbered:  # those of edges that were left out, such as inverses, are none
        most = max(int(t.relation.max()) for t in splits.values() if len(t))
        vocabulary = Vocabulary(size=most + 1, kind="relation")
    warnings += find_warnings(splits, entities, vocabulary)
    fields: dict[str, Any] = dict(splits)
    return Dataset(
        name, entities, vocabulary, warnings=tuple(warnings), entity_type=types,
        entity_type_names=() if types is None else tuple(graph.ntypes), **fields,
    )  # fmt: skip


class _Nodes:
    """The entities that the nodes of a graph are."""

    def __init__(self, graph: dgl.DGLGraph, given: Optional[NodeNames]) -> None:
        dgl = load_dgl()
        if given is None and len(graph.ntypes) == 1 and dgl.NTYPE in graph.ndata:
            if len(graph.ndata[dgl.NTYPE].unique()) > 1:
                raise UserError(
                    "the graph is one that dgl.to_homogeneous made of several node types: give the "
                    "heterograph itself, or node_names"
                )
        by_type = names_by_type(graph, given)
        several = len(graph.ntypes) > 1
        self.sizes = {t: graph.num_nodes(t) for t in graph.ntypes}
        names = {t: default_names(graph, t) if own is None else own for t, own in by_type.items()}
        listed = [each for of_type in names.values() for each in of_type]
        if several and len(set(listed)) < len(listed):
            names = {t: with_types(t, own) for t, own in names.items()}
            listed = [each for of_type in names.values() for each in of_type]
        if len(listed) > _MOST:
            raise UserError(f"the graph has {len(listed)} nodes, more than {_MOST}")
        self.numbered = given is None and not several and dgl.NID not in graph.ndata
        self.names = listed
        starts = np.cumsum([0, *self.sizes.values()])[:-1]
        self.offsets = dict(zip(self.sizes, starts.tolist()))
        self.types = (
            np.repeat(np.arange(len(self.sizes), dtype=np.int32), list(self.sizes.values()))
            if several
            else None
        )

    @property
    def vocabulary(self) -> Vocabulary:
        if self.numbered:
            return Vocabulary(size=len(self.names))
        try:
            return Vocabulary(self.names)
        except UserError as error:
            raise UserError(f"node_names: {error}; give each node a name of its own") from None

    def ids(self, node_type: str, nodes: Tensor) -> np.ndarray[Any, Any]:
        found = nodes.cpu().numpy().astype(np.int64) + self.offsets[node_type]
        return found.astype(np.int32)


class _Relations:
    """The relations that edge types, or the numbers of edges, are."""

    def __init__(
        self, graph: dgl.DGLGraph, given: Optional[RelationNames], key: Optional[str]
    ) -> None:
        dgl = load_dgl()
        self.given, self.key = given, key
        self.typed = is_typed(graph)
        self.names: list[str] = []
        self.numbered = False
        if self.typed:
            called = [relation_name_of(t, given) for t in graph.canonical_etypes]
            self.names = list(dict.fromkeys(called))
            return
        if not graph.num_edges():
            return
        self.key, numbers = number_key(graph, key, given)
        if int(numbers.min()) < 0:
            raise UserError(f"edata[{self.key!r}] holds {int(numbers.min())}: count from 0 on")
        if given is None:
            self.numbered = True
            most = int(numbers.max()) + 1
            if most > max(1000, 100 * graph.num_edges()):
                raise UserError(
                    f"edata[{self.key!r}] goes up to {most - 1} with {graph.num_edges()} edges: "
                    "number the relations from 0 on, or give relation_names"
                )
            self.names = [str(number) for number in range(most)]
            return
        named_numbers([int(numbers.max())], self.key, given)
        listed = named_numbers(range(len(given)), self.key, given)
        self.names = list(dict.fromkeys(listed)) if self.key == dgl.ETYPE else listed
        place = {name: i for i, name in enumerate(self.names)}
        self._by_number = np.array([place[each] for each in listed], np.int32)

    @property
    def vocabulary(self) -> Vocabulary:
        if self.numbered:
            return Vocabulary(size=len(self.names), kind="relation")
        try:
            return Vocabulary(self.names, kind="relation")
        except UserError as error:
            raise UserError(f"relation_names: {error}; rename it") from None

    def ids(self, graph: dgl.DGLGraph, edge_type: tuple[str, str, str]) -> np.ndarray[Any, Any]:
        if self.typed:
            name = relation_name_of(edge_type, self.given)
            if name not in self.names:
                raise UserError(f"edge type {edge_type} is none of the train graph's relations")
            return np.full(graph.num_edges(edge_type), self.names.index(name), np.int32)
        if not graph.num_edges():
            return np.zeros(0, np.int32)
        _, numbers = number_key(graph, self.key, self.given)
        found = numbers.cpu().numpy()
        most = len(self.names) if self.numbered else len(self._by_number)
        if found.min() < 0 or found.max() >= most:
            raise UserError(
                f"edata[{self.key!r}] goes from {found.min()} to {found.max()}, the train graph's "
                f"relations from 0 to {most - 1}"
            )
        return found.astype(np.int32) if self.numbered else self._by_number[found]


def _facts(
    graph: dgl.DGLGraph, nodes: _Nodes, relations: _Relations
) -> tuple[Triples, Optional[dict[str, np.ndarray[Any, Any]]]]:
    """Return the triples of a graph, type after type in edge order, and their splits' masks."""
    heads, rels, tails = [], [], []
    masks: dict[str, list[np.ndarray[Any, Any]]] = {split: [] for split in _MASKS}
    having = []
    for edge_type in graph.canonical_etypes:
        head, tail = graph.edges(order="eid", etype=edge_type)
        heads.append(nodes.ids(edge_type[0], head))
        tails.append(nodes.ids(edge_type[2], tail))
        rels.append(relations.ids(graph, edge_type))
        if not len(head):
            continue
        data = graph.edges[edge_type].data
        keys = {s: next((k for k in of if k in data), None) for s, of in _MASKS.items()}
        having.append(keys["train"] is not None)
        for split, key in keys.items():
            rows = np.zeros(len(head), np.bool_)
            if key is not None and keys["train"] is not None:
                if data[key].dim() != 1:
                    raise UserError(f"edata[{key!r}] of {edge_type}: one value an edge is needed")
                rows = data[key].cpu().numpy().astype(np.bool_)
            masks[split].append(rows)
    if any(having) and not all(having):
        raise UserError("some edge types have a train_mask and others none: mark all, or none")
    whole = Triples(*(np.concatenate(column) for column in (heads, rels, tails)))
    if not any(having):
        return whole, None
    joined = {split: np.concatenate(rows) for split, rows in masks.items()}
    twice = int((np.sum([rows for rows in joined.values()], axis=0) > 1).sum())
    if twice:
        raise UserError(f"{twice} edges are in the masks of two splits: each belongs to one")
    return whole, joined


def _of_split(
    graph: dgl.DGLGraph,
    train: dgl.DGLGraph,
    split: str,
    nodes: _Nodes,
    relations: _Relations,
) -> Triples:
    """Return the triples of a graph that is a split of its own."""
    for node_type in graph.ntypes:
        if graph.num_nodes(node_type) != nodes.sizes.get(node_type):
            raise UserError(
                f"{split}: the graph has {graph.num_nodes(node_type)} nodes of type {node_type!r}, "
                f"train {nodes.sizes.get(node_type, 'none')}: nodes must be the same (num_nodes)"
            )
    if is_typed(graph) != is_typed(train):
        raise UserError(f"{split}: train and {split} must both be homogeneous, or neither")
    return _facts(graph, nodes, relations)[0]
