"""A checkpoint as others get it: no paths of this machine in it, and its facts beside if asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts.results_files import read_results_tree
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.parsing import read_object
from dglke_distill.zoo.schema import CALIBRATION_FILE, KNOWN_FILE, LABELS_FILE, Entry, FileEntry

_TEXTS = ("config.json", "results.json")


def without_paths(
    entry: Entry, files: Mapping[str, Path], aside: Path
) -> tuple[Entry, dict[str, Path]]:
    """Return an entry and its files without the place that the dataset had.

    Where it had none, as a dataset of the catalog, the files stay as they are.

    Args:
        entry: of a checkpoint.
        files: where its files lie, by name.
        aside: an empty folder for those that change.
    """
    read = {"config.json": read_object, "results.json": read_results_tree}
    trees: dict[str, dict[str, Any]] = {name: read[name](files[name]) for name in _TEXTS}
    places = {
        place
        for place in (
            _at(trees["config.json"], "config", "data", "dataset"),
            _at(trees["results.json"], "config", "data", "dataset"),
            _at(trees["results.json"], "dataset", "path"),
        )
        if isinstance(place, str) and ("/" in place or "\\" in place or place in (".", ".."))
    }
    changed = dict(files)
    if not places:
        return entry, changed
    described = trees["results.json"].get("dataset")
    if isinstance(described, dict):
        described.pop("path", None)
    for name, tree in trees.items():
        changed[name] = aside / name
        text = json.dumps(
            _renamed(tree, places, entry.dataset), indent=2, ensure_ascii=False, allow_nan=False
        )
        changed[name].write_text(text + "\n", encoding="utf-8")
    return _measured(entry, changed, _TEXTS), changed


def with_beside(entry: Entry, files: Mapping[str, Path]) -> tuple[Entry, dict[str, Path]]:
    """Return an entry and its files with the calibration and the labels beside the weights, if any.

    Labels of a dataset of the catalog have a licence of their own, which is added to the entry's.

    Args:
        entry: of a checkpoint.
        files: where its files lie, by name.

    Raises:
        UserError: the file of labels is malformed.
    """
    folder, changed, made = files["model.safetensors"].parent, dict(files), []
    for name in (CALIBRATION_FILE, LABELS_FILE):
        if name not in files and (folder / name).is_file():
            changed[name] = folder / name
            made.append(FileEntry(name=name, path=name, sha256="0" * 64, bytes=0))
    if not made:
        return entry, changed
    update: dict[str, Any] = {"files": [*entry.files, *made]}
    if LABELS_FILE in changed and LABELS_FILE not in files:
        from dglke_distill.data.labels import read_labels
        from dglke_distill.data.manifest import load_manifest

        read_labels(changed[LABELS_FILE])
        manifest = load_manifest(entry.dataset)
        if manifest is not None and manifest.labels is not None:
            update["licence"] = f"{entry.licence}; labels: {manifest.labels.licence}"
    entry = entry.model_copy(update=update)
    return _measured(entry, changed, (CALIBRATION_FILE, LABELS_FILE)), changed


def with_known(
    entry: Entry,
    files: Mapping[str, Path],
    aside: Path,
    *,
    dataset: Optional[str] = None,
    data_root: Optional[Path] = None,
) -> tuple[Entry, dict[str, Path]]:
    """Return an entry and its files with the facts of its dataset beside.

    Args:
        entry: of a checkpoint.
        files: where its files lie, by name.
        aside: a folder for the new file.
        dataset: where the dataset lies, if it is not found by its name.
        data_root: folder of datasets already there.

    Raises:
        UserError: the dataset is not found, or holds other triples than the model's.
    """
    from dglke_distill.artifacts.known_facts_file import write_known
    from dglke_distill.data.identity import Lookup
    from dglke_distill.zoo.fetch import checked_model

    loaded = checked_model(entry, dict(files))
    if loaded.identity.fingerprint is None:
        raise UserError(
            f"{entry.name}: which triples it was trained on is not recorded, so that no facts can "
            "be published with it; leave --with-known out"
        )
    found, _ = loaded.find_dataset(entry.name, Lookup(dataset, data_root, allow_other_data=None))
    place = aside / KNOWN_FILE
    write_known(place, found)
    known = FileEntry(name=KNOWN_FILE, path=KNOWN_FILE, sha256="0" * 64, bytes=0)
    entry = entry.model_copy(update={"files": [*entry.files, known]})
    changed = {**files, KNOWN_FILE: place}
    return _measured(entry, changed, (KNOWN_FILE,)), changed


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _renamed(value: Any, places: set[str], name: str) -> Any:
    """Return a JSON value in which the places are the dataset's name, wherever they stand."""
    if isinstance(value, dict):
        return {key: _renamed(each, places, name) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, places, name) for each in value]
    if isinstance(value, str):
        for place in sorted(places, key=len, reverse=True):
            if value == place or (len(place) > 2 and place in value):
                value = value.replace(place, name)
    return value


def _measured(entry: Entry, files: Mapping[str, Path], names: tuple[str, ...]) -> Entry:
    """Return the entry with the size and digest that some of its files have now."""
    changed = [
        file.model_copy(
            update={
                "sha256": sha256_file(files[file.name]),
                "bytes": files[file.name].stat().st_size,
            }
        )
        if file.name in names
        else file
        for file in entry.files
    ]
    return entry.model_copy(update={"files": changed})
