"""From names to ids."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import Triples, Vocabulary

__all__ = [
    "Name",
    "Question",
    "by_asked",
    "checked_ids",
    "id_of",
    "ids_of",
    "rows_of",
    "triples_of",
]

Name = Union[str, int]
"""An entity or a relation: its name, or its id where no name is a number."""


Question = tuple[Optional[Name], Optional[Name], Optional[Name]]
"""Head, relation, tail; what is asked for is None. With none, the triple itself is judged."""


def id_of(names: Vocabulary, name: Name) -> int:
    """Return the id of a name; an id passes through where it cannot be taken for a name.

    Raises:
        UserError: there is no such name (near spellings are suggested), or no such id; or it is a
            number where names are numbers that are not their ids, or it is neither text nor a
            whole number.
    """
    if isinstance(name, str):
        return names.id(name)
    try:
        number = operator.index(name)
        if isinstance(name, (bool, np.bool_)):
            raise TypeError
    except TypeError:
        raise UserError(
            f"{names.kind} {name!r}: give its name as text, or its id as a whole number"
        ) from None
    if not 0 <= number < len(names):
        hint = f"; for the name give the text {str(number)!r}" if str(number) in names else ""
        raise UserError(
            f"{names.kind} id {number}: ids go from 0 to {max(0, len(names) - 1)}{hint}"
        )
    if names.numeral is not None:
        raise UserError(
            f"{names.kind} {number}: may be a name or an id, since names here are numbers, such as "
            f"{names.numeral!r}; give the name as text, {str(number)!r}, or for the id its name, "
            f"{names[number]!r}"
        )
    return number


def ids_of(names: Vocabulary, wanted: Union[Tensor, Iterable[Name]]) -> NDArray[np.int64]:
    """Return the ids (n,) of names; see ``id_of``. A tensor holds ids, whatever the names are.

    Raises:
        UserError: see ``id_of``; or a tensor holds what is no id.
    """
    if isinstance(wanted, Tensor):
        return checked_ids(names, wanted)
    return np.array([id_of(names, name) for name in wanted], np.int64)


def checked_ids(names: Vocabulary, ids: Tensor) -> NDArray[np.int64]:
    """Return a tensor of ids as an array.

    Raises:
        UserError: it holds something else.
    """
    if ids.is_floating_point() or ids.is_complex():
        raise UserError(f"{names.kind} ids are whole numbers, not {ids.dtype}")
    array: NDArray[np.int64] = ids.detach().cpu().numpy().astype(np.int64)
    if array.size and not 0 <= array.min() <= array.max() < len(names):
        wrong = array.min() if array.min() < 0 else array.max()
        raise UserError(f"{names.kind} id {wrong}: ids go from 0 to {max(0, len(names) - 1)}")
    return array


def rows_of(rows: Any) -> list[Any]:
    """Return rows of names as a list; a pandas frame is gone through row by row."""
    return list(rows.itertuples(index=False, name=None) if hasattr(rows, "itertuples") else rows)


def triples_of(
    entities: Vocabulary,
    relations: Vocabulary,
    triples: Union[Tensor, Iterable[tuple[Name, Name, Name]]],
) -> Triples:
    """Return triples given by names or ids in the order head, relation, tail; see ``id_of``.

    A tensor (n, 3) holds ids.

    Raises:
        UserError: see ``id_of``; or one has not three parts.
    """
    columns: list[Any]
    if isinstance(triples, Tensor):
        if triples.dim() != 2 or triples.shape[1] != 3:
            raise UserError(f"ids of triples: (n, 3) are needed, not {tuple(triples.shape)}")
        columns = list(triples.unbind(1))
    else:
        rows = rows_of(triples)
        for number, row in enumerate(rows):
            if isinstance(row, str) or len(row) != 3:
                raise UserError(f"triple {number}, {row!r}: give head, relation and tail")
        columns = list(zip(*rows)) or [(), (), ()]
    ids = [ids_of(n, c) for n, c in zip((entities, relations, entities), columns)]
    return Triples(*(column.astype(np.int32) for column in ids))


def by_asked(
    questions: Sequence[Question],
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the numbers of the questions for a head, a relation, a tail; and of whole triples."""
    numbers: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    for number, question in enumerate(questions):
        asked = [place for place, part in enumerate(question) if part is None]
        if len(question) != 3 or len(asked) > 1:
            raise UserError(
                f"question {number}, {question!r}: give head, relation and tail, one of them None, "
                "or none for a triple that is to be scored"
            )
        numbers[asked[0] if asked else 3].append(number)
    return numbers
