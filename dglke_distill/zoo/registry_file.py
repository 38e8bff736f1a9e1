"""Registries as text: TOML in and out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import parse_toml
from dglke_distill.config import validate_tree
from dglke_distill.zoo.schema import NAME_PATTERN, SCHEMA, Entry

_HEADER = """\
# A registry of published models. Every [[model]] table is one version of a model, which never
# changes:
#
#   name, version        what `zoo.load("name")` (newest version) and `zoo.load("name@1")` ask for;
#                        a name is <model>-<dataset>-dim<floats>, then -<dtype> if not float32
#   model, dataset       score function and dataset, as `dglke-distill train` knows them
#   options              of the score function, where any were set, such as hidden = 1024
#   dim, params          floats per entity, a bias counted, and all floats that were learned
#   dtype                how entities are stored: float32, float16, int8, pq32 (of 32 bytes) ...
#   bytes_per_entity     bytes that an entity takes so
#   shared_bytes         bytes that all entities share, such as codebooks
#   dataset_fingerprint  sha256 of names and triples, see data.triples.Dataset.fingerprint
#   method, teacher      how it was distilled, and from what, the nearest teacher first
#   recipe, seed         the chain's recipe and the seed of the training
#   commit, dirty        revision of the code, and whether it had uncommitted changes
#   licence, citation    of the dataset it was trained on
#   vocab                counts and sha256 of the entity and relation names
#   files                each with its name in a checkpoint, path in the store, sha256 and bytes;
#                        a url where it lies elsewhere. Entries may share files.
#   metrics              split, protocol, handling of ties, MRR and Hits@1, 3, 10
#   verdict              what a student gained over its size trained directly, with its interval
#   time                 seconds to the final validation MRR of direct training: of the student, its
#                        teachers and searches (absent: never reached), and of direct training
#   warnings             what belongs beside every figure, such as a teacher that knew other triples
#
# Written by `dglke-distill zoo publish` from the files in entries/; do not edit by hand.
"""


_BEGIN = "\n[[model]]\n"


def parse_registry(text: str, source: str, name: Optional[str] = None) -> list[Entry]:
    """Read the text of a registry.

    Args:
        text: TOML.
        source: where it stands, for error messages.
        name: the model asked for; tables that do not mention it are then skipped unread, which
            makes the difference between a millisecond and a noticeable wait.

    Returns:
        The entries in the file's order, others than those asked for among them.

    Raises:
        UserError: not TOML, another schema, an unknown key, a bad value, or the same version of a
            model twice.
    """
    if name is not None:
        text = _only_mentioning(name, text)
    tree = _read(text, source)
    schema = tree.pop("schema", None)
    if schema is None:
        raise UserError(
            f"{source}: is no registry of models, or only a part of one ('schema' is missing); "
            "check the place, or get the file anew"
        )
    if schema != SCHEMA:
        raise UserError(
            f"{source}: schema {schema!r} is not the one this version reads ({SCHEMA}); "
            "install the dglke-distill that wrote it"
        )
    tables = tree.pop("model", [])
    if tree:
        raise UserError(f"{source}: unknown setting {min(tree)!r}; known: schema, model")
    if not isinstance(tables, list):
        raise UserError(f"{source}: models stand under [[model]], with two brackets")
    entries: dict[str, Entry] = {}
    for number, table in enumerate(tables, 1):
        entry = validate_entry(table, f"{source}, model {number}")
        if entry.pinned in entries:
            raise UserError(f"{source}: {entry.pinned} stands there twice; remove one")
        entries[entry.pinned] = entry
    return list(entries.values())


def _only_mentioning(name: str, text: str) -> str:
    """Return a registry without the tables that do not mention a name."""
    if _has_long_text(text):
        return text
    head, *tables = text.split(_BEGIN)
    return _BEGIN.join([head, *(table for table in tables if name in table)])


def _has_long_text(text: str) -> bool:
    """Return whether what looks like the beginning of a table may stand inside a text."""
    return '"""' in text or "'''" in text


def parse_entry(text: str, source: str) -> Entry:
    """Read the text of a file that holds one entry; see ``parse_registry``."""
    return validate_entry(_read(text, source), source)


def dump_entries(entries: Iterable[Entry]) -> str:
    """Return entries as a registry in their order, with a header that describes it."""
    return join_blocks(entry_block(entry) for entry in entries)


def entry_block(entry: Entry) -> str:
    """Return what stands in a registry for an entry."""
    return _block(dump_entry(entry))


def join_blocks(blocks: Iterable[str]) -> str:
    """Return a registry of blocks, each what stands under a ``[[model]]``."""
    return "".join([_HEADER, f"schema = {SCHEMA}\n", *(_BEGIN + block for block in blocks)])


def split_blocks(text: str) -> Optional[list[str]]:
    """Return the blocks of a registry as ``join_blocks`` wrote it; None if it did not."""
    head, *blocks = text.split(_BEGIN)
    ours = head == f"{_HEADER}schema = {SCHEMA}\n" and not _has_long_text(text)
    return blocks if ours else None


def block_of(text: str) -> Optional[str]:
    """Return what stands in a registry for the text of an entry, as ``dump_entry`` returns it.

    Nothing is parsed: a registry of a thousand models is put together in a moment. None where the
    text may have been written by other means.
    """
    return None if _has_long_text(text) else _block(text)


def _block(text: str) -> str:
    tables = text.replace("\n[[", "\n\0").replace("\n[", "\n[model.")
    return tables.replace("\n\0", "\n[[model.")


def dump_entry(entry: Entry) -> str:
    """Return an entry as ``parse_entry`` reads it."""
    import tomli_w

    return tomli_w.dumps(entry.to_tree())


def _read(text: str, source: str) -> dict[str, Any]:
    return parse_toml(text, source)


def validate_entry(table: Any, source: str) -> Entry:
    """Check a mapping that is to be an entry; see ``parse_registry``."""
    if not isinstance(table, Mapping):
        raise UserError(f"{source}: must be a table")
    name = table.get("name")
    label = (
        f"{source} ({name})"
        if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name)
        else source
    )
    return validate_tree(Entry, table, label)
