"""What lies in a teacher's folder, told without building the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.checkpoint_places import (
    MODEL_FILE,
    checkpoints_below,
    did_you_mean,
    meant_checkpoint,
)
from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_training_results
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.parsing import read_object
from dglke_distill.base.regular_files import AnyPath, resolved
from dglke_distill.base.tensor_files import check_file
from dglke_distill.config import Config
from dglke_distill.distill.entries import zoo_name
from dglke_distill.interop import dglke_folder, openke_folder, pykeen_folder
from dglke_distill.interop.foreign import ForeignModel
from dglke_distill.models import ENCODERS
from dglke_distill.zoo.entries import folder_label


class ForeignFormat(NamedTuple):
    """How to tell another library's folder, and how to open it."""

    is_folder: Callable[[Path], bool]
    open_folder: Callable[[Path], ForeignModel]


FOREIGN_FORMATS: dict[str, ForeignFormat] = {
    "dglke": ForeignFormat(dglke_folder.is_folder, dglke_folder.open_folder),
    "openke": ForeignFormat(openke_folder.is_folder, openke_folder.open_folder),
    "pykeen": ForeignFormat(pykeen_folder.is_folder, pykeen_folder.open_folder),
}


def foreign(place: Path) -> Optional[str]:
    """Return the name of the library whose folder it is, None for a checkpoint of ours."""
    if (place / MODEL_FILE).is_file():
        return None
    found = (name for name, format in FOREIGN_FORMATS.items() if format.is_folder(place))
    return next(found, None)


def teacher_place(given: AnyPath) -> Path:
    """Return the absolute folder of a teacher; the folder of a run stands for its checkpoint.

    Args:
        given: a checkpoint, the folder of a run, or one of another library.

    Raises:
        UserError: the results of a chain cannot be read.
    """
    return meant_checkpoint(resolved(given))


def check_teacher(place: Path) -> None:
    """Look whether a teacher is there, without building it.

    Raises:
        UserError: it is not, or not whole.
    """
    format = foreign(place)
    if format is None:
        saved_results(place)
        check_file(place / MODEL_FILE)
    else:
        FOREIGN_FORMATS[format].open_folder(place)


def describe_teacher(place: Path) -> dict[str, Any]:
    """Return what is to be remembered of a teacher: its format, model and files' sha256."""
    format = foreign(place)
    if format is None:
        found = {"format": "checkpoint", "model": _sizes(saved_results(place))}
        check_file(place / MODEL_FILE)  # before all of it is read
        return {**found, "weights": sha256_file(place / MODEL_FILE)}
    return described(format, FOREIGN_FORMATS[format].open_folder(place))


def _sizes(results: TrainingResults) -> Optional[dict[str, Any]]:
    return None if results.model is None else results.model.to_tree()


def teacher_name(place: Path) -> str:
    """Return what a student's results call a loaded teacher.

    It is the name that a zoo would give a checkpoint, else the folder's: never where the folder
    lies, since results are published.
    """
    if foreign(place) is not None:
        return place.name
    try:
        return zoo_name(saved_results(place))
    # Written by hand, or by an old version.
    except (KeyError, TypeError, ValueError, UserError):
        return folder_label(str(place))


def described(format: str, saved: ForeignModel) -> dict[str, Any]:
    """Return what is to be remembered of another library's model."""
    digests = {path.name: sha256_file(path) for path in saved.files}
    return {"format": format, "model": saved.sizes, "weights": digests}


def teacher_settings(place: Path) -> Config:
    """Return settings by which a model like a loaded teacher is built.

    Raises:
        UserError: its settings are missing or damaged.
    """
    format = foreign(place)
    if format is not None:
        return Config(model=FOREIGN_FORMATS[format].open_folder(place).config)
    path = place / checkpoint.CONFIG_FILE
    about = read_object(path)
    if not isinstance(about.get("config"), dict):
        raise UserError(f"{path}: the section 'config' is missing")
    return Config(model=Config.from_mapping(about["config"], str(path)).model)


def table_floats(place: Path) -> Optional[int]:
    """Return the floats per entity of a teacher; None where its entities have no table.

    Raises:
        UserError: it is not there, or not whole.
    """
    check_teacher(place)
    model = teacher_settings(place).model
    return model.dim if ENCODERS.find(model.encoder).is_table else None


def saved_results(place: Path) -> TrainingResults:
    """Return the results that a checkpoint was saved with.

    Raises:
        UserError: it is no checkpoint, or its results lack something.
    """
    return read_training_results(results_file(place))


def results_file(place: Path) -> Path:
    """Return where a checkpoint's results are.

    Raises:
        UserError: it is no checkpoint.
    """
    if not place.is_dir():
        how = "is a file" if place.exists() else "does not exist"
        raise UserError(
            f"{place}: {how}; --teacher takes the folder of a trained model: a checkpoint, a run, "
            "or one of DGL-KE, OpenKE or PyKEEN"
        )
    path = place / RESULTS_FILE
    # The folder of a run has such a file too.
    below = [] if (place / MODEL_FILE).is_file() else checkpoints_below(place)
    if below:
        raise UserError(f"{place}: is no checkpoint; {did_you_mean(below)} (--teacher)")
    if not path.is_file():
        raise UserError(
            f"{place}: neither a checkpoint ({RESULTS_FILE} is missing) nor a folder "
            "that DGL-KE wrote (there is no *_entity.npy), nor one of OpenKE or PyKEEN; check "
            "--teacher"
        )
    return path
