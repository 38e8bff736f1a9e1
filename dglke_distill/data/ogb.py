"""ogbl-wikikg2 and ogbl-biokg, read from the official files once and kept memory-mappable.

The official files are gzipped text and gigabytes of int64; reading them takes minutes. They are
converted once into int32 ``.npy`` files, so that the next start takes seconds and the given
negatives stay on disk until they are needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import directory_aside
from dglke_distill.base.parsing import read_json
from dglke_distill.base.places import nothing_foreign
from dglke_distill.base.regular_files import read_bytes
from dglke_distill.data.array_files import map_npy
from dglke_distill.data.layout import SPLITS
from dglke_distill.data.ogb_files import OfficialGraph, OfficialSplits, read_names, read_official
from dglke_distill.data.ogb_package import OGB_DATASETS, dataset_folder
from dglke_distill.data.triples import Dataset, Side, Triples, Vocabulary

IdArray = NDArray[np.int32]

_FORMAT = 1
_RANKED_SPLITS = ("valid", "test")
_COLUMNS = ("head", "relation", "tail")
_MOST_IDS = int(np.iinfo(np.int32).max)
_NAME_BYTES = 4096


@dataclass(frozen=True, eq=False)
class GivenCandidates:
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
    """

    gives_candidates = True

    valid_candidates: Optional[GivenCandidates] = None
    test_candidates: Optional[GivenCandidates] = None

    def candidates(self, split: str) -> GivenCandidates:
        """Return the given negatives of ``valid`` or ``test``.

        Raises:
            UserError: the split has none.
        """
        given = {"valid": self.valid_candidates, "test": self.test_candidates}.get(split)
        return super().candidates(split) if given is None else given


def load_ogb(name: str, root: Path, *, cache: Optional[Path] = None) -> OgbDataset:
    """Load ogbl-biokg or ogbl-wikikg2 with the official split and the official negatives.

    Entity ids of ogbl-biokg, local to their type in the official files, get the offset of their
    type; types come in alphabetical order, as in the official examples. Names are read from the
    official ``mapping/`` folder; where it is absent, names are the ids.

    Args:
        name: ``ogbl-biokg`` or ``ogbl-wikikg2``.
        root: the folder that holds ``ogbl_biokg/`` or ``ogbl_wikikg2/``.
        cache: folder for the converted form; default: inside the dataset's ``processed/``. It is
            written anew when the official files change.

    Raises:
        UserError: the dataset is absent or not complete, or the cache cannot be written.
    """
    folder = dataset_folder(name, root)
    cache = cache if cache is not None else folder / "processed" / "dglke_distill"
    stamp = _stamp(folder)
    described = _read_description(cache)
    # Without the official files a cache that is there still serves.
    if described is None or (stamp and described["source"] != stamp):
        if not folder.is_dir():
            raise UserError(
                f"{name} is not in {root}: place the official folder {folder.name}/ there"
            )
        graph, splits = read_official(name, root)
        try:
            with directory_aside(cache, foreign=nothing_foreign) as aside:
                _convert(name, graph, splits, folder / "mapping", _stamp(folder), aside)
        except PermissionError as error:
            raise UserError(f"cannot write the converted {name} to {cache}: {error}") from None
        except KeyError as error:
            raise UserError(
                f"the official files in {folder} lack {error}: get them again"
            ) from None
        described = _read_description(cache)
        assert described is not None
    try:
        return _open(cache, described)
    except (FileNotFoundError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{cache}: the converted {name} is damaged ({reason}); delete that folder to have it "
            "written anew"
        ) from None


def _stamp(folder: Path) -> list[list[Any]]:
    """Return what tells one copy of the official files from another: path, size, time."""
    files = [*folder.glob("split/*/*.pt"), *folder.glob("mapping/*.csv.gz")]
    found = ((path.relative_to(folder).as_posix(), path.stat()) for path in sorted(files))
    return [[path, about.st_size, about.st_mtime_ns] for path, about in found]


def _read_description(cache: Path) -> Optional[dict[str, Any]]:
    """Return what the converted form says of itself; None if it is absent or not as we write it."""
    try:
        described = read_json(cache / "description.json")
    except UserError:
        return None
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        return None
    texts = [described.get(key) for key in ("entity_types", "warnings")]
    counts = [described.get(key) for key in ("num_entities", "num_relations")]
    sound = (
        described.get("name") in OGB_DATASETS
        and all(isinstance(text, list) and all(type(t) is str for t in text) for text in texts)
        and all(type(count) is int and 0 <= count <= _MOST_IDS for count in counts)
        and isinstance(described.get("source"), list)
    )
    return described if sound else None


