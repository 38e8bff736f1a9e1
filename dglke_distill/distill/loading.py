"""Teachers from disk: a checkpoint of ours, or a folder in which another library saved a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.compression import CompressedModel, decompress
from dglke_distill.config import Config
from dglke_distill.config.names import published
from dglke_distill.data.identity import Identity, describe_data
from dglke_distill.data.labels import labels_in
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.saved import (
    FOREIGN_FORMATS,
    described,
    foreign,
    saved_results,
)
from dglke_distill.distill.teacher import freeze
from dglke_distill.distill.teacher_data import teacher_data
from dglke_distill.interop.foreign import ForeignModel
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.measure import measure
from dglke_distill.runs.train_run import REPORTED_SPLITS
from dglke_distill.runs.workspace import Workspace


def load_teacher(place: Path, dataset: Dataset, *, allow_other_data: bool = False) -> KGEModel:
    """Load a trained model, with the ids of a dataset.

    Args:
        place: a checkpoint directory, or a folder of DGL-KE, OpenKE or PyKEEN; see ``open_folder``
            of ``dglke_folder``, ``openke_folder`` and ``pykeen_folder``. Their rows are put into
            the order of the dataset's ids.
        dataset: what its student learns from.
        allow_other_data: whether it may have been trained on other triples.

    Raises:
        UserError: a file is missing or damaged, shapes or names do not fit, or it was trained on
            other triples and that is not allowed; see ``teacher_data``.
    """
    format = foreign(place)
    if format is not None:
        return FOREIGN_FORMATS[format].open_folder(place).model_for(dataset)
    teacher_data(place, dataset, allow_other_data=allow_other_data)
    teacher = checkpoint.load_model(place)
    model = teacher.model
    if isinstance(model, CompressedModel):
        model = decompress(model, teacher.config.model)
    orders: list[Optional[Tensor]] = []
    for kind in ("entities", "relations"):
        ours, theirs = getattr(teacher, kind), getattr(dataset, kind)
        if ours.fingerprint == theirs.fingerprint:
            orders.append(None)
            continue
        if len(ours) != len(theirs) or not all(name in ours for name in theirs):
            raise UserError(
                f"{place}: the teacher's {kind} are not those of {dataset.name}; train the "
                "student on the teacher's own data"
            )
        orders.append(torch.tensor([ours.id(name) for name in theirs], dtype=torch.int64))
    return _reordered(model, *orders) if any(o is not None for o in orders) else model


def _reordered(
    model: KGEModel, entities: Optional[Tensor], relations: Optional[Tensor]
) -> KGEModel:
    """Return a model of fixed vectors whose rows are those that old ids had, in a new order."""
    model.require_vectors("a teacher whose data name entities or relations in another order")
    found = freeze(model)
    if entities is not None:
        table = found.encoder.weight
        found.encoder.weight = torch.nn.Parameter(table.detach()[entities], requires_grad=False)
        if found.bias_weight is not None:
            found.bias_weight.data = found.bias_weight.data[entities]
    if relations is not None:
        count = len(relations)
        if len(found.relation_weight) == 2 * count:
            relations = torch.cat([relations, relations + count])
        found.relation_weight.data = found.relation_weight.data[relations]
    return found


def teacher_results(
    place: Path, workspace: Callable[[], Workspace], config: Config
) -> TrainingResults:
    """Return the results a teacher was saved with; one of another library is ranked instead.

    Figures that were measured on other triples are left out.

    Args:
        place: as for ``load_teacher``.
        workspace: gives the data, if it is needed.
        config: settings of the ranking.
    """
    format = foreign(place)
    if format is None:
        results = saved_results(place)
        stated = Identity.of(results.to_tree(), config.data).fingerprint
        if stated is not None and not workspace().dataset.has_fingerprint(stated):
            return results.model_copy(update={"metrics": {}})  # of another test split
        return results
    ranked = _ranked(FOREIGN_FORMATS[format].open_folder(place), workspace(), config)[1]
    return TrainingResults.of(ranked, place)


def import_teacher(
    place: Path,
    target: Path,
    workspace: Workspace,
    config: Config,
    format: Optional[str] = None,
    *,
    overwrite: bool = True,
) -> None:
    """Save another library's model as a checkpoint of ours in the dataset's order, ranked.

    Args:
        place: the folder.
        target: the checkpoint to be written.
        workspace: the data.
        config: settings of the ranking.
        format: the library, a name in ``FOREIGN_FORMATS``; None to find out.
        overwrite: whether an earlier checkpoint there is replaced.

    Raises:
        UserError: it is no such folder, damaged, or of other data.
    """
    format, saved = _open(place, format)
    model, results = _ranked(saved, workspace, config)
    settings = _settings(saved, config)
    dataset = workspace.dataset
    # What it was trained on is not known: a fingerprint would say so.
    data = describe_data(dataset, config.data)
    data["ranked_on"] = data.pop("fingerprint")
    results = {**results, "dataset": data, "source": described(format, saved)}
    parts = dataset.entities, dataset.relations, results, workspace.labels
    checkpoint.save_model(target, model.cpu(), settings, *parts, overwrite=overwrite)


def import_model(
    place: Path, target: Path, format: Optional[str] = None, *, overwrite: bool = True
) -> None:
    """Save another library's model as a checkpoint of ours, with its own names in its own order.

    Args:
        place: the folder.
        target: the checkpoint to be written.
        format: the library, a name in ``FOREIGN_FORMATS``; None to find out.
        overwrite: whether an earlier checkpoint there is replaced.

    Raises:
        UserError: it is no such folder, or damaged.
    """
    format, saved = _open(place, format)
    name = resolved(place).name
    entities, relations = saved.vocabulary("entities"), saved.vocabulary("relations")
    settings = _settings(saved, Config.from_mapping({"data": {"dataset": name}}, str(place)))
    results = {"schema": 1, "model": saved.sizes, "source": described(format, saved)}
    model = saved.model(entities, relations)
    parts = entities, relations, results, labels_in(resolved(place))
    checkpoint.save_model(target, model, settings, *parts, overwrite=overwrite)


def _open(place: Path, format: Optional[str] = None) -> tuple[str, ForeignModel]:
    format = published(format, FOREIGN_FORMATS)
    if format is not None and format not in FOREIGN_FORMATS:
        known = ", ".join(FOREIGN_FORMATS)
        raise UserError(f"--format: no library {format!r} can be read; known: {known}")
    chosen = format or foreign(place)
    if chosen is None:
        raise UserError(f"{place}: no folder that DGL-KE, OpenKE or PyKEEN left a model in")
    return chosen, FOREIGN_FORMATS[chosen].open_folder(place)


def _settings(saved: ForeignModel, config: Config) -> Config:
    dtype = str(saved.dtype).replace("torch.", "")
    training = config.training.model_copy(update={"dtype": dtype})
    return Config(data=config.data, model=saved.config, training=training)


def _ranked(
    saved: ForeignModel, workspace: Workspace, config: Config
) -> tuple[KGEModel, dict[str, Any]]:
    model = saved.model_for(workspace.dataset).to(workspace.device)
    metrics = {
        split: measure(model, workspace, split, config)
        for split in REPORTED_SPLITS[config.evaluation.split]
        if len(workspace.dataset.split(split))
    }
    return model, {"schema": 1, "model": saved.sizes, "metrics": metrics}
