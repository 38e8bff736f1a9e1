"""What is taken from the ogb package: its names of datasets, and its Evaluator.

The package's own loader is never called: it unpickles what it finds in a folder, and a pickle can
run any code. ``ogb_files`` reads the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dglke_distill.base.errors import UserError

OGB_DATASETS = ("ogbl-biokg", "ogbl-wikikg2")
"""The knowledge graphs among the link prediction datasets of the Open Graph Benchmark."""


def dataset_folder(name: str, root: Path) -> Path:
    """Return where the ogb package keeps a dataset: hyphens become underscores.

    Raises:
        UserError: ogb has no knowledge graph of this name.
    """
    if name not in OGB_DATASETS:
        raise UserError(f"unknown OGB dataset {name!r}: choose {' or '.join(OGB_DATASETS)}")
    return root / name.replace("-", "_")


def official_package() -> Any:
    """Return ``ogb.linkproppred``, imported without the check for newer versions.

    That check goes to the network in a thread. The first import takes seconds.
    """
    if "ogb" not in sys.modules:
        absent = object()
        before = sys.modules.get("outdated", absent)
        sys.modules["outdated"] = None  # type: ignore[assignment]
        try:
            import ogb
        finally:
            if before is absent:
                del sys.modules["outdated"]
            else:
                sys.modules["outdated"] = before  # type: ignore[assignment]
    import ogb.linkproppred

    return ogb.linkproppred
