"""One file of facts made into train, valid and test, with nothing in valid or test alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.data.checks import triple_keys, triples_of_keys
from dglke_distill.data.fingerprints import name_hashes
from dglke_distill.data.triples import Triples

_STRIDE = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SCALE = 1 << 53


@dataclass(frozen=True)
class Split:
    """Facts split by us.

    Attributes:
        train: what is left; mentions every entity and every relation.
        valid: held out, in order of ids.
        test: held out, in order of ids.
        duplicates: triples removed before the split because they repeat another.
        wanted: triples whose own number said that they be held out.
        kept_back: triples of these that stayed in train, since without them an entity or a
            relation would occur in valid or test alone.
    """

    train: Triples
    valid: Triples
    test: Triples
    duplicates: int
    wanted: int
    kept_back: int


def split_triples(
    triples: Triples,
    num_entities: int,
    num_relations: int,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    entities: Optional[Sequence[str]] = None,
    relations: Optional[Sequence[str]] = None,
) -> Split:
    """Split facts so that each keeps its side when others are added, and train mentions all.

    Duplicates are removed first. A triple has a number in [0, 1): a hash of its three names and
    the seed, and of nothing else. Below the share of test it goes to test, below the shares of
    test and valid together to valid, else to train: so the shares are met on average, and a triple
    has the same side in every file. Two rules bend this, so that models can be trained and ranked:

    - The triples to be held out are looked at by rising number, and one that is the last left with
      its head, relation or tail stays in train. Only such a triple can move when facts are
      appended: to the side that its number says, once others mention what it alone had mentioned.
    - Where a share above 0 got no triple, test first, it gets the triple of train with the lowest
      number that can be spared; failing that, one of the other share, if that has two or more.

    The result depends on the set of facts, the fractions and the seed, not on the order of lines.

    Args:
        triples: the facts.
        num_entities: number of entities.
        num_relations: number of relations.
        fractions: shares of train, valid and test; they sum to 1. Valid or test may be 0.
        seed: other seeds give other numbers.
        entities: names of entities in id order; None: the ids are the names.
        relations: names of relations in id order; None: the ids are the names.

    Returns:
        The split; valid and test are smaller than asked where too few triples can be held out.

    Raises:
        UserError: the fractions are unusable, or no triple can be held out at all.
    """
    _check(fractions)
    keys = np.unique(triple_keys(triples, num_entities, num_relations))
    facts = triples_of_keys(keys, num_entities, num_relations)
    total = len(facts)
    numbers = _numbers(
        facts,
        range(num_entities) if entities is None else entities,
        range(num_relations) if relations is None else relations,
        seed,
    )
    bounds = round(fractions[2] * _SCALE), round((fractions[1] + fractions[2]) * _SCALE)
    # 0: test, 1: valid, 2: train
    side = np.searchsorted(np.array(bounds, dtype=np.uint64), numbers, side="right")
    left = _Left(facts, num_entities, num_relations)
    wanted = int((side != 2).sum())
    kept_back = _keep_back(facts, side, numbers, left)
    _fill(facts, side, numbers, left, fractions)
    if max(fractions[1:]) > 0 and total and (side == 2).all():
        what = "the only triple" if total == 1 else f"none of the {total:,} triples"
        can = "cannot" if total == 1 else "can"
        raise UserError(
            f"{what} {can} be held out: {'it' if total == 1 else 'each'} is the only one with its "
            "head, relation or tail; give train, valid and test files instead"
        )
    return Split(
        train=facts[side == 2],
        valid=facts[side == 1],
        test=facts[side == 0],
        duplicates=len(triples) - total,
        wanted=wanted,
        kept_back=kept_back,
    )


def weights_of(
    chosen: Triples,
    triples: Triples,
    weights: NDArray[np.float32],
    num_entities: int,
    num_relations: int,
) -> NDArray[np.float32]:
    """Return the weights of facts that were chosen from others; those of duplicates are summed.

    Args:
        chosen: some of the facts, each once.
        triples: all facts, with duplicates.
        weights: (triples,), of all facts.
        num_entities: number of entities.
        num_relations: number of relations.

    Returns:
        (chosen,) float32.
    """
    distinct, places = np.unique(
        triple_keys(triples, num_entities, num_relations), return_inverse=True
    )
    summed = np.bincount(places.reshape(-1), weights, len(distinct))
    keys = triple_keys(chosen, num_entities, num_relations)
    found: NDArray[np.float32] = summed[np.searchsorted(distinct, keys)].astype(np.float32)
    return found


def _check(fractions: tuple[float, float, float]) -> None:
    shown = ", ".join(f"{fraction:g}" for fraction in fractions)
    if len(fractions) != 3 or not min(fractions) >= 0 or fractions[0] <= 0:
        raise UserError(f"split fractions {shown}: give three shares, the first above 0")
    if not abs(sum(fractions) - 1) <= 1e-6:
        raise UserError(f"split fractions {shown} sum to {sum(fractions):g}: make them sum to 1")


class _Left:
    """How often train mentions every entity and relation."""

    def __init__(self, facts: Triples, num_entities: int, num_relations: int) -> None:
        mentions = np.bincount(facts.head, minlength=num_entities)
        mentions += np.bincount(facts.tail, minlength=num_entities)
        self.entity: list[int] = mentions.tolist()
        self.relation: list[int] = np.bincount(facts.relation, minlength=num_relations).tolist()

    def spare(self, head: int, relation: int, tail: int) -> bool:
        """Take a triple away if its head, relation and tail are all mentioned without it."""
        self._count(head, relation, tail, -1)
        if self.entity[head] and self.entity[tail] and self.relation[relation]:
            return True
        self._count(head, relation, tail, 1)
        return False

    def _count(self, head: int, relation: int, tail: int, step: int) -> None:
        self.entity[head] += step
        self.entity[tail] += step
        self.relation[relation] += step


def _keep_back(
    facts: Triples, side: NDArray[np.int64], numbers: NDArray[np.uint64], left: _Left
) -> int:
    """Put triples that train needs back there; return how many. ``left`` then counts train."""
    held = np.flatnonzero(side != 2)
    held = held[np.argsort(numbers[held], kind="stable")]
    kept_back = 0
    for start in range(0, len(held), _STRIDE):
        chosen = held[start : start + _STRIDE]
        for row, fact in zip(chosen.tolist(), _rows(facts, chosen)):
            if not left.spare(*fact):
                side[row] = 2
                kept_back += 1
    return kept_back


def _fill(
    facts: Triples,
    side: NDArray[np.int64],
    numbers: NDArray[np.uint64],
    left: _Left,
    fractions: tuple[float, float, float],
) -> None:
    """Give an empty share a triple, if there is one to give."""
    for empty, other, share in ((0, 1, fractions[2]), (1, 0, fractions[1])):
        if share <= 0 or (side == empty).any():
            continue
        train = np.flatnonzero(side == 2)
        train = train[np.argsort(numbers[train], kind="stable")]
        for start in range(0, len(train), _STRIDE):
            chosen = train[start : start + _STRIDE]
            found = (r for r, f in zip(chosen.tolist(), _rows(facts, chosen)) if left.spare(*f))
            row = next(found, None)
            if row is not None:
                side[row] = empty
                break
        else:
            others = np.flatnonzero(side == other)
            if len(others) > 1:
                side[others[np.argmin(numbers[others])]] = empty


def _rows(facts: Triples, rows: NDArray[np.int64]) -> zip[tuple[int, int, int]]:
    columns = (facts.head[rows], facts.relation[rows], facts.tail[rows])
    return zip(*(column.tolist() for column in columns))


def _numbers(
    facts: Triples, entities: Sequence[object], relations: Sequence[object], seed: int
) -> NDArray[np.uint64]:
    """Return 53 bits for every triple, of its names and the seed alone.

    The names' hashes (blake2b, keyed by the seed) are mixed one after the other, so that head and
    tail count differently, by the finisher of splitmix64 (Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014).
    """
    key = str(seed).encode()[:64]
    entity = name_hashes([str(name) for name in entities], key)
    relation = name_hashes([str(name) for name in relations], key)
    state = _mix(entity[facts.head] + _GOLDEN)
    state = _mix((state ^ relation[facts.relation]) + _GOLDEN)
    state = _mix((state ^ entity[facts.tail]) + _GOLDEN)
    return state >> np.uint64(11)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
