"""From a name or a path to a dataset that is known to be whole.

A path that exists is the user's own data. A name of the catalog is looked for, in this order, in
the package itself, in the data root, in the cache, among the copies of ``dgl.data``; then it is
downloaded into the cache. Wherever it comes from, it is verified, and its ids are in the order of
names by code points, so that the same name means the same ids on every machine. (The graphs of the
Open Graph Benchmark keep their official ids.)
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home, resolved
from dglke_distill.config.registry import nearest
from dglke_distill.data.dgl_copies import DGL_FORMAT, find_dgl_copy
from dglke_distill.data.download import console_progress, fetch, identify
from dglke_distill.data.formats import read_folder
from dglke_distill.data.manifest import (
    SPLIT_FILES,
    FileRole,
    Manifest,
    datasets_dir,
    load_manifest,
    manifest_names,
    read_manifest,
)
from dglke_distill.data.name_order import in_name_order
from dglke_distill.data.ogb import load_ogb
from dglke_distill.data.ogb_package import OGB_DATASETS
from dglke_distill.data.own_files import no_columns, read_own
from dglke_distill.data.published import count_difference, doubts
from dglke_distill.data.sources import DATASETS, is_named, load_source
from dglke_distill.data.table_options import PLAIN, TableOptions
from dglke_distill.data.triples import Dataset
from dglke_distill.data.wikikg90m import is_wikikg90m, load_wikikg90m


@dataclass(frozen=True)
class Location:
    """Where a dataset of the catalog is now.

    Attributes:
        place: ``to download`` when it is on none of the places looked at.
        folder: its folder there, or where a download will put it.
    """

    place: Literal["embedded", "data root", "cached", "dgl.data", "to download"]
    folder: Path


def load(
    name_or_path: str,
    *,
    data_root: Optional[Path] = None,
    cache_dir: Optional[Path] = None,
    format: str = "auto",
    header: Optional[bool] = None,
    split_seed: int = 0,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    offline: bool = False,
    table: TableOptions = PLAIN,
) -> Dataset:
    """Load a dataset.

    Args:
        name_or_path: a folder of train, valid and test files; a folder as the ogb package leaves
            it, with its name, or that of WikiKG90Mv2; one file of facts, to be split; or a name of
            the catalog, in any letter case.
        data_root: folder of pre-placed datasets, ``<data_root>/<name>/``; by default the
            environment variable ``DGLKE_DISTILL_DATA``.
        cache_dir: folder for downloads; by default ``DGLKE_DISTILL_CACHE``, else the user's cache.
        format: format of a user's own files, see ``dglke_distill.data.formats``.
        header: whether a user's own files begin with a heading; None: found out.
        split_seed: seed when one file is split.
        split_fractions: shares of train, valid and test when one file is split.
        offline: whether to refuse to download.
        table: which columns of a user's own files are read, and what separates them.

    Raises:
        UserError: there is no such dataset, it cannot be downloaded, a copy is not what the
            catalog says it is, or a file is malformed.
    """
    path = in_home(name_or_path)
    manifest = load_manifest(name_or_path)
    if path.exists():
        ogb = _ogb_manifest(path)
        if table.of_text and (ogb is not None or is_wikikg90m(path)):
            raise no_columns(str(path))
        if ogb is not None:
            return _read_ogb_folder(path, ogb, cache_dir or default_cache_dir())
        if is_wikikg90m(path):
            return load_wikikg90m(path)
        dataset = read_own(path, format, header, split_seed, split_fractions, table)
        if is_named(path.name):
            note = f"read from {resolved(path)}, not from the catalog, which also has that name"
            dataset = dataclasses.replace(dataset, warnings=(*dataset.warnings, note))
        return dataset
    if table.of_text and (manifest is not None or DATASETS.knows(name_or_path)):
        raise no_columns(name_or_path)
    return load_named(
        name_or_path if manifest is None else manifest.name,
        data_root=data_root,
        cache_dir=cache_dir,
        format=format,
        offline=offline,
    )


def load_named(
    name: str,
    *,
    data_root: Optional[Path] = None,
    cache_dir: Optional[Path] = None,
    format: str = "auto",
    offline: bool = False,
) -> Dataset:
    """Load a dataset of the catalog, or of a plug-in, whatever the working folder holds.

    The arguments are those of ``load``.
    """
    if (manifest := load_manifest(name)) is None:
        if DATASETS.knows(name):
            return load_source(name)
        raise unknown_name(name)
    cache = cache_dir or default_cache_dir()
    location = locate(manifest, data_root=data_root, cache_dir=cache)
    if manifest.source.kind == "ogb":
        return _load_ogb(manifest, location, cache)
    if location.place in ("cached", "to download"):
        _download(manifest, location.folder, offline)
    if location.place != "data root":
        format = DGL_FORMAT if location.place == "dgl.data" else manifest.source.format
    dataset = read_folder(location.folder, format=format, header=False, name=manifest.name)
    _check_counts(manifest, dataset, location)
    told = doubts(manifest, location.folder)
    dataset = dataclasses.replace(dataset, warnings=(*told, *dataset.warnings))
    return in_name_order(dataset)


def locate(
    manifest: Manifest, *, data_root: Optional[Path] = None, cache_dir: Optional[Path] = None
) -> Location:
    """Say where a dataset of the catalog would be loaded from, without reading it.

    Raises:
        UserError: the data root does not exist.
    """
    cache = cache_dir or default_cache_dir()
    if manifest.source.kind == "embedded":
        return Location("embedded", datasets_dir() / manifest.name)
    root = resolve_data_root(data_root)
    if root is not None:
        names = manifest.name, manifest.title, _ogb_folder(manifest), *manifest.aliases
        for spelling in names:
            if (root / spelling).is_dir():
                return Location("data root", root / spelling)
    if manifest.source.kind == "ogb":
        folder = cache / _ogb_folder(manifest)
        complete = any(folder.glob("split/*/*.pt"))
        return Location("cached" if complete else "to download", folder)
    folder = cache / manifest.name
    if all((folder / name).is_file() for name in _cached_names(manifest).values()):
        return Location("cached", folder)
    copy = find_dgl_copy(manifest)
    return Location("dgl.data", copy) if copy is not None else Location("to download", folder)


def manifests() -> list[Manifest]:
    """Return every manifest of the catalog, by name."""
    return [read_manifest(datasets_dir() / f"{name}.toml") for name in manifest_names()]


def resolve_data_root(data_root: Optional[Path] = None) -> Optional[Path]:
    """Return the data root: the one given, else ``DGLKE_DISTILL_DATA``, else None.

    Raises:
        UserError: there is no such folder.
    """
    from dglke_distill.base.environment import Environment

    root = data_root or Environment().data
    if root is None:
        return None
    root = in_home(root)
    if not root.is_dir():
        origin = "--data-root" if data_root is not None else "DGLKE_DISTILL_DATA"
        raise UserError(f"{origin}: there is no folder {root}; make it or name another")
    return root


def default_cache_dir() -> Path:
    """Return the folder for downloads: ``DGLKE_DISTILL_CACHE``, else in the user's cache."""
    from dglke_distill.base.environment import Environment

    given = Environment().cache
    if given is not None:
        return given
    import pooch

    return Path(pooch.os_cache("dglke_distill")) / "datasets"


