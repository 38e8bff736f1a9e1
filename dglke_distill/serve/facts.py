"""The facts that models were made from, where they can be had without a network."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.identity import Lookup
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.labels import Labels
from dglke_distill.data.triples import Side, Triples


class Role(NamedTuple):
    """What an entity mostly is: the ``side`` of facts with ``relation`` (an id)."""

    relation: int
    side: Side


class FactShelf:
    """Indexes of all facts of datasets, each built once.

    Args:
        lookup: where the models' dataset is looked for; nothing is downloaded.
    """

    def __init__(self, lookup: Lookup = Lookup()) -> None:  # noqa: B008 (immutable)
        """Nothing is read yet."""
        self._lookup = lookup._replace(offline=True)
        self._read: dict[Any, tuple[KnownAnswers, list[str]]] = {}

    def of(self, loaded: LoadedModel) -> tuple[KnownAnswers, list[str]]:
        """Return the index of all facts, of all splits, of a model's dataset.

        Nothing is downloaded.

        Args:
            loaded: the model.

        Returns:
            The index, and what must be known of it.

        Raises:
            UserError: the dataset is not here, cannot be read, or is another one.
        """
        names = loaded.entities.fingerprint, loaded.relations.fingerprint
        key = (loaded.identity, names, loaded.known_file)
        if key not in self._read:
            try:
                self._read[key] = loaded.known_facts(self._lookup)
            except OSError as error:
                raise UserError(f"{loaded.dataset_name}: cannot be read ({error})") from None
        return self._read[key]

    def trained(self, loaded: LoadedModel) -> tuple[Triples, list[str]]:
        """Return the train facts of a model, and what must be known of them.

        Args:
            loaded: the model.

        Raises:
            UserError: they are not here, cannot be read, or are others.
        """
        return loaded.train_facts(self._lookup)

    def labels(self, loaded: LoadedModel) -> Labels:
        """Return the labels of a model's entities; there may be none.

        Args:
            loaded: the model.

        Raises:
            UserError: a file of labels is malformed.
        """
        return loaded.find_labels(dataset=self._lookup.dataset, data_root=self._lookup.data_root)


def relation_counts(
    known: KnownAnswers, entity: int, side: Side, relations: int
) -> NDArray[np.int64]:
    """Return how many answers are known per relation.

    Args:
        known: the facts.
        entity: id of the entity given.
        side: the side asked for.
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
