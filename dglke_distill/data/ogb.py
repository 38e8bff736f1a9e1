"""ogbl-wikikg2 and ogbl-biokg, read by the official loader once and kept memory-mappable.

The official loader parses gzipped text and unpickles gigabytes of int64; that takes minutes and,
for ogbl-wikikg2, about 9 GB of memory. Its result is converted once into int32 ``.npy`` files, so
that the next start takes seconds and the given negatives stay on disk until they are needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.ogb_package import OGB_DATASETS, dataset_folder, read_official
from dglke_distill.data.triples import Dataset, Side, Triples, Vocabulary
from dglke_distill.errors import UserError
from dglke_distill.files import directory_aside, nothing_foreign
from dglke_distill.parsing import read_object

__all__ = ["OGB_DATASETS", "Candidates", "OgbDataset", "load_ogb"]

IdArray = NDArray[np.int32]

_FORMAT = 1
_SPLITS = ("train", "valid", "test")
_RANKED_SPLITS = ("valid", "test")
_COLUMNS = ("head", "relation", "tail")


@dataclass(frozen=True, eq=False)
class Candidates:
    """The given negatives of a split: row i belongs to triple i of the split.

    Attributes:
        head: int32 array of shape (n, k), entities that replace the head; memory-mapped.
        tail: int32 array of shape (n, k), entities that replace the tail; memory-mapped.
    """

    head: IdArray
    tail: IdArray

    def __post_init__(self) -> None:
        """Check that both sides have the same shape."""
        if self.head.shape != self.tail.shape or self.head.ndim != 2:
            raise ValueError("head and tail must be matrices of the same shape")

    def __len__(self) -> int:
        """Return the number of triples that have negatives."""
        return len(self.head)

    def of(self, side: Side) -> IdArray:
        """Return the negatives for the side that is predicted, int32 of shape (n, k)."""
        return self.head if side == "head" else self.tail


@dataclass(frozen=True, eq=False)
class OgbDataset(Dataset):
    """A dataset whose valid and test triples are ranked among given negatives.

    Attributes:
        valid_candidates: the given negatives of the valid split.
        test_candidates: the given negatives of the test split.
        entity_type_names: names of the entity types; ``entity_type`` indexes them. Empty where
            entities have no type.
    """

    valid_candidates: Optional[Candidates] = None
    test_candidates: Optional[Candidates] = None
    entity_type_names: tuple[str, ...] = ()

    def candidates(self, split: str) -> Candidates:
        """Return the given negatives of ``valid`` or ``test``.

        Raises:
            UserError: the split has none.
        """
        given = {"valid": self.valid_candidates, "test": self.test_candidates}.get(split)
        if given is None:
            raise UserError(f"split {split!r} of {self.name} has no given negatives")
        return given


def load_ogb(
    name: str, root: Path, *, download: bool = True, cache: Optional[Path] = None
) -> OgbDataset:
    """Load ogbl-biokg or ogbl-wikikg2 with the official split and the official negatives.

    Entity ids of ogbl-biokg, local to their type in the official files, get the offset of their
    type; types come in alphabetical order, as in the official examples. Names are read from the
    official ``mapping/`` folder; where it is absent, names are the ids.

    Args:
        name: ``ogbl-biokg`` or ``ogbl-wikikg2``.
        root: the folder that holds, or will hold, ``ogbl_biokg/`` or ``ogbl_wikikg2/``.
        download: whether the dataset may be downloaded where it is absent.
        cache: folder for the converted form; default: inside the dataset's ``processed/``. It is
            written anew when the official files change.

    Raises:
        UserError: the dataset is absent and cannot be had, is not complete, or the cache cannot
            be written.
    """
    folder = dataset_folder(name, root)
    cache = cache if cache is not None else folder / "processed" / "dglke_distill"
    stamp = _stamp(folder)
    described = _read_description(cache)
    # Without the official files a cache that is there still serves.
    if described is None or (stamp and described["source"] != stamp):
        graph, splits = read_official(name, root, download)
        try:
            with directory_aside(cache, foreign=nothing_foreign) as aside:
                _convert(name, graph, splits, folder / "mapping", _stamp(folder), aside)
        except PermissionError as error:
            raise UserError(f"cannot write the converted {name} to {cache}: {error}") from None
        except KeyError as error:
            raise UserError(
                f"the official files in {folder} lack {error}: delete them to download them again"
            ) from None
        described = _read_description(cache)
        assert described is not None
    return _open(cache, described)


def _stamp(folder: Path) -> list[list[Any]]:
    """Return what tells one copy of the official files from another: path, size, time."""
    files = [*folder.glob("split/*/*.pt"), *folder.glob("mapping/*.csv.gz")]
    found = ((path.relative_to(folder).as_posix(), path.stat()) for path in sorted(files))
    return [[path, about.st_size, about.st_mtime_ns] for path, about in found]


def _read_description(cache: Path) -> Optional[dict[str, Any]]:
    path = cache / "description.json"
    if not path.exists():
        return None
    described = read_object(path, hint="delete the folder to have it converted again")
    return described if described.get("format") == _FORMAT else None


def _open(cache: Path, described: dict[str, Any]) -> OgbDataset:
    def triples(split: str) -> Triples:
        return Triples(*(np.load(cache / f"{split}_{column}.npy") for column in _COLUMNS))

    def candidates(split: str) -> Candidates:
        files = (cache / f"{split}_{side}_negatives.npy" for side in ("head", "tail"))
        return Candidates(*(np.load(file, mmap_mode="r") for file in files))

    def vocabulary(kind: str, size: int) -> Vocabulary:
        path = cache / f"{kind}_names.txt"
        if not path.exists():
            return Vocabulary(size=size, kind=kind)
        return Vocabulary(path.read_text(encoding="utf-8").split("\n")[:-1], kind=kind)

    type_names = tuple(described["entity_types"])
    return OgbDataset(
        name=described["name"],
        entities=vocabulary("entity", described["num_entities"]),
        relations=vocabulary("relation", described["num_relations"]),
        train=triples("train"),
        valid=triples("valid"),
        test=triples("test"),
        entity_type=np.load(cache / "entity_type.npy") if type_names else None,
        warnings=tuple(described["warnings"]),
        entity_type_names=type_names,
        valid_candidates=candidates("valid"),
        test_candidates=candidates("test"),
    )


def _convert(
    name: str,
    graph: dict[str, Any],
    splits: dict[str, dict[str, Any]],
    mapping: Path,
    source: list[list[Any]],
    out: Path,
) -> None:
    """Write the official data as int32 arrays; consumes ``splits`` so that memory is freed."""
    import pandas

    counts: Mapping[str, int] = graph.get("num_nodes_dict", {"": graph.get("num_nodes", 0)})
    types = list(counts)
    sizes = np.array([int(counts[kind]) for kind in types])
    offsets = dict(zip(types, np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()))
    num_entities = int(sizes.sum())
    num_relations = 0
    typed = "num_nodes_dict" in graph

    def write(file: str, array: IdArray, limit: int) -> None:
        if array.size and (array.min() < 0 or array.max() >= limit):
            raise UserError(f"{name}: an id of {file} is outside 0..{limit - 1}")
        np.save(out / f"{file}.npy", array)

    for split in _SPLITS:
        columns = splits[split]
        relation = columns.pop("relation")
        num_relations = max(num_relations, int(relation.max()) + 1 if len(relation) else 0)
        write(f"{split}_relation", relation, np.iinfo(np.int32).max)
        for side in ("head", "tail"):
            shift = np.zeros(1, np.int32)
            if typed:
                kind, kinds = pandas.factorize(np.asarray(columns.pop(f"{side}_type"), object))
                shift = np.array([offsets[name] for name in kinds], np.int32)[kind]
            write(f"{split}_{side}", columns.pop(side) + shift, num_entities)
            if split in _RANKED_SPLITS:
                negatives = columns.pop(f"{side}_neg")
                negatives += shift[:, None]
                write(f"{split}_{side}_negatives", negatives, num_entities)
    if typed:
        np.save(out / "entity_type.npy", np.repeat(np.arange(len(types), dtype=np.int32), sizes))
        # In the official graph each (type, relation, type) has its one id.
        triplets = graph["edge_reltype"].items()
        num_relations = max(num_relations, *(int(ids.max()) + 1 for _, ids in triplets if len(ids)))
    else:
        num_relations = max(num_relations, int(graph["edge_reltype"].max()) + 1)
    entity_names = _entity_names(mapping, types if typed else None, sizes)
    relation_names = _relation_names(mapping, graph if typed else None, num_relations)
    warnings = []
    for kind, names in (("entity", entity_names), ("relation", relation_names)):
        if names is not None:
            text = "".join(f"{name}\n" for name in names)
            (out / f"{kind}_names.txt").write_text(text, encoding="utf-8")
        elif mapping.exists():
            warnings.append(f"{mapping} does not give each {kind} its own name: ids are the names")
    description = {
        "format": _FORMAT,
        "name": name,
        "num_entities": num_entities,
        "num_relations": num_relations,
        "entity_types": types if typed else [],
        "warnings": warnings,
        "source": source,
    }
    (out / "description.json").write_text(json.dumps(description, indent=1) + "\n")


def _entity_names(
    mapping: Path, types: Optional[list[str]], sizes: NDArray[np.int64]
) -> Optional[list[str]]:
    """Return the names of the entities in id order, or None where the mapping is not complete."""
    if types is None:
        return _read_mapping(mapping / "nodeidx2entityid.csv.gz", int(sizes[0]))
    names: list[str] = []
    for kind, size in zip(types, sizes.tolist()):
        of_type = _read_mapping(mapping / f"{kind}_entidx2name.csv.gz", size)
        if of_type is None:
            return None
        names.extend(f"{kind}:{name}" for name in of_type)
    return names


def _relation_names(
    mapping: Path, graph: Optional[dict[str, Any]], count: int
) -> Optional[list[str]]:
    if graph is None:
        return _read_mapping(mapping / "reltype2relid.csv.gz", count)
    named = {int(ids[0, 0]): key[1] for key, ids in graph["edge_reltype"].items() if len(ids)}
    names = [named.get(i) for i in range(count)]
    return None if None in names or len(set(names)) < count else [str(name) for name in names]


def _read_mapping(path: Path, count: int) -> Optional[list[str]]:
    """Read a two-column table, id and name; None where it is absent or does not name each id."""
    import pandas

    if not path.exists():
        return None
    table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    ids = table.iloc[:, 0].astype(np.int64).to_numpy()
    names = table.iloc[:, 1].str.replace(r"\s+", " ", regex=True).to_numpy()
    if len(table) != count or not np.array_equal(np.sort(ids), np.arange(count)):
        return None
    ordered = np.empty(count, dtype=object)
    ordered[ids] = names
    return ordered.tolist() if len(set(names)) == count else None
