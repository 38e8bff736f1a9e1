"""Finding the dataset that a model was trained on.

A model's own dataset is known by its name and its fingerprint. It is looked for in the catalog and
in the data root, or where the user says that it lies. A path that stands in a checkpoint is text to
be shown: a checkpoint may come from anybody, so that what lies there is never opened.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Optional

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.data import catalog
from dglke_distill.data.identity import Identity, Lookup, shown
from dglke_distill.data.manifest import Manifest, load_manifest
from dglke_distill.data.name_order import with_ids
from dglke_distill.data.sources import DATASETS, load_source
from dglke_distill.data.table_options import IN_MEMORY, PLAIN, reading
from dglke_distill.data.triples import Dataset, Vocabulary

_FILE_ENDINGS = ("", ".tsv", ".txt", ".csv", ".nt")


def own_dataset(identity: Identity, who: str, lookup: Lookup) -> Dataset:
    """Find the dataset that a model was trained on, by its name or where the user says.

    It is looked for by name in the catalog, the data root included, and among the user's own
    folders and files in the data root; or where ``lookup.dataset`` says.

    Args:
        identity: of the model.
        who: what to call the model in messages.
        lookup: where it is looked for.

    Returns:
        The dataset, with its own ids; whether its triples are the model's is not looked at yet.

    Raises:
        UserError: it is not found, cannot be read, or is known to be another.
    """
    if lookup.dataset is not None:
        return _read(lookup.dataset, identity, lookup)
    manifest = load_manifest(identity.name)
    if manifest is not None:
        if not lookup.allow_other_data:
            _check_published(identity, manifest, who)
        return catalog.load_named(manifest.name, data_root=lookup.data_root, offline=lookup.offline)
    if DATASETS.knows(identity.name):
        return load_source(identity.name)
    place = _in_data_root(identity.name, lookup.data_root)
    if place is not None:
        return _read(str(place), identity, lookup)
    if identity.data.format == IN_MEMORY:
        raise UserError(
            f"{who}: its dataset {shown(identity.name)} was a table in memory; in Python give the "
            "same table by dataset=, or save it as a file and name that by --dataset FILE"
        )
    raise UserError(
        f"{who}: its dataset {shown(identity.name)} is neither in the catalog nor in the data "
        f"root; {fix(identity)}"
    )


def fix(identity: Identity, named: Optional[str] = None) -> str:
    """Return what to do where a model's dataset is not the one that was found.

    Args:
        identity: of the model.
        named: the dataset that the user named, if one was.
    """
    if named is not None:
        return "name the folder or file that holds its own"
    return _name_it(identity)


def renumbered(dataset: Dataset, entities: Vocabulary, relations: Vocabulary) -> Optional[Dataset]:
    """Return the dataset with the ids that names have elsewhere; None if the names are others.

    Args:
        dataset: the dataset; it is returned itself if its ids are those.
        entities: names in the order wanted.
        relations: names in the order wanted.
    """
    wanted = {"entities": entities, "relations": relations}
    if all(getattr(dataset, kind).fingerprint == to.fingerprint for kind, to in wanted.items()):
        return dataset
    orders = []
    for kind, to in wanted.items():
        names = getattr(dataset, kind)
        if len(names) != len(to) or not all(name in to for name in names):
            return None
        orders.append(np.fromiter((to.id(name) for name in names), np.int32, len(names)))
    if dataset.gives_candidates:  # its candidates are files of ids
        return None
    return with_ids(dataset, (entities, orders[0]), (relations, orders[1]))


def _in_data_root(name: str, data_root: Optional[Path] = None) -> Optional[Path]:
    """Return where a user's own dataset of a name lies in the data root, None if it does not."""
    root = catalog.resolve_data_root(data_root)
    if root is None or name in ("", ".", "..") or Path(name).name != name or "\\" in name:
        return None
    if (root / name).is_dir():
        return root / name
    for ending in (*_FILE_ENDINGS, *(f"{ending}.gz" for ending in _FILE_ENDINGS)):
        if (root / f"{name}{ending}").is_file():
            return root / f"{name}{ending}"
    return None


def _read(place: str, identity: Identity, lookup: Lookup) -> Dataset:
    """Read what the user names, in the format it had, or in the one that it shows now."""
    data = identity.data
    arguments = reading(data)
    ways = [(format, arguments["table"]) for format in dict.fromkeys((data.format, "auto"))]
    if data.format == IN_MEMORY:  # the file that it was saved as may have fewer columns
        ways = [("auto", arguments["table"]), ("auto", PLAIN)]
    for arguments["format"], arguments["table"] in ways:
        try:
            return catalog.load(
                place, data_root=lookup.data_root, offline=lookup.offline, **arguments
            )
        except UserError as error:
            message = str(error)
    # How it is read follows from the model's settings; what takes --dataset has no such option.
    plain = re.sub(r" \(--set data\.[^)]*\)", "", message).replace("--set data.", "data.")
    if plain == message:
        raise UserError(message)
    raise UserError(
        f"{plain}; a model's dataset is read as in its training (data.format {data.format}), so "
        "give the files that it was trained on"
    )


def _check_published(identity: Identity, manifest: Manifest, who: str) -> None:
    """Refuse a dataset of the catalog that cannot be the model's, before it is downloaded."""
    counts = manifest.counts
    published = (
        counts.entities, counts.relations, counts.train, counts.valid, counts.test,
    )  # fmt: skip
    if identity.counts not in (None, published):
        raise UserError(
            f"{who}: its dataset {shown(identity.name)} is not the one of that name in the "
            f"catalog: {_sizes(identity.counts)}, where the catalog's has {_sizes(published)}; "
            f"{fix(identity)}"
        )


def _sizes(counts: Optional[tuple[int, ...]]) -> str:
    entities, relations, *triples = counts or (0, 0)
    return f"{entities} entities, {relations} relations and {'+'.join(map(str, triples))} triples"


def _name_it(identity: Identity) -> str:
    """Say how to name the folder of a model's dataset."""
    command = _typed_command()
    begin = "name it by --dataset" if command is None else f"type: {command} --dataset"
    if identity.path is None:
        return f"{begin} PATH"
    return (
        f"{begin} {shown(identity.path)} (the place that the checkpoint says it had; see that the "
        "folder is the right one)"
    )


def _typed_command() -> Optional[str]:
    """Return the command line of this program as it was typed, quoted for a shell.

    None in another program, such as a script that uses this package.
    """
    program = Path(sys.argv[0])
    ours = program.name in ("dglke-distill", "dglke-distill.exe")
    if not ours and (program.name, program.parent.name) != ("__main__.py", "dglke_distill"):
        return None
    line = shlex.join(["dglke-distill", *sys.argv[1:]])
    return line if line.isprintable() else None
