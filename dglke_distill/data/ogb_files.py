"""The official files of ogbl-wikikg2 and ogbl-biokg, read as the ogb package's loader reads them.

That loader unpickles: the split files, and whatever lies in ``processed/``. Here split files are
read by ``array_files``, the graph by its gzipped text in ``raw/``; ``processed/`` is not looked at.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.data.array_files import text_blocks
from dglke_distill.data.layout import SPLITS
from dglke_distill.data.ogb_package import dataset_folder
from dglke_distill.data.saved_arrays import read_saved

OfficialSplits = dict[str, dict[str, Any]]
"""The columns of the official splits by name, ids as int32."""

_IDS = ("head", "relation", "tail", "head_neg", "tail_neg")
_SPLIT_KINDS = {"ogbl-wikikg2": "time", "ogbl-biokg": "random"}
_MOST_IDS = int(np.iinfo(np.int32).max)
_SMALL_TABLE_BYTES = 1 << 20
_ROW_BYTES = 24
_NAME_BYTES = 4096


@dataclass(frozen=True)
class OfficialGraph:
    """What ``raw/`` tells besides the train triples.

    Attributes:
        counts: number of entities by type, types in alphabetical order; by ``""`` where entities
            have no types.
        num_relations: one more than the largest id of a relation in the graph.
        relation_names: names of the relations by id, where entities have types; else None.
    """

    counts: dict[str, int]
    num_relations: int
    relation_names: Optional[dict[int, str]]

    @property
    def typed(self) -> bool:
        """Whether entities have types."""
        return self.relation_names is not None


def read_official(name: str, root: Path) -> tuple[OfficialGraph, OfficialSplits]:
    """Read the official files of a dataset.

    Args:
        name: ``ogbl-biokg`` or ``ogbl-wikikg2``.
        root: the folder that holds ``ogbl_biokg/`` or ``ogbl_wikikg2/``.

    Raises:
        UserError: a file is missing, damaged, or holds something else than ids.
    """
    folder = dataset_folder(name, root)
    if not any(folder.glob("RELEASE_v*.txt")):
        raise UserError(
            f"{folder} has no RELEASE_v1.txt, so it is not a current copy of {name}: "
            "complete it, or delete the folder and get it again"
        )
    place = folder / "split" / _SPLIT_KINDS[name]
    try:
        graph = (_typed_graph if name == "ogbl-biokg" else _plain_graph)(folder / "raw")
        splits = {split: _split(place / f"{split}.pt") for split in SPLITS}
    except OSError as error:
        if isinstance(error, PermissionError):
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
        raise UserError(
            f"{folder} is not a complete copy of {name} ({error.filename}: {error.strerror}); "
            "complete it, or delete the folder and get it again"
        ) from None
    except MemoryError:
        raise UserError(f"{folder}: does not fit into memory") from None
    return graph, splits


def read_names(path: Path, count: int) -> Optional[list[str]]:
    """Read a two-column table, id and name; None where it is absent or does not name each id.

    Raises:
        UserError: it is no such table.
    """
    import pandas

    try:
        blocks = text_blocks(path, _SMALL_TABLE_BYTES + _NAME_BYTES * count)
        text = io.BytesIO(b"".join(blocks))
    except FileNotFoundError:
        return None
    try:
        table = pandas.read_csv(text, dtype=str, keep_default_na=False)
        ids = table.iloc[:, 0].astype(np.int64).to_numpy()
        names = table.iloc[:, 1].str.replace(r"\s+", " ", regex=True).to_numpy()
    except (ValueError, IndexError, OverflowError) as error:
        raise _no_table(path, error) from None
    if len(table) != count or not np.array_equal(np.sort(ids), np.arange(count)):
        return None
    ordered = np.empty(count, dtype=object)
    ordered[ids] = names
    return ordered.tolist() if len(set(names)) == count else None


def _split(path: Path) -> dict[str, Any]:
    columns = read_saved(path)
    for key in _IDS:
        if key in columns:
            columns[key] = _narrowed(columns[key], path, key)
    ranks = {key: columns[key].ndim for key in _IDS if key in columns}
    wrong = [key for key, rank in ranks.items() if rank != (2 if key.endswith("_neg") else 1)]
    if wrong or len({len(columns[key]) for key in ranks}) > 1:
        raise UserError(f"{path}: its columns do not belong together; get it again")
    for key in ("head_type", "tail_type"):
        kinds = columns.get(key, [])
        if not isinstance(kinds, list) or not all(type(kind) is str for kind in kinds):
            raise UserError(f"{path}: {key} is no list of names; get it again")
        if key in columns and len(kinds) != len(columns.get("relation", [])):
            raise UserError(f"{path}: its columns do not belong together; get it again")
    return columns


def _narrowed(ids: Any, path: Path, key: str) -> NDArray[np.int32]:
    """Return ids as int32: those of ogbl-wikikg2 are 8 GB in int64."""
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu":
        raise UserError(f"{path}: {key} holds no ids; get it again")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= _MOST_IDS:
        raise UserError(f"{path}: an id of {key} is negative or has more than 31 bits")
    return ids.astype(np.int32)


def _plain_graph(raw: Path) -> OfficialGraph:
    (raw / "edge.csv.gz").stat()  # the train split has the same triples
    entities = _count(raw / "num-node-list.csv.gz")
    edges = _count(raw / "num-edge-list.csv.gz")
    largest = -1
    for ids in _id_blocks(raw / "edge_reltype.csv.gz", edges):
        largest = max(largest, int(ids.max()))
    return OfficialGraph({"": entities}, largest + 1, None)


def _typed_graph(raw: Path) -> OfficialGraph:
    sizes = _table(raw / "num-node-dict.csv.gz", header=True)
    triplets = _table(raw / "triplet-type-list.csv.gz")
    if not len(sizes) or triplets.shape[1] != 3:
        raise _no_table(raw / "triplet-type-list.csv.gz", "three columns are expected")
    counts = {
        str(kind): _one(sizes[kind].iloc[0], raw / "num-node-dict.csv.gz")
        for kind in sorted(sizes.columns)
    }
    for part in ("___".join(map(str, parts)) for parts in (counts, *triplets.to_numpy())):
        if "/" in part or "\\" in part or "\0" in part:  # it becomes part of a path
            raise _no_table(raw / "triplet-type-list.csv.gz", f"{part[:80]!r} is no name")
    names: dict[int, str] = {}
    largest = -1
    for triplet in sorted(triplets.itertuples(index=False, name=None)):
        place = raw / "relations" / "___".join(triplet)
        (place / "edge.csv.gz").stat()
        edges = _count(place / "num-edge-list.csv.gz")
        first: Optional[int] = None
        for ids in _id_blocks(place / "edge_reltype.csv.gz", edges):
            first = int(ids[0]) if first is None else first
            largest = max(largest, int(ids.max()))
        if first is not None:
            names[first] = str(triplet[1])
    return OfficialGraph(counts, largest + 1, names)


def _id_blocks(path: Path, rows: int) -> Iterator[NDArray[np.int64]]:
    """Yield the first rows of a table of one column of ids, never empty ones."""
    import pandas

    for block in text_blocks(path, _SMALL_TABLE_BYTES + _ROW_BYTES * rows):
        try:
            table = pandas.read_csv(io.BytesIO(block), header=None, dtype=np.int64)
            ids = table[0].to_numpy()[:rows]
        except (ValueError, OverflowError) as error:
            raise _no_table(path, error) from None
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < _MOST_IDS:
            raise _no_table(path, "an id is negative or has more than 31 bits")
        rows -= len(ids)
        if len(ids):
            yield ids
        if not rows:
            return


def _count(path: Path) -> int:
    """Return the first number of a table of one column."""
    table = _table(path)
    if not len(table):
        raise _no_table(path, "it is empty")
    return _one(table.iloc[0, 0], path)


def _one(value: Any, path: Path) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MOST_IDS):
        raise _no_table(path, f"{text[:30]!r} is no count")
    return int(text)


def _table(path: Path, header: bool = False) -> Any:
    """Read a small table as text."""
    import pandas

    text = io.BytesIO(b"".join(text_blocks(path, _SMALL_TABLE_BYTES)))
    try:
        return pandas.read_csv(text, header=0 if header else None, dtype=str, keep_default_na=False)
    except (ValueError, OverflowError) as error:
        raise _no_table(path, error) from None


def _no_table(path: Path, reason: object) -> UserError:
    text = str(reason).partition("\n")[0][:200]
    return UserError(f"{path}: is no table as the official files have it ({text}); get it again")
