"""One file of facts made into train, valid and test, with nothing in valid or test alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.checks import triple_keys
from dglke_distill.data.triples import Triples
from dglke_distill.errors import UserError

__all__ = ["Split", "split_triples"]

_VISIT_STREAM, _DEAL_STREAM = 1, 2
_STRIDE = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Split:
    """Facts split by us.

    Attributes:
        train: what is left; mentions every entity and every relation.
        valid: held out, in order of ids.
        test: held out, in order of ids.
        duplicates: triples removed before the split because they repeat another.
        wanted: triples that the fractions asked to hold out.
        kept_back: triples chosen to be held out that stayed in train, since without them an
            entity or a relation would occur in valid or test alone.
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
) -> Split:
    """Split facts at random so that train mentions every entity and every relation.

    Duplicates are removed first. Triples are then visited in random order and each is held out
    unless it is the last one left in train for its head, relation or tail, until enough are held
    out. The result depends on the set of facts, the fractions and the seed, not on the order of
    the facts.

    Args:
        triples: the facts.
        num_entities: number of entities.
        num_relations: number of relations.
        fractions: shares of train, valid and test; they sum to 1. Valid or test may be 0.
        seed: of the random order.

    Returns:
        The split; valid and test are smaller than asked where too few triples can be held out.

    Raises:
        UserError: the fractions are unusable, or no triple can be held out at all.
    """
    _check(fractions)
    keys = np.unique(triple_keys(triples, num_entities, num_relations))
    facts = _from_keys(keys, num_entities, num_relations)
    total = len(facts)
    num_valid, num_test = round(total * fractions[1]), round(total * fractions[2])
    wanted = min(num_valid + num_test, total)
    held_out, kept_back = _hold_out(facts, num_entities, num_relations, wanted, seed)
    if wanted and not len(held_out):
        raise UserError(
            f"none of the {total} triples can be held out: each is the only one with its head, "
            f"relation or tail; give train, valid and test files instead"
        )
    # The first ones visited had more to choose from: deal them out at random.
    held_out = held_out[np.argsort(_random_keys(len(held_out), seed, _DEAL_STREAM), kind="stable")]
    if len(held_out) < num_valid + num_test:
        num_valid = round(len(held_out) * fractions[1] / (fractions[1] + fractions[2]))
    in_train = np.ones(total, dtype=bool)
    in_train[held_out] = False
    return Split(
        train=facts[in_train],
        valid=facts[np.sort(held_out[:num_valid])],
        test=facts[np.sort(held_out[num_valid:])],
        duplicates=len(triples) - total,
        wanted=wanted,
        kept_back=kept_back,
    )


def _check(fractions: tuple[float, float, float]) -> None:
    shown = ", ".join(f"{fraction:g}" for fraction in fractions)
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] <= 0:
        raise UserError(f"split fractions {shown}: give three shares, the first above 0")
    if abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f"split fractions {shown} sum to {sum(fractions):g}: make them sum to 1")


def _hold_out(
    facts: Triples, num_entities: int, num_relations: int, wanted: int, seed: int
) -> tuple[NDArray[np.int64], int]:
    """Return the rows to hold out, in order of visit, and how many visited ones had to stay."""
    mentions = np.bincount(facts.head, minlength=num_entities)
    mentions += np.bincount(facts.tail, minlength=num_entities)
    entity_left: list[int] = mentions.tolist()
    relation_left: list[int] = np.bincount(facts.relation, minlength=num_relations).tolist()
    order = np.argsort(_random_keys(len(facts), seed, _VISIT_STREAM), kind="stable")
    held_out: list[int] = []
    kept_back = 0
    for start in range(0, len(order), _STRIDE):
        rows = order[start : start + _STRIDE]
        columns = (facts.head[rows], facts.relation[rows], facts.tail[rows])
        for row, head, relation, tail in zip(rows.tolist(), *(c.tolist() for c in columns)):
            if len(held_out) == wanted:
                return np.asarray(held_out, dtype=np.int64), kept_back
            entity_left[head] -= 1
            entity_left[tail] -= 1
            relation_left[relation] -= 1
            if entity_left[head] and entity_left[tail] and relation_left[relation]:
                held_out.append(row)
            else:
                entity_left[head] += 1
                entity_left[tail] += 1
                relation_left[relation] += 1
                kept_back += 1
    return np.asarray(held_out, dtype=np.int64), kept_back


def _random_keys(count: int, seed: int, stream: int) -> NDArray[np.uint64]:
    """Return ``count`` well-mixed 64-bit numbers, the same in every version of numpy.

    This is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014) from a start that depends on seed and stream.
    """
    start = _mix(np.array([seed % (1 << 64)], dtype=np.uint64))
    start = _mix(start + np.array([stream], dtype=np.uint64) * _GOLDEN)
    return _mix(start + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _from_keys(keys: NDArray[np.int64], num_entities: int, num_relations: int) -> Triples:
    """Invert ``triple_keys``."""
    rest, tail = np.divmod(keys, max(num_entities, 1))
    head, relation = np.divmod(rest, max(num_relations, 1))
    return Triples(head.astype(np.int32), relation.astype(np.int32), tail.astype(np.int32))
