"""What a check of a dataset finds, and what a gate minds of it; see ``data_check``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Optional

from dglke_distill.base.errors import UserError

HELD_OUT = ("valid", "test")

LEAKS = ("copy", "reverse", "inverse", "duplicate", "implied")
"""Kinds of held-out facts that a look into train answers."""


@dataclass(frozen=True)
class HeldFacts:
    """Held-out facts of a kind.

    Attributes:
        facts: how many.
        share: of all facts of the split.
        mrr: filtered MRR on the whole split of a rule that answers from this kind alone; None:
            the split is empty.
    """

    facts: int
    share: float
    mrr: Optional[float]


@dataclass(frozen=True)
class Leak:
    """A kind of leak.

    Attributes:
        kind: ``copy``: the fact itself is in train. ``reverse``: (t, r, h) is. ``inverse``:
            (t, s, h) is, of a relation s of which r is the inverse. ``duplicate``: (h, s, t) is,
            and r and s are near-duplicates. ``implied``: a fact between the two is in train whose
            relation implies r, but r not it. ``any``: one of these.
        valid: of the valid split.
        test: of the test split.
    """

    kind: str
    valid: HeldFacts
    test: HeldFacts


@dataclass(frozen=True)
class RelationLink:
    """Two relations that tell each other's facts, or a symmetric relation.

    Attributes:
        kind: ``symmetric``, ``inverse``, ``duplicate``, ``implied`` or ``implied inverse``; the
            last two are one-way, ``relation`` implies ``other``.
        relation: name.
        other: name; of a symmetric relation the same.
        shared: facts of ``relation`` that ``other`` has too, turned round where the kind says so.
        share: ``shared`` of the facts of ``relation``; loops are not counted for symmetry.
        other_share: ``shared`` of the facts of ``other``.
        valid: held-out facts of the two that train gives away by it.
        test: as ``valid``.
    """

    kind: str
    relation: str
    other: str
    shared: int
    share: float
    other_share: float
    valid: int
    test: int


@dataclass(frozen=True)
class ProductRelation:
    """A relation that holds between nearly all of its heads and nearly all of its tails.

    Attributes:
        relation: name.
        heads: distinct heads, at least two.
        tails: distinct tails, at least two.
        facts: distinct facts.
        share: of heads times tails.
    """

    relation: str
    heads: int
    tails: int
    facts: int
    share: float


@dataclass(frozen=True)
class Repeated:
    """Facts that occur twice: repeats within a split, and held-out facts that another split has.

    Attributes:
        train: lines of train that repeat an earlier one.
        valid: as ``train``.
        test: as ``train``.
        valid_in_train: facts of valid that train has.
        test_in_train: facts of test that train has.
        test_in_valid: facts of test that valid has.
    """

    train: int
    valid: int
    test: int
    valid_in_train: int
    test_in_train: int
    test_in_valid: int


@dataclass(frozen=True)
class Unseen:
    """What train lacks of a held-out split; no model of train can know of it.

    Attributes:
        entities: entities of the split that no train fact has.
        relations: as ``entities``.
        facts: facts with one of these.
        share: of all facts of the split.
    """

    entities: int
    relations: int
    facts: int
    share: float


@dataclass(frozen=True)
class Skew:
    """How uneven the train split is, and what that alone answers.

    Attributes:
        median_degree: train facts of the median entity, as head or tail.
        mean_degree: of the mean entity.
        largest_degree: of the entity with most.
        largest_entity: its name.
        top_share: share of the places of all train facts that the 1 % of entities with most have.
        unused_entities: entities that no train fact has.
        largest_relation: name of the relation with most train facts.
        largest_relation_share: its share of them.
        relations_of_half: how many relations, the largest first, have half of the train facts.
        small_relations: relations with fewer than ten train facts.
        categories: number of relations by how many tails a head has and the other way round, 1-1,
            1-N, N-1, N-N (Bordes et al. 2013; see ``categories``).
        valid_mrr: filtered MRR of answering with the entities that most train facts of the
            relation have on that side, whatever the question; None: the split is empty.
        test_mrr: as ``valid_mrr``.
    """

    median_degree: float
    mean_degree: float
    largest_degree: int
    largest_entity: str
    top_share: float
    unused_entities: int
    largest_relation: str
    largest_relation_share: float
    relations_of_half: int
    small_relations: int
    categories: dict[str, int]
    valid_mrr: Optional[float]
    test_mrr: Optional[float]


@dataclass(frozen=True)
class DataCheck:
    """All findings about a dataset. Nothing found is no error; ``failed`` says what a gate minds.

    Attributes:
        dataset: its name.
        fingerprint: of its facts.
        entities: number of entities.
        relations: number of relations.
        facts: facts of each split.
        threshold: from which share on relations count as linked, or as products.
        leaks: one for each of ``LEAKS``, and ``any``.
        linked: held-out facts whose two entities train links by any fact, in either direction.
        links: relations that tell each other's facts, most held-out facts given away first.
        products: relations that are nearly all of heads times tails, largest first.
        product: held-out facts of these whose head and tail have the relation in train, and what
            answering with the relation's train heads and tails scores.
        repeated: facts that occur twice.
        unseen: by split, what train lacks.
        skew: how uneven train is.
        warnings: what was noted while reading.
    """

    dataset: str
    fingerprint: str
    entities: int
    relations: int
    facts: dict[str, int]
    threshold: float
    leaks: tuple[Leak, ...]
    linked: dict[str, HeldFacts]
    links: tuple[RelationLink, ...]
    products: tuple[ProductRelation, ...]
    product: dict[str, HeldFacts]
    repeated: Repeated
    unseen: dict[str, Unseen]
    skew: Skew
    warnings: tuple[str, ...]

    def leak(self, kind: str) -> Leak:
        """Return the leaks of a kind: one of ``LEAKS``, or ``any``."""
        return next(leak for leak in self.leaks if leak.kind == kind)

    def shares(self) -> dict[str, dict[str, float]]:
        """Return what a gate can mind: kind to the share of each held-out split's facts."""
        found = {leak.kind: {s: getattr(leak, s).share for s in HELD_OUT} for leak in self.leaks}
        found["leak"] = found.pop("any")
        for kind, parts in (("linked", self.linked), ("product", self.product)):
            found[kind] = {name: part.share for name, part in parts.items()}
        found["unseen"] = {name: part.share for name, part in self.unseen.items()}
        repeats = {name: getattr(self.repeated, name) for name in HELD_OUT}
        repeats["test"] += self.repeated.test_in_valid
        found["repeated"] = {name: repeats[name] / max(1, self.facts[name]) for name in HELD_OUT}
        return found

    def failed(self, fail_on: Iterable[str]) -> list[str]:
        """Return a line for each kind whose share of a held-out split is too high.

        Args:
            fail_on: kinds of ``shares``, each alone (no fact is allowed) or with the largest share
                that is, as in ``"reverse=0.01"``.

        Raises:
            UserError: there is no such kind, or the share is none.
        """
        shares = self.shares()
        lines = []
        for text in fail_on:
            kind, allowed = parse_limit(text)
            over = {name: share for name, share in shares[kind].items() if share > allowed}
            if over:
                said = ", ".join(f"{share:.2%} of {name}" for name, share in over.items())
                lines.append(f"{kind}: {said}; at most {allowed:.2%} is allowed")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, in the form that ``data check --json`` prints."""
        return asdict(self)


KINDS = (*LEAKS, "leak", "linked", "product", "unseen", "repeated")
"""What a gate can mind; see ``DataCheck.shares``."""


def parse_limit(text: str) -> tuple[str, float]:
    """Return a kind and the largest share of it that is allowed, of ``KIND`` or ``KIND=SHARE``.

    Raises:
        UserError: there is no such kind, or the share is none.
    """
    kind, sign, number = text.partition("=")
    kind = kind.strip().lower()
    if kind not in KINDS:
        raise UserError(f"--fail-on {text!r:.100}: choose from {', '.join(KINDS)}")
    try:
        allowed = float(number) if sign else 0.0
    except ValueError:
        allowed = math.nan
    if not 0 <= allowed < 1:
        raise UserError(
            f"--fail-on {text!r:.100}: after = stands the largest share that is allowed, from 0 to "
            "below 1, as in reverse=0.01"
        )
    return kind, allowed
