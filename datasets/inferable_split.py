"""Split a graph so that each held-out fact can be inferred, and none can be looked up.

A fact is held out only if something else in the training graph argues for it: another entity has
the same answer to the same relation and shares telling facts with the entity in question. (Is the
Euro used in Slovenia? Slovakia uses it, and both lie in the European Union and follow Central
European Time.) No randomness but a hash of each fact, so the result is the same everywhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import sha256

Fact = tuple[str, str, str]

HELD_OUT_SHARE = 0.2
"""Share of all facts in valid and test together, where enough facts can be inferred."""
MOST_HELD_OUT_PER_RELATION = 0.3
"""Largest share of one relation's facts that is held out."""
TELLING_LIMIT = 60
"""A fact that more entities than this have in common tells nothing about likeness."""
SHARED_FACTS_NEEDED = 2
"""How many telling facts two entities must share for one to argue for the other."""
DEGREE_LEFT = 2
"""Fewest facts that an entity keeps in train."""


def prune(facts: set[Fact]) -> set[Fact]:
    """Drop entities that occur in a single fact: nothing can be learned about them."""
    while True:
        degree = Counter(entity for fact in facts for entity in (fact[0], fact[2]))
        kept = {fact for fact in facts if degree[fact[0]] > 1 and degree[fact[2]] > 1}
        if len(kept) == len(facts):
            return kept
        facts = kept


def one_fact_per_pair(facts: set[Fact]) -> set[Fact]:
    """Keep one fact for each unordered pair of entities, so that no fact gives another away."""
    pairs: dict[tuple[str, str], Fact] = {}
    for fact in sorted(facts):
        first, second = sorted((fact[0], fact[2]))
        pairs.setdefault((first, second), fact)
    return set(pairs.values())


class Evidence:
    """The training graph, asked whether a fact that is not in it could be inferred from it."""

    def __init__(self, facts: set[Fact]) -> None:
        """Index the facts from both of their ends."""
        self.around: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
        self.having: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> None:
        """Put a fact into the training graph."""
        for entity, seen in _both_ends(fact):
            self.around[entity].add(seen)
            self.having[seen].add(entity)

    def remove(self, fact: Fact) -> None:
        """Take a fact out of the training graph."""
        for entity, seen in _both_ends(fact):
            self.around[entity].discard(seen)
            self.having[seen].discard(entity)

    def supports(self, fact: Fact) -> bool:
        """Return whether a like entity has the same answer, seen from either end."""
        return any(self._alike(entity, seen) for entity, seen in _both_ends(fact))

    def _alike(self, entity: str, answer: tuple[str, str, str]) -> bool:
        shared: Counter[str] = Counter()
        for seen in self.around[entity] - {answer}:
            if len(self.having[seen]) <= TELLING_LIMIT:
                shared.update(self.having[seen])
        return any(shared[other] >= SHARED_FACTS_NEEDED for other in self.having[answer] - {entity})


def _both_ends(fact: Fact) -> list[tuple[str, tuple[str, str, str]]]:
    head, relation, tail = fact
    return [(head, ("out", relation, tail)), (tail, ("in", relation, head))]


def split(facts: set[Fact], seed: str) -> dict[str, list[Fact]]:
    """Part facts into train, valid and test, of about 80, 10 and 10 percent.

    Every entity and relation of valid and test occurs in train, and every held-out fact is
    supported by the train facts alone (see `Evidence`).
    """
    order = sorted(facts, key=lambda fact: sha256("\t".join((seed, *fact)).encode()).digest())
    room = {
        relation: int(count * MOST_HELD_OUT_PER_RELATION)
        for relation, count in Counter(fact[1] for fact in facts).items()
    }
    degree = Counter(entity for fact in facts for entity in (fact[0], fact[2]))
    evidence = Evidence(facts)
    held_out: list[Fact] = []
    for fact in order:
        if len(held_out) >= HELD_OUT_SHARE * len(facts):
            break
        head, relation, tail = fact
        if min(degree[head], degree[tail]) <= DEGREE_LEFT or room[relation] == 0:
            continue
        if evidence.supports(fact):
            evidence.remove(fact)
            degree.subtract((head, tail))
            room[relation] -= 1
            held_out.append(fact)
    # Evidence for an early fact may have been held out after it: such facts go back into train.
    # Putting one back only adds evidence for the others... unless it makes a fact less telling,
    # hence until nothing changes.
    while True:
        unsupported = [fact for fact in held_out if not evidence.supports(fact)]
        if not unsupported:
            break
        for fact in unsupported:
            evidence.add(fact)
        held_out = [fact for fact in held_out if fact not in set(unsupported)]
    return {
        "train": sorted(facts - set(held_out)),
        "valid": sorted(held_out[0::2]),
        "test": sorted(held_out[1::2]),
    }
