"""From a name to a model in memory: files found or downloaded, every one checked, none trusted."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from dglke_distill.artifacts.checkpoint_places import MODEL_FILE, meant_checkpoint, no_checkpoint
from dglke_distill.base.arguments import checked
from dglke_distill.base.collector import without_collector
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.regular_files import check_regular, open_regular
from dglke_distill.zoo.card import render_card
from dglke_distill.zoo.hub import hub_card, hub_files, is_hub, repository_of
from dglke_distill.zoo.index import FoundEntry, Place, default_cache, find, read_store, stores
from dglke_distill.zoo.schema import Entry, FileEntry

if TYPE_CHECKING:
    import torch

    from dglke_distill.artifacts.loaded_model import LoadedModel
    from dglke_distill.predict import NamedModel

# A table is one tensor; a model of ours has a handful of them.
_MAX_HEADER_BYTES = 1 << 20
# Products of compressed codes are smaller than the floats they stand for, but not by more.
_MAX_FLOATS_PER_BYTE = 64

_checked: set[tuple[str, str, int, int, int]] = set()
"""Files whose digest this process has compared: path, sha256, inode, size, time of change."""


@checked
def load(
    name: str,
    *,
    device: Union[str, torch.device] = "cpu",
    cache_dir: Optional[Path] = None,
    offline: bool = False,
    store: Place = None,
) -> NamedModel:
    """Load a published model.

    Args:
        name: its name, for the newest version, or ``name@version``; or ``hf://user/model`` for one
            on the Hugging Face hub.
        device: where it shall live: a device, or a name for ``runtime.resolve_device``.
        cache_dir: folder for downloads; by default in the user's cache.
        offline: whether to refuse to use the network.
        store: the only store to look into: ``shipped``, a folder or an address.

    Returns:
        The model with its names, in evaluation mode.

    Raises:
        UserError: there is no such model, it cannot be downloaded, or a file is damaged, tampered
            with, or no part of a sound checkpoint.
    """
    with without_collector():  # torch may be imported here
        from dglke_distill.predict import NamedModel

    if is_hub(name):
        entry, places = hub_files(name, offline=offline)
        card = hub_card(entry, repository_of(name)[0], matter=False)
        return NamedModel(checked_model(entry, places, device), card=card, name=name).eval()
    found = find(name, store=store, cache_dir=cache_dir, offline=offline)
    files = fetch_files(found, cache_dir=cache_dir, offline=offline)
    loaded = checked_model(found.entry, files, device)
    card = render_card(found.entry, found.store)
    return NamedModel(loaded, card=card, name=found.entry.name).eval()


@checked
def load_checkpoint(
    name_or_directory: Union[str, Path],
    *,
    device: Union[str, torch.device] = "cpu",
    cache_dir: Optional[Path] = None,
    offline: bool = False,
    store: Place = None,
) -> LoadedModel:
    """Load a model from a checkpoint directory, or by its name in the zoo.

    Args:
        name_or_directory: a directory that exists, or text with a path separator in it, is a
            directory, of a checkpoint or of a run (see ``checkpoint_places.meant_checkpoint``);
            ``hf://user/model`` is on the Hugging Face hub; anything else is a name.
        device: as for ``load``.
        cache_dir: as for ``load``.
        offline: as for ``load``.
        store: as for ``load``.

    Raises:
        UserError: as ``load`` and ``checkpoint.load_model`` do.
    """
    with without_collector():  # torch may be imported here
        from dglke_distill.artifacts import checkpoint

    written = str(name_or_directory)
    if is_hub(name_or_directory):
        entry, places = hub_files(written, offline=offline)
        return checked_model(entry, places, device)
    place = folder_of(name_or_directory)
    if place is not None:
        return checkpoint.load_model(place, device)
    try:
        found = find(written, store=store, cache_dir=cache_dir, offline=offline)
    except UserError as error:
        no_model = no_checkpoint(Path(written)) if Path(written).is_file() else None
        raise no_model or UserError(
            f"{written}: no such checkpoint directory, and {error}"
        ) from None
    files = fetch_files(found, cache_dir=cache_dir, offline=offline)
    return checked_model(found.entry, files, device)


def folder_of(name_or_directory: Union[str, Path]) -> Optional[Path]:
    """Return the checkpoint that a folder is, or holds; None for a name in a zoo.

    Raises:
        UserError: the name is empty, or the results of a chain cannot be read.
    """
    if name_or_directory == "":  # which would stand for the working folder
        raise UserError("the name of the model is empty; name one of the zoo, or a folder")
    if not names_a_folder(name_or_directory):
        return None
    return meant_checkpoint(Path(name_or_directory))


def names_a_folder(name_or_directory: Union[str, Path]) -> bool:
    """Return whether it is a folder, of a checkpoint perhaps, and no name in a zoo."""
    if is_hub(name_or_directory):
        return False
    separators = [mark for mark in (os.sep, os.altsep) if mark]
    return (
        isinstance(name_or_directory, Path)
        or Path(name_or_directory).is_dir()
        or any(mark in name_or_directory for mark in separators)
    )


def fetch_files(
    found: FoundEntry, *, cache_dir: Optional[Path] = None, offline: bool = False
) -> dict[str, Path]:
    """Return where the files of a model lie, downloaded if they must be, and checked.

    A file's digest is compared once per process, and again if it has changed since.

    Raises:
        UserError: a file is missing, cannot be downloaded, or is not what was published.
    """
    entry, store = found
    places: dict[str, Path] = {}
    for file in entry.files:
        if file.url is None and not store.remote:
            place = store.in_place(file.path)
        else:
            place = cached_path(file, cache_dir)
            if not place.is_file():
                if offline:
                    raise UserError(
                        f"{entry.pinned}: {file.name} has not been downloaded; do so with "
                        f"`dglke-distill zoo pull {entry.pinned}` where there is a network"
                    )
                _download(found, file, place)
        check_file(place, file)
        places[file.name] = place
    return places


def cached_path(file: FileEntry, cache_dir: Optional[Path] = None) -> Path:
    """Return where a downloaded file lies; files are kept by content."""
    return (cache_dir or default_cache()) / "files" / file.sha256 / file.name


def check_file(place: Path, file: FileEntry) -> None:
    """Compare a file's size and digest with what was published.

    Raises:
        UserError: they differ.
    """
    state = place.stat()
    key = (str(place), file.sha256, state.st_ino, state.st_size, state.st_mtime_ns)
    if key in _checked:
        return
    if place.is_symlink():
        raise UserError(f"{place}: is a symbolic link; put the file itself there")
    check_regular(place)
    # A file of another size is not read: it could be one of holes, as large as it likes to say.
    digest = sha256_file(place) if state.st_size == file.bytes else "not looked at"
    if digest != file.sha256:
        raise UserError(
            f"{place}: {state.st_size} bytes with sha256 {digest} are not the {file.bytes} with "
            f"{file.sha256} that were published: broken or tampered with, and not loaded; remove "
            "it and fetch it again"
        )
    _checked.add(key)


def checked_model(
    entry: Entry, files: dict[str, Path], device: Union[str, torch.device] = "cpu"
) -> LoadedModel:
    """Read a model, and check that it is the one that its entry describes.

    Args:
        entry: of the registry.
        files: what ``fetch_files`` returns.
        device: as for ``load``.

    Raises:
        UserError: the weights' header is absurdly large; the checkpoint is damaged, with weights
            missing, of another shape or not finite; names or sizes are not those of the entry.
    """
    from dglke_distill.artifacts import checkpoint

    for file in entry.files:
        check_file(files[file.name], file)
    weights = files[MODEL_FILE]
    _check_header(weights)
    floats = entry.vocab.entities.count * entry.dim
    if floats > _MAX_FLOATS_PER_BYTE * weights.stat().st_size:
        raise UserError(
            f"{weights}: too small for {entry.vocab.entities.count} entities of {entry.dim} "
            f"floats, as the registry says {entry.pinned} has"
        )
    loaded = checkpoint.load_files(files, device)
    for kind in ("entities", "relations"):
        stated, names = getattr(entry.vocab, kind), getattr(loaded, kind)
        if stated.count != len(names) or stated.sha256 != names.fingerprint:
            raise UserError(
                f"{files[f'{kind}.tsv']}: {len(names)} names with sha256 {names.fingerprint} are "
                f"not the {stated.count} with {stated.sha256} that the registry says "
                f"{entry.pinned} has"
            )
    if loaded.model.floats_per_entity != entry.dim:
        raise UserError(
            f"{weights}: {loaded.model.floats_per_entity} floats per entity, but the registry says "
            f"{entry.pinned} has {entry.dim}"
        )
    return loaded


def remove(name: str, *, store: Place = None, cache_dir: Optional[Path] = None) -> list[Path]:
    """Delete the downloaded files of a model that no other downloaded model needs.

    Returns:
        What was deleted.

    Raises:
        UserError: there is no such model, or nothing of it was downloaded.
    """
    found = find(name, store=store, cache_dir=cache_dir, offline=True)
    places = {cached_path(file, cache_dir) for file in found.entry.files}
    for searched in {one.place: one for one in (found.store, *stores())}.values():
        for entry in read_store(searched, cache_dir=cache_dir, offline=True):
            kept = {cached_path(file, cache_dir) for file in entry.files}
            if entry != found.entry and all(path.is_file() for path in kept):
                places -= kept
    deleted = sorted(place for place in places if place.is_file())
    if not deleted:
        raise UserError(f"{found.entry.pinned}: nothing of it lies in the cache by itself")
    for place in deleted:
        place.unlink()
        place.parent.rmdir()
    return deleted


def _download(found: FoundEntry, file: FileEntry, place: Path) -> None:
    if file.url is not None:
        from dglke_distill.zoo.remote_stores import download

        download(file.url, file, place)
    else:
        found.store.fetch(file, place)


def _check_header(weights: Path) -> None:
    """Refuse a safetensors file whose header would take long to read."""
    with open_regular(weights) as stream:
        length = stream.read(8)
    size = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
    if size > _MAX_HEADER_BYTES:
        raise UserError(
            f"{weights}: its header claims {size} bytes, more than the {_MAX_HEADER_BYTES} that "
            "any model needs: no safetensors file, or a hostile one"
        )
