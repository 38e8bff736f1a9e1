"""Entity vectors as lines of tab-separated values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.interop.base import ExportFormat, entity_table, plain_names


class TabSeparated(ExportFormat):
    """One line per entity: its name, then its floats."""

    name = "tsv"
    about = "entity vectors, one line each: the name and the floats, with tabs between"

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the file."""
        names = plain_names(loaded.entities, "\t\n", self.name)
        with open(place, "w", encoding="utf-8", newline="") as stream:
            for name, row in zip(names, entity_table(loaded).tolist()):
                stream.write("\t".join([name, *(f"{value:.9g}" for value in row)]) + "\n")
