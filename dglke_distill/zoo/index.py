"""Which models there are: the stores that are searched, and what their registries say.

Stores are searched in this order, and the first that has a name answers for it: those of
``DGLKE_DISTILL_STORES`` (separated by commas), the user's own folder, and what ships with the
package. A store that is named explicitly is the only one searched.
"""

from __future__ import annotations

import hashlib
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_bytes
from dglke_distill.base.regular_files import read_bytes
from dglke_distill.base.shown import visible
from dglke_distill.base.spelling import known_names, near_words
from dglke_distill.zoo.listing import EntryList
from dglke_distill.zoo.registry_file import parse_registry
from dglke_distill.zoo.remote_stores import open_store
from dglke_distill.zoo.schema import Entry, split_version
from dglke_distill.zoo.store import MAX_INDEX_BYTES, LocalStore, Store

_VARIABLE = "DGLKE_DISTILL_STORES"

SHIPPED = "shipped"
"""The name of the store inside the package."""

Place = Union[str, Path, Store, None]
"""How a caller names a store: ``shipped``, a folder, an address; None for all of them."""


class FoundEntry(NamedTuple):
    """An entry and the store that has it."""

    entry: Entry
    store: Store


def shipped_store() -> LocalStore:
    """Return the store inside the package; its registry is the ``zoo.toml`` of the repository."""
    package = Path(__file__).resolve().parent.parent
    inside, beside = package / "_zoo.toml", package.parent / "zoo.toml"
    index = inside if inside.is_file() else beside
    return LocalStore(package / "zoo" / "models", place=SHIPPED, index=index)


def default_store() -> LocalStore:
    """Return the store of the user's own models, a folder among the user's data."""
    try:
        from platformdirs import user_data_path
    except ImportError:  # what it says on Linux
        data = Path(os.environ.get("XDG_DATA_HOME", "").strip() or Path.home() / ".local/share")
        return LocalStore(data / "dglke_distill" / "zoo")
    return LocalStore(user_data_path("dglke_distill") / "zoo")


def default_cache() -> Path:
    """Return the folder for downloaded models, beside that of downloaded datasets."""
    from dglke_distill.base.environment import Environment
    from dglke_distill.data.catalog import default_cache_dir

    given = Environment().cache
    return (default_cache_dir().parent if given is None else given) / "zoo"


def stores(place: Place = None) -> list[Store]:
    """Return the stores to search, in order.

    Args:
        place: the only one to search, or None.

    Raises:
        UserError: an address that no store can have.
    """
    if isinstance(place, Store):
        return [place]
    if place is not None:
        return [shipped_store() if place == SHIPPED else open_store(place)]
    from dglke_distill.base.environment import Environment

    named = [_named_store(one) for one in Environment().stores]
    return [*named, default_store(), shipped_store()]


def _named_store(place: str) -> Store:
    """Return a store that the environment names."""
    try:
        return open_store(place)
    except UserError as error:
        raise UserError(f"{_VARIABLE}: {error}") from None


def _searched(place: Place) -> list[Store]:
    """Return the stores to search; unlike one to write to, one that is named must be there.

    Of those that ``DGLKE_DISTILL_STORES`` names, what is not there is left out, and said so.
    """
    found = stores(place)
    if place is not None:
        fault = "" if place == SHIPPED else _missing(found[0])
        if fault:
            raise UserError(f"--store {found[0].place}: {fault}; name one that holds zoo.toml")
        return found
    left = []
    for one in found:
        fault = "" if one in found[-2:] else _missing(one)
        if fault:
            tell(f"warning: a store is left out: {_VARIABLE}: {one.place}: {fault}")
        else:
            left.append(one)
    return left


def _missing(store: Store) -> str:
    """Return why a store that was named is not there, as far as that can be seen."""
    if not isinstance(store, LocalStore) or store.root.is_dir():
        return ""
    return "is no folder" if store.root.exists() else "there is no such folder"


def read_store(
    store: Store,
    *,
    name: Optional[str] = None,
    cache_dir: Optional[Path] = None,
    offline: bool = False,
) -> list[Entry]:
    """Return the entries of a store; with a name, at least those of that name.

    The registry of a remote one is kept in the cache, where it is read when ``offline``.

    Raises:
        UserError: the store cannot be reached, or its registry is not valid.
    """
    data: Optional[bytes]
    if store.remote:
        digest = hashlib.sha256(store.place.encode()).hexdigest()
        kept = (cache_dir or default_cache()) / "registries" / f"{digest[:16]}.toml"
        if offline:
            data = read_bytes(kept, MAX_INDEX_BYTES) if kept.is_file() else None
        else:
            data = store.read_index()
    else:
        data = store.read_index()
    if data is None:
        return []
    source = str(store.index) if isinstance(store, LocalStore) else f"{store.place}/zoo.toml"
    try:
        entries = parse_registry(data.decode(), source, name)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 ({error})") from None
    if store.remote and not offline:
        if not kept.is_file() or read_bytes(kept, MAX_INDEX_BYTES) != data:
            atomic_write_bytes(kept, data)
    return entries


