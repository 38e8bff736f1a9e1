"""DGL graphs out of datasets: homogeneous, or heterographs with names and types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from dglke_distill.base.arguments import checked
from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Dataset, Triples

if TYPE_CHECKING:
    import dgl


@checked
def to_dgl(
    dataset: Dataset,
    split: str = "train",
    *,
    heterograph: bool = False,
    type_names: Optional[Sequence[str]] = None,
) -> dgl.DGLGraph:
    """Make a DGL graph of a dataset.

    Args:
        dataset: the triples.
        split: ``train``, ``valid``, ``test``, or ``all``, with ``edata`` ``train_mask``,
            ``val_mask`` and ``test_mask``.
        heterograph: an edge type for each relation, called as it is, and a node type for each
            type of entities; one node type, ``entity``, where entities have none.
        type_names: names of the node types; those of the dataset by default.

    Returns:
        A graph with int64 ids, ``edata["relation"]`` and ``ndata["entity"]``, the dataset's ids,
        which subgraphs and batches keep. Homogeneous: node i is entity i, edge i triple i.

    Raises:
        UserError: there is no such split, or types have no names of their own.
    """
    parts = ["train", "valid", "test"] if split == "all" else [split]
    splits = [dataset.split(part) for part in parts]
    columns = [
        np.concatenate([getattr(t, c) for t in splits]) for c in ("head", "relation", "tail")
    ]
    triples = Triples(*columns)
    marks = np.repeat(np.arange(len(parts)), [len(t) for t in splits]) if split == "all" else None
    return (
        _heterograph(dataset, triples, marks, type_names)
        if heterograph
        else _homogeneous(dataset, triples, marks)
    )


def _homogeneous(dataset: Dataset, triples: Triples, marks: Any) -> dgl.DGLGraph:
    import torch

    graph = build_graph(triples, dataset.num_entities)
    graph.ndata["entity"] = torch.arange(dataset.num_entities)
    if marks is not None:
        for number, key in enumerate(("train_mask", "val_mask", "test_mask")):
            graph.edata[key] = torch.from_numpy(marks == number)
    return graph


def _heterograph(
    dataset: Dataset, triples: Triples, marks: Any, type_names: Optional[Sequence[str]]
) -> dgl.DGLGraph:
    import torch

    dgl = load_dgl()
    types = dataset.entity_type
    if types is None:
        types = np.zeros(dataset.num_entities, np.int32)
    most = int(types.max()) + 1 if len(types) else 1
    names = list(type_names or dataset.entity_type_names or ())
    if not names:
        names = ["entity"] if most == 1 else [f"type{i}" for i in range(most)]
    if len(names) < most or len(set(names)) < len(names):
        raise UserError(f"type_names: {most} names of types are needed, each another; got {names}")
    members = [np.flatnonzero(types == i) for i in range(len(names))]
    local = np.zeros(dataset.num_entities, np.int64)
    for own in members:
        local[own] = np.arange(len(own))
    head_type, tail_type = (types[c].astype(np.int64) for c in (triples.head, triples.tail))
    keys = (triples.relation.astype(np.int64) * len(names) + head_type) * len(names) + tail_type
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    edges: dict[tuple[str, str, str], Any] = {}
    rows: dict[tuple[str, str, str], Any] = {}
    for key, chosen in zip(distinct.tolist(), np.split(order, starts[1:])):
        of_type = (
            names[key // len(names) % len(names)],
            dataset.relations[key // len(names) ** 2],
            names[key % len(names)],
        )
        edges[of_type] = tuple(
            torch.from_numpy(local[c[chosen]]) for c in (triples.head, triples.tail)
        )
        rows[of_type] = chosen
    if not edges:
        raise UserError(f"{dataset.name}: the split has no triples, so no edge types")
    sizes = {name: len(own) for name, own in zip(names, members)}
    used = {t for s, _, d in edges for t in (s, d)}
    graph = dgl.heterograph(
        edges, {name: size for name, size in sizes.items() if name in used}, idtype=torch.int64
    )
    for name, own in zip(names, members):
        if name in used:
            graph.nodes[name].data["entity"] = torch.from_numpy(own.astype(np.int64))
    for of_type, chosen in rows.items():
        data = graph.edges[of_type].data
        data["relation"] = torch.from_numpy(triples.relation[chosen].astype(np.int64))
        if marks is not None:
            for number, key in enumerate(("train_mask", "val_mask", "test_mask")):
                data[key] = torch.from_numpy(marks[chosen] == number)
    return graph