def _open(cache: Path, described: dict[str, Any]) -> OgbDataset:
    """Open the converted form, whose arrays may be anything.

    Raises:
        UserError: an array is none.
        ValueError: it is not as it was written.
        FileNotFoundError: a file is missing.
    """
    sizes = {"entity": described["num_entities"], "relation": described["num_relations"]}

    def ids(file: str, limit: int) -> IdArray:
        array = map_npy(cache / f"{file}.npy", copy=True)
        if array.dtype != np.int32 or array.ndim != 1:
            raise ValueError(f"{file}.npy holds no ids")
        if len(array) and not 0 <= int(array.min()) <= int(array.max()) < limit:
            raise ValueError(f"an id of {file}.npy is outside 0..{limit - 1}")
        return array

    def triples(split: str) -> Triples:
        return Triples(
            *(
                ids(f"{split}_{column}", sizes["relation" if column == "relation" else "entity"])
                for column in _COLUMNS
            )
        )

    def candidates(split: str, rows: int) -> GivenCandidates:
        # Whoever ranks looks at each id; to do so here would read gigabytes.
        files = (cache / f"{split}_{side}_negatives.npy" for side in ("head", "tail"))
        found = GivenCandidates(*(map_npy(file) for file in files))
        if len(found) != rows or found.head.dtype != np.int32 or found.tail.dtype != np.int32:
            raise ValueError(f"{split} has {rows} triples, but {len(found)} rows of negatives")
        return found

    def vocabulary(kind: str) -> Vocabulary:
        path = cache / f"{kind}_names.txt"
        if not path.exists():
            return Vocabulary(size=sizes[kind], kind=kind)
        names = read_bytes(path, _NAME_BYTES * (sizes[kind] + 1)).decode().split("\n")[:-1]
        if len(names) != sizes[kind]:
            raise ValueError(f"{kind}_names.txt has {len(names)} names, not {sizes[kind]}")
        return Vocabulary(names, kind=kind)

    type_names = tuple(described["entity_types"])
    valid, test = triples("valid"), triples("test")
    types = ids("entity_type", len(type_names)) if type_names else None
    if types is not None and len(types) != sizes["entity"]:
        raise ValueError("entity_type.npy does not tell the type of each entity")
    return OgbDataset(
        name=described["name"],
        entities=vocabulary("entity"),
        relations=vocabulary("relation"),
        train=triples("train"),
        valid=valid,
        test=test,
        entity_type=types,
        warnings=tuple(described["warnings"]),
        entity_type_names=type_names,
        valid_candidates=candidates("valid", len(valid)),
        test_candidates=candidates("test", len(test)),
    )


def _convert(
    name: str,
    graph: OfficialGraph,
    splits: OfficialSplits,
    mapping: Path,
    source: list[list[Any]],
    out: Path,
) -> None:
    """Write the official data as int32 arrays; consumes ``splits`` so that memory is freed."""
    import pandas

    types = list(graph.counts)
    sizes = np.array([graph.counts[kind] for kind in types])
    offsets = dict(zip(types, np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()))
    num_entities = int(sizes.sum())
    num_relations = graph.num_relations
    if num_entities > _MOST_IDS:
        raise UserError(f"{name}: {num_entities} entities are more than {_MOST_IDS}")

    def write(file: str, array: IdArray, limit: int) -> None:
        if array.size and (array.min() < 0 or array.max() >= limit):
            raise UserError(f"{name}: an id of {file} is outside 0..{limit - 1}")
        np.save(out / f"{file}.npy", array)

    for split in SPLITS:
        columns = splits[split]
        relation = columns.pop("relation")
        num_relations = max(num_relations, int(relation.max()) + 1 if len(relation) else 0)
        write(f"{split}_relation", relation, _MOST_IDS)
        for side in ("head", "tail"):
            shift = np.zeros(1, np.int32)
            if graph.typed:
                kind, kinds = pandas.factorize(np.asarray(columns.pop(f"{side}_type"), object))
                shift = np.array([offsets[name] for name in kinds], np.int32)[kind]
            write(f"{split}_{side}", columns.pop(side) + shift, num_entities)
            if split in _RANKED_SPLITS:
                negatives = columns.pop(f"{side}_neg")
                negatives += shift[:, None]
                write(f"{split}_{side}_negatives", negatives, num_entities)
    if graph.typed:
        np.save(out / "entity_type.npy", np.repeat(np.arange(len(types), dtype=np.int32), sizes))
    entity_names = _entity_names(mapping, types if graph.typed else None, sizes)
    relation_names = (
        _typed_relation_names(graph.relation_names, num_relations)
        if graph.relation_names is not None
        else read_names(mapping / "reltype2relid.csv.gz", num_relations)
    )
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
        "entity_types": types if graph.typed else [],
        "warnings": warnings,
        "source": source,
    }
    (out / "description.json").write_text(json.dumps(description, indent=1) + "\n")


def _entity_names(
    mapping: Path, types: Optional[list[str]], sizes: NDArray[np.int64]
) -> Optional[list[str]]:
    """Return the names of the entities in id order, or None where the mapping is not complete."""
    if types is None:
        return read_names(mapping / "nodeidx2entityid.csv.gz", int(sizes[0]))
    names: list[str] = []
    for kind, size in zip(types, sizes.tolist()):
        of_type = read_names(mapping / f"{kind}_entidx2name.csv.gz", size)
        if of_type is None:
            return None
        names.extend(f"{kind}:{name}" for name in of_type)
    return names


def _typed_relation_names(named: dict[int, str], count: int) -> Optional[list[str]]:
    """Return the names in id order; None where an id has none, or two share one."""
    names = [named[i] for i in range(count) if i in named]
    return names if len(set(names)) == count else None
