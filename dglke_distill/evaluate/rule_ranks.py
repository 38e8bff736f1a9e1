"""Filtered ranks of simple rules, counted without a score for every entity.

A rule answers a question with a few entities and leaves all others alike, so that a rank follows
from counts: those that score higher, and half of those that score the same (``ranking`` states the
protocol, which is the same). Work and memory are those of the answers that rules give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.groups import group
from dglke_distill.data.known_answers import KnownAnswers, group_by_query
from dglke_distill.data.triples import SIDES, Side, Triples

Int64 = NDArray[np.int64]
Ranks = dict[Side, NDArray[np.float64]]
"""The rank of the head, and of the tail, of each fact."""

ANSWERS_AT_ONCE = 1 << 22
"""Answers of rules that a block of questions gets: some 300 MB of temporary arrays."""

_OTHER: dict[Side, Side] = {"head": "tail", "tail": "head"}


class Rule(NamedTuple):
    """From a fact of one relation follows a fact of another, or of the same.

    Attributes:
        body: the relation that is looked up.
        head: the relation whose questions are answered.
        reversed: whether (h, head, t) follows from (t, body, h), and not from (h, body, t). No loop
            follows from itself so.
        score: positive; of several rules that give the same answer, the highest counts.
    """

    body: int
    head: int
    reversed: bool
    score: float


class _Questions(NamedTuple):
    """The distinct questions of a split: question i is asked by ``rows[starts[i]:starts[i + 1]]``.

    ``entity`` and ``relation`` are (q,), ``target`` is (n,) in the order of ``rows``.
    """

    entity: Int64
    relation: Int64
    starts: Int64
    rows: Int64
    target: Int64


def follows(rule: Rule, facts: Triples, train: KnownAnswers) -> NDArray[np.bool_]:
    """Return which facts a rule derives from the train split.

    Args:
        rule: the rule.
        facts: n facts of the relation ``rule.head``.
        train: answers of the train split.

    Returns:
        bool array (n,).
    """
    body = np.full(len(facts), rule.body)
    first, last = (facts.tail, facts.head) if rule.reversed else (facts.head, facts.tail)
    found = train.contains(first, body, last[:, None], "tail").reshape(-1)
    return found & (first != last) if rule.reversed and rule.body == rule.head else found


def rule_ranks(
    rules: Sequence[Rule], split: Triples, train: KnownAnswers, known: KnownAnswers
) -> Ranks:
    """Rank both sides of each fact by rules that look up the train split.

    The score of an entity is that of the best rule that gives it; entities that none gives have 0.

    Args:
        rules: the rules.
        split: n facts, all of them known.
        train: answers of the train split.
        known: answers to leave out, of all splits.

    Returns:
        For each side the ranks, float64 (n,), of the facts in their order; ties have the mean rank.
    """
    order = sorted(rules, key=lambda rule: rule.head)
    levels = np.unique([rule.score for rule in order])
    table = np.array([(r.body, r.head, r.reversed) for r in order], np.int64).reshape(-1, 3)
    level = 1 + np.searchsorted(levels, [rule.score for rule in order])
    size = 1 + int(max(split.relation.max(initial=0), table[:, 1].max(initial=0)))
    before = group(table[:, 1], size).offsets
    ranks: Ranks = {}
    for side in SIDES:
        asked = _questions(split, side)
        number = np.diff(before)[asked.relation]
        question = np.repeat(np.arange(len(number)), number)
        rule = np.arange(len(question)) - np.repeat(np.cumsum(number) - number, number)
        rule += np.repeat(before[asked.relation], number)
        lookups = _Lookups(asked.entity[question], table[rule, 0], table[rule, 2] > 0, side, train)
        found = np.empty(len(split), np.float64)
        sizes = np.bincount(question, lookups.counts(), minlength=len(number))
        for start, stop in _blocks(sizes):
            first, last = np.searchsorted(question, (start, stop))
            place, answer = lookups.answers(int(first), int(last))
            of = table[rule[place]]
            itself = (of[:, 2] > 0) & (of[:, 0] == of[:, 1]) & (answer == lookups.entity[place])
            place, answer = place[~itself], answer[~itself]
            given = level[rule[place]]
            found[asked.starts[start] : asked.starts[stop]] = _block_ranks(
                asked, side, known, (start, stop), question[place], answer, given, len(levels) + 1
            )
        ranks[side] = np.empty(len(split), np.float64)
        ranks[side][asked.rows] = found
    return ranks


def column_counts(facts: Triples, num_entities: int, side: Side) -> tuple[Int64, Int64]:
    """Return how many facts have an entity on a side of a relation, where any has.

    Args:
        facts: the facts; repeated ones count as often as they occur.
        num_entities: number of entities E.
        side: which column.

    Returns:
        Ascending keys ``relation * E + entity``, and the counts, both int64 (k,).
    """
    keys = facts.relation.astype(np.int64) * num_entities + getattr(facts, side)
    found, counts = np.unique(keys, return_counts=True)
    return found, counts.astype(np.int64)


def column_ranks(
    columns: dict[Side, tuple[Int64, Int64]], split: Triples, known: KnownAnswers
) -> Ranks:
    """Rank both sides of each fact by scores that depend on the relation and the answer alone.

    Args:
        columns: for each side, keys and positive scores as ``column_counts`` returns them; an
            entity without one has 0.
        split: n facts, all of them known.
        known: answers to leave out, of all splits.

    Returns:
        For each side the ranks, float64 (n,), of the facts in their order; ties have the mean rank.
    """
    size = known.num_entities
    ranks: Ranks = {}
    for side in SIDES:
        keys, scores = columns[side]
        asked = _questions(split, side)
        top = int(scores.max(initial=0)) + 1
        # All entities of a relation's column: sorted by relation and score.
        column = np.sort(keys // size * top + scores)
        found = np.empty(len(split), np.float64)
        for start, stop in _blocks(known.counts(asked.entity, asked.relation, side)):
            offsets, answers = known.gather(
                asked.entity[start:stop], asked.relation[start:stop], side
            )
            question = np.repeat(np.arange(stop - start), np.diff(offsets))
            relation = asked.relation[start:stop]
            held = _looked_up(keys, scores, relation[question] * size + answers)
            left_out = np.sort(question * top + held)
            part = slice(asked.starts[start], asked.starts[stop])
            row = np.repeat(np.arange(stop - start), np.diff(asked.starts[start : stop + 1]))
            level = _looked_up(keys, scores, relation[row] * size + asked.target[part])
            greater, equal = _counts(column, relation[row], level, top)
            nothing = size - np.subtract(
                *(np.searchsorted(column, (relation[row] + more) * top) for more in (1, 0))
            )
            equal = np.where(level == 0, nothing, equal)
            known_greater, known_equal = _counts(left_out, row, level, top)
            found[part] = 1 + greater - known_greater + (equal - known_equal) / 2
        ranks[side] = np.empty(len(split), np.float64)
        ranks[side][asked.rows] = found
    return ranks


def _questions(split: Triples, side: Side) -> _Questions:
    rows, starts = group_by_query(split, side)
    entity, answer = (split.head, split.tail) if side == "tail" else (split.tail, split.head)
    first = rows[starts[:-1]]
    return _Questions(
        entity[first].astype(np.int64),
        split.relation[first].astype(np.int64),
        starts,
        rows.astype(np.int64),
        answer[rows].astype(np.int64),
    )


def _blocks(sizes: NDArray[np.number]) -> Iterator[tuple[int, int]]:
    """Yield ranges of questions that get about ``ANSWERS_AT_ONCE`` answers; at least one each."""
    before = np.append(0, np.cumsum(sizes + 1))
    start = 0
    while start < len(sizes):
        stop = int(np.searchsorted(before, before[start] + ANSWERS_AT_ONCE, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


class _Lookups:
    """What rules look up in the train split, each for a question: (m,) entities and relations."""

    def __init__(
        self,
        entity: Int64,
        relation: Int64,
        reversed: NDArray[np.bool_],
        side: Side,
        train: KnownAnswers,
    ) -> None:
        self.entity, self.relation, self.reversed, self.train = entity, relation, reversed, train
        self.sides = ((False, side), (True, _OTHER[side]))

    def counts(self) -> Int64:
        """Return how many answers each has."""
        found = np.empty(len(self.entity), np.int64)
        for reversed, side in self.sides:
            rows = self.reversed == reversed
            found[rows] = self.train.counts(self.entity[rows], self.relation[rows], side)
        return found

    def answers(self, first: int, last: int) -> tuple[Int64, Int64]:
        """Return the answers of a range of them, with the place of each lookup."""
        places, answers = [], []
        for reversed, side in self.sides:
            rows = first + np.flatnonzero(self.reversed[first:last] == reversed)
            offsets, found = self.train.gather(self.entity[rows], self.relation[rows], side)
            places.append(np.repeat(rows, np.diff(offsets)))
            answers.append(found)
        return np.concatenate(places), np.concatenate(answers)


def _block_ranks(
    asked: _Questions,
    side: Side,
    known: KnownAnswers,
    block: tuple[int, int],
    question: Int64,
    answer: Int64,
    level: Int64,
    top: int,
) -> NDArray[np.float64]:
    """Return the ranks of the targets of a block of questions, from the answers that they get.

    ``level`` is the score's place among all scores, from 1 on and below ``top``.
    """
    start, stop = block
    size = known.num_entities
    key = (question - start) * size + answer
    order = np.lexsort((-level, key))
    key, level = key[order], level[order]
    best = np.ones(len(key), np.bool_)
    best[1:] = key[1:] != key[:-1]
    key, level = key[best], level[best]
    question, answer = key // size, key % size
    entity, relation = asked.entity[start:stop], asked.relation[start:stop]
    new = ~known.contains(entity[question], relation[question], answer[:, None], side)[:, 0]
    held = np.sort(question[new] * top + level[new])
    row = np.repeat(np.arange(stop - start), np.diff(asked.starts[start : stop + 1]))
    target = asked.target[asked.starts[start] : asked.starts[stop]]
    reached = _looked_up(key, level, row * size + target)
    greater, equal = _counts(held, row, reached, top)
    # A fact of the split is known, so that no other answer of it stands in the way.
    others = (
        size
        - known.counts(entity, relation, side)
        - np.bincount(question[new], minlength=len(entity))
    )
    return 1 + greater + np.where(reached == 0, others[row], equal) / 2


def _looked_up(keys: Int64, values: Int64, wanted: Int64) -> Int64:
    """Return the value of each wanted key, 0 where ascending ``keys`` lack it."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _counts(ordered: Int64, part: Int64, level: Int64, top: int) -> tuple[Int64, Int64]:
    """Return how many of a part's levels are above a level, and how many equal it.

    Args:
        ordered: ascending ``part * top + level``.
        part: (n,) which part.
        level: (n,) below ``top``.
        top: more than any level.
    """
    low = np.searchsorted(ordered, part * top + level)
    high = np.searchsorted(ordered, part * top + level, side="right")
    return np.searchsorted(ordered, (part + 1) * top) - high, high - low
