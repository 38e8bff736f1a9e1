"""From names to ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.triples import Triples, Vocabulary
from dglke_distill.errors import UserError

__all__ = ["Name", "id_of", "ids_of", "triples_of"]

Name = Union[str, int]
"""An entity or a relation: its name, or its id."""


def id_of(names: Vocabulary, name: Name) -> int:
    """Return the id of a name; an id passes through.

    Raises:
        UserError: there is no such name (near spellings are suggested), or no such id.
    """
    if isinstance(name, str):
        return names.id(name)
    number = int(name)
    if not 0 <= number < len(names):
        raise UserError(f"{names.kind} id {number}: ids go from 0 to {len(names) - 1}")
    return number


def ids_of(names: Vocabulary, wanted: Iterable[Name]) -> NDArray[np.int64]:
    """Return the ids (n,) of names; see ``id_of``."""
    return np.array([id_of(names, name) for name in wanted], np.int64)


def triples_of(
    entities: Vocabulary, relations: Vocabulary, triples: Iterable[tuple[Name, Name, Name]]
) -> Triples:
    """Return triples given by names or ids in the order head, relation, tail; see ``id_of``."""
    columns = list(zip(*triples)) or [(), (), ()]
    ids = [ids_of(n, c) for n, c in zip((entities, relations, entities), columns)]
    return Triples(*(column.astype(np.int32) for column in ids))
