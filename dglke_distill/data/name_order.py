"""Ids in the order of names, so that the same name means the same id on every machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.layout import NEGATIVE_SPLITS, SPLITS
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

__all__ = ["in_name_order", "sorted_names"]


def in_name_order(dataset: Dataset) -> Dataset:
    """Return the dataset with ids in the order of names by code points, whatever they were."""
    if all(
        all(first < second for first, second in zip(names, names[1:]))
        for names in (tuple(dataset.entities), tuple(dataset.relations))
    ):
        return dataset
    entities, new_entity = sorted_names(dataset.entities, "entity")
    relations, new_relation = sorted_names(dataset.relations, "relation")

    def renumber(triples: Optional[Triples]) -> Optional[Triples]:
        if triples is None:
            return None
        return Triples(
            new_entity[triples.head], new_relation[triples.relation], new_entity[triples.tail]
        )

    renumbered: dict[str, Any] = {
        split: renumber(getattr(dataset, split)) for split in SPLITS + NEGATIVE_SPLITS
    }
    entity_type = None
    if dataset.entity_type is not None:
        entity_type = np.empty_like(dataset.entity_type)
        entity_type[new_entity] = dataset.entity_type
    return dataclasses.replace(
        dataset, entities=entities, relations=relations, entity_type=entity_type, **renumbered
    )


def sorted_names(names: Sequence[str], kind: str) -> tuple[Vocabulary, NDArray[np.int32]]:
    """Return the vocabulary in name order and, by old id, the new id."""
    names = tuple(names)
    old_ids = sorted(range(len(names)), key=names.__getitem__)
    new_ids = np.empty(len(names), dtype=np.int32)
    new_ids[old_ids] = np.arange(len(names), dtype=np.int32)
    return Vocabulary([names[i] for i in old_ids], kind=kind), new_ids