def unknown_name(name: str) -> UserError:
    """Return the error that says a dataset is unknown and names near ones."""
    hint = nearest(name, [*manifest_names(), *DATASETS]).replace("known: ", "the catalog has ")
    if not hint.startswith("did"):
        hint += "; one of a plug-in needs its package installed, or --plugin MODULE"
    return UserError(
        f"there is neither a file or folder {name!r} nor a dataset of that name; {hint}"
    )


def _ogb_folder(manifest: Manifest) -> str:
    """Return the folder that the ogb package uses for a dataset of this name."""
    return manifest.name.replace("-", "_")


def _cached_names(manifest: Manifest) -> dict[FileRole, str]:
    """Return the name in the cache of each file of triples, by role."""
    return {
        role: role + ("." + file.file_name.partition(".")[2] if "." in file.file_name else ".txt")
        for role, file in manifest.files.items()
        if role in SPLIT_FILES
    }


def _download(manifest: Manifest, folder: Path, offline: bool) -> None:
    """Download what is missing or damaged."""
    wanted = {
        role: folder / name
        for role, name in _cached_names(manifest).items()
        if not (folder / name).is_file()
        or identify(folder / name, manifest.files[role]) == "differs"
    }
    if not wanted:
        return
    if offline:
        names = ", ".join(path.name for path in wanted.values())
        raise UserError(
            f"{manifest.name}: {names} missing or damaged in {folder}, and downloads are switched "
            f"off; allow them, or place the files in <data root>/{manifest.name}/"
        )
    with console_progress() as progress:
        for role, path in wanted.items():
            fetch(manifest.url(role), path, manifest.files[role], progress=progress)


