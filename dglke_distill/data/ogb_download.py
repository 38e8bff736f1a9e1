"""What downloading a dataset of the Open Graph Benchmark would cost, asked before it is begun."""

from __future__ import annotations

import csv
import importlib.util
import urllib.error
import urllib.request
from pathlib import Path
from typing import Optional

from dglke_distill.data import catalog
from dglke_distill.data.manifest import load_manifest
from dglke_distill.data.ogb import OGB_DATASETS
from dglke_distill.errors import UserError

__all__ = ["consent", "official_url"]

_SECONDS = 20.0


def official_url(name: str) -> str:
    """Return the address that the installed ogb package downloads a dataset from.

    Raises:
        UserError: the package is not installed, or does not know the dataset.
    """
    found = importlib.util.find_spec("ogb")  # without running it, which takes seconds
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        table = Path(folder) / "linkproppred" / "master.csv"
        if table.is_file():
            with open(table, newline="", encoding="utf-8") as stream:
                rows = {row[""]: row for row in csv.DictReader(stream)}
            if name in rows.get("url", {}):
                return rows["url"][name]
    raise UserError(f"the installed ogb package does not know {name}: install ogb>=1.3.6")


def consent(dataset: str, yes: bool, data_root: Optional[Path] = None) -> Optional[str]:
    """Make sure that nothing is downloaded that was not agreed to.

    Args:
        dataset: a name of the catalog, or a path.
        yes: whether the user has agreed.
        data_root: folder of pre-placed datasets.

    Returns:
        A line that announces the download, or None where the dataset is there.

    Raises:
        UserError: it would have to be downloaded, and the user has not agreed.
    """
    manifest = load_manifest(dataset)
    if manifest is None or manifest.name not in OGB_DATASETS or Path(dataset).expanduser().exists():
        return None
    location = catalog.locate(manifest, data_root=data_root)
    if location.place != "to download":
        return None
    url = official_url(manifest.name)
    size = _size(url)
    told = f"{size / 1e9:.2f} GB" if size is not None else "size unknown, the server did not say"
    if yes:
        return f"downloading {told} from {url} into {location.folder.parent}"
    raise UserError(
        f"{manifest.name} is not here, and would be downloaded ({told}, {url}) into "
        f"{location.folder.parent}: add --yes, or name the folder that holds "
        f"{location.folder.name}/ by --data-root"
    )


def _size(url: str) -> Optional[int]:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            length = answer.headers.get("Content-Length")
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return int(length) if length is not None and length.isdecimal() else None
