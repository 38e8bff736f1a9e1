"""Neighbourhoods of a batch's entities as DGL message-flow graphs, without the answers in them.

A batch that is to predict (h, r, t) must not receive the message h -r-> t, nor its inverse, nor a
second copy of the same fact. They are left out as facts, not as edge ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.data.graph_ids import relation_ids
from dglke_distill.kernels.compiled import njit
from dglke_distill.kernels.random import bits_at, stream_key, uniform_at
from dglke_distill.sampling.unique import Relabeler

if TYPE_CHECKING:
    from dgl import DGLGraph
    from dgl.heterograph import DGLBlock

Int64 = NDArray[np.int64]


class NeighborBlocks:
    """Draws incoming edges layer by layer.

    The draw of a node depends on the key, the layer and the node's id alone, so it is the same
    for any number of threads and any company. DGL's own sampler takes its randomness from
    generators that each of its threads owns. Not for use by two threads at once.

    Args:
        graph: train graph with inverse edges, ``build_graph(triples, n, inverse=True)``. Its CSC
            form is created if it is not there: 16 bytes per edge.
        fanouts: incoming edges to draw per node, one number per layer, the layer that reads the
            embeddings first (as DGL orders them); -1 for all.
        seed: of all draws.

    Raises:
        ValueError: a fan-out is 0 or below -1, or the graph has no relation ids or an odd number
            of edges.
    """

    def __init__(self, graph: DGLGraph, fanouts: Sequence[int], seed: int = 0) -> None:
        """Take the graph's incoming edges."""
        if not fanouts or any(fanout == 0 or fanout < -1 for fanout in fanouts):
            raise ValueError(f"fanouts must be positive, or -1 for all neighbours, not {fanouts}")
        relation = relation_ids(graph)
        if graph.num_edges() % 2:
            raise ValueError("build the graph with build_graph(..., inverse=True)")
        self.fanouts = tuple(int(fanout) for fanout in fanouts)
        self.seed = seed
        self._half = graph.num_edges() // 2
        self._head, self._tail = (ends.numpy() for ends in graph.edges(order="eid"))
        self._relation = relation.numpy()
        self._csc = tuple(part.numpy() for part in graph.adj_tensors("csc"))
        self._relabel = Relabeler(graph.num_nodes())

    def sample(
        self, nodes: Tensor, exclude_edges: Optional[Tensor] = None, *, seed_key: int = 0
    ) -> list[DGLBlock]:
        """Draw the blocks that compute the vectors of some nodes.

        Args:
            nodes: int64 (u,), distinct entity ids.
            exclude_edges: int64 (B,), edges below ``num_edges / 2``: they, equal facts and the
                inverses of both are left out of every block. None: nothing is.
            seed_key: names the draw; equal keys repeat it.

        Returns:
            One block per fan-out, the one that reads the embeddings first. The destinations of
            the last are ``nodes`` in order; sources begin with the destinations.
            ``srcdata[dgl.NID]`` and ``dstdata[dgl.NID]`` hold entity ids, ``edata["relation"]``
            relations, inverse ones from the number of relations on, ``edata[dgl.EID]`` edges.
        """
        dgl = load_dgl()
        seeds = np.ascontiguousarray(nodes.numpy(), np.int64)
        banned = np.empty(0, np.int64)
        if exclude_edges is not None:
            banned = np.ascontiguousarray(exclude_edges.numpy(), np.int64)
        # Mostly empty, so that most facts are cleared by one look.
        table = np.full(8 << (2 * len(banned)).bit_length(), -1, np.int64)
        _fill(self._head, self._tail, self._relation, self._half, banned, table)
        blocks: list[DGLBlock] = []
        for layer in reversed(range(len(self.fanouts))):
            key = stream_key(self.seed, seed_key, layer)
            fanout = self.fanouts[layer]
            offsets = np.zeros(len(seeds) + 1, np.int64)
            edges = np.empty(_room(self._csc[0], seeds, fanout), np.int64)
            _choose(key, fanout, *self._csc, self._head, self._tail, self._relation, table, seeds,
                    offsets, edges)  # fmt: skip
            edges = edges[: offsets[-1]].copy()
            sources, (_, rows) = self._relabel([seeds, self._head[edges]])
            block = dgl.create_block(
                (
                    "csc",
                    (torch.from_numpy(offsets), torch.from_numpy(rows), torch.arange(len(rows))),
                ),
                num_src_nodes=len(sources),
                num_dst_nodes=len(seeds),
            )
            block.srcdata[dgl.NID] = torch.from_numpy(sources)
            block.dstdata[dgl.NID] = torch.from_numpy(seeds)
            block.edata[dgl.EID] = torch.from_numpy(edges)
            block.edata["relation"] = torch.from_numpy(self._relation[edges])
            blocks.insert(0, block)
            seeds = sources
        return blocks


