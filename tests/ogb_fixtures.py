"""Small random graphs in the layouts of ogbl-wikikg2 and ogbl-biokg, for the official loader.

The layouts are those the ogb package reads by name: gzipped text without headers in ``raw/``,
pickled numpy arrays in ``split/``, gzipped tables with a header in ``mapping/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

BIOKG_TYPES = {"drug": 6, "disease": 4, "protein": 7}
BIOKG_TRIPLETS = [
    ("drug", "drug-disease", "disease"),
    ("drug", "drug-drug_headache", "drug"),
    ("protein", "protein-protein", "protein"),
]
SIZES = {"train": 40, "valid": 7, "test": 9}


def write_wikikg2(
    root: Path,
    *,
    entities: int = 30,
    relations: int = 5,
    negatives: int = 4,
    mapping: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Write ``root/ogbl_wikikg2`` and return the splits as they were written."""
    rng = np.random.default_rng(seed)
    folder = root / "ogbl_wikikg2"
    splits: dict[str, dict[str, Any]] = {}
    for split, size in SIZES.items():
        splits[split] = {
            "head": rng.integers(0, entities, size),
            "relation": rng.integers(0, relations, size),
            "tail": rng.integers(0, entities, size),
        }
        if split != "train":
            splits[split]["head_neg"] = rng.integers(0, entities, (size, negatives))
            splits[split]["tail_neg"] = rng.integers(0, entities, (size, negatives))
    train = splits["train"]
    train["relation"][:relations] = np.arange(relations)
    _start(folder)
    _table(folder / "raw" / "edge", np.stack([train["head"], train["tail"]], axis=1))
    _table(folder / "raw" / "edge_reltype", train["relation"])
    _table(folder / "raw" / "num-node-list", [entities])
    _table(folder / "raw" / "num-edge-list", [SIZES["train"]])
    _save_splits(folder / "split" / "time", splits)
    if mapping:
        # Out of order, to be sure that the index column counts.
        order = rng.permutation(entities)
        names = {"node idx": order, "entity id": [f"Q{i}" for i in order]}
        _mapping(folder, "nodeidx2entityid", names)
        index = np.arange(relations)
        _mapping(folder, "reltype2relid", {"reltype": index, "rel id": [f"P{i}" for i in index]})
    return splits


def write_biokg(
    root: Path, *, negatives: int = 4, mapping: bool = False, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Write ``root/ogbl_biokg`` and return the splits as they were written: ids local to types."""
    rng = np.random.default_rng(seed)
    folder = root / "ogbl_biokg"
    splits: dict[str, dict[str, Any]] = {}
    for split, size in SIZES.items():
        relation = np.arange(size) % len(BIOKG_TRIPLETS)
        heads = [BIOKG_TRIPLETS[r][0] for r in relation]
        tails = [BIOKG_TRIPLETS[r][2] for r in relation]
        limits = {
            "head": np.array([BIOKG_TYPES[kind] for kind in heads]),
            "tail": np.array([BIOKG_TYPES[kind] for kind in tails]),
        }
        splits[split] = {"head_type": heads, "tail_type": tails, "relation": relation}
        for side, limit in limits.items():
            splits[split][side] = rng.integers(0, limit)
            if split != "train":
                shape = (size, negatives)
                splits[split][f"{side}_neg"] = rng.integers(0, limit[:, None], shape)
    _start(folder)
    train = splits["train"]
    counts = pd.DataFrame({kind: [size] for kind, size in BIOKG_TYPES.items()})
    counts.to_csv(folder / "raw" / "num-node-dict.csv.gz", index=False)
    triplets = pd.DataFrame(BIOKG_TRIPLETS)
    triplets.to_csv(folder / "raw" / "triplet-type-list.csv.gz", index=False, header=False)
    for number, triplet in enumerate(BIOKG_TRIPLETS):
        place = folder / "raw" / "relations" / "___".join(triplet)
        place.mkdir(parents=True)
        rows = train["relation"] == number
        edges = np.stack([train["head"][rows], train["tail"][rows]], axis=1)
        _table(place / "edge", edges)
        _table(place / "num-edge-list", [int(rows.sum())])
        _table(place / "edge_reltype", np.full(int(rows.sum()), number))
    _save_splits(folder / "split" / "random", splits)
    if mapping:
        for kind, size in BIOKG_TYPES.items():
            index = np.arange(size)
            names = {"ent idx": index, "ent name": [f"{100 + i}" for i in index]}
            _mapping(folder, f"{kind}_entidx2name", names)
    return splits


def _start(folder: Path) -> None:
    for part in ("raw", "split", "processed", "mapping"):
        (folder / part).mkdir(parents=True)
    (folder / "mapping").rmdir()
    (folder / "RELEASE_v1.txt").touch()


def _table(path: Path, rows: Any) -> None:
    pd.DataFrame(rows).to_csv(f"{path}.csv.gz", index=False, header=False)


def _mapping(folder: Path, name: str, columns: dict[str, Any]) -> None:
    (folder / "mapping").mkdir(exist_ok=True)
    pd.DataFrame(columns).to_csv(folder / "mapping" / f"{name}.csv.gz", index=False)


def _save_splits(folder: Path, splits: dict[str, dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    for split, columns in splits.items():
        torch.save(columns, folder / f"{split}.pt", pickle_protocol=4)
