"""The facts that models were made from, where they can be had without a network."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.checkpoint import LoadedModel
from dglke_distill.data import catalog
from dglke_distill.data.triples import Dataset, Side
from dglke_distill.errors import UserError
from dglke_distill.known_answers import KnownAnswers

__all__ = ["FactShelf", "Role", "main_role", "prominence", "relation_counts"]


class Role(NamedTuple):
    """What an entity mostly is: the ``side`` of facts with ``relation`` (an id)."""

    relation: int
    side: Side


class FactShelf:
    """Indexes of all facts of datasets, each built once.

    Args:
        data_root: folder of datasets already there; see ``data.catalog.load``.
    """

    def __init__(self, data_root: Optional[Path] = None) -> None:
        """Nothing is read yet."""
        self._data_root = data_root
        self._read: dict[str, tuple[Dataset, KnownAnswers]] = {}

    def of(self, loaded: LoadedModel) -> KnownAnswers:
        """Return the index of all facts, of all splits, of a model's dataset.

        Nothing is downloaded.

        Raises:
            UserError: the dataset is not here, cannot be read, or is another one.
        """
        data = loaded.config.data
        key = data.model_dump_json()
        if key not in self._read:
            try:
                dataset = catalog.load(
                    data.dataset,
                    data_root=self._data_root,
                    format=data.format,
                    header=data.header,
                    split_seed=data.split_seed,
                    offline=True,
                )
            except OSError as error:
                raise UserError(f"{data.dataset}: cannot be read ({error})") from None
            splits = [dataset.train, dataset.valid, dataset.test]
            self._read[key] = dataset, KnownAnswers.build(splits, dataset.num_entities)
        dataset, known = self._read[key]
        loaded.check_dataset(dataset, "the model")
        return known


def relation_counts(
    known: KnownAnswers, entity: int, side: Side, relations: int
) -> NDArray[np.int64]:
    """Return how many answers are known per relation.

    Args:
        known: the facts. entity: id of the entity given. side: the side asked for.
        relations: number of relations.

    Returns:
        int64 (relations,).
    """
    first, last = known.offsets[side][entity : entity + 2]
    return np.bincount(known.packed[side][first:last] >> 32, minlength=relations)


def main_role(known: KnownAnswers, entity: int, relations: int) -> Optional[Role]:
    """Return the side and relation that most facts of an entity have; None without any."""
    sides: tuple[tuple[Side, Side], ...] = (("head", "tail"), ("tail", "head"))
    best, most = None, 0
    for side, asked in sides:
        counts = relation_counts(known, entity, asked, relations)
        relation = int(counts.argmax())
        if counts[relation] > most:
            best, most = Role(relation, side), int(counts[relation])
    return best


def prominence(known: KnownAnswers) -> NDArray[np.int64]:
    """Return the number of facts that each entity is part of, int64 (entities,)."""
    counts: NDArray[np.int64] = np.diff(known.offsets["tail"]) + np.diff(known.offsets["head"])
    return counts
