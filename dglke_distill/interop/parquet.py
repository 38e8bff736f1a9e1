"""Vectors and names as Parquet files, for data frames and databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.interop.base import (
    Array,
    ExportFormat,
    entity_bias,
    entity_labels,
    entity_table,
    relation_names,
    relation_table,
    shared_weights,
)


class ParquetFolder(ExportFormat):
    """``entities.parquet`` and ``relations.parquet``, a row per id.

    Columns: ``id`` int32, ``name`` string, ``vector`` a list of floats of fixed size; ``label``
    string, null without one, where entities have labels; ``bias`` where they have one. Entity
    vectors are those that scoring sees (normalised where the model does), relation vectors those
    that the model keeps. Models whose relations share weights have a third file,
    ``shared.parquet``, a row per weight: ``name`` as in an npz, ``shape`` a list of int64, and
    ``values``, its floats row by row. The settings stand in the files' metadata under ``config``,
    as JSON.
    """

    name = "parquet"
    about = "vectors and names as Parquet: entities.parquet, relations.parquet"
    directory = True
    requires = ("pyarrow",)

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write both files."""
        settings, bias = loaded.config.model_dump_json(), entity_bias(loaded)
        entities, relations = entity_table(loaded), relation_table(loaded)
        labels, names = entity_labels(loaded), relation_names(loaded)
        _write(place / "entities.parquet", list(loaded.entities), labels, entities, bias, settings)
        _write(place / "relations.parquet", names, None, relations, None, settings)
        shared = shared_weights(loaded)
        if shared:
            _write_shared(place / "shared.parquet", shared, settings)


def _write_shared(path: Path, shared: dict[str, Array], settings: str) -> None:
    import pyarrow
    from pyarrow import parquet

    floats = pyarrow.from_numpy_dtype(next(iter(shared.values())).dtype)
    columns = {
        "name": pyarrow.array(list(shared), pyarrow.string()),
        "shape": pyarrow.array(
            [list(weight.shape) for weight in shared.values()], pyarrow.list_(pyarrow.int64())
        ),
        "values": pyarrow.array(
            [weight.reshape(-1) for weight in shared.values()], pyarrow.list_(floats)
        ),
    }
    rows = pyarrow.table(columns).replace_schema_metadata({"config": settings})
    parquet.write_table(rows, path)


def _write(
    path: Path,
    names: list[str],
    labels: Optional[list[str]],
    table: Array,
    bias: Optional[Array],
    settings: str,
) -> None:
    import pyarrow
    from pyarrow import parquet

    flat = pyarrow.array(np.ascontiguousarray(table).reshape(-1))
    columns = {
        "id": pyarrow.array(np.arange(len(table), dtype=np.int32)),
        "name": pyarrow.array(names, type=pyarrow.string()),
    }
    if labels is not None:
        told = [label or None for label in labels]
        columns["label"] = pyarrow.array(told, type=pyarrow.string())
    columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, table.shape[1])
    if bias is not None:
        columns["bias"] = pyarrow.array(bias)
    rows = pyarrow.table(columns).replace_schema_metadata({"config": settings})
    parquet.write_table(rows, path)
