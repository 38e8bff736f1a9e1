"""Publishing: files first, then an entry of their own, the registry last.

Every version of a model is one small file, ``entries/<name>/<version>.toml``, that only one
publisher can create; the registry is put together from all of them. So publishers at the same
time cannot overwrite each other's entries, and one that is killed leaves, at worst, files that no
registry mentions yet: the next publisher's registry has them.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Optional

from dglke_distill.artifacts.checkpoint_places import checkpoints_below, did_you_mean
from dglke_distill.base.arguments import checked
from dglke_distill.base.disk import writing
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import read_text
from dglke_distill.zoo.card import render_card
from dglke_distill.zoo.entries import describe
from dglke_distill.zoo.fetch import check_file, checked_model
from dglke_distill.zoo.for_others import with_beside, with_known, without_paths
from dglke_distill.zoo.index import Place, default_store, read_store, stores
from dglke_distill.zoo.registry_file import (
    block_of,
    dump_entry,
    entry_block,
    join_blocks,
    parse_entry,
    parse_registry,
    split_blocks,
)
from dglke_distill.zoo.schema import LABELS_FILE, NAME_PATTERN, Entry
from dglke_distill.zoo.store import INDEX_FILE, MAX_INDEX_BYTES, LocalStore, Store

_VOCABULARIES = ("entities.tsv", "relations.tsv", LABELS_FILE)
_ATTEMPTS = 100
_LONGEST_VERDICT = 1000

_Blocks = dict[bytes, Optional[str]]
"""What stands in a registry for the text of each entry that was met."""


@checked
def publish(
    run_dir: Path,
    name: Optional[str] = None,
    *,
    store: Place = None,
    known: bool = False,
    dataset: Optional[str] = None,
    data_root: Optional[Path] = None,
    verdict: Optional[str] = None,
) -> list[Entry]:
    """Publish a checkpoint, or the students of a chain.

    Publishing the same files under the same name again changes nothing; other files, or another
    verdict on them, become the next version. Labels and the calibration that lie beside the weights
    are published too.

    Args:
        run_dir: a checkpoint directory, a run directory that holds one, or a chain's directory.
        name: the checkpoint's name in the zoo, by default ``<model>-<dataset>-dim<floats>`` with
            ``-<dtype>`` unless that is float32; of a chain, the one student to publish.
        store: where to: ``shipped`` (from a checkout of this repository), a folder or an address;
            by default a folder among the user's data.
        known: whether to publish the facts of the dataset too, so that predictions can leave them
            out where the dataset is not at hand.
        dataset: where the dataset lies, if it is not found by its name; for ``known``.
        data_root: folder of datasets already there; for ``known``.
        verdict: of a checkpoint: how it compares with another model, in words for its card; the
            students of a chain have the chain's.

    Returns:
        The entries as they are in the store now.

    Raises:
        UserError: no model is there, it is damaged, its name does not fit it, or the store cannot
            be written.
    """
    chosen = default_store() if store is None else stores(store)[0]
    directory = Path(run_dir)
    published = []
    offered = _to_publish(directory, name)
    if verdict is not None:
        check_single(directory)
        if not verdict.strip() or not verdict.isprintable() or len(verdict) > _LONGEST_VERDICT:
            raise UserError(
                f"verdict: give one line of printable text, of at most {_LONGEST_VERDICT:,} letters"
            )
        offered = [(entry.model_copy(update={"verdict": verdict}), at) for entry, at in offered]
    for entry, folder in offered:
        source = LocalStore(folder)
        files: dict[str, Path] = {}
        for file in entry.files:
            files[file.name] = source.in_place(file.path)
            check_file(files[file.name], file)
        entry, files = with_beside(entry, files)
        checked_model(entry, files)
        with tempfile.TemporaryDirectory() as aside, writing(Path(chosen.place), Path(aside)):
            if known:
                entry, files = with_known(
                    entry, files, Path(aside), dataset=dataset, data_root=data_root
                )
            entry, files = without_paths(entry, files, Path(aside))
            published.append(_publish(entry, files, chosen))
    return published


def check_single(directory: Path) -> None:
    """Check that a verdict can be published with what lies in a directory: one checkpoint.

    Args:
        directory: a checkpoint's, a run's, or a chain's.

    Raises:
        UserError: it is a chain's, whose students have its verdict.
    """
    if (directory / INDEX_FILE).is_file():
        raise UserError(
            f"{directory}: the students of a chain have its verdict; to compare one with another "
            f"model, name its checkpoint below {directory / 'stages'}"
        )


def rebuild_index(store: Store) -> list[Entry]:
    """Put the registry of a store together from its entries, until it has them all.

    Raises:
        UserError: an entry is not valid, or lies under another's name.
    """
    with store.alone():
        entries = _synchronise(store, {})
    return [_parse(path, data, store) for path, data in _in_order(entries)]


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
    blocks: _Blocks = {}
    _adopt_strangers(store, blocks)  # reads what others need not wait for
    with store.alone():
        for _ in range(_ATTEMPTS):
            seen = entries, _ = _adopt_strangers(store, blocks)
            versions = {
                _place(path, store)[1]: data
                for path, data in entries.items()
                if path.startswith(f"entries/{entry.name}/")
            }
            same = _same_content(entry, versions, store)
            if same is not None:
                entry = same
            else:
                entry = entry.model_copy(update={"version": max(versions, default=0) + 1})
                text = dump_entry(entry).encode()
                if not store.create(_entry_path(entry), text):
                    continue  # another publisher was faster: theirs may be the same files, or not
                entries[_entry_path(entry)], blocks[text] = text, entry_block(entry)
            if _entry_path(entry) in _synchronise(store, blocks, seen):
                break
        else:
            raise UserError(
                f"{store.place}: {entry.name} could not be registered, others publish it all the "
                "time or the store forgets what is written; try again"
            )
    card = render_card(entry, store, published=True).encode()
    if not store.create(f"{folder}/README.md", card) and same is None:  # of the same files, before
        store.create(f"{folder}/README-{entry.version}.md", card)
    return entry


def _same_content(entry: Entry, versions: dict[int, bytes], store: Store) -> Optional[Entry]:
    """Return the newest version that has the same files, and the verdict if there is a new one."""
    digests = [digest.encode() for digest in entry.content.values()]
    for number in sorted(versions, reverse=True):
        if all(digest in versions[number] for digest in digests):
            path = _entry_path(entry.model_copy(update={"version": number}))
            found = _parse(path, versions[number], store)
            if found.content == entry.content:
                return found if entry.verdict in (None, found.verdict) else None
    return None


def _synchronise(
    store: Store, blocks: _Blocks, seen: Optional[tuple[dict[str, bytes], Optional[bytes]]] = None
) -> dict[str, bytes]:
    """Put the registry together from the entries, until it has them all; return these.

    An entry that stands in the registry word for word was looked at by whoever wrote it there;
    only others are parsed, so that it takes no longer the more there are.

    Args:
        store: where.
        blocks: as for ``_adopt_strangers``.
        seen: what that returned just now, with the own entry.
    """
    while True:
        entries, before = seen or _adopt_strangers(store, blocks)
        seen = None
        known = set(_split(before))
        text = join_blocks(
            _checked_block(path, data, blocks[data], known, store)
            for path, data in _in_order(entries)
        ).encode()
        if before != text:
            store.replace_index(text)
        # Whoever replaces the registry last has looked at the entries once more after that.
        if store.read_entries().keys() == entries.keys():
            return entries


def _checked_block(
    path: str, data: bytes, block: Optional[str], known: set[str], store: Store
) -> str:
    """Return what stands in the registry for an entry that is sound."""
    name, version = _place(path, store)
    begin = f'name = "{name}"\nversion = {version}\n'
    if block is not None and block in known and block.startswith(begin):
        return block
    return entry_block(_parse(path, data, store))


def _adopt_strangers(store: Store, blocks: _Blocks) -> tuple[dict[str, bytes], Optional[bytes]]:
    """Return all entries, and the registry.

    What a registry written by other means has besides becomes an entry first.

    Args:
        store: where to look.
        blocks: filled with what stands in a registry for each entry.
    """
    entries, data = store.read_entries(), store.read_index()
    for text in entries.values():
        if text not in blocks:
            blocks[text] = block_of(text.decode(errors="replace"))
    ours = {blocks[text] for text in entries.values()}
    standing = _split(data)
    if data is None or (standing and ours.issuperset(standing)):
        return entries, data
    for entry in read_store(store):
        path = _entry_path(entry)
        text = dump_entry(entry).encode()
        if path not in entries and store.create(path, text):
            entries[path], blocks[text] = text, entry_block(entry)
    return entries, data


def _split(data: Optional[bytes]) -> list[str]:
    """Return the blocks of a registry that is as we write it, else none."""
    return [] if data is None else split_blocks(data.decode(errors="replace")) or []


def _in_order(entries: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Return entries by name and version."""

    def key(item: tuple[str, bytes]) -> tuple[str, int, str]:
        _, _, rest = item[0].partition("/")
        name, _, file = rest.rpartition("/")
        number = file.partition(".")[0]
        return name, int(number) if re.fullmatch("[0-9]{1,9}", number) else 0, file

    return sorted(entries.items(), key=key)


def _place(path: str, store: Store) -> tuple[str, int]:
    """Return name and version of the entry that belongs at a path."""
    found = re.fullmatch(rf"entries/({NAME_PATTERN})/([1-9][0-9]{{0,8}})\.toml", path)
    if found is None:
        raise UserError(f"{store.place}/{path}: is no place for an entry; move it elsewhere")
    return found[1], int(found[2])


def _parse(path: str, data: bytes, store: Store) -> Entry:
    source = f"{store.place}/{path}"
    try:
        entry = parse_entry(data.decode(), source)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 ({error})") from None
    if _entry_path(entry) != path:
        raise UserError(f"{source}: holds {entry.pinned}, which belongs elsewhere")
    return entry


def _entry_path(entry: Entry) -> str:
    return f"entries/{entry.name}/{entry.version}.toml"


def _digest(entry: Entry) -> str:
    """Return what identifies all files together."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in entry.content.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
