"""What an explanation holds: analogous facts and paths, in names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Optional

from dglke_distill.base.shown import plural
from dglke_distill.data.labels import Labels


@dataclass(frozen=True)
class NamedFact:
    """A train fact.

    Attributes:
        head: name.
        relation: name.
        tail: name.
    """

    head: str
    relation: str
    tail: str


@dataclass(frozen=True)
class Analogy:
    """A train fact of the same relation between similar entities.

    Attributes:
        fact: the fact.
        similarity: the mean of the two below.
        head_similarity: cosine of the vectors of its head and of the head in question.
        tail_similarity: as ``head_similarity``, of the tails.
    """

    fact: NamedFact
    similarity: float
    head_similarity: float
    tail_similarity: float


@dataclass(frozen=True)
class PathSupport:
    """A path of train facts from head to tail, and what paths of its kind are worth.

    Attributes:
        facts: one to three, in the order of the path, each as it stands in train.
        rule: the kind of path; h, x, y, t are entities.
        confidence: share of the pairs connected so that have the relation, the pair in question
            left out; ``hits / pairs``.
        pairs: pairs of different entities that are connected so.
        hits: those that have the relation.
        sampled: whether pairs are those of a sample.
        count: paths of this kind between head and tail.
    """

    facts: tuple[NamedFact, ...]
    rule: str
    confidence: float
    pairs: int
    hits: int
    sampled: bool
    count: int


@dataclass(frozen=True)
class PathKinds:
    """How many kinds of paths there are from head to tail, and what became of them.

    Attributes:
        found: all kinds.
        judged: those whose confidence was worked out: of each length the hundred with fewest
            paths.
        telling: judged ones of which some pair has the relation; an explanation has the first.
    """

    found: int
    judged: int
    telling: int

    def notes(self, shown: int) -> list[str]:
        """Return what an explanation leaves out, a line each.

        Args:
            shown: how many kinds it has.
        """
        left = [
            (self.telling - shown, "of lower confidence, not shown"),
            (self.judged - self.telling, "of which no pair has the relation"),
            (self.found - self.judged, "of most paths, not looked at"),
        ]
        return [f"{plural(n, 'further kind')} of paths, {why}" for n, why in left if n]


@dataclass(frozen=True)
class Explanation:
    """What in the train facts supports a triple. The triple itself never counts as its support.

    Attributes:
        head: name.
        relation: name.
        tail: name.
        score: the model's, as the answer to (head, relation, ?).
        in_train: whether the triple is a train fact.
        facts: analogous facts, most similar first.
        paths: a path for each kind, the kinds of highest confidence first.
        kinds: how many kinds there were, so that it is known what ``paths`` leaves out.
        whole: whether all paths were looked at; else some edges of hubs were left out.
        warnings: what must be known of the facts.
    """

    head: str
    relation: str
    tail: str
    score: float
    in_train: bool
    facts: tuple[Analogy, ...]
    paths: tuple[PathSupport, ...]
    kinds: PathKinds
    whole: bool
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        triple = f"{self.head!r}, {self.relation!r}, {self.tail!r}"
        found = f"{plural(len(self.facts), 'fact')}, {plural(len(self.paths), 'path')}"
        return f"Explanation({triple}: score {self.score:.4f}, {found})"

    def to_dict(self, labels: Optional[Labels] = None) -> dict[str, Any]:
        """Return all of it as plain values.

        Args:
            labels: adds ``labels``, those of all entities named, where there are any.
        """
        tree = asdict(self)
        if labels is not None and labels.labels:
            named = {self.head, self.tail}
            for fact in self.all_facts():
                named |= {fact.head, fact.tail}
            tree["labels"] = {name: labels.of(name) for name in sorted(named) if labels.of(name)}
        return tree

    def all_facts(self) -> Iterator[NamedFact]:
        """Yield every supporting fact, those of paths last."""
        yield from (analogy.fact for analogy in self.facts)
        for path in self.paths:
            yield from path.facts
