"""What tells whether two datasets are the same facts in the same splits: one digest, by names.

Neither the order of lines nor the numbering of names matters, and no file format does: entities and
relations are taken in one order of their own (shorter names first, then by code points), every
split as a sorted list of triples in that numbering. A triple that stands there twice counts twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Columns = tuple[Ids, Ids, Ids]
"""Heads, relations and tails, aligned."""

_BLOCK = 1 << 22
_MOST_KEYS = 1 << 63


def facts_digest(
    entities: Sequence[str],
    relations: Sequence[str],
    splits: Mapping[str, Columns],
    *,
    numbers: tuple[bool, bool] = (False, False),
) -> Optional[str]:
    """Return the sha256 hex digest of facts by their names.

    Args:
        entities: names in id order.
        relations: names in id order.
        splits: the triples of each split, in the order in which splits are to be hashed.
        numbers: whether entities, and relations, are named by their ids, so that none need be
            sorted.

    Returns:
        The digest; None where there are so many entities and relations that a triple does not fit
        63 bits (of the datasets known, WikiKG90Mv2 alone).
    """
    sizes = len(entities), len(relations)
    if sizes[0] * sizes[1] * sizes[0] >= _MOST_KEYS:
        return None
    digest = hashlib.sha256(b"facts 2\n")
    ranks = []
    for kind, names, numbered in zip(("entities", "relations"), (entities, relations), numbers):
        digest.update(f"{kind} {len(names)}\n".encode())
        order: Optional[list[int]] = None
        if not numbered:
            names = tuple(names)
            order = sorted(range(len(names)), key=names.__getitem__)
            order.sort(key=lambda i: len(names[i]))
        listed = names if order is None else [names[i] for i in order]
        digest.update("\n".join((*map(_on_one_line, listed), "")).encode("utf-8", "surrogatepass"))
        ranks.append(_ranks(order, len(names)))
    for split, (head, relation, tail) in splits.items():
        digest.update(f"{split} {len(head)}\n".encode())
        keys = _ranked(head, ranks[0]).astype(np.int64)
        keys *= max(sizes[1], 1)
        keys += _ranked(relation, ranks[1])
        keys *= max(sizes[0], 1)
        keys += _ranked(tail, ranks[0])
        keys.sort()
        digest.update(keys.astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


def file_order_digest(names: Sequence[str], splits: Mapping[str, Columns]) -> str:
    """Return the digest that versions before 0.2 wrote: of ids, in the order of the files.

    Args:
        names: the digests of the names of entities and of relations, in id order.
        splits: as for ``facts_digest``.
    """
    digest = hashlib.sha256()
    for each in names:
        digest.update(each.encode())
    for split, columns in splits.items():
        digest.update(f"{split} {len(columns[0])}\n".encode())
        for column in columns:
            for start in range(0, len(column), _BLOCK):  # it may be mapped, and very long
                block = np.ascontiguousarray(column[start : start + _BLOCK])
                digest.update(block.astype("<i4", copy=False).tobytes())
    return digest.hexdigest()


def name_hashes(names: Sequence[str], key: bytes = b"") -> NDArray[np.uint64]:
    """Return 64 well-mixed bits of every name (blake2b), whatever its id.

    Args:
        names: the names.
        key: other keys give other bits.
    """
    digests = b"".join(
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
        for name in names
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _on_one_line(name: str) -> str:
    if "\n" not in name and "\\" not in name:
        return name
    return name.replace("\\", "\\\\").replace("\n", "\\n")


def _ranks(order: Optional[list[int]], count: int) -> Optional[NDArray[Any]]:
    if order is None:
        return None
    ranks = np.empty(count, dtype=np.int64)
    ranks[order] = np.arange(count, dtype=np.int64)
    return ranks


def _ranked(ids: Ids, ranks: Optional[NDArray[Any]]) -> NDArray[Any]:
    return ids if ranks is None else ranks[ids]
