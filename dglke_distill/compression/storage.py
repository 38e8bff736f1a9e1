"""Ways to store a table by name, and the settings that choose them."""

from __future__ import annotations

from typing import Any, Optional

from dglke_distill.base.schema import Field, StrictModel
from dglke_distill.compression.table import StoredTable
from dglke_distill.config import components
from dglke_distill.config.registry import Registry

STORAGES: Registry[type[StoredTable]] = components.STORAGES


class TableStorage(StrictModel):
    """How one table is stored."""

    kind: str = Field(description="see STORAGES")
    options: dict[str, Any] = Field(default_factory=dict, description="the kind's own")


class Storage(StrictModel):
    """How the tables of a model are stored. A bias, one float per entity, is a float16."""

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
            kind: how entities are stored.
            options: the kind's own.
            relations: how relations are stored, if not as the kind chooses.

        Raises:
            UserError: there is no such kind.
        """
        kind = STORAGES.spell(kind)
        chosen = STORAGES.spell(relations or STORAGES.find(kind).relations)
        return cls(
            entities=TableStorage(kind=kind, options=options or {}),
            relations=TableStorage(kind=chosen),
        )


def build_table(storage: TableStorage, rows: int, dim: int) -> StoredTable:
    """Build an empty table.

    Raises:
        UserError: unknown kind, unknown or bad option, or a size that the kind cannot have.
    """
    where = f"options of {storage.kind}"
    made: StoredTable = STORAGES.build(storage.kind, storage.options, rows, dim, where=where)
    return made
