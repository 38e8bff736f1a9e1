"""WikiKG90Mv2 of OGB's Large-Scale Challenge, read where it lies.

91,230,610 entities, 1,387 relations and 601,062,811 train triples: the arrays are mapped, not read.
Hu, Fey, Ren, Nakata, Dong, Leskovec 2021, "OGB-LSC: a large-scale challenge for machine learning on
graphs". The layout is that of the official archive, which the ogb package's ``WikiKG90Mv2Dataset``
downloads: ``meta.pt`` and, in ``processed/``, ``train_hrt.npy``, ``val_hr.npy``, ``val_t.npy``,
``test-dev_hr.npy``, ``test-challenge_hr.npy``, ``entity_feat.npy`` and ``relation_feat.npy``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.disk import preallocate
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text, directory_aside
from dglke_distill.base.places import nothing_foreign
from dglke_distill.data.array_files import map_npy
from dglke_distill.data.saved_arrays import read_saved
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

NAME = "wikikg90m-v2"
_COLUMNS = ("head", "relation", "tail")
_MOST_IDS = int(np.iinfo(np.int32).max)
_ROWS = 1 << 19
"""Rows converted or looked at at once."""


@dataclass(frozen=True, eq=False)
class WikiKG90M(Dataset):
    """The dataset: ``train`` is mapped, ``test`` is empty because its answers are hidden.

    Attributes:
        test_queries: of ``test-dev`` and ``test-challenge`` the queries, int (n, 2): head and
            relation, mapped. A challenge asks for the ten best tails of each.
        entity_features: float16 (entities, 768), mapped; None where the file is absent.
        relation_features: float16 (relations, 768), mapped; None where the file is absent.
    """

    test_queries: dict[str, NDArray[Any]] = field(default_factory=dict)
    entity_features: Optional[NDArray[np.float16]] = None
    relation_features: Optional[NDArray[np.float16]] = None


def is_wikikg90m(folder: Path) -> bool:
    """Return whether a folder has the layout."""
    return (folder / "processed" / "train_hrt.npy").is_file()


def load_wikikg90m(folder: Path) -> WikiKG90M:
    """Open the dataset in its folder; no array is read into memory.

    Where the official file has 64-bit ids, columns of 32 bits are written once, some rows at a
    time, into ``processed/``.

    Args:
        folder: the folder ``wikikg90m-v2`` of the archive.

    Raises:
        UserError: a file is missing, of another shape, or has ids out of range.
    """
    processed = folder / "processed"
    train = _mapped(processed / "train_hrt.npy", 3)
    features = {
        kind: _mapped(path) if (path := processed / f"{kind}_feat.npy").is_file() else None
        for kind in ("entity", "relation")
    }
    entities, relations = _counts(folder, features)
    cache = processed / "dglke_distill"
    source = f"{(processed / 'train_hrt.npy').stat().st_mtime_ns}-{len(train)}"
    limits = (entities, relations, entities)
    if train.dtype == np.int32:
        _check_train(train, limits, cache, f"{source}-{entities}-{relations}")
        columns = Triples(*(train[:, i] for i in range(3)))
    else:
        columns = _converted(train, limits, cache, source)
    valid_queries, answers = _mapped(processed / "val_hr.npy", 2), _mapped(processed / "val_t.npy")
    if answers.size != len(valid_queries) or answers.dtype.kind not in "iu":
        raise UserError(
            f"{processed / 'val_t.npy'}: {answers.size} answers to {len(valid_queries)} queries; "
            "copy it anew"
        )
    valid = np.column_stack([valid_queries, answers.reshape(-1, 1)])
    for name, ids, limit in (
        ("val_hr.npy and val_t.npy", valid[:, [0, 2]], entities),
        ("val_hr.npy", valid[:, 1], relations),
    ):
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
            raise UserError(f"{processed}: an id of {name} is outside 0..{limit - 1}")
    queries = {
        name: _mapped(path, 2)
        for name in ("test-dev", "test-challenge")
        if (path := processed / f"{name}_hr.npy").is_file()
    }
    return WikiKG90M(
        name=NAME,
        entities=Vocabulary(size=entities, kind="entity"),
        relations=Vocabulary(size=relations, kind="relation"),
        train=columns,
        valid=Triples.from_array(valid),
        test=Triples.from_array(np.empty((0, 3), np.int32)),
        warnings=("the answers of the test split are hidden: it is empty here",),
        test_queries=queries,
        entity_features=features["entity"],
        relation_features=features["relation"],
    )


def _mapped(path: Path, width: Optional[int] = None) -> NDArray[Any]:
    """Map an array; with a width it must be (n, width)."""
    try:
        array = map_npy(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the copy of {NAME} is not complete") from None
    if width is not None and (array.ndim != 2 or array.shape[1] != width):
        raise UserError(f"{path}: has shape {array.shape}, not (n, {width}); copy it anew")
    if width is not None and array.dtype.kind not in "iu":
        raise UserError(f"{path}: holds {array.dtype}, not ids; copy it anew")
    return array


def _counts(folder: Path, features: dict[str, Optional[NDArray[Any]]]) -> tuple[int, int]:
    """Return the numbers of entities and relations: by ``meta.pt``, else by the feature tables."""
    path = folder / "meta.pt"
    if path.exists():
        meta = read_saved(path)
        counts = [meta.get(key) for key in ("num_entities", "num_relations")]
        told = [n for n in counts if isinstance(n, int) and 0 < n <= _MOST_IDS]
        if len(told) != len(counts):
            raise UserError(f"{path}: does not tell the counts; copy it anew")
        return told[0], told[1]
    entity, relation = features["entity"], features["relation"]
    if entity is None or relation is None or not entity.ndim or not relation.ndim:
        raise UserError(f"{path}: no such file, nor the tables of features; copy one of them")
    return len(entity), len(relation)


def _blocks(train: NDArray[Any], limits: tuple[int, int, int]) -> Iterator[NDArray[Any]]:
    """Yield rows of the train triples; each id must be below its column's limit.

    They are read, not mapped: pages of a mapping would count as memory taken.
    """
    if not isinstance(train, np.memmap) or not train.flags.c_contiguous:
        raise UserError("train_hrt.npy: its rows do not lie one after the other; copy it anew")
    for start in range(0, len(train), _ROWS):
        count = min(_ROWS, len(train) - start)
        place = train.offset + start * train.strides[0]
        rows = np.fromfile(str(train.filename), train.dtype, 3 * count, offset=place)
        rows = rows.reshape(count, 3)
        for i, limit in enumerate(limits):
            if not 0 <= int(rows[:, i].min()) <= int(rows[:, i].max()) < limit:
                raise UserError(f"train_hrt.npy: an id of column {i} is outside 0..{limit - 1}")
        yield rows


def _check_train(
    train: NDArray[Any], limits: tuple[int, int, int], cache: Path, source: str
) -> None:
    """Look at all ids, once: that reads 7 GB. Where nothing can be written, each time."""
    stamp = cache / "checked.txt"
    if stamp.is_file() and stamp.stat().st_size == len(source) and stamp.read_text() == source:
        return
    for _ in _blocks(train, limits):
        pass
    with contextlib.suppress(OSError):
        atomic_write_text(stamp, source)


def _converted(
    train: NDArray[Any], limits: tuple[int, int, int], cache: Path, source: str
) -> Triples:
    """Write the columns as int32, unless they are there, and map them."""
    stamp = cache / "source.txt"
    if not (stamp.is_file() and stamp.stat().st_size < 100 and stamp.read_text() == source):
        with directory_aside(cache, foreign=nothing_foreign) as aside:
            paths = [aside / f"train_{name}.npy" for name in _COLUMNS]
            columns = [
                np.lib.format.open_memmap(path, "w+", np.int32, (len(train),)) for path in paths
            ]
            for path in paths:
                with open(path, "rb+") as stream:
                    preallocate(stream.fileno(), path.stat().st_size, cache)
            start = 0
            for rows in _blocks(train, limits):
                for i, column in enumerate(columns):
                    column[start : start + len(rows)] = rows[:, i]
                start += len(rows)
            for column in columns:
                column.flush()
            del columns, column
            (aside / "source.txt").write_text(source, encoding="utf-8")
    found = [_mapped(cache / f"train_{name}.npy") for name in _COLUMNS]
    if any(column.dtype != np.int32 or column.shape != (len(train),) for column in found):
        raise UserError(f"{cache}: the converted columns are damaged; delete that folder")
    return Triples(*found)
