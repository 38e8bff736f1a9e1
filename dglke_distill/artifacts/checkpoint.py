"""Models and interrupted runs on disk, without pickle.

A model is a directory: ``model.safetensors``, ``config.json``, ``entities.tsv``,
``relations.tsv``, ``results.json``. It is built aside and swapped in whole. A run under way is one
file of tensors with its metadata in the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from dglke_distill import __version__
from dglke_distill.artifacts.checkpoint_places import MODEL_FILE, no_checkpoint
from dglke_distill.artifacts.expected_weights import check_dtypes, empty_model, expected_weights
from dglke_distill.artifacts.known_facts_file import KNOWN_FILE, write_known
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.artifacts.requirements import REQUIRES, check_requirements, requirements
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_results_tree, results_text
from dglke_distill.artifacts.results_node import ResultsNode, strict_json
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import directory_aside
from dglke_distill.base.parsing import read_object
from dglke_distill.base.places import anything, check_replaceable
from dglke_distill.base.regular_files import most_bytes_of_names, read_text
from dglke_distill.base.runtime import resolve_device
from dglke_distill.base.tensor_files import (
    SavedState,
    all_finite,
    check_finite,
    check_shapes,
    flatten_state,
    portable,
    read_tensors,
    write_tensors,
)
from dglke_distill.calibration.file import (
    CALIBRATION_FILE,
    read_calibration,
    write_calibration,
)
from dglke_distill.compression import CompressedModel, Storage
from dglke_distill.config import Config, validate_tree
from dglke_distill.data.labels import LABELS_FILE, Labels
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.models.base import KGEModel

if TYPE_CHECKING:
    from dglke_distill.calibration import Calibration
    from dglke_distill.data.known_answers import KnownAnswers

CONFIG_FILE = "config.json"
ENTITIES_FILE = "entities.tsv"
RELATIONS_FILE = "relations.tsv"
SCHEMA = 1
CHECKPOINT_FILES = (MODEL_FILE, CONFIG_FILE, ENTITIES_FILE, RELATIONS_FILE, RESULTS_FILE)
"""The files that make up a checkpoint, all of them needed to load it."""
_BESIDE = (LABELS_FILE, KNOWN_FILE, CALIBRATION_FILE)
"""Files that a checkpoint may have besides."""
_INCOMPLETE = "no such file; the checkpoint is incomplete"
_MOST_NAMES = 1 << 31


def save_model(
    directory: Path,
    model: KGEModel,
    config: Config,
    entities: Vocabulary,
    relations: Vocabulary,
    results: Union[Mapping[str, Any], ResultsNode],
    labels: Optional[Labels] = None,
    *,
    known: Optional[KnownAnswers] = None,
    calibration: Optional[Calibration] = None,
    overwrite: bool = True,
) -> None:
    """Write a model as a directory that appears, or replaces the earlier one, all at once.

    Args:
        directory: its place.
        model: the model, on any device.
        config: the settings it was built from.
        entities: names of the entities in id order.
        relations: the same of the relations.
        results: a typed tree, or a mapping that JSON can hold.
        labels: of the entities; those that ship with the package are not written.
        known: facts to be kept beside it, where no dataset has them all.
        calibration: what makes probabilities of this model's scores.
        overwrite: whether an earlier checkpoint there is replaced.

    Raises:
        UserError: the directory holds something that is no checkpoint, or a weight is not finite,
            or of another dtype than the settings say.
    """
    check_place(directory)
    tensors = portable(model.state_dict())
    storage = model.storage if isinstance(model, CompressedModel) else None
    expected = expected_weights(storage, config, len(entities), len(relations), tensors, directory)
    check_dtypes(directory, tensors, expected)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise UserError(
                f"{directory}: not written, {name!r} has values that are not finite; "
                "lower optimizer.learning_rate or set optimizer.clip_norm"
            )
    about = {
        "schema": SCHEMA,
        "version": __version__,
        "entities": _describe(entities),
        "relations": _describe(relations),
        "config": config.model_dump(mode="json"),
    }
    if storage is not None:
        about["storage"] = storage.model_dump(mode="json")
    required = requirements(config.model, storage)
    if required:
        about[REQUIRES] = required
    with directory_aside(directory, foreign=_foreign if overwrite else anything) as aside:
        write_tensors(aside / MODEL_FILE, tensors)
        (aside / CONFIG_FILE).write_text(strict_json(about), encoding="utf-8")
        _write_names(aside / ENTITIES_FILE, entities)
        _write_names(aside / RELATIONS_FILE, relations)
        (aside / RESULTS_FILE).write_text(results_text(results), encoding="utf-8")
        if labels is not None:
            labels.write(aside, entities)
        if known is not None:
            facts, none = known.triples(), Triples.from_array(np.zeros((0, 3), np.int32))
            grown = Dataset("grown", entities, relations, facts, none, none)
            write_known(aside / KNOWN_FILE, grown)
        if calibration is not None:
            write_calibration(aside / CALIBRATION_FILE, calibration)


def load_model(directory: Path, device: Union[str, torch.device] = "cpu") -> LoadedModel:
    """Read a directory written by ``save_model``; the model is in evaluation mode.

    Args:
        directory: the checkpoint.
        device: where the model shall live: a device, or a name for ``runtime.resolve_device``.

    Raises:
        UserError: a file is missing, damaged, of another schema, or at odds with the others; a
            weight is missing, unknown, of the wrong shape or dtype, or not finite.
    """
    missing = no_checkpoint(directory)
    if missing is not None:
        raise missing
    files = {name: directory / name for name in CHECKPOINT_FILES}
    for name in _BESIDE:
        if (directory / name).is_file():
            files[name] = directory / name
    return load_files(files, device)


def load_files(files: Mapping[str, Path], device: Union[str, torch.device] = "cpu") -> LoadedModel:
    """Read a model whose files need not lie in one directory; see ``load_model``.

    Args:
        files: where each of ``CHECKPOINT_FILES`` lies, and labels, known facts and the calibration
            if there are any.
        device: as for ``load_model``.
    """
    target = resolve_device(device) if isinstance(device, str) else device
    path = files[CONFIG_FILE]
    about = _read_object(path)
    if "schema" not in about:
        raise UserError(f"{path}: is none of ours ('schema' is missing); check the place")
    if about["schema"] != SCHEMA:
        raise UserError(
            f"{path}: schema {about['schema']!r} is not the one this version reads "
            f"({SCHEMA}); load it with dglke_distill {about.get('version', '(unknown)')}"
        )
    if not isinstance(about.get("config"), dict):
        raise UserError(f"{path}: the section 'config' is missing")
    config = Config.from_mapping(about["config"], str(path))
    storage = None
    if "storage" in about:
        storage = validate_tree(Storage, about["storage"], str(path))
    check_requirements(about, config.model, storage, str(path))
    entities = _read_names(files[ENTITIES_FILE], about, "entities", path)
    relations = _read_names(files[RELATIONS_FILE], about, "relations", path)
    tensors, _ = read_tensors(files[MODEL_FILE])
    sizes = len(entities), len(relations)
    # Without memory first: settings that do not fit the weights could ask for any amount of it.
    expected = expected_weights(storage, config, *sizes, tensors, path, files[MODEL_FILE])
    check_shapes(files[MODEL_FILE], tensors, expected)
    check_finite(files[MODEL_FILE], tensors)
    model = empty_model(storage, config, *sizes, tensors, path, files[MODEL_FILE])
    model.load_state_dict(tensors)
    model.eval().to(target)
    results = read_results_tree(files[RESULTS_FILE], missing=_INCOMPLETE)
    beside = files.get(KNOWN_FILE), files.get(LABELS_FILE)
    calibration = None
    if CALIBRATION_FILE in files:
        calibration = read_calibration(files[CALIBRATION_FILE], model)
    return LoadedModel(model, config, entities, relations, results, *beside, calibration)


def check_place(directory: Path) -> None:
    """Check that a checkpoint may be written to a place, before it costs any work.

    Raises:
        UserError: something else than an earlier checkpoint is there.
    """
    check_replaceable(directory, _foreign)


def _foreign(directory: Path) -> Optional[str]:
    """Return the name of something in a directory that is no checkpoint of ours, None if all is.

    A file that has the name of one of ours alone says nothing: so is called much.
    """
    names = sorted(path.name for path in directory.iterdir())
    kept = (*CHECKPOINT_FILES, *_BESIDE)
    strange = [name for name in names if name not in kept]
    if strange:
        return strange[0]
    try:
        about = _read_object(directory / CONFIG_FILE)
    except UserError:
        return names[0]
    return None if {"schema", "version", "config"} <= set(about) else CONFIG_FILE


def training_tensors(learned: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the weights of all that learns and the optimiser's whole state (``optimizer.*``)."""
    return {**learned.state_dict(), **flatten_state(optimizer.state_dict(), "optimizer")}


