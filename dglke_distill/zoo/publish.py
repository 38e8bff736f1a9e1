"""Publishing: files first, then an entry of their own, the registry last.

Every version of a model is one small file, ``entries/<name>/<version>.toml``, that only one
publisher can create; the registry is put together from all of them. So publishers at the same
time cannot overwrite each other's entries, and one that is killed leaves, at worst, files that no
registry mentions yet: the next publisher's registry has them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Optional

from dglke_distill.checkpoint_places import checkpoints_below, did_you_mean
from dglke_distill.errors import UserError
from dglke_distill.regular_files import read_text
from dglke_distill.zoo.card import render_card
from dglke_distill.zoo.entries import describe
from dglke_distill.zoo.fetch import check_file, checked_model
from dglke_distill.zoo.registry import Place, default_store, read_store, stores
from dglke_distill.zoo.registry_file import dump_entries, dump_entry, parse_entry, parse_registry
from dglke_distill.zoo.schema import Entry
from dglke_distill.zoo.store import INDEX_FILE, MAX_INDEX_BYTES, LocalStore, Store

__all__ = ["publish", "rebuild_index"]

_VOCABULARIES = ("entities.tsv", "relations.tsv")
_ATTEMPTS = 100


def publish(run_dir: Path, name: Optional[str] = None, *, store: Place = None) -> list[Entry]:
    """Publish a checkpoint, or the students of a chain.

    Publishing the same files under the same name again changes nothing; other files become the
    next version.

    Args:
        run_dir: a checkpoint directory, a run directory that holds one, or a chain's directory.
        name: the checkpoint's name in the zoo, by default ``<model>-<dataset>-dim<floats>`` with
            ``-<dtype>`` unless that is float32; of a chain, the one student to publish.
        store: where to: ``shipped`` (from a checkout of this repository), a folder or an address;
            by default a folder among the user's data.

    Returns:
        The entries as they are in the store now.

    Raises:
        UserError: no model is there, it is damaged, its name does not fit it, or the store cannot
            be written.
    """
    chosen = default_store() if store is None else stores(store)[0]
    directory = Path(run_dir)
    published = []
    for entry, folder in _to_publish(directory, name):
        source = LocalStore(folder)
        files: dict[str, Path] = {}
        for file in entry.files:
            files[file.name] = source.in_place(file.path)
            check_file(files[file.name], file)
        checked_model(entry, files)
        published.append(_publish(entry, files, chosen))
    return published


def rebuild_index(store: Store) -> list[Entry]:
    """Put the registry of a store together from its entries, until it has them all.

    Raises:
        UserError: an entry is not valid, or lies under another's name.
    """
    while True:
        before = _read_entries(store)
        merged = _merge(before, store)
        text = dump_entries(merged).encode()
        if store.read_index() != text:
            store.replace_index(text)
        # Whoever replaces the registry last has looked at the entries once more after that.
        if _read_entries(store) == before:
            return merged


def _to_publish(directory: Path, name: Optional[str]) -> list[tuple[Entry, Path]]:
    """Return entries, and the folder that the paths of their files are relative to."""
    index = directory / INDEX_FILE
    if (directory / "config.json").is_file():
        return [(describe(directory, name=name), directory)]
    if not index.is_file():
        if (directory / "checkpoint").is_dir():
            return _to_publish(directory / "checkpoint", name)
        below = checkpoints_below(directory)
        if below:
            raise UserError(f"{directory}: is no checkpoint; {did_you_mean(below)}")
        raise UserError(
            f"{directory}: neither a checkpoint (config.json is missing) nor a finished chain "
            f"({INDEX_FILE} is missing)"
        )
    entries = parse_registry(read_text(index, MAX_INDEX_BYTES), str(index))
    chosen = [entry for entry in entries if name in (None, entry.name)]
    if not chosen:
        has = ", ".join(entry.name for entry in entries) or "none"
        raise UserError(f"{directory}: no student is called {name!r}; there is {has}")
    return [(entry, directory) for entry in chosen]


def _publish(entry: Entry, files: dict[str, Path], store: Store) -> Entry:
    folder = f"models/{entry.name}/{_digest(entry)[:16]}"
    placed = []
    for file in entry.files:
        inside = f"vocabularies/{file.sha256[:16]}" if file.name in _VOCABULARIES else folder
        path = f"{inside}/{file.name}"
        store.put(path, files[file.name])
        placed.append(file.model_copy(update={"path": path, "url": None}))
    entry = entry.model_copy(update={"files": placed})
    for _ in range(_ATTEMPTS):
        versions = [one for one in _merge(_read_entries(store), store) if one.name == entry.name]
        same = [one for one in versions if one.content == entry.content]
        if same:
            entry = same[-1]
        else:
            number = max((one.version for one in versions), default=0) + 1
            entry = entry.model_copy(update={"version": number})
            if not store.create(_entry_path(entry), dump_entry(entry).encode()):
                continue  # another publisher was faster: theirs may be the same files, or not
        if entry in rebuild_index(store):
            break
    else:
        raise UserError(
            f"{store.place}: {entry.name} could not be registered, others publish it all the time "
            "or the store forgets what is written; try again"
        )
    store.create(f"{folder}/README.md", render_card(entry, store).encode())
    return entry


def _read_entries(store: Store) -> dict[str, bytes]:
    """Return all entries; what a registry written by other means has besides becomes one first."""
    entries = store.read_entries()
    for entry in read_store(store):
        path = _entry_path(entry)
        if path not in entries and store.create(path, dump_entry(entry).encode()):
            entries = store.read_entries()
    return entries


def _merge(entries: dict[str, bytes], store: Store) -> list[Entry]:
    merged = []
    for path, data in entries.items():
        source = f"{store.place}/{path}"
        try:
            entry = parse_entry(data.decode(), source)
        except UnicodeDecodeError as error:
            raise UserError(f"{source}: not UTF-8 ({error})") from None
        if _entry_path(entry) != path:
            raise UserError(f"{source}: holds {entry.pinned}, which belongs elsewhere")
        merged.append(entry)
    return sorted(merged, key=lambda entry: (entry.name, entry.version))


def _entry_path(entry: Entry) -> str:
    return f"entries/{entry.name}/{entry.version}.toml"


def _digest(entry: Entry) -> str:
    """Return what identifies all files together."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in entry.content.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
