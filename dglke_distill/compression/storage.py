"""Ways to store a table by name, and the settings that choose them."""

from __future__ import annotations

import difflib
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, Field

from dglke_distill.base.errors import UserError
from dglke_distill.compression.binary import Binary
from dglke_distill.compression.int8 import Int8
from dglke_distill.compression.pq import PQ
from dglke_distill.compression.table import Float16, Float32, StoredTable
from dglke_distill.config import validate_options
from dglke_distill.config.names import published

__all__ = ["STORAGES", "Storage", "TableStorage", "build_table"]

STORAGES: dict[str, type[StoredTable]] = {
    "float32": Float32,
    "float16": Float16,
    "int8": Int8,
    "pq": PQ,
    "binary": Binary,
}


class TableStorage(BaseModel):
    """How one table is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(description="see STORAGES")
    options: dict[str, Any] = Field(default_factory=dict, description="the kind's own")


class Storage(BaseModel):
    """How the tables of a model are stored. A bias, one float per entity, is a float16."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entities: TableStorage
    relations: TableStorage

    @property
    def plain(self) -> bool:
        """Whether both tables are float32, as those of a model that can be trained."""
        return self.entities.kind == self.relations.kind == "float32"

    @classmethod
    def of(
        cls, kind: str, options: Optional[dict[str, Any]] = None, relations: Optional[str] = None
    ) -> Storage:
        """Return the storage of entities by a kind, and of relations by that kind's choice.

        Args:
            kind: how entities are stored. options: the kind's own.
            relations: how relations are stored, if not as the kind chooses.

        Raises:
            UserError: there is no such kind.
        """
        kind = published(kind, STORAGES)
        chosen = published(relations or find(kind).relations, STORAGES)
        find(chosen)
        return cls(
            entities=TableStorage(kind=kind, options=options or {}),
            relations=TableStorage(kind=chosen),
        )


def find(kind: str) -> type[StoredTable]:
    """Return a kind of storage by its name.

    Raises:
        UserError: there is no such kind; near spellings are suggested.
    """
    kind = published(kind, STORAGES)
    if kind not in STORAGES:
        near = difflib.get_close_matches(kind, STORAGES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(STORAGES)}"
        raise UserError(f"there is no storage {kind!r}; {hint}")
    return STORAGES[kind]


def build_table(storage: TableStorage, rows: int, dim: int) -> StoredTable:
    """Build an empty table.

    Raises:
        UserError: unknown kind, unknown or bad option, or a size that the kind cannot have.
    """
    kind = find(storage.kind)
    options = validate_options(kind.Options, storage.options, f"options of {storage.kind}")
    return kind(rows, dim, options)
