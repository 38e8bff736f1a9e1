"""Teachers from disk: a checkpoint of ours, or the folder in which DGL-KE saved a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import torch

from dglke_distill import checkpoint
from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.dglke_folder import is_folder, load_folder, open_folder
from dglke_distill.errors import UserError
from dglke_distill.files import sha256_file
from dglke_distill.models.base import KGEModel
from dglke_distill.pipeline import REPORTED_SPLITS, evaluate_model
from dglke_distill.workspace import Workspace

__all__ = [
    "check_teacher",
    "describe_teacher",
    "import_teacher",
    "load_teacher",
    "teacher_results",
]


def check_teacher(place: Path) -> None:
    """Look whether a teacher is there, without reading its weights.

    Raises:
        UserError: it is not, or not whole.
    """
    if is_folder(place):
        open_folder(place)
    else:
        _results(place)


def load_teacher(place: Path, dataset: Dataset) -> KGEModel:
    """Load a trained model whose ids are those of a dataset.

    Args:
        place: a checkpoint directory, or a folder that DGL-KE wrote: ``<data>_<Model>_entity.npy``,
            ``<data>_<Model>_relation.npy``, ``config.json``, with the dictionaries it names.
        dataset: what its student learns from.

    Raises:
        UserError: a file is missing or damaged, or shapes, names or ids do not fit.
    """
    if not is_folder(place):
        teacher = checkpoint.load_model(place)
        for kind in ("entities", "relations"):
            if getattr(teacher, kind).fingerprint != getattr(dataset, kind).fingerprint:
                raise UserError(
                    f"{place}: the teacher's {kind} are not those of {dataset.name}, "
                    "or in another order"
                )
        return teacher.model
    return load_folder(place, dataset)


def describe_teacher(place: Path) -> dict[str, Any]:
    """Return what is to be remembered of a teacher: its format, model and files' sha256."""
    if not is_folder(place):
        found = {"format": "checkpoint", "model": _results(place).get("model")}
        return {**found, "weights": sha256_file(place / checkpoint.MODEL_FILE)}
    saved = open_folder(place)
    found = {"format": "dgl-ke", "model": saved.sizes}
    return {**found, "weights": {path.name: sha256_file(path) for path in saved.files}}


def teacher_results(
    place: Path, workspace: Callable[[], Workspace], config: Config
) -> dict[str, Any]:
    """Return the results a teacher was saved with; one of DGL-KE, which has none, is ranked.

    Args:
        place: as for ``load_teacher``.
        workspace: gives the data, if it is needed.
        config: settings of the ranking.
    """
    if not is_folder(place):
        return _results(place)
    return _ranked(place, load_teacher(place, workspace().dataset), workspace(), config)


def import_teacher(place: Path, target: Path, workspace: Workspace, config: Config) -> None:
    """Save a model of DGL-KE as a checkpoint of ours, ranked.

    Args:
        place: the folder. target: the checkpoint to be written.
        workspace: the data. config: settings of the ranking.
    """
    model = load_teacher(place, workspace.dataset)
    results = {**_ranked(place, model, workspace, config), "source": describe_teacher(place)}
    dtype = "float64" if model.relation_weight.dtype == torch.float64 else "float32"
    settings = Config(
        data=config.data,
        model=open_folder(place).config,
        training=config.training.model_copy(update={"dtype": dtype}),
    )
    dataset = workspace.dataset
    checkpoint.save_model(
        target, model.cpu(), settings, dataset.entities, dataset.relations, results
    )


def _ranked(place: Path, model: KGEModel, workspace: Workspace, config: Config) -> dict[str, Any]:
    model = model.to(workspace.device)
    return {
        "schema": 1,
        "model": open_folder(place).sizes,
        "metrics": {
            split: evaluate_model(model, workspace, split, config).to_dict()
            for split in REPORTED_SPLITS[config.evaluation.split]
            if len(workspace.dataset.split(split))
        },
    }


def _results(place: Path) -> dict[str, Any]:
    path = place / checkpoint.RESULTS_FILE
    if not path.is_file():
        raise UserError(
            f"{place}: neither a checkpoint ({checkpoint.RESULTS_FILE} is missing) nor a folder "
            "that DGL-KE wrote (there is no *_entity.npy); check --teacher"
        )
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results
