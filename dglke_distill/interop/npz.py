"""All tables and names of a model in one NumPy archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.interop.base import (
    ExportFormat,
    entity_bias,
    entity_labels,
    entity_table,
    plain_names,
    relation_names,
    relation_table,
    shared_weights,
)


class NumPyArchive(ExportFormat):
    """The arrays of ``numpy.load(path)``; no pickle is inside.

    ``entity`` (entities, dim) as scoring sees them (normalised where the model does), ``relation``
    (relations, floats) as the model keeps them, ``entity_names`` and ``relation_names`` as
    strings, ``entity_labels``, empty where one has none, where entities have labels,
    ``entity_bias`` (entities,) where the model has one, ``shared.NAME`` for each weight that all
    relations share (see ``interop.base.shared_weights``), and ``config``: the settings, JSON in a
    string of no dimension.
    """

    name = "npz"
    about = "tables and names as one NumPy archive"
    begins = rb"PK\x03\x04.{26}entity\.npy"

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the archive, compressed."""
        for names in (loaded.entities, loaded.relations):
            plain_names(names, "\0", self.name)  # NumPy's strings end there
        arrays: dict[str, Any] = {
            "entity": entity_table(loaded),
            "relation": relation_table(loaded),
            "entity_names": np.array(list(loaded.entities), dtype=np.str_),
            "relation_names": np.array(relation_names(loaded), dtype=np.str_),
            "config": np.array(loaded.config.model_dump_json()),
        }
        labels = entity_labels(loaded)
        if labels is not None:
            arrays["entity_labels"] = np.array(labels, dtype=np.str_)
        bias = entity_bias(loaded)
        if bias is not None:
            arrays["entity_bias"] = bias
        arrays.update(shared_weights(loaded))
        with open(place, "wb") as stream:  # given a path, NumPy would append an ending
            np.savez_compressed(stream, **arrays)