def restore_weights(
    tensors: Mapping[str, Tensor], names: Iterable[str], learned: nn.Module, path: Path
) -> None:
    """Put saved weights back where they lie, a table never being held twice.

    Args:
        tensors: the weights, and perhaps others.
        names: the names of the weights.
        learned: what they belong to.
        path: their file, for messages.

    Raises:
        UserError: the weights are not those of this module.
    """
    expected = learned.state_dict()
    check_shapes(path, {name: tensors[name] for name in names}, expected)
    for name, target in expected.items():
        if isinstance(tensors, SavedState):
            tensors.read_into(name, target)
        else:
            target.copy_(tensors[name])
    check_finite(path, expected)


def _read_object(path: Path) -> dict[str, Any]:
    return read_object(path, missing=_INCOMPLETE)


def _describe(names: Vocabulary) -> dict[str, Any]:
    return {"count": len(names), "named": names.named, "sha256": names.fingerprint}


def _write_names(path: Path, names: Vocabulary) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        for i, name in enumerate(names):
            stream.write(f"{i}\t{name}\n")


def _read_names(path: Path, about: Mapping[str, Any], key: str, source: Path) -> Vocabulary:
    kind = {"entities": "entity", "relations": "relation"}[key]
    stated = about.get(key)
    if not isinstance(stated, dict):
        raise UserError(f"{source}: the section {key!r} is missing")
    count = stated.get("count")
    if type(count) is not int or not 0 <= count < _MOST_NAMES:
        raise UserError(f"{source}: {key}.count is {count!r:.50}; restore the file")
    text = read_text(path, most_bytes_of_names(count), missing=_INCOMPLETE)
    lines = text.removesuffix("\n").split("\n") if text else []
    parts = [line.partition("\t") for line in lines]
    if [number for number, _, _ in parts] != list(map(str, range(len(parts)))):
        i = next(i for i, (number, _, _) in enumerate(parts) if number != str(i))
        raise UserError(f"{path}, line {i + 1}: expected id {i}, found {parts[i][0]!r:.50}")
    names = [name for _, _, name in parts]
    plain = not stated.get("named", True) and all(name == str(i) for i, name in enumerate(names))
    try:
        found = Vocabulary(size=len(names), kind=kind) if plain else Vocabulary(names, kind=kind)
    except UserError as error:
        raise UserError(f"{path}: {error}; restore the file") from None
    if len(found) != stated.get("count") or found.fingerprint != stated.get("sha256"):
        raise UserError(
            f"{path}: {len(found)} names that are not the {stated.get('count')} the model was "
            f"trained with; restore the file that belongs to {source}"
        )
    return found
