"""The ogb package's own loader, called so that it works today and asks nobody anything.

The loader itself stays untouched: what it reads is what everybody on the leaderboard reads. Five
things around it need care, each for the time of the call only:

- importing ogb starts a thread that asks the network for newer versions;
- since torch 2.6 ``torch.load`` refuses the numpy arrays in the official split files;
- it may ask on the terminal whether to download or to update;
- it writes beside the files it reads, where perhaps nobody may write;
- it reports to standard output, which belongs to our own results.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import pickle
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dglke_distill.errors import UserError

__all__ = [
    "OGB_DATASETS",
    "OfficialData",
    "dataset_folder",
    "official_package",
    "read_official",
]

OGB_DATASETS = ("ogbl-biokg", "ogbl-wikikg2")
"""The knowledge graphs among the link prediction datasets of the Open Graph Benchmark."""

OfficialData = tuple[dict[str, Any], dict[str, dict[str, Any]]]
"""The official graph, and the official splits by name."""


def dataset_folder(name: str, root: Path) -> Path:
    """Return where the ogb package keeps a dataset: hyphens become underscores.

    Raises:
        UserError: ogb has no knowledge graph of this name.
    """
    if name not in OGB_DATASETS:
        raise UserError(f"unknown OGB dataset {name!r}: choose {' or '.join(OGB_DATASETS)}")
    return root / name.replace("-", "_")


def read_official(name: str, root: Path, download: bool) -> OfficialData:
    """Read a dataset by the official loader, downloading it first where it is absent.

    Args:
        name: ``ogbl-biokg`` or ``ogbl-wikikg2``.
        root: the folder that holds, or will hold, ``ogbl_biokg/`` or ``ogbl_wikikg2/``.
        download: whether it may be downloaded.

    Returns:
        The graph as the ogb package gives it, and the splits ``train``, ``valid`` and ``test``
        likewise but with ids as int32.

    Raises:
        UserError: the dataset is absent and cannot be had, or is not complete.
    """
    folder = dataset_folder(name, root)
    present = _check_folder(name, folder)
    if not present and not download:
        raise UserError(
            f"{name} is not in {root}: place the official folder {folder.name}/ there, "
            "or allow the download"
        )
    dataset_class = official_package().LinkPropPredDataset
    try:
        with (
            _torch_load_accepts_pickles(),
            _answer_prompts(),
            _report_to_stderr(),
            _writable_root(folder, present) as place,
        ):
            dataset = dataset_class(name=name, root=str(place))
            return dataset[0], dataset.get_edge_split()
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, SystemExit) as error:
        raise _explain(name, folder, present, error) from error
    except (pickle.UnpicklingError, zlib.error) as error:
        raise _explain(name, folder, present, error) from error


def _explain(name: str, folder: Path, present: bool, error: BaseException) -> UserError:
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, PermissionError):
        return UserError(f"the ogb package cannot read or write {folder}: {error}")
    if present:
        return UserError(
            f"{folder} is not a complete copy of {name} ({reason}); "
            "delete the folder to download it again"
        )
    return UserError(
        f"{name} could not be downloaded ({reason}); check the network, or place the official "
        f"folder at {folder}"
    )


def _check_folder(name: str, folder: Path) -> bool:
    """Return whether the dataset is there; refuse what would make the loader ask questions."""
    if not folder.exists():
        return False
    if not any(folder.glob("RELEASE_v*.txt")):
        raise UserError(
            f"{folder} has no RELEASE_v1.txt, so it is not a current copy of {name}: "
            "complete it, or delete the folder to download it again"
        )
    return True


@contextlib.contextmanager
def _writable_root(folder: Path, present: bool) -> Iterator[Path]:
    """Yield a root in which the loader may write into the dataset's folder ``processed``.

    The official archive has that folder, empty; copies made file by file lose it, and a shared
    copy may not be written to. The latter is stood in for by a folder of links.
    """
    processed = folder / "processed"
    if present:
        with contextlib.suppress(OSError):
            processed.mkdir(exist_ok=True)
    if not present or os.access(processed, os.W_OK) or (processed / "data_processed").exists():
        yield folder.parent
        return
    with tempfile.TemporaryDirectory() as temporary:
        stand_in = Path(temporary, folder.name)
        (stand_in / "processed").mkdir(parents=True)
        for part in folder.iterdir():
            if part.name != "processed":
                (stand_in / part.name).symlink_to(part.resolve())
        yield Path(temporary)


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


@contextlib.contextmanager
def _torch_load_accepts_pickles() -> Iterator[None]:
    """Let the official split files, which are pickled numpy arrays, be read as before torch 2.6.

    The ids are narrowed to int32 as each file is read: the loader holds all three splits at once,
    and those of ogbl-wikikg2 are 8 GB in int64.
    """
    import torch

    original = torch.load

    @functools.wraps(original)
    def load(*arguments: Any, **options: Any) -> Any:
        options.setdefault("weights_only", False)
        loaded = original(*arguments, **options)
        if isinstance(loaded, dict):
            for key in ("head", "relation", "tail", "head_neg", "tail_neg"):
                if key in loaded:
                    loaded[key] = _narrowed(loaded[key])
        return loaded

    torch.load = load
    try:
        yield
    finally:
        torch.load = original


def _narrowed(ids: Any) -> NDArray[np.int32]:
    """Return numpy or torch ids as int32.

    Raises:
        ValueError: an id has more than 31 bits.
    """
    array = np.asarray(ids)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= np.iinfo(np.int32).max:
        raise ValueError("an id is negative or has more than 31 bits")
    return array.astype(np.int32)


@contextlib.contextmanager
def _answer_prompts() -> Iterator[None]:
    """Say yes to "This will download ... Will you proceed?": the caller has already said so."""
    original = builtins.input
    builtins.input = lambda prompt="": "y"
    try:
        yield
    finally:
        builtins.input = original


@contextlib.contextmanager
def _report_to_stderr() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr):
        yield
