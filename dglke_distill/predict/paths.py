"""Short paths between two entities through the train graph, and what such paths are worth.

A step follows an edge from head to tail, or back from tail to head; relation ids of steps back are
``relation + R``, as those of the inverse edges of the DGL graph. A kind of path, its steps, is a
rule for a relation: of the pairs of entities that it connects, a share has the relation (Lao,
Mitchell, Cohen 2011, "Random walk inference and learning in a large scale knowledge base"; the
confidence of Galárraga, Teflioudi, Hose, Suchanek 2013, "AMIE").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.graph import build_graph
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import Side, Triples

Int64 = NDArray[np.int64]

EDGES_AT_ONCE = 200_000
"""Edges that a search looks at from each end: what hubs have beyond is left out."""

PAIRS_AT_ONCE = 20_000
"""Paths of a kind by which its confidence is found; of more, as many are taken."""

STARTS = 200
"""Entities from which a rule's pairs are counted; of more, as many are taken evenly."""

KINDS = 100
"""Kinds of paths of one length whose confidence is worked out; of more, those with fewest paths."""


class Path(NamedTuple):
    """A path that visits no entity twice.

    Attributes:
        steps: relation ids, one to three; from R on, a step back.
        nodes: entity ids, one more than steps.
    """

    steps: tuple[int, ...]
    nodes: tuple[int, ...]


class FoundPaths(NamedTuple):
    """The paths between two entities.

    Attributes:
        paths: the shortest first.
        whole: whether these are all; else edges of hubs were left out.
    """

    paths: list[Path]
    whole: bool


class Confidence(NamedTuple):
    """What a kind of path says of a relation.

    Attributes:
        pairs: pairs of different entities that it connects, in the train facts that were looked at.
        hits: those that have the relation.
        whole: whether all were looked at; else a sample.
    """

    pairs: int
    hits: int
    whole: bool

    @property
    def share(self) -> float:
        """Hits of the pairs, 0 without any."""
        return self.hits / self.pairs if self.pairs else 0.0

    @property
    def weight(self) -> float:
        """By which kinds are ranked: hits / (pairs + 5), so that few pairs do not stand first.

        (Meilicke, Chekol, Ruffinelli, Stuckenschmidt 2019, "Anytime bottom-up rule learning for
        knowledge graph completion".)
        """
        return self.hits / (self.pairs + 5)


