"""Datasets made of triples that were read: split up if they are of one file, checked, noted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.checks import find_warnings
from dglke_distill.data.split import split_triples, weights_of
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

Weight = Optional[NDArray[np.float32]]
"""How much each fact of train counts, (train,); None: all alike."""


_EMPTY = {
    "valid": "valid is empty: the last model is kept instead of the best",
    "test": "test is empty: no test figures can be given",
}
"""What a training without a split loses."""


def of_the_data(warnings: Iterable[str]) -> list[str]:
    """Return the warnings of a dataset without those that a training alone is concerned with.

    Args:
        warnings: as ``Dataset`` has them.
    """
    return [line for line in warnings if line not in _EMPTY.values()]


def split_up(
    label: tuple[str, str, str],
    facts: Triples,
    entities: Vocabulary,
    relations: Vocabulary,
    warnings: list[str],
    weight: Weight,
    split_seed: int,
    split_fractions: tuple[float, float, float],
) -> Dataset:
    """Return the dataset of facts that are to be split.

    Args:
        label: what errors call them, what warnings do, and the dataset's name.
        facts: the facts.
        entities: names by id.
        relations: names by id.
        warnings: what was noted so far; receives more.
        weight: (facts,) float32, how much each counts; None: all alike.
        split_seed: seed of the split.
        split_fractions: shares of train, valid and test.

    Raises:
        UserError: no fact can be held out, or every weight is 0.
    """
    place, short, name = label
    try:
        split = split_triples(
            facts,
            len(entities),
            len(relations),
            fractions=split_fractions,
            seed=split_seed,
            entities=entities,
            relations=relations,
        )
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    if split.duplicates:
        warnings.append(f"{short}: {plural(split.duplicates, 'duplicate triple')} removed")
    held_out = len(split.valid) + len(split.test)
    stayed = ""
    if split.kept_back:
        stayed = (
            f"; {plural(split.kept_back, 'chosen triple')} could not be held out without leaving "
            "an entity or relation out of train"
        )
    warnings.append(
        f"{short}: split with seed {split_seed} into {len(split.train)} train, "
        f"{len(split.valid)} valid and {plural(len(split.test), 'test triple')}{stayed}"
        + (f", so {held_out} of {split.wanted} were" if held_out < split.wanted else "")
    )
    splits = {"train": split.train, "valid": split.valid, "test": split.test}
    if weight is not None:
        weight = weights_of(split.train, facts, weight, len(entities), len(relations))
    return finished(name, splits, entities, relations, warnings, weight)


def finished(
    name: str,
    splits: dict[str, Triples],
    entities: Vocabulary,
    relations: Vocabulary,
    warnings: list[str],
    weight: Weight = None,
) -> Dataset:
    """Return the dataset of splits.

    Args:
        name: of the dataset.
        splits: triples by split.
        entities: names by id.
        relations: names by id.
        warnings: what was noted so far; receives more.
        weight: (train,) float32, how much each fact of train counts; None: all alike.

    Raises:
        UserError: train is empty, or every weight is 0.
    """
    if not len(splits["train"]):
        raise UserError(f"{name}: the train split is empty; give it one fact per line")
    warnings += [line for split, line in _EMPTY.items() if not len(splits[split])]
    warnings += find_warnings(splits, entities, relations)
    if weight is not None and not weight.any():
        raise UserError(f"{name}: every weight is 0; give some facts one above")
    fields: dict[str, Any] = dict(splits)
    return Dataset(
        name, entities, relations, warnings=tuple(warnings), train_weight=weight, **fields
    )
