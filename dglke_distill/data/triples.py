"""Triples, vocabularies and datasets: the plain values that everything else is computed from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import MOST_NAME_BYTES, most_bytes_of_names
from dglke_distill.base.spelling import known_names, likely_names
from dglke_distill.data.fingerprints import Columns, facts_digest, file_order_digest

Side = Literal["head", "tail"]
"""The side of a triple that is being predicted."""

SIDES: tuple[Side, Side] = ("head", "tail")

IdArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Triples:
    """Facts as three aligned columns of ids.

    Attributes:
        head: int32 array of shape (n,), entity ids.
        relation: int32 array of shape (n,), relation ids.
        tail: int32 array of shape (n,), entity ids.
    """

    head: IdArray
    relation: IdArray
    tail: IdArray

    def __post_init__(self) -> None:
        """Check that the columns are aligned int32 vectors."""
        for name in ("head", "relation", "tail"):
            column = getattr(self, name)
            if column.dtype != np.int32 or column.ndim != 1 or len(column) != len(self.head):
                raise ValueError(f"column {name!r} must be an int32 vector as long as the others")

    def __len__(self) -> int:
        """Return the number of triples."""
        return len(self.head)

    @classmethod
    def from_array(cls, array: NDArray[np.integer]) -> Triples:
        """Build from an integer array of shape (n, 3) in head, relation, tail order."""
        columns = np.ascontiguousarray(array.reshape(-1, 3).T.astype(np.int32))
        return cls(columns[0], columns[1], columns[2])

    def to_array(self) -> IdArray:
        """Return an int32 array of shape (n, 3) in head, relation, tail order."""
        return np.stack([self.head, self.relation, self.tail], axis=1)

    def __getitem__(self, rows: NDArray[np.generic] | slice) -> Triples:
        """Return the chosen rows as new triples."""
        return Triples(self.head[rows], self.relation[rows], self.tail[rows])


_UNWRITABLE = re.compile("[\n\0\ud800-\udfff]")


class Vocabulary(Sequence[str]):
    """Names of entities or relations; the position of a name is its id.

    A vocabulary of millions of entities whose names are just their ids need not hold them: pass
    ``size`` alone and ``vocabulary[7] == "7"``.

    Args:
        names: the names in id order, or None when names are the ids themselves.
        size: number of ids; needed only when ``names`` is None.
        kind: the word used in error messages, ``"entity"`` or ``"relation"``.

    Raises:
        UserError: a name occurs twice, or could not be read again from a checkpoint.
    """

    def __init__(
        self,
        names: Optional[Sequence[str]] = None,
        *,
        size: Optional[int] = None,
        kind: str = "entity",
    ) -> None:
        """Keep the names; the index is built on first use."""
        if (names is None) == (size is None):
            raise ValueError("give either names or size")
        self.kind = kind
        self._names: Optional[tuple[str, ...]] = None if names is None else tuple(names)
        self._size = len(self._names) if self._names is not None else int(size or 0)
        if self._names is not None and len(set(self._names)) != self._size:
            seen: set[str] = set()
            twice = next(n for n in self._names if n in seen or seen.add(n))  # type: ignore[func-returns-value]
            raise UserError(f"{kind} name {twice!r} occurs twice in the vocabulary")
        if self._names:
            self._check_writable(self._names)

    def _check_writable(self, names: tuple[str, ...]) -> None:
        """Refuse names that a checkpoint's file of names could not give back."""
        text = "\n".join(names)
        try:
            size = len(text.encode())
            broken = "\0" in text or text.count("\n") >= len(names)
        except UnicodeEncodeError:
            size, broken = 0, True
        if broken:
            name = next(name for name in names if _UNWRITABLE.search(name))
            raise UserError(
                f"{self.kind} name {name!r:.100} has a line end, a zero byte or a lone surrogate "
                "in it: rename it"
            )
        # The file has ids and line ends besides.
        if size + 15 * len(names) > most_bytes_of_names(len(names)):
            longest = max(names, key=len)
            raise UserError(
                f"the {self.kind} name that begins {longest[:40]!r} has {len(longest):,} letters; "
                f"names may have {MOST_NAME_BYTES:,} bytes on average: shorten it"
            )

    def __len__(self) -> int:
        """Return the number of names."""
        return self._size

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in id order."""
        return iter(self._names) if self._names is not None else map(str, range(self._size))

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Return the name of an id, or the names of a slice."""
        if self._names is not None:
            return self._names[index]
        if isinstance(index, slice):
            return tuple(map(str, range(self._size)[index]))
        return str(range(self._size)[index])

    @property
    def named(self) -> bool:
        """Whether names are held, rather than being the ids themselves."""
        return self._names is not None

    @cached_property
    def numeral(self) -> Optional[str]:
        """A name that is a number, but not that of its id; None if there is none.

        With one, nobody can say whether the number 7 means the name ``"7"`` or the id 7.
        """
        return next((name for i, name in enumerate(self._names or ()) if _misleads(name, i)), None)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names or ())}

    def __contains__(self, name: object) -> bool:
        """Return whether the name is known."""
        return self._find(name) is not None

    def _find(self, name: object) -> Optional[int]:
        if self._names is not None:
            return self._index.get(name) if isinstance(name, str) else None
        # A number of thousands of digits is none that Python would convert.
        if isinstance(name, str) and len(name) < 20 and name.isdecimal() and str(int(name)) == name:
            return int(name) if int(name) < self._size else None
        return None

    def id(self, name: str) -> int:
        """Return the id of a name.

        Raises:
            UserError: the name is unknown; near spellings are suggested.
        """
        found = self._find(name)
        if found is None:
            raise UserError(f"unknown {self.kind} {name!r:.200}; {self._meant(name)}")
        return found

    def _meant(self, name: str) -> str:
        if self._names is None:
            return (
                f"known: the numbers from 0 to {self._size - 1}" if self._size else known_names(())
            )
        if near := likely_names(name, self._names):
            return f"did you mean {', '.join(map(repr, near))}?"
        file = "relations.tsv" if self.kind == "relation" else "entities.tsv"
        return known_names(self._names, f"{file} of the model")

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 hex digest of the names, one per line in id order."""
        digest = hashlib.sha256()
        if self._names is None:
            digest.update(f"ids 0..{self._size - 1}\n".encode())
        if self._names:
            digest.update("\n".join((*self._names, "")).encode())
        return digest.hexdigest()


def _misleads(name: str, index: int) -> bool:
    """Return whether a name reads as a whole number other than its id."""
    try:
        return name != str(index) and float(name).is_integer()
    except (ValueError, OverflowError):
        return False


@dataclass(frozen=True, eq=False)
class Dataset:
    """A knowledge graph with its published split.

    Attributes:
        name: the catalog name, or the folder's name for a user's own data.
        entities: names of the entities; position is id.
        relations: names of the relations; position is id.
        train: facts that a model may learn from.
        valid: facts that choose the model.
        test: facts that are looked at once, after ``valid`` has chosen.
        valid_negatives: known-false triples for triple classification, where they ship (CoDEx).
        test_negatives: as ``valid_negatives``, for the test split.
        entity_type: int32 array of shape (entities,), where entities are typed (ogbl-biokg).
        warnings: legal but noteworthy things found while reading.
        train_weight: float32 array of shape (train,), how much each fact of ``train`` counts; None:
            all alike.
        entity_type_names: names of the entity types; ``entity_type`` indexes them. Empty where
            entities have no type, or types no name.
        gives_candidates: whether valid and test are ranked among candidates of its own, by the
            official evaluator of its name, and not among all entities.
    """

    gives_candidates: ClassVar[bool] = False

    name: str
    entities: Vocabulary
    relations: Vocabulary
    train: Triples
    valid: Triples
    test: Triples
    valid_negatives: Optional[Triples] = None
    test_negatives: Optional[Triples] = None
    entity_type: Optional[IdArray] = None
    warnings: tuple[str, ...] = field(default=())
    entity_type_names: tuple[str, ...] = ()
    train_weight: Optional[NDArray[np.float32]] = None

    @property
    def num_entities(self) -> int:
        """Number of entities."""
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        """Number of relations, without reciprocal ones."""
        return len(self.relations)

    def split(self, name: str) -> Triples:
        """Return the split called ``train``, ``valid`` or ``test``."""
        if name not in ("train", "valid", "test"):
            raise UserError(f"unknown split {name!r}: choose train, valid or test")
        triples: Triples = getattr(self, name)
        return triples

    def candidates(self, split: str) -> Any:
        """Return the candidates given for ``valid`` or ``test``; see ``gives_candidates``.

        Raises:
            UserError: the split has none.
        """
        raise UserError(f"split {split!r} of {self.name} has no given negatives")

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 hex digest of the facts of all three splits, by names.

        The same facts in the same splits have it in any order of lines, with any ids and in any
        file format; see ``fingerprints.facts_digest``. Where triples do not fit 63 bits it is
        ``file_order_fingerprint``.
        """
        numbers = not self.entities.named, not self.relations.named
        found = facts_digest(self.entities, self.relations, self._columns, numbers=numbers)
        return self.file_order_fingerprint if found is None else found

    @cached_property
    def file_order_fingerprint(self) -> str:
        """The fingerprint as older versions wrote it: of ids, in the order of the files."""
        names = self.entities.fingerprint, self.relations.fingerprint
        return file_order_digest(names, self._columns)

    def has_fingerprint(self, stated: str) -> bool:
        """Return whether a fingerprint that was written down, now or by an older version, is its.

        Args:
            stated: a hex digest.
        """
        return stated == self.fingerprint or stated == self.file_order_fingerprint

    @property
    def _columns(self) -> dict[str, Columns]:
        splits = {name: self.split(name) for name in ("train", "valid", "test")}
        return {name: (t.head, t.relation, t.tail) for name, t in splits.items()}
