"""What kinds of things entities are: given in a file, or learned from the facts they stand in.

Facts say which entities a relation meets on each side; those are its *observed* range and domain.
An entity's learned type is its main role: the side and relation that most of its facts have. Types
widen an observed range to entities that are alike but were not seen there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.base.spelling import known_names, likely_names
from dglke_distill.data.text import lines
from dglke_distill.data.triples import SIDES, Side, Triples, Vocabulary

TYPES_FILE = "types.tsv"
"""Where a dataset's folder may say what its entities are."""

COMMON = 0.05
"""Share of a relation's observed answers that must have a type for the type to fit."""

Int64 = NDArray[np.int64]


def types_beside(dataset: Optional[str]) -> Optional[Path]:
    """Return the file of types in the folder of a dataset; None without one.

    Args:
        dataset: the folder, or a name, or None.
    """
    place = None if dataset is None else Path(dataset) / TYPES_FILE
    return place if place is not None and place.is_file() else None


class EntityTypes:
    """Types with names; an entity may have several, or none.

    Args:
        ids: type to its entities, ascending int64 ids.
        source: the file, for messages.
    """

    def __init__(self, ids: Mapping[str, Int64], source: str) -> None:
        """Keep the types."""
        self.ids = dict(ids)
        self.source = source

    def entities(self, name: str) -> Int64:
        """Return the entities of a type, ascending.

        Raises:
            UserError: there is no such type; near spellings are suggested.
        """
        found = self.ids.get(name)
        if found is None:
            near = likely_names(name, tuple(self.ids))
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else known_names(self.ids)
            raise UserError(f"{self.source} has no type {name!r:.100}; {hint}")
        return found

    def fitting(self, observed: Int64) -> Int64:
        """Return the entities that have a type which a share of those observed has.

        Args:
            observed: ascending ids.

        Returns:
            Ascending ids, those observed included.
        """
        least = max(1.0, COMMON * len(observed))
        kinds = [
            ids
            for ids in self.ids.values()
            if len(np.intersect1d(ids, observed, assume_unique=True)) >= least
        ]
        return np.unique(np.concatenate([observed, *kinds]))


def read_types(path: Path, entities: Vocabulary) -> EntityTypes:
    """Read a file of lines ``entity<TAB>type``; an entity may have several lines.

    Args:
        path: the file.
        entities: the model's; the file may name others, which are left out.

    Raises:
        UserError: the file cannot be read, a line has not two columns, or none of its entities is
            one of the model's.
    """
    found: dict[str, list[int]] = {}
    for number, line in _lines(path):
        parts = line.split("\t")
        if len(parts) != 2 or not parts[0] or not parts[1].strip():
            raise UserError(
                f"{path}, line {number}: {plural(len(parts), 'column')}, where an entity and its "
                "type are wanted, with one tab between them"
            )
        if parts[0] in entities:
            found.setdefault(parts[1].strip(), []).append(entities.id(parts[0]))
    if not found:
        raise UserError(
            f"{path}: names none of the model's {len(entities):,} entities; are its columns entity "
            "and type?"
        )
    return EntityTypes({name: np.unique(ids) for name, ids in found.items()}, str(path))


def read_entity_list(path: Path, id_of: Callable[[str], int]) -> Int64:
    """Read a file with an entity on each line.

    Args:
        path: the file.
        id_of: returns an entity's id, or raises a UserError.

    Returns:
        Their ids, ascending, each once.

    Raises:
        UserError: the file cannot be read, is empty, or names an unknown entity.
    """
    found = []
    for number, line in _lines(path):
        try:
            found.append(id_of(line.strip()))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not found:
        raise UserError(f"{path}: names no entity; write one on each line")
    return np.unique(np.array(found, np.int64))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers."""
    return ((number, line) for number, line in lines(path) if line.strip())


class Ranges:
    """Which entities the facts of each relation have on each side.

    Args:
        facts: the facts, of which repeated ones count once.
        num_entities: number of entities.
        num_relations: number of relations.
    """

    def __init__(self, facts: Triples, num_entities: int, num_relations: int) -> None:
        """Sort the pairs of relation and entity; 8 bytes for each fact and side."""
        self.num_entities, self.num_relations = num_entities, num_relations
        self._pairs: dict[Side, Int64] = {}
        self._facts: dict[Side, Int64] = {}
        for side in SIDES:
            column = facts.tail if side == "tail" else facts.head
            words = facts.relation.astype(np.int64) * num_entities + column
            self._pairs[side], self._facts[side] = np.unique(words, return_counts=True)

    def observed(self, relation: int, side: Side) -> Int64:
        """Return the entities that facts of a relation have on a side, ascending."""
        bounds = np.array([relation, relation + 1], np.int64) * self.num_entities
        first, last = np.searchsorted(self._pairs[side], bounds)
        return self._pairs[side][first:last] - bounds[0]

    @cached_property
    def learned(self) -> Int64:
        """The learned type of each entity, (entities,): its main role; -1 without facts.

        Of several roles with equally many facts it is the first.
        """
        entity = np.concatenate([self._pairs[side] % self.num_entities for side in SIDES])
        role = np.concatenate(
            [2 * (self._pairs[side] // self.num_entities) + i for i, side in enumerate(SIDES)]
        )
        count = np.concatenate([self._facts[side] for side in SIDES])
        order = np.lexsort((role, -count, entity))
        first = order[np.unique(entity[order], return_index=True)[1]]
        types = np.full(self.num_entities, -1, np.int64)
        types[entity[first]] = role[first]
        return types

    def alike(self, observed: Int64) -> Int64:
        """Return the entities whose learned type a share of those observed has; see ``COMMON``.

        Args:
            observed: ascending ids.

        Returns:
            Ascending ids, those observed included.
        """
        types = self.learned
        counts = np.bincount(types[observed], minlength=2 * self.num_relations)
        fits = counts >= max(1.0, COMMON * len(observed))
        alike = np.flatnonzero(np.append(fits, False)[types])
        return np.unique(np.concatenate([observed, alike]))
