"""Downloading a dataset of the Open Graph Benchmark: gigabytes, and only if that was agreed to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home
from dglke_distill.data import catalog
from dglke_distill.data.archives import unpack_zip
from dglke_distill.data.download import console_progress, fetch
from dglke_distill.data.manifest import DatasetFile, Manifest, load_manifest
from dglke_distill.data.ogb_package import OGB_DATASETS


def offer(
    dataset: str,
    yes: bool,
    data_root: Optional[Path] = None,
    *,
    ask: Optional[Callable[[str], bool]] = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Download a dataset of the Open Graph Benchmark that is not here, if that is agreed to.

    Args:
        dataset: a name of the catalog, or a path; nothing happens where it is no such dataset.
        yes: whether the user has agreed.
        data_root: folder of pre-placed datasets.
        ask: asks the user, where one can be asked.
        tell: is given the line that announces a download.

    Raises:
        UserError: it would have to be downloaded, and the user has not agreed; or it cannot be.
    """
    manifest = load_manifest(dataset)
    if manifest is None or manifest.name not in OGB_DATASETS or in_home(dataset).exists():
        return
    location = catalog.locate(manifest, data_root=data_root)
    if location.place != "to download":
        return
    told = catalog.offered(manifest, location)
    if not yes and not (ask is not None and ask(f"{manifest.name} is not here. Download {told}?")):
        raise UserError(catalog.not_here(manifest, location, "add --yes"))
    tell(f"downloading {told}")
    download_archive(manifest, location.folder)


def download_archive(manifest: Manifest, folder: Path) -> None:
    """Download the official archive and unpack it; the caller has the user's consent.

    Args:
        manifest: of the dataset.
        folder: what its folder becomes; the archive lies beside it meanwhile.

    Raises:
        UserError: it cannot be downloaded, has another size, or cannot be unpacked.
    """
    source = manifest.ogb
    if source is None or source.url is None:
        raise UserError(f"{manifest.name}: there is no address to download it from")
    known = DatasetFile(path=source.url.rpartition("/")[2], bytes=source.bytes)
    archive = folder.with_name(f"{folder.name}.zip")
    otherwise = f"place the official folder {folder.name}/ in a data root"
    with console_progress() as progress:
        fetch(
            source.url,
            archive,
            known,
            most_bytes=source.most_bytes,
            progress=progress,
            otherwise=otherwise,
        )
    try:
        unpack_zip(archive, source.folder, folder, source.most_unpacked_bytes)
    finally:
        archive.unlink(missing_ok=True)
