"""From names to ids."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.arguments import items, refused, whole
from dglke_distill.base.errors import UserError
from dglke_distill.data.labels import Labels
from dglke_distill.data.triples import Triples, Vocabulary

Name = Union[str, int]
"""An entity or a relation: its name, or its id where no name is a number.

The label of a single entity stands for its name too."""


Question = tuple[Optional[Name], Optional[Name], Optional[Name]]
"""Head, relation, tail; what is asked for is None. With none, the triple itself is judged."""


FindLabels = Optional[Callable[[], Labels]]
"""Finds the labels of entities, once a text is no name; None where names alone count."""


def id_of(names: Vocabulary, name: Name, labels: FindLabels = None) -> int:
    """Return the id of a name or label; an id passes through where it can be no name.

    Args:
        names: the names that there are; position is id.
        name: what was given.
        labels: finds their labels.

    Raises:
        UserError: there is no such name (near spellings are suggested), or no such id; or several
            have the label; or it is a number where names are numbers that are not their ids, or it
            is neither text nor a whole number.
    """
    if isinstance(name, str):
        if labels is not None and name not in names:
            name = labels().name_of(name, names)
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


def ids_of(
    names: Vocabulary, wanted: Union[Tensor, Iterable[Name]], labels: FindLabels = None
) -> NDArray[np.int64]:
    """Return the ids (n,) of names; see ``id_of``. A tensor holds ids, whatever the names are.

    Args:
        names: the names that there are.
        wanted: what was given.
        labels: finds their labels.

    Raises:
        UserError: see ``id_of``; or a tensor holds what is no id, or it is no list.
    """
    if isinstance(wanted, Tensor):
        return checked_ids(names, wanted)
    several = wanted if isinstance(wanted, (list, tuple)) else items(wanted, *_listed(names))
    return np.array([id_of(names, name, labels) for name in several], np.int64)


def names_of(names: Vocabulary, ids: Union[Tensor, Iterable[int]]) -> list[str]:
    """Return the names of ids (n,).

    Raises:
        UserError: one is no id, such as the -1 of an answer that is not there.
    """
    if not isinstance(ids, Tensor):
        given = items(ids, f"{names.kind} ids", "a list of whole numbers")
        try:
            ids = torch.tensor([whole(i, f"{names.kind} id") for i in given], dtype=torch.int64)
        except (RuntimeError, ValueError):  # one needs more bits
            raise _no_id(names, max(given, key=abs)) from None
    return [names[i] for i in checked_ids(names, ids).tolist()]


def _listed(names: Vocabulary) -> tuple[str, str]:
    return f"{names.kind} names", "a list of names, or a tensor of ids"


def _no_id(names: Vocabulary, number: int) -> UserError:
    last = max(0, len(names) - 1)
    return UserError(f"{names.kind} id {number}: ids go from 0 to {last}")


def checked_ids(names: Vocabulary, ids: Tensor) -> NDArray[np.int64]:
    """Return a tensor of ids (n,), of any kind of whole numbers, as an array.

    Raises:
        UserError: it is something else, or holds something else.
    """
    if not isinstance(ids, Tensor):
        raise refused(ids, f"{names.kind} ids", "a tensor of whole numbers")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise UserError(f"{names.kind} ids are whole numbers, not {ids.dtype}")
    if ids.dim() != 1:
        raise UserError(f"{names.kind} ids: (n,) are needed, not {tuple(ids.shape)}")
    array: NDArray[np.int64] = ids.detach().cpu().numpy().astype(np.int64)
    if array.size and not 0 <= array.min() <= array.max() < len(names):
        raise _no_id(names, array.min() if array.min() < 0 else array.max())
    return array


def rows_of(rows: Any, name: str = "triples") -> list[Any]:
    """Return rows of names as a list; a pandas frame is gone through row by row.

    Args:
        rows: what was given.
        name: the argument.

    Raises:
        UserError: it cannot be gone through.
    """
    given = rows.itertuples(index=False, name=None) if hasattr(rows, "itertuples") else rows
    return items(given, name, "a list, or a frame, of head, relation and tail")


def parts_of(row: Any) -> tuple[Any, ...]:
    """Return the parts of a row; none where it has none, or is a text."""
    try:
        return () if isinstance(row, (str, bytes)) else tuple(row)
    except TypeError:
        return ()


def facts_of(rows: Any) -> list[tuple[Any, ...]]:
    """Return triples of names as a list of tuples.

    Raises:
        UserError: they cannot be gone through, or one has not three parts.
    """
    facts = []
    for number, row in enumerate(rows_of(rows)):
        facts.append(parts_of(row))
        if len(facts[-1]) != 3:
            raise refused(row, f"triple {number}", "head, relation and tail")
    return facts


def triples_of(
    entities: Vocabulary,
    relations: Vocabulary,
    triples: Union[Tensor, Iterable[tuple[Name, Name, Name]]],
    labels: FindLabels = None,
) -> Triples:
    """Return triples given by names or ids in the order head, relation, tail; see ``id_of``.

    Args:
        entities: names of the entities.
        relations: names of the relations.
        triples: what was given; a tensor (n, 3) holds ids.
        labels: finds the labels of the entities.

    Raises:
        UserError: see ``id_of``; or one has not three parts.
    """
    columns: list[Any]
    if isinstance(triples, Tensor):
        if triples.dim() != 2 or triples.shape[1] != 3:
            raise UserError(f"ids of triples: (n, 3) are needed, not {tuple(triples.shape)}")
        columns = list(triples.unbind(1))
    else:
        columns = list(zip(*facts_of(triples))) or [(), (), ()]
    known = ((entities, labels), (relations, None), (entities, labels))
    ids = [ids_of(names, column, of) for (names, of), column in zip(known, columns)]
    return Triples(*(column.astype(np.int32) for column in ids))


def by_asked(
    questions: Sequence[Question],
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the numbers of the questions for a head, a relation, a tail; and of whole triples."""
    numbers: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    for number, question in enumerate(questions):
        parts = parts_of(question)
        asked = [place for place, part in enumerate(parts) if part is None]
        if len(parts) != 3 or len(asked) > 1:
            raise refused(
                question,
                f"question {number}",
                "head, relation and tail, one of them None, or none for a triple that is to be "
                "scored",
            )
        numbers[asked[0] if asked else 3].append(number)
    return numbers
