"""The copies of FB15k, FB15k-237 and WN18 that ``dgl.data`` has downloaded, read as published.

``dgl.data`` puts train, valid and test edges into one graph. Here its text files are read instead,
so that each split stays by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from dglke_distill.data.layout import SPLITS
from dglke_distill.data.manifest import Manifest

DGL_FORMAT = "names_hrt"
"""Names in its files of triples, ids by its dictionaries."""


_FILES = ("entities.dict", "relations.dict", *(f"{split}.txt" for split in SPLITS))


def dgl_download_dir() -> Path:
    """Return where DGL keeps what it downloads: ``DGL_DOWNLOAD_DIR``, else ``~/.dgl``."""
    return Path(os.environ.get("DGL_DOWNLOAD_DIR") or Path.home() / ".dgl")


def find_dgl_copy(manifest: Manifest) -> Optional[Path]:
    """Return the folder of DGL's copy of a dataset, None where there is none or it lacks files.

    DGL appends a digest of the address to the folder's name, as in ``FB15k-237_5b2d9f0e``.
    """
    if manifest.dgl is None:
        return None
    root, name = dgl_download_dir(), manifest.dgl.folder
    for folder in (root / name, *sorted(root.glob(f"{name}_????????"))):
        if all((folder / file).is_file() for file in _FILES):
            return folder
    return None
