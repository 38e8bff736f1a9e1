"""Which relations hold between the same two entities: counts of shared pairs, as sparse products.

With A the matrix of entity pairs and relations, 1 where a relation holds, AᵀA counts the pairs that
any two relations share. Pairs are written with the lower id first, and each relation has a column
for either direction, so that one product counts same and reversed pairs. Pairs that one fact alone
has are counted without the product; the others go through it in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.triples import Triples

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Int64 = NDArray[np.int64]

FACTS_AT_ONCE = 1 << 22
"""Facts of a block: some 200 MB of temporary arrays."""


class RelationPair(NamedTuple):
    """How far a relation follows from another.

    Attributes:
        body: the relation that is looked at.
        head: the relation that would follow from it.
        reversed: whether the two hold in opposite directions.
        shared: facts of ``body`` that are facts of ``head`` too, turned round if ``reversed``.
    """

    body: int
    head: int
    reversed: bool
    shared: int


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Distinct facts that relations have, and that two of them share.

    Attributes:
        facts: int64 (relations,), distinct facts of each.
        loops: int64 (relations,), those whose head and tail are the same.
        same: (relations, relations) sparse int64, pairs (h, t) of both; its diagonal is ``facts``
            less those whose pair no other relation has.
        reversed: (relations, relations) sparse int64, pairs (h, t) of the one with (t, h) of the
            other; its diagonal leaves loops out, which are their own reverse.
    """

    facts: Int64
    loops: Int64
    same: csr_matrix
    reversed: csr_matrix

    def shared(self, body: int, head: int, reversed: bool) -> int:
        """Return how many facts of one relation are facts of another; see ``RelationPair``."""
        return int((self.reversed if reversed else self.same)[body, head])

    def pairs(self) -> list[RelationPair]:
        """Return all that share a fact, but no relation with itself in the same direction."""
        found = []
        for turned, matrix in ((False, self.same), (True, self.reversed)):
            entries = matrix.tocoo()
            for body, head, shared in zip(entries.row, entries.col, entries.data):
                if turned or body != head:
                    found.append(RelationPair(int(body), int(head), turned, int(shared)))
        return found


def pair_overlaps(triples: Triples, num_entities: int, num_relations: int) -> Overlaps:
    """Count the pairs of entities that each two relations share.

    Args:
        triples: facts; repeated ones count once.
        num_entities: number of entities E.
        num_relations: number of relations R.

    Returns:
        The counts. Time is that of sorting; memory a block's, and the pairs of relations found.
    """
    from scipy.sparse import csr_matrix

    lower = np.minimum(triples.head, triples.tail)
    facts, loops = np.zeros(num_relations, np.int64), np.zeros(num_relations, np.int64)
    product = csr_matrix((2 * num_relations, 2 * num_relations), dtype=np.int64)
    looped = csr_matrix((num_relations, num_relations), dtype=np.int64)
    for rows in _blocks(lower, num_entities):
        pair, column, loop = _sorted_facts(triples[rows], num_entities)
        facts += np.bincount(column >> 1, minlength=num_relations)
        loops += np.bincount(column[loop] >> 1, minlength=num_relations)
        together = np.zeros(len(pair), np.bool_)
        together[1:] = pair[1:] == pair[:-1]
        together[:-1] |= together[1:]
        product = product + _products(pair, column, together & ~loop, 2 * num_relations)
        looped = looped + _products(pair, column >> 1, together & loop, num_relations)
    ahead, back = product[0::2], product[1::2]
    same = ahead[:, 0::2] + back[:, 1::2] + looped
    turned = ahead[:, 1::2] + back[:, 0::2] + looped
    turned.setdiag(turned.diagonal() - looped.diagonal())
    turned.eliminate_zeros()
    return Overlaps(facts, loops, same.tocsr(), turned.tocsr())


def _blocks(lower: NDArray[np.int32], num_entities: int) -> Any:
    """Yield rows whose lower entities lie in a range, of about ``FACTS_AT_ONCE`` facts each."""
    if len(lower) <= FACTS_AT_ONCE:
        yield slice(None)
        return
    before = np.append(0, np.cumsum(np.bincount(lower, minlength=num_entities)))
    start = 0
    while start < num_entities:
        stop = int(np.searchsorted(before, before[start] + FACTS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), num_entities)
        yield np.flatnonzero((lower >= start) & (lower < stop))
        start = stop


def _sorted_facts(triples: Triples, num_entities: int) -> tuple[Int64, Int64, NDArray[np.bool_]]:
    """Return distinct facts, sorted: their pairs as one number, columns, and which are loops.

    A column is twice the relation, and one more where the head has the higher id.
    """
    head, tail = triples.head.astype(np.int64), triples.tail.astype(np.int64)
    pair = np.minimum(head, tail) * num_entities + np.maximum(head, tail)
    column = 2 * triples.relation.astype(np.int64) + (head > tail)
    order = np.lexsort((column, pair))
    pair, column = pair[order], column[order]
    new = np.ones(len(pair), np.bool_)
    new[1:] = (pair[1:] != pair[:-1]) | (column[1:] != column[:-1])
    pair, column = pair[new], column[new]
    return pair, column, pair // max(1, num_entities) == pair % max(1, num_entities)


def _products(pair: Int64, column: Int64, rows: NDArray[np.bool_], width: int) -> csr_matrix:
    """Return AᵀA (width, width) of the chosen facts, whose pairs are sorted."""
    from scipy.sparse import csr_matrix

    pair, column = pair[rows], column[rows]
    starts = np.ones(len(pair), np.bool_)
    starts[1:] = pair[1:] != pair[:-1]
    offsets = np.append(np.flatnonzero(starts), len(pair))
    ones = np.ones(len(pair), np.int64)
    held = csr_matrix((ones, column, offsets), shape=(len(offsets) - 1, width))
    return (held.T @ held).tocsr()
