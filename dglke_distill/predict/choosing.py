"""Which entities may answer a question: those named, of a type, or seen with its relation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.data.entity_types import (
    EntityTypes,
    Ranges,
    read_entity_list,
    read_types,
    types_beside,
)
from dglke_distill.data.identity import Lookup
from dglke_distill.data.triples import Side
from dglke_distill.predict.names import Name, id_of, ids_of
from dglke_distill.predict.part import Part

if TYPE_CHECKING:
    from dglke_distill.data.known_answers import KnownAnswers

Candidates = Union[None, str, Path, Tensor, Iterable[Name]]
"""Who may answer: None for every entity; ``observed``, those that facts of the question's relation
have on the side asked for; ``typed``, those and others of their types; ``type:NAME``, those of a
type; ``@FILE`` or a path, those that a file names, one a line; or names, or a tensor of ids. A
label stands for its entity."""

OBSERVED = "observed"
TYPED = "typed"
_WORDS = f"{OBSERVED}, {TYPED}, type:NAME, @FILE"


def per_relation(candidates: Candidates) -> bool:
    """Return whether who may answer depends on the relation and the side asked for."""
    return isinstance(candidates, str) and candidates in (OBSERVED, TYPED)


class Choosing(Part):
    """What makes a model answer by candidates that make sense.

    Attributes:
        range_warnings: what must be known of the facts that ranges are observed in.
    """

    range_warnings: tuple[str, ...] = ()
    _types: Optional[EntityTypes] = None
    _ranges: Optional[Ranges] = None

    @checked
    def load_types(self, path: Union[str, Path]) -> EntityTypes:
        """Read the types of the entities; ``typed`` and ``type:NAME`` then mean those.

        Args:
            path: a file of lines ``entity<TAB>type``.

        Raises:
            UserError: it cannot be read, or names none of the model's entities.
        """
        self._types = read_types(Path(path), self.entities)
        return self._types

    @checked
    def load_ranges(
        self,
        data_root: Optional[Path] = None,
        *,
        dataset: Optional[str] = None,
        allow_other_data: bool = False,
    ) -> Ranges:
        """Return which entities each relation was seen with; the facts are read once.

        They are those of the train split; where the dataset is not on this machine, those published
        with the model, of all splits. ``range_warnings`` then says so. A file ``types.tsv`` in the
        folder ``dataset`` is read too, if no other types are.

        Args:
            data_root: folder of datasets already there.
            dataset: name or path of the dataset; None: found by its name.
            allow_other_data: whether the triples may be others than those trained on.

        Raises:
            UserError: the dataset is not there, or has other triples, entities or relations.
        """
        if self._ranges is None:
            facts, told = self.train_facts(
                Lookup(dataset, data_root, allow_other_data=allow_other_data)
            )
            self._ranges = Ranges(facts, len(self.entities), len(self.relations))
            self.range_warnings = tuple(told)
        beside = types_beside(dataset) if self._types is None else None
        if beside is not None:
            self.load_types(beside)
        return self._ranges

    def use_ranges(self, facts: KnownAnswers) -> None:
        """Observe ranges in facts at hand, of whatever split, unless they are loaded already."""
        if self._ranges is None:
            self._ranges = Ranges(facts.triples(), len(self.entities), len(self.relations))

    def candidate_ids(
        self, candidates: Candidates, relation: int = -1, side: Side = "tail"
    ) -> Optional[NDArray[np.int64]]:
        """Return the ids of those who may answer, ascending; None for every entity.

        Args:
            candidates: see ``Candidates``.
            relation: id of the question's relation, for ``observed`` and ``typed``.
            side: the side asked for.

        Raises:
            UserError: an unknown name or type, an unreadable file, a relation without facts, or
                nobody at all.
        """
        if candidates is None:
            return None
        if isinstance(candidates, Path):
            return read_entity_list(candidates, self._id)
        if isinstance(candidates, str):
            return self._by_word(candidates, relation, side)
        if isinstance(candidates, Tensor):
            found = np.unique(ids_of(self.entities, candidates))
        else:
            found = np.unique(np.array([self._id(name) for name in _each(candidates)], np.int64))
        if not len(found):
            raise UserError("candidates: none are given; leave them out to ask for every entity")
        return found

    def _id(self, name: Name) -> int:
        """Return an entity's id by its name, label or id."""
        return id_of(self.entities, name, lambda: self.labels)

    def _by_word(self, word: str, relation: int, side: Side) -> NDArray[np.int64]:
        if word == "@":
            raise UserError("--candidates '@': names no file; give @FILE, an entity on each line")
        if word.startswith("@"):
            return read_entity_list(Path(word[1:]), self._id)
        if word == "type:":
            raise UserError("candidates 'type:': names no type; give type:NAME")
        if word.startswith("type:"):
            if self._types is None:
                raise UserError(
                    f"candidates {word!r:.100}: no types are known; name a file of lines "
                    f"entity<TAB>type by --types, or load_types in Python"
                )
            return self._types.entities(word.removeprefix("type:"))
        if word not in (OBSERVED, TYPED):
            raise UserError(
                f"candidates {word!r:.100}: give {_WORDS}, or a list of names of entities"
            )
        ranges = self.load_ranges()
        found = ranges.observed(relation, side)
        if not len(found):
            raise UserError(
                f"candidates {word}: no fact of {self.relations[relation]!r} is in the train "
                "split, so nothing is known of its answers; leave --candidates out"
            )
        if word == OBSERVED:
            return found
        return ranges.alike(found) if self._types is None else self._types.fitting(found)


def _each(candidates: Iterable[Name]) -> Iterator[Name]:
    """Return what can be gone through."""
    try:
        return iter(candidates)
    except TypeError:
        raise UserError(
            f"candidates {candidates!r:.100}: give {_WORDS}, or a list of names of entities"
        ) from None
