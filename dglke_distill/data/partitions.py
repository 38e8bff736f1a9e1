"""A dataset that was cut into parts: what its folder holds beside DGL's own files.

DGL numbers entities and facts anew, so that each part's are consecutive. One file of ours has what
DGL's do not hold: the splits in the dataset's own ids and order, the names, and the own id of each
entity that DGL has renumbered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.parsing import parse_json, read_object
from dglke_distill.base.tensor_files import SavedState
from dglke_distill.config import DataConfig
from dglke_distill.data.file_kinds import PARTITION_FILE
from dglke_distill.data.layout import SPLITS
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

GRAPH_NAME = "facts"
GRAPH_FILE = f"{GRAPH_NAME}.json"
FACTS_FILE = "facts.safetensors"
SCHEMA = 1
_WRITE_ANEW = "write it anew with `dglke-distill dist partition`"


@dataclass(frozen=True)
class Partition:
    """A folder that ``partition`` wrote.

    Attributes:
        directory: where.
        id: tells this cut of these data from all others.
        name: of the dataset.
        data: the settings that the dataset was read with.
        fingerprint: of the dataset.
        relations: how many it has.
        parts: how many.
        method: by which entities were dealt to them.
        entity_ranges: first and one past the last of DGL's entity ids, part by part.
        fact_ranges: the same of the facts.
        given_candidates: whether the dataset is ranked among candidates of its own.
        digests: SHA-256 of each file of the parts, by its path in the folder.
    """

    directory: Path
    id: str
    name: str
    data: DataConfig
    fingerprint: str
    relations: int
    parts: int
    method: str
    entity_ranges: tuple[tuple[int, int], ...]
    fact_ranges: tuple[tuple[int, int], ...]
    given_candidates: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def entities(self) -> list[int]:
        """How many entities each part holds."""
        return [last - first for first, last in self.entity_ranges]

    @property
    def facts(self) -> list[int]:
        """How many facts each part holds."""
        return [last - first for first, last in self.fact_ranges]

    @cached_property
    def _saved(self) -> SavedState:
        path = self.directory / FACTS_FILE
        saved = SavedState(path)
        if saved.metadata.get("id") != self.id:
            raise UserError(f"{path}: is of another partition than {PARTITION_FILE}; {_WRITE_ANEW}")
        return saved

    @cached_property
    def own_ids(self) -> Tensor:
        """The dataset's id of each entity in DGL's order, int64 (entities,)."""
        found = self._saved["entity"].clone()
        if sorted(found.tolist()) != list(range(len(found))) or len(found) != sum(self.entities):
            raise UserError(f"{self._saved.path}: its entity ids are no renumbering; {_WRITE_ANEW}")
        return found

    def dgl_ids(self) -> Tensor:
        """Return DGL's id of each entity in the dataset's order, int64 (entities,)."""
        found = torch.empty_like(self.own_ids)
        found[self.own_ids] = torch.arange(len(found))
        return found

    def dataset(self) -> Dataset:
        """Return the dataset, with its own ids, order and names.

        Raises:
            UserError: its file is damaged.
        """
        saved = self._saved
        train, valid, test = (Triples.from_array(saved[split].numpy()) for split in SPLITS)
        kind: Optional[NDArray[np.int32]] = None
        types: tuple[str, ...] = ()
        if "entity_type" in saved:
            kind, types = saved["entity_type"].numpy().copy(), tuple(self._names("types") or ())
        weight: Optional[NDArray[np.float32]] = None
        if "train_weight" in saved:
            weight = saved["train_weight"].numpy().copy()
        entities, relations = self._names("entities"), self._names("relations")
        about = read_object(self.directory / PARTITION_FILE, hint=_WRITE_ANEW)
        return Dataset(
            self.name,
            Vocabulary(entities)
            if entities is not None
            else Vocabulary(size=int(about["entities"])),
            Vocabulary(relations, kind="relation")
            if relations is not None
            else Vocabulary(size=int(about["relations"]), kind="relation"),
            train,
            valid,
            test,
            entity_type=kind,
            entity_type_names=types,
            train_weight=weight,
        )

    def _names(self, key: str) -> Optional[Sequence[str]]:
        if f"names.{key}" not in self._saved:
            return None
        text = self._saved[f"names.{key}"].numpy().tobytes().decode("utf-8", "surrogatepass")
        names = parse_json(text, f"{self._saved.path}, names of {key}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{self._saved.path}: names of {key} are no list; {_WRITE_ANEW}")
        return names


def read_partition(directory: Path) -> Partition:
    """Read what a folder says of its parts.

    Raises:
        UserError: it is no partition, or a file is missing or damaged.
    """
    path = directory / PARTITION_FILE
    if not path.is_file():
        raise UserError(
            f"{directory}: is no partitioned dataset ({PARTITION_FILE} is missing); make one with "
            "`dglke-distill dist partition DATASET --parts N --out DIR`"
        )
    about = read_object(path, hint=_WRITE_ANEW)
    if about.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema {about.get('schema')!r:.40} is not known; {_WRITE_ANEW}")
    graph = read_object(directory / GRAPH_FILE, hint=_WRITE_ANEW)
    try:
        found = Partition(
            directory,
            _text(about["id"]),
            _text(about["dataset"]),
            DataConfig.model_validate(about["data"]),
            _text(about["fingerprint"]),
            int(about["relations"]),
            int(graph["num_parts"]),
            _text(about["method"]),
            _ranges(graph["node_map"]),
            _ranges(graph["edge_map"]),
            about.get("given_candidates") is True,
            {_text(name): _text(digest) for name, digest in dict(about.get("files", {})).items()},
        )
        whole = int(about["parts"]) == found.parts == len(found.entity_ranges)
        whole = whole and sum(found.entities) == int(about["entities"]) == graph["num_nodes"]
        whole = whole and sum(found.facts) == int(about["facts"]["train"]) == graph["num_edges"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: {type(error).__name__} {error!s:.80}; {_WRITE_ANEW}") from None
    if not whole:
        raise UserError(f"{path}: is at odds with {GRAPH_FILE}; {_WRITE_ANEW}")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _ranges(tree: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    (found,) = tree.values()
    ranges = tuple((int(first), int(last)) for first, last in found)
    ends = [0, *(last for _, last in ranges)]
    if [first for first, _ in ranges] != ends[:-1] or any(a > b for a, b in ranges):
        raise ValueError("parts are not consecutive")
    return ranges


def check_files(found: Partition, part: int) -> None:
    """Check that the files of a part are there, and are what was written.

    Args:
        found: what was cut.
        part: which of its parts.

    Raises:
        UserError: one is missing, or has other bytes.
    """
    places = [f"part{part}/{name}" for name in ("graph.dgl", "node_feat.dgl", "edge_feat.dgl")]
    for place in (*places, FACTS_FILE):
        path = found.directory / place
        if not path.is_file():
            raise UserError(f"{path}: is missing; copy the whole folder, or {_WRITE_ANEW}")
        digest = found.digests.get(place)
        if digest is not None and sha256_file(path) != digest:
            raise UserError(
                f"{path}: is damaged, its bytes are not those that were written; copy it again, or "
                f"{_WRITE_ANEW}"
            )