@njit(cache=True, nogil=True)
def _room(indptr, seeds, fanout):  # type: ignore[no-untyped-def]
    """Return an upper bound of the edges drawn."""
    total = 0
    for seed in seeds:
        degree = indptr[seed + 1] - indptr[seed]
        total += degree if fanout < 0 else min(degree, fanout)
    return total


@njit(cache=True, nogil=True)
def _slot(source, target, relation, mask):  # type: ignore[no-untyped-def]
    """Return where the search for a fact begins in the table of banned ones."""
    key = bits_at(np.uint64(relation), (np.int64(source) << 32) ^ np.int64(target))
    return np.int64(key & np.uint64(mask))


@njit(cache=True, nogil=True)
def _fill(head, tail, relation, half, banned, table):  # type: ignore[no-untyped-def]
    """Enter the banned edges and their inverses into an open-addressing table of edge ids."""
    mask = len(table) - 1
    for position in range(2 * len(banned)):
        edge = banned[position >> 1] + (half if position & 1 else 0)
        slot = _slot(head[edge], tail[edge], relation[edge], mask)
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = edge


@njit(cache=True, nogil=True)
def _is_banned(head, tail, relation, table, slot, source, target, kind):  # type: ignore[no-untyped-def]
    """Search the table from ``slot`` on for a fact."""
    while table[slot] >= 0:
        edge = table[slot]
        if head[edge] == source and tail[edge] == target and relation[edge] == kind:
            return True
        slot = (slot + 1) & (len(table) - 1)
    return False


@njit(cache=True, nogil=True)
def _choose(key, fanout, indptr, sources, ids, head, tail, relation, table, seeds, offsets, out):  # type: ignore[no-untyped-def]
    """Draw up to ``fanout`` edges into each seed, without replacement, none of them banned."""
    total = 0
    picked = np.full(1 << np.int64(np.ceil(np.log2(4 * max(fanout, 1)))), -1, np.int64)
    last, mask = len(picked) - 1, len(table) - 1
    places = np.empty(max(fanout, 1), np.int64)
    for i in range(len(seeds)):
        seed = seeds[i]
        begin, degree = indptr[seed], indptr[seed + 1] - indptr[seed]
        stream = bits_at(key, seed)
        count = 0
        if fanout > 0 and degree > 4 * fanout:  # many edges: try places until enough are new
            for attempt in range(4 * fanout + 16):
                if count == fanout:
                    break
                place = np.int64(uniform_at(stream, attempt) * degree)
                slot = (place * 0x9E3779B1 >> 15) & last
                while picked[slot] >= 0 and picked[slot] != place:
                    slot = (slot + 1) & last
                if picked[slot] == place:
                    continue
                edge = ids[begin + place]
                source, kind = sources[begin + place], relation[edge]
                # The second look costs more to call than the first one to take.
                look = _slot(source, seed, kind, mask)
                if table[look] >= 0 and _is_banned(
                    head, tail, relation, table, look, source, seed, kind
                ):
                    continue
                picked[slot] = place
                places[count] = slot
                out[total + count] = edge
                count += 1
            for j in range(count):
                picked[places[j]] = -1
        if fanout < 0 or count < min(fanout, degree):  # few edges, or too many banned: all in turn
            count, seen = 0, 0
            for at in range(begin, begin + degree):
                edge = ids[at]
                source, kind = sources[at], relation[edge]
                look = _slot(source, seed, kind, mask)
                if table[look] >= 0 and _is_banned(
                    head, tail, relation, table, look, source, seed, kind
                ):
                    continue
                seen += 1
                if fanout < 0 or count < fanout:
                    out[total + count] = edge
                    count += 1
                    continue
                # Algorithm R (Vitter 1985): the seen-th edge is kept with chance fanout / seen.
                place = np.int64(uniform_at(stream, 8 * fanout + 64 + at - begin) * seen)
                if place < fanout:
                    out[total + place] = edge
        total += count
        offsets[i + 1] = total