class TrainGraph:
    """The train facts as a DGL graph with inverse edges, for searches from both ends.

    Args:
        facts: the train facts; repeated ones count once.
        num_entities: number of entities.
        num_relations: number of relations R.
    """

    def __init__(self, facts: Triples, num_entities: int, num_relations: int) -> None:
        """Build the graph, and its adjacency in CSR form."""
        self.known = KnownAnswers.build([facts], num_entities)
        self.facts = self.known.triples()
        self.num_relations = num_relations
        self.graph = build_graph(
            self.facts, num_entities, inverse=True, num_relations=num_relations
        )
        self._first, self._nodes, edges = (part.numpy() for part in self.graph.adj_tensors("csr"))
        self._relations = self.graph.edata["relation"].numpy()[edges]

    def degree(self, node: int) -> int:
        """Return the number of edges of an entity, in either direction."""
        return int(self._first[node + 1] - self._first[node])

    def paths(self, head: int, relation: int, tail: int, longest: int = 3) -> FoundPaths:
        """Return the paths from head to tail, without the fact (head, relation, tail) itself.

        Args:
            head: entity id.
            relation: relation id of the fact.
            tail: entity id, another one: a loop has no paths.
            longest: most steps, 1 to 3.
        """
        if head == tail:
            return FoundPaths([], True)
        ahead, whole = self._around(head)
        back, rest = self._around(tail)
        whole = whole and rest
        found = [
            Path((step,), (head, tail))
            for step in np.sort(ahead[0][ahead[1] == tail]).tolist()
            if step != relation
        ]
        ahead, back = (
            tuple(c[(n != head) & (n != tail)] for c in (s, n)) for s, n in (ahead, back)
        )
        if longest >= 2:
            found += self._two(head, tail, ahead, back)
        if longest >= 3:
            more, rest = self._three(head, tail, ahead, back)
            found, whole = found + more, whole and rest
        return FoundPaths(found, whole)

    def confidence(
        self, steps: Sequence[int], relation: int, without: tuple[int, int]
    ) -> Confidence:
        """Return what a kind of path says of a relation.

        Args:
            steps: the kind.
            relation: id of the relation that may follow.
            without: head and tail of the pair that does not count.
        """
        starts = self._starts(steps[0])
        whole = len(starts) <= STARTS
        if not whole:
            starts = starts[np.linspace(0, len(starts) - 1, STARTS).astype(np.int64)]
        rows = starts[:, None]
        for step in steps:
            rows, all_of_it = self._stepped(rows, step)
            whole = whole and all_of_it
        size = self.known.num_entities
        pairs = np.unique(rows[:, 0] * size + rows[:, -1])
        pairs = pairs[pairs != without[0] * size + without[1]]
        about = np.full(len(pairs), relation)
        hits = self.known.contains(pairs // size, about, (pairs % size)[:, None], "tail")
        return Confidence(len(pairs), int(hits.sum()), whole)

    def _around(self, node: int) -> tuple[tuple[Int64, Int64], bool]:
        """Return the steps from an entity and where they lead, and whether these are all."""
        first, last = int(self._first[node]), int(self._first[node + 1])
        stop = min(last, first + EDGES_AT_ONCE)
        return (self._relations[first:stop], self._nodes[first:stop]), stop == last

    def _two(self, head: int, tail: int, ahead: Any, back: Any) -> list[Path]:
        """Return paths of two steps, from the edges of either end."""
        first, last = _by_node(ahead), _by_node(back)
        return [
            Path((one, self._turned(other)), (head, node, tail))
            for node in sorted(first.keys() & last.keys())
            for one in first[node]
            for other in last[node]
        ]

    def _three(self, head: int, tail: int, ahead: Any, back: Any) -> tuple[list[Path], bool]:
        """Return paths of three steps: edges between a neighbour of either end."""
        first, last = _by_node(ahead), _by_node(back)
        near, far = (np.unique(part[1]) for part in (ahead, back))
        sizes = [int((self._first[part + 1] - self._first[part]).sum()) for part in (near, far)]
        turn = sizes[1] < sizes[0]  # from the end whose neighbours have fewer edges
        nodes, others = (far, near) if turn else (near, far)
        degrees = self._first[nodes + 1] - self._first[nodes]
        order = np.argsort(degrees, kind="stable")  # hubs last
        fits = np.cumsum(degrees[order]) <= EDGES_AT_ONCE
        found = []
        for node in np.sort(nodes[order][fits]).tolist():
            (steps, ends), _ = self._around(node)
            there = np.isin(ends, others) & (ends != node)
            for step, end in sorted(zip(steps[there].tolist(), ends[there].tolist())):
                x, y = (end, node) if turn else (node, end)
                middle = self._turned(step) if turn else step
                found += [
                    Path((one, middle, self._turned(other)), (head, x, y, tail))
                    for one in first[x]
                    for other in last[y]
                ]
        return found, bool(fits.all())

    def _turned(self, step: int) -> int:
        """Return the step in the other direction."""
        return (
            step - self.num_relations if step >= self.num_relations else step + self.num_relations
        )

    def _lookup(self, step: int) -> tuple[int, Side]:
        """Return the relation of a step, and the side of the facts that it leads to."""
        back = step >= self.num_relations
        return (step - self.num_relations, "head") if back else (step, "tail")

    def _starts(self, step: int) -> Int64:
        """Return the entities that a step can be taken from, ascending."""
        relation, side = self._lookup(step)
        column = self.facts.head if side == "tail" else self.facts.tail
        return np.unique(column[self.facts.relation == relation]).astype(np.int64)

    def _stepped(self, rows: Int64, step: int) -> tuple[Int64, bool]:
        """Return paths (n, nodes) with a step more, and whether these are all."""
        relation, side = self._lookup(step)
        about = np.full(len(rows), relation)
        counts = self.known.counts(rows[:, -1], about, side)
        fits = np.cumsum(counts) <= PAIRS_AT_ONCE
        rows, about = rows[fits], about[fits]
        offsets, ends = self.known.gather(rows[:, -1], about, side)
        rows = np.column_stack([np.repeat(rows, np.diff(offsets), axis=0), ends])
        return rows[(rows[:, :-1] != rows[:, -1:]).all(axis=1)], bool(fits.all())


def _by_node(edges: tuple[Int64, Int64]) -> dict[int, list[int]]:
    """Return the steps to each node, ascending."""
    found: dict[int, list[int]] = {}
    for step, node in sorted(zip(*(part.tolist() for part in edges))):
        found.setdefault(node, []).append(step)
    return found
