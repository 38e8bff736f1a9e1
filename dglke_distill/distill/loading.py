"""Teachers from disk: a checkpoint of ours, or a folder in which another library saved a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from dglke_distill import checkpoint
from dglke_distill.checkpoint_places import checkpoints_below, did_you_mean
from dglke_distill.compression import CompressedModel, decompress
from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset
from dglke_distill.distill import dglke_folder, openke_folder, pykeen_folder
from dglke_distill.distill.entries import zoo_name
from dglke_distill.distill.foreign import ForeignModel
from dglke_distill.errors import UserError
from dglke_distill.files import sha256_file
from dglke_distill.measure import measure
from dglke_distill.models.base import KGEModel
from dglke_distill.parsing import read_object
from dglke_distill.pipeline import REPORTED_SPLITS
from dglke_distill.workspace import Workspace
from dglke_distill.zoo.entries import folder_label

__all__ = [
    "FOREIGN_FORMATS",
    "ForeignFormat",
    "check_teacher",
    "describe_teacher",
    "import_model",
    "import_teacher",
    "load_teacher",
    "teacher_name",
    "teacher_results",
]


class ForeignFormat(NamedTuple):
    """How to tell another library's folder, and how to open it."""

    is_folder: Callable[[Path], bool]
    open_folder: Callable[[Path], ForeignModel]


FOREIGN_FORMATS: dict[str, ForeignFormat] = {
    "dglke": ForeignFormat(dglke_folder.is_folder, dglke_folder.open_folder),
    "openke": ForeignFormat(openke_folder.is_folder, openke_folder.open_folder),
    "pykeen": ForeignFormat(pykeen_folder.is_folder, pykeen_folder.open_folder),
}


def _foreign(place: Path) -> Optional[str]:
    """Return the name of the library whose folder it is, None for a checkpoint of ours."""
    if (place / checkpoint.MODEL_FILE).is_file():
        return None
    found = (name for name, format in FOREIGN_FORMATS.items() if format.is_folder(place))
    return next(found, None)


def check_teacher(place: Path) -> None:
    """Look whether a teacher is there, without building it.

    Raises:
        UserError: it is not, or not whole.
    """
    format = _foreign(place)
    if format is None:
        _results(place)
    else:
        FOREIGN_FORMATS[format].open_folder(place)


def load_teacher(place: Path, dataset: Dataset) -> KGEModel:
    """Load a trained model whose ids are those of a dataset.

    Args:
        place: a checkpoint directory, or a folder of DGL-KE, OpenKE or PyKEEN; see ``open_folder``
            of ``dglke_folder``, ``openke_folder`` and ``pykeen_folder``. Their rows are put into
            the order of the dataset's ids.
        dataset: what its student learns from.

    Raises:
        UserError: a file is missing or damaged, or shapes, names or ids do not fit.
    """
    format = _foreign(place)
    if format is not None:
        return FOREIGN_FORMATS[format].open_folder(place).model_for(dataset)
    teacher = checkpoint.load_model(place)
    for kind in ("entities", "relations"):
        if getattr(teacher, kind).fingerprint != getattr(dataset, kind).fingerprint:
            raise UserError(
                f"{place}: the teacher's {kind} are not those of {dataset.name}, "
                "or in another order"
            )
    if isinstance(teacher.model, CompressedModel):
        return decompress(teacher.model, teacher.config.model)
    return teacher.model


def describe_teacher(place: Path) -> dict[str, Any]:
    """Return what is to be remembered of a teacher: its format, model and files' sha256."""
    format = _foreign(place)
    if format is None:
        found = {"format": "checkpoint", "model": _results(place).get("model")}
        return {**found, "weights": sha256_file(place / checkpoint.MODEL_FILE)}
    return _described(format, FOREIGN_FORMATS[format].open_folder(place))


def teacher_name(place: Path) -> str:
    """Return what a student's results call a loaded teacher.

    It is the name that a zoo would give a checkpoint, else the folder's: never where the folder
    lies, since results are published.
    """
    if _foreign(place) is not None:
        return place.name
    try:
        return zoo_name(_results(place))
    except (KeyError, TypeError):  # written by hand, or by an old version
        return folder_label(str(place))


def _described(format: str, saved: ForeignModel) -> dict[str, Any]:
    digests = {path.name: sha256_file(path) for path in saved.files}
    return {"format": format, "model": saved.sizes, "weights": digests}


def teacher_results(
    place: Path, workspace: Callable[[], Workspace], config: Config
) -> dict[str, Any]:
    """Return the results a teacher was saved with; one of another library is ranked instead.

    Args:
        place: as for ``load_teacher``.
        workspace: gives the data, if it is needed.
        config: settings of the ranking.
    """
    format = _foreign(place)
    if format is None:
        return _results(place)
    return _ranked(FOREIGN_FORMATS[format].open_folder(place), workspace(), config)[1]


def import_teacher(
    place: Path,
    target: Path,
    workspace: Workspace,
    config: Config,
    format: Optional[str] = None,
) -> None:
    """Save another library's model as a checkpoint of ours in the dataset's order, ranked.

    Args:
        place: the folder. target: the checkpoint to be written.
        workspace: the data. config: settings of the ranking.
        format: the library, a name in ``FOREIGN_FORMATS``; None to find out.

    Raises:
        UserError: it is no such folder, damaged, or of other data.
    """
    format, saved = _open(place, format)
    model, results = _ranked(saved, workspace, config)
    settings = _settings(saved, config)
    dataset = workspace.dataset
    results = {**results, "source": _described(format, saved)}
    checkpoint.save_model(
        target, model.cpu(), settings, dataset.entities, dataset.relations, results
    )


def import_model(place: Path, target: Path, format: Optional[str] = None) -> None:
    """Save another library's model as a checkpoint of ours, with its own names in its own order.

    Args:
        place: the folder. target: the checkpoint to be written.
        format: the library, a name in ``FOREIGN_FORMATS``; None to find out.

    Raises:
        UserError: it is no such folder, or damaged.
    """
    format, saved = _open(place, format)
    entities, relations = saved.vocabulary("entities"), saved.vocabulary("relations")
    settings = _settings(saved, Config.from_mapping({"data": {"dataset": place.name}}, str(place)))
    results = {"schema": 1, "model": saved.sizes, "source": _described(format, saved)}
    model = saved.model(entities, relations)
    checkpoint.save_model(target, model, settings, entities, relations, results)


def _open(place: Path, format: Optional[str] = None) -> tuple[str, ForeignModel]:
    if format is not None and format not in FOREIGN_FORMATS:
        known = ", ".join(FOREIGN_FORMATS)
        raise UserError(f"--format: no library {format!r} can be read; known: {known}")
    chosen = format or _foreign(place)
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


def _results(place: Path) -> dict[str, Any]:
    path = place / checkpoint.RESULTS_FILE
    # The folder of a run has such a file too.
    below = [] if (place / checkpoint.MODEL_FILE).is_file() else checkpoints_below(place)
    if below:
        raise UserError(f"{place}: is no checkpoint; {did_you_mean(below)} (--teacher)")
    if not path.is_file():
        raise UserError(
            f"{place}: neither a checkpoint ({checkpoint.RESULTS_FILE} is missing) nor a folder "
            "that DGL-KE wrote (there is no *_entity.npy), nor one of OpenKE or PyKEEN; check "
            "--teacher"
        )
    results: dict[str, Any] = read_object(path)
    return results