def find(
    name: str, *, store: Place = None, cache_dir: Optional[Path] = None, offline: bool = False
) -> FoundEntry:
    """Return the entry that ``name`` (its newest version) or ``name@version`` stands for.

    Raises:
        UserError: no store has it; near spellings are suggested.
    """
    wanted, version = split_version(name)
    places = _searched(store)
    failed: dict[int, UserError] = {}
    for place in places:
        entries = _read_or_warn(
            place, failed, len(places), name=wanted, cache_dir=cache_dir, offline=offline
        )
        fitting = [e for e in entries if e.name == wanted and version in (None, e.version)]
        if fitting:
            return FoundEntry(max(fitting, key=lambda entry: entry.version), place)
    known = [
        entry
        for place in places
        for entry in _read_or_warn(place, failed, len(places), cache_dir=cache_dir, offline=offline)
    ]
    versions = sorted(entry.version for entry in known if entry.name == wanted)
    if versions:
        has = ", ".join(f"{wanted}@{number}" for number in versions)
        raise UserError(f"the zoo has no {name!r}; it has {has}")
    names = sorted({entry.name for entry in known})
    near = near_words(wanted, names)
    hint = f"did you mean {', '.join(near)}?" if near else known_names(names, "`zoo list`")
    if not names:
        hint += f" in {', '.join(place.place for place in places)}; check the place"
    raise UserError(f"the zoo has no model {wanted!r}; {hint}")


def _read_or_warn(
    store: Store, failed: dict[int, UserError], searched: int, **options: Any
) -> list[Entry]:
    """Return what ``read_store`` does; one store of several that cannot be read is left out."""
    if id(store) in failed:
        return []
    try:
        return read_store(store, **options)
    except (UserError, OSError) as error:
        if searched == 1:
            raise
        failed[id(store)] = UserError(str(error))
        tell(f"warning: a store is left out: {error}")
        return []


def tell(line: str) -> None:
    """Print a line on standard error; whoever shows lines otherwise puts a function here."""
    print(visible(line), file=sys.stderr)


@checked
def info(name: str, *, store: Place = None, offline: bool = False) -> Entry:
    """Return all that the zoo says of a model; see ``find``."""
    return find(name, store=store, offline=offline).entry


@checked
def list_models(
    pattern: str = "*",
    *,
    model: Optional[str] = None,
    dataset: Optional[str] = None,
    max_dim: Optional[int] = None,
    max_bytes: Optional[int] = None,
    all_versions: bool = False,
    store: Place = None,
    offline: bool = False,
) -> EntryList:
    """Return the models that the zoo has, sorted by name, as a list that prints as a table.

    Args:
        pattern: of names, with ``*`` and ``?``.
        model: score function.
        dataset: name of the dataset; both in any letter case.
        max_dim: most floats per entity.
        max_bytes: largest size of all files together.
        all_versions: not only the newest of each name.
        store: the only store to look into.
        offline: whether to go by what is known of remote stores.

    Raises:
        UserError: a store cannot be reached, or its registry is not valid.
    """
    found: dict[tuple[str, int], FoundEntry] = {}
    owners: dict[str, Store] = {}
    places = _searched(store)
    for place in places:
        for entry in _read_or_warn(place, {}, len(places), offline=offline):
            if owners.setdefault(entry.name, place) is place:
                key = (entry.name, entry.version if all_versions else 0)
                if key not in found or found[key].entry.version < entry.version:
                    found[key] = FoundEntry(entry, place)

    def fits(entry: Entry) -> bool:
        return (
            fnmatchcase(entry.name, pattern.lower())
            and (model is None or entry.model.lower() == model.lower())
            and (dataset is None or entry.dataset.lower() == dataset.lower())
            and (max_dim is None or entry.dim <= max_dim)
            and (max_bytes is None or entry.total_bytes <= max_bytes)
        )

    chosen = [one for one in found.values() if fits(one.entry)]
    chosen.sort(key=lambda one: (one.entry.name, one.entry.version))
    return EntryList((one.entry for one in chosen), (one.store.place for one in chosen))