def _check_counts(manifest: Manifest, dataset: Dataset, location: Location) -> None:
    difference = count_difference(manifest, dataset)
    if difference is not None:
        raise UserError(
            f"{location.folder} holds {difference}: replace that copy, or give the folder's path "
            "to use it as your own data"
        )


def offered(manifest: Manifest, location: Location) -> str:
    """Return what downloading an archive would mean: size, address and place."""
    source = manifest.ogb
    if source is None or source.url is None:
        return f"it into {location.folder.parent}"
    size = f"{(source.bytes or source.most_bytes) / 1e9:.2f} GB"
    limit = "" if source.bytes is not None else "at most "
    return f"{limit}{size} from {source.url} into {location.folder.parent}"


def not_here(manifest: Manifest, location: Location, fix: str) -> str:
    """Return the message that an archive is missing, and how to agree to its download."""
    return (
        f"{manifest.name} is not here, and archives are not downloaded unasked "
        f"({offered(manifest, location)}): {fix}, or name the folder that holds "
        f"{location.folder.name}/ by --data-root"
    )


def _load_ogb(manifest: Manifest, location: Location, cache: Path) -> Dataset:
    assert manifest.ogb is not None
    folder = location.folder
    if location.place == "to download":
        fix = f"get it by `dglke-distill data prepare {manifest.name} --yes`"
        raise UserError(not_here(manifest, location, fix))
    if folder.name != _ogb_folder(manifest):
        raise UserError(
            f"{folder} must be named {_ogb_folder(manifest)} for the ogb package to find it: "
            f"rename it"
        )
    writable = location.place != "data root" or os.access(folder, os.W_OK)
    dataset = load_ogb(
        manifest.ogb.dataset,
        folder.parent,
        cache=None if writable else cache / f"{manifest.name}_converted",
    )
    _check_counts(manifest, dataset, location)
    return dataset


def _ogb_manifest(path: Path) -> Optional[Manifest]:
    """Return the manifest of the OGB dataset that a folder is laid out as, if it is one."""
    name = resolved(path).name.replace("_", "-")
    known = name in OGB_DATASETS and resolved(path).name != name
    files = ("RELEASE_v*.txt", "processed/*/description.json")
    laid_out = known and any(any(path.glob(pattern)) for pattern in files)
    return load_manifest(name) if laid_out else None


def _read_ogb_folder(folder: Path, manifest: Manifest, cache: Path) -> Dataset:
    """Read a folder in the official layout that may hold other triples than the published ones."""
    assert manifest.ogb is not None
    folder = resolved(folder)
    converted = None if os.access(folder, os.W_OK) else cache / f"{manifest.name}_converted"
    dataset = load_ogb(manifest.ogb.dataset, folder.parent, cache=converted)
    difference = count_difference(manifest, dataset)
    if difference is None:
        return dataset
    note = f"{folder} holds {difference}: figures on it are none of the leaderboard's"
    return dataclasses.replace(dataset, warnings=(*dataset.warnings, note))
