"""What is legal but noteworthy in a dataset: duplicates, leakage, entities never seen in train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.triples import Triples, Vocabulary

_MOST_NAMES = 1_000_000
"""Names that are looked through one by one."""


def triple_keys(triples: Triples, num_entities: int, num_relations: int) -> NDArray[np.int64]:
    """Return one int64 per triple, equal for equal triples and ordered by head, relation, tail.

    Raises:
        UserError: there are too many entities and relations for 63 bits.
    """
    if num_entities * num_relations * num_entities >= 1 << 63:
        raise UserError(
            f"{num_entities} entities and {num_relations} relations are too many: entities squared "
            f"times relations must stay below 2**63"
        )
    keys = triples.head.astype(np.int64)
    keys *= num_relations
    keys += triples.relation
    keys *= num_entities
    keys += triples.tail
    return keys


def triples_of_keys(keys: NDArray[np.int64], num_entities: int, num_relations: int) -> Triples:
    """Return the triples of what ``triple_keys`` returned."""
    rest, tail = np.divmod(keys, max(num_entities, 1))
    head, relation = np.divmod(rest, max(num_relations, 1))
    return Triples(head.astype(np.int32), relation.astype(np.int32), tail.astype(np.int32))


def find_warnings(
    splits: Mapping[str, Triples], entities: Vocabulary, relations: Vocabulary
) -> list[str]:
    """Say what a user should know before trusting figures on these splits.

    Args:
        splits: ``train``, ``valid``, ``test`` and, where they exist, ``valid_negatives`` and
            ``test_negatives``.
        entities: names of entities, for examples.
        relations: names of relations, for examples.

    Returns:
        One sentence each, in a fixed order; empty when all is well.
    """

    def example(split: str, row: int) -> str:
        triples = splits[split]
        head, tail = entities[triples.head[row]], entities[triples.tail[row]]
        return f"({head}, {relations[triples.relation[row]]}, {tail})"

    keys = {
        name: triple_keys(triples, len(entities), len(relations))
        for name, triples in splits.items()
    }
    warnings: list[str] = []
    distinct: dict[str, NDArray[np.int64]] = {}
    for name, column in keys.items():
        distinct[name] = np.sort(column)
        if (distinct[name][1:] == distinct[name][:-1]).any():
            distinct[name], first = np.unique(column, return_index=True)
            repeated = np.ones(len(column), dtype=bool)
            repeated[first] = False
            warnings.append(
                f"{name}: {plural(int(repeated.sum()), 'duplicate triple')} kept, e.g. "
                f"{example(name, int(np.argmax(repeated)))}"
            )
    for name, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        leaked = _among(keys[name], distinct[other])
        if leaked.any():
            warnings.append(
                f"{name}: {plural(int(leaked.sum()), 'triple')} also in {other}, e.g. "
                f"{example(name, int(np.argmax(leaked)))}"
            )
    for name, facts in (("valid_negatives", "valid"), ("test_negatives", "test")):
        if name in keys:
            known = _among(keys[name], distinct["train"]) | _among(keys[name], distinct[facts])
            if known.any():
                warnings.append(
                    f"{name}: {plural(int(known.sum()), 'triple')} given as false but also as a "
                    f"fact, e.g. {example(name, int(np.argmax(known)))}"
                )
    warnings += _in_quotes(entities, relations)
    return warnings + _unseen(splits, entities, relations)


def _in_quotes(entities: Vocabulary, relations: Vocabulary) -> list[str]:
    """Say which names stand both with quotes around them, which are part of a name, and without."""
    found = []
    for kind, names in (("entity", entities), ("relation", relations)):
        if len(names) > _MOST_NAMES or not names.named:
            continue
        quoted = [name for name in names if name[:1] == name[-1:] == '"' and name[1:-1] in names]
        if quoted:
            found.append(
                f"{plural(len(quoted), kind)} with quotes around the name and without, e.g. "
                f"{quoted[0]} and {quoted[0][1:-1]}: they count as two; leave the quotes out"
            )
    return found


def _among(keys: NDArray[np.int64], ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each key occurs in ``ordered``, which is sorted."""
    if not len(ordered):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[place] == keys
    return found


def _unseen(
    splits: Mapping[str, Triples], entities: Vocabulary, relations: Vocabulary
) -> list[str]:
    train = splits["train"]
    entity_seen = np.zeros(len(entities), dtype=bool)
    entity_seen[train.head] = True
    entity_seen[train.tail] = True
    relation_seen = np.zeros(len(relations), dtype=bool)
    relation_seen[train.relation] = True
    warnings = []
    for name in ("valid", "test"):
        split = splits[name]
        new_head, new_tail = ~entity_seen[split.head], ~entity_seen[split.tail]
        rows = new_head | new_tail
        if rows.any():
            ids = np.union1d(split.head[new_head], split.tail[new_tail])
            count = len(ids)
            what = plural(count, "entity")
            warnings.append(
                f"{name}: {plural(int(rows.sum()), 'triple')} with {what} never seen in train, "
                f"e.g. {entities[ids[0]]}"
            )
        new = ~relation_seen[split.relation]
        if new.any():
            ids = np.unique(split.relation[new])
            warnings.append(
                f"{name}: {plural(int(new.sum()), 'triple')} with "
                f"{plural(len(ids), 'relation')} never seen in train, e.g. {relations[ids[0]]}"
            )
    return warnings
