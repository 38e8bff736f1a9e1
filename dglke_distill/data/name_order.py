"""Ids in the order of names, so that the same name means the same id on every machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.layout import NEGATIVE_SPLITS, SPLITS
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

Numbered = tuple[Vocabulary, NDArray[np.int32]]


def in_name_order(dataset: Dataset) -> Dataset:
    """Return the dataset with ids in the order of names by code points, whatever they were."""
    if all(
        all(first < second for first, second in zip(names, names[1:]))
        for names in (tuple(dataset.entities), tuple(dataset.relations))
    ):
        return dataset
    entities = sorted_names(dataset.entities, "entity")
    return with_ids(dataset, entities, sorted_names(dataset.relations, "relation"))


def with_ids(dataset: Dataset, entities: Numbered, relations: Numbered) -> Dataset:
    """Return the dataset with other ids.

    Args:
        dataset: the dataset.
        entities: their names in the order of the new ids and, by old id, the new one.
        relations: the same of the relations.
    """
    (names, new_entity), (kinds, new_relation) = entities, relations
    changes: dict[str, Any] = {"entities": names, "relations": kinds}
    for split in SPLITS + NEGATIVE_SPLITS:
        triples = getattr(dataset, split)
        if triples is not None:
            changes[split] = Triples(
                new_entity[triples.head], new_relation[triples.relation], new_entity[triples.tail]
            )
    if dataset.entity_type is not None:
        changes["entity_type"] = np.empty_like(dataset.entity_type)
        changes["entity_type"][new_entity] = dataset.entity_type
    return dataclasses.replace(dataset, **changes)


def sorted_names(names: Sequence[str], kind: str) -> Numbered:
    """Return the vocabulary in name order and, by old id, the new id."""
    names = tuple(names)
    old_ids = sorted(range(len(names)), key=names.__getitem__)
    new_ids = np.empty(len(names), dtype=np.int32)
    new_ids[old_ids] = np.arange(len(names), dtype=np.int32)
    return Vocabulary([names[i] for i in old_ids], kind=kind), new_ids
