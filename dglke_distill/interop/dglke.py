"""DGL-KE's layout: two arrays, its settings and the dictionaries of names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.labels import LABELS_FILE
from dglke_distill.data.triples import Vocabulary
from dglke_distill.interop.base import (
    ExportFormat,
    as_float32,
    entity_table,
    plain_names,
    relation_names,
)
from dglke_distill.interop.dglke_folder import DGLKE_MODELS, INITIAL_EPSILON
from dglke_distill.interop.query_forms import formats_for

_GAMMA = 0.0


class DGLKEFolder(ExportFormat):
    """What ``dglke_train`` saves and ``dglke_predict``, ``dglke_eval`` and our teachers load.

    ``<data>_<Model>_entity.npy``, ``<data>_<Model>_relation.npy`` (float32), ``config.json``,
    ``entities.tsv`` and ``relations.tsv`` (id, tab, name); and ``labels.tsv`` (name, tab, label)
    where entities have labels, which DGL-KE passes over.

    Scores are ours: gamma, which DGL-KE adds to negated distances, is written as 0. That also is
    the one value with which all of DGL-KE reads the same RotatE phases: a phase is kept as
    phase * (gamma + 2) / hidden_dim / pi, and its ``ScoreInfer`` decodes with gamma 0 whatever the
    settings say, unless scores go through ``logsigmoid``. DGL-KE clips the scores of SimplE to 20
    on either side; scores within are ours.

    DGL-KE asks (?, relation, tail) with the relation itself. A model with reciprocal relations has
    a second row for it, which is written as a relation ``<name>_inverse``: the score of
    (tail, ``<name>_inverse``, head) there is ours of a head query. The key ``reciprocal`` of
    ``config.json``, which DGL-KE passes over, lets us read the model back as it was.
    """

    name = "dglke"
    about = "DGL-KE's folder: two .npy, config.json, dictionaries; dglke_predict reads it"
    directory = True

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the folder."""
        theirs = _their_name(loaded)
        model = loaded.model
        relation = model.relation_embeddings
        if loaded.config.model.options.get("normalize"):
            relation = model.score_function.entity_view(relation)
        rows = relation.cpu().numpy()
        dim = loaded.config.model.dim
        rotates = theirs == "RotatE"
        hidden = dim // 2 if rotates else dim
        if rotates:
            unit = (_GAMMA + INITIAL_EPSILON) / hidden / math.pi
            rows = rows.astype(np.float64) * unit
        # It names files after the last part of a path.
        data = Path(loaded.dataset_name).name or "data"
        tables = {"entity": entity_table(loaded), "relation": rows}
        for kind, table in tables.items():
            np.save(place / f"{data}_{theirs}_{kind}.npy", as_float32(table))
        relations = Vocabulary(relation_names(loaded), kind="relation")
        for file, names in (("entities.tsv", loaded.entities), ("relations.tsv", relations)):
            numbered = enumerate(plain_names(names, "\t\r\n", self.name))
            with open(place / file, "w", encoding="utf-8", newline="") as stream:
                stream.writelines(f"{i}\t{name}\n" for i, name in numbered)
        labels = loaded.find_labels().of_names(loaded.entities)
        if labels.labels:
            text = labels.text()
            (place / LABELS_FILE).write_text(text, encoding="utf-8", newline="")
        settings = {
            "dataset": data,
            "gamma": _GAMMA,
            "double_ent": rotates,
            "double_rel": False,
            "reciprocal": model.reciprocal,  # ours; DGL-KE passes over it
            # Its commands do not agree on the names of these; each finds the one it asks for.
            **dict.fromkeys(("model", "model_name"), theirs),
            **dict.fromkeys(("emb_size", "hidden_dim"), hidden),
            **dict.fromkeys(("emap_file", "emp_file"), "entities.tsv"),
            **dict.fromkeys(("rmap_file", "rmp_file"), "relations.tsv"),
        }
        text = json.dumps(settings, indent=4, ensure_ascii=False, allow_nan=False)
        (place / "config.json").write_text(text + "\n", encoding="utf-8")


def _their_name(loaded: LoadedModel) -> str:
    """Return DGL-KE's name of the model."""
    name, kernel = loaded.config.model.name, loaded.model.score_function.kernel
    if loaded.config.model.entity_bias:
        raise UserError(
            "--format dglke: the model adds a bias per entity (model.entity_bias), which DGL-KE "
            f"has no place for; export it as {formats_for(loaded.model)}"
        )
    if list(loaded.model.score_function.parameters()):
        raise UserError(
            f"--format dglke: {name} has weights that all relations share with these options, "
            f"which DGL-KE has no place for; export it as {formats_for(loaded.model)}"
        )
    for theirs, (ours, options) in DGLKE_MODELS.items():
        wanted = options.get("norm")
        if ours.lower() == name.lower() and (wanted is None or wanted == kernel):
            if ours != "RotatE" or kernel == "complex_modulus":
                return theirs
    known = ", ".join(sorted({ours for ours, _ in DGLKE_MODELS.values()}))
    raise UserError(
        f"--format dglke: DGL-KE has no model that scores as this {name}; it has {known}; "
        f"export it as {formats_for(loaded.model)}"
    )
