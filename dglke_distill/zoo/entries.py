"""The registry's entry of a checkpoint, told by the checkpoint itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts.results import DistillationDescription, StartedFrom, TrainingResults
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_training_results
from dglke_distill.artifacts.results_parts import GitState, Protocol
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.parsing import read_object
from dglke_distill.base.regular_files import check_names
from dglke_distill.base.shown import visible
from dglke_distill.config import Config, merge, read_recipe, recipe_names, told_recipe
from dglke_distill.config.components import ENCODERS
from dglke_distill.data.sources import credits
from dglke_distill.zoo.registry_file import validate_entry
from dglke_distill.zoo.schema import CHECKPOINT_FILES, PROTOCOLS, TIES, Entry, compose_name

_INCOMPLETE = "no such file; the checkpoint is incomplete"


def describe(
    directory: Path,
    *,
    root: Optional[Path] = None,
    name: Optional[str] = None,
    about: Optional[Mapping[str, Any]] = None,
) -> Entry:
    """Return the entry, version 1, of a checkpoint directory.

    Args:
        directory: the checkpoint.
        root: the folder that the paths of its files are relative to; the checkpoint itself if None.
        name: its name, by default ``<model>-<dataset>-dim<floats>[-<dtype>]``.
        about: values of the entry's ``method``, ``teacher``, ``recipe``, ``verdict`` and ``time``
            that are known better than the checkpoint's results tell.

    Raises:
        UserError: a file is missing, or says too little.
    """
    for file in CHECKPOINT_FILES:
        if not (directory / file).is_file():
            raise UserError(f"{directory / file}: no such file; the checkpoint is incomplete")
    settings = read_object(directory / "config.json", missing=_INCOMPLETE)
    results = read_training_results(directory / RESULTS_FILE, missing=_INCOMPLETE)
    try:
        entry = _entry(settings, results)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{directory}: results.json or config.json does not tell what a zoo must know "
            f"({error}); only models that this program trained, distilled or compressed can be "
            "published"
        ) from None
    from dglke_distill.base.tensor_files import (
        check_file,
    )  # torch, which listing a zoo does not need

    check_file(directory / "model.safetensors")  # before all files are read for their digests
    for kind in ("entities", "relations"):
        count = settings[kind]["count"]
        check_names(directory / f"{kind}.tsv", count if isinstance(count, int) else 0)
    entry.update(about or {})
    if name is not None:
        entry["name"] = name
    entry["dataset"] = _word(entry["dataset"])
    entry["teacher"] = [_word(teacher) for teacher in entry["teacher"]]
    entry["files"] = [
        {
            "name": file,
            "path": (directory / file).relative_to(directory if root is None else root).as_posix(),
            "sha256": sha256_file(directory / file),
            "bytes": (directory / file).stat().st_size,
        }
        for file in CHECKPOINT_FILES
    ]
    return validate_entry(entry, str(directory))


def _entry(settings: Mapping[str, Any], results: TrainingResults) -> dict[str, Any]:
    config, model, dataset = settings["config"], results.model, results.dataset
    encoder = config["model"]["encoder"]
    if model is None or dataset is None or results.provenance is None:
        raise ValueError("model, dataset or provenance is missing")
    dtype = config["training"].get("storage") or config["training"]["dtype"]
    if "storage" in settings:
        dtype = settings["storage"]["entities"]["kind"]
        if dtype == "pq":  # its size is a matter of choice, so the name must tell: pq32
            dtype += str(model.bytes_per_entity)
    licence, citation = credits(dataset.name)
    git = results.provenance.git or GitState(revision="", dirty=True)
    taught = results.distillation or DistillationDescription(method="direct")
    entry = {
        "name": compose_name(
            model.name,
            dataset.name,
            model.floats_per_entity,
            dtype,
            "" if ENCODERS.find(encoder).is_table else encoder,
        ),
        "version": 1,
        "model": model.name,
        "dataset": dataset.name,
        "dim": model.floats_per_entity,
        "params": model.parameters,
        "dtype": dtype,
        "bytes_per_entity": model.bytes_per_entity,
        "shared_bytes": model.shared_bytes,
        "dataset_fingerprint": dataset.fingerprint,
        "method": taught.method,
        "teacher": [folder_label(teacher.name) for teacher in taught.teachers],
        "recipe": _recipe(config, results.init),
        "commit": git.revision,
        "dirty": git.dirty,
        "seed": config["training"]["seed"],
        "licence": licence,
        "citation": citation,
        "vocab": {
            kind: {key: settings[kind][key] for key in ("count", "sha256")}
            for kind in ("entities", "relations")
        },
    }
    warnings = list(results.data_warnings)
    if ENCODERS.find(encoder).holds_facts:
        warnings.append(
            f"model.safetensors holds the train facts, by which the encoder {encoder} scores: they "
            "are published with the model"
        )
    if warnings:
        entry["warnings"] = warnings
    if options := config["model"].get("options"):
        entry["options"] = options
    for split in ("test", "valid"):
        figures = results.metrics.get(split)
        if figures is None or figures.protocol is None:
            continue
        protocol = _protocol(figures.protocol)
        if protocol in PROTOCOLS and figures.protocol.ties == TIES:
            entry["metrics"] = {
                "split": split,
                "protocol": protocol,
                "ties": TIES,
                "mrr": figures.mrr,
                "hits_at_1": figures.hits_at_1,
                "hits_at_3": figures.hits_at_3,
                "hits_at_10": figures.hits_at_10,
            }
            break
    return entry


def _recipe(config: Mapping[str, Any], begun: Optional[StartedFrom] = None) -> str:
    """Return the recipe of a model, whether its settings differ, and what it went on from."""

    def of_that_size(recipe: str) -> Config:
        size = {"model": {"dim": config["model"]["dim"]}}
        return Config.from_mapping(merge(size, read_recipe(recipe)), recipe)

    name = told_recipe(config, recipe_names(), of_that_size)
    return name if begun is None else f"{name or 'none'}, begun from {_word(begun.name)}"


def _word(name: str) -> str:
    """Return a folder's name as an entry may hold it: of whatever characters, not too long."""
    return visible(name)[:200] or "data"


def _protocol(stated: Protocol) -> str:
    """Return the protocol of a result, worded as entries word them; others never match."""
    if stated.estimate:
        return "estimate"
    if stated.name != "all":
        return stated.name
    kind = "filtered" if stated.filtered else "raw"
    return f"{kind}, {stated.sides} sides, {stated.candidates} entities"


def folder_label(place: str) -> str:
    """Return a teacher's name: a stage's, or what identifies a checkpoint without its folder."""
    path = Path(place)
    return path.parent.name if path.name == "checkpoint" and path.parent.name else path.name
