"""A dataset cut into parts, one for each machine that trains: DGL's own partitioner, kept whole.

What is written is described in ``partitions``.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Optional, cast

import numpy as np
import torch
from torch import Tensor

from dglke_distill.base import runtime
from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import directory_aside, sha256_file
from dglke_distill.base.places import check_replaceable
from dglke_distill.base.shown import plural
from dglke_distill.base.tensor_files import save_state
from dglke_distill.config import DataConfig
from dglke_distill.data.file_kinds import PARTITION_FILE
from dglke_distill.data.graph import build_graph
from dglke_distill.data.labels import Labels
from dglke_distill.data.layout import SPLITS
from dglke_distill.data.metis import assign_by_metis
from dglke_distill.data.partitions import (
    FACTS_FILE,
    GRAPH_NAME,
    SCHEMA,
    Partition,
    read_partition,
)
from dglke_distill.data.triples import Dataset

Method = Literal["random", "metis"]
"""How entities are dealt to parts: ``metis`` cuts few facts apart, ``random`` needs less memory."""

MOST_PARTS = 1024
# Bytes that the partitioner takes at most for a fact and for an entity, beside the dataset; fitted
# to peaks of random graphs of millions of facts (benchmarks/distributed.py --peaks).
_FACT_BYTES: Mapping[str, int] = {"random": 250, "metis": 330}
_ENTITY_BYTES: Mapping[str, int] = {"random": 150, "metis": 200}


def partition_bytes(entities: int, train: int, others: int, method: Method) -> int:
    """Return how much memory partitioning takes at its highest point, dataset included.

    Args:
        entities: number of entities.
        train: number of facts of the train split, which is what is cut.
        others: number of the other splits' facts.
        method: see ``Method``.
    """
    # METIS has a process of its own beside this one.
    program, names = (500 + 300 * (method == "metis")) << 20, 130 * entities
    data = 12 * (train + others) + names
    return program + data + _FACT_BYTES[method] * train + _ENTITY_BYTES[method] * entities


def partition(
    dataset: Dataset,
    data: DataConfig,
    directory: Path,
    parts: int,
    method: Method = "metis",
    seed: int = 0,
    labels: Optional[Labels] = None,
) -> Partition:
    """Cut a dataset into parts and write them; the directory appears whole or not at all.

    The same dataset, parts, method and seed give the same parts.

    Args:
        dataset: the dataset.
        data: the settings it was read with, which a model trained on the parts will name.
        directory: a new one.
        parts: how many, one for each machine.
        method: see ``Method``.
        seed: of the draw of ``random``; METIS has one of its own.
        labels: of the entities, kept with models that are trained on the parts.

    Raises:
        UserError: too many parts for the data, or a directory that is in use.
    """
    if not 1 <= parts <= MOST_PARTS:
        raise UserError(f"--parts {parts}: choose 1 to {MOST_PARTS}")
    if parts > dataset.num_entities or not len(dataset.train):
        raise UserError(
            f"--parts {parts}: {dataset.name} has "
            f"{plural(dataset.num_entities, 'entity')} and "
            f"{plural(len(dataset.train), 'fact')} to learn from; give fewer parts"
        )
    check_place(directory)
    graph = build_graph(dataset.train, dataset.num_entities, num_relations=dataset.num_relations)
    graph.edata["relation"] = graph.edata["relation"].int()
    graph.edata["fact"] = torch.arange(len(dataset.train))
    if dataset.train_weight is not None:
        graph.edata["weight"] = torch.from_numpy(np.array(dataset.train_weight, np.float32))
    with directory_aside(directory) as aside:
        own = _cut(graph, aside, parts, method, seed, dataset.name)
        about = {
            "schema": SCHEMA,
            "dataset": dataset.name,
            "data": data.model_dump(mode="json"),
            "fingerprint": dataset.fingerprint,
            "entities": dataset.num_entities,
            "relations": dataset.num_relations,
            "facts": {split: len(dataset.split(split)) for split in SPLITS},
            "parts": parts,
            "method": method if parts > 1 else "none",
            "seed": seed,
            "given_candidates": dataset.gives_candidates,
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        digest.update(own.numpy().tobytes())
        about["id"] = digest.hexdigest()
        if labels is not None:
            labels.write(aside, dataset.entities)
        save_state(aside / FACTS_FILE, _tensors(dataset, own), {"id": about["id"]})
        written = sorted([*aside.glob("part*/*"), aside / FACTS_FILE])
        about["files"] = {str(path.relative_to(aside)): sha256_file(path) for path in written}
        text = json.dumps(about, indent=1) + "\n"
        (aside / PARTITION_FILE).write_text(text, encoding="utf-8")
    return read_partition(directory)


def check_place(directory: Path) -> None:
    """Look whether parts may be written there.

    Args:
        directory: the place.

    Raises:
        UserError: something is there already.
    """
    if (directory / PARTITION_FILE).is_file():
        raise UserError(f"{directory}: holds parts already; remove it, or choose another --out")
    check_replaceable(directory)


def _cut(graph: Any, folder: Path, parts: int, method: Method, seed: int, name: str) -> Tensor:
    """Have DGL write its files; return the own id of each entity in DGL's order."""
    dgl = load_dgl()
    dgl.random.seed(seed)
    np.random.seed(seed % (1 << 32))
    try:
        with _quiet(), _own_metis():
            own, _ = dgl.distributed.partition_graph(
                graph,
                GRAPH_NAME,
                parts,
                str(folder),
                part_method=method,
                # METIS balances entities by itself; a machine's work goes by its facts.
                balance_edges=method == "metis",
                return_mapping=True,
            )
    except (IndexError, AssertionError, dgl.DGLError) as error:
        if "Write incomplete" in str(error):
            _write_likewise(folder, graph.num_edges())
        # Else it is what DGL says of an empty part.
        raise UserError(
            f"--parts {parts}: DGL cannot cut {name} so, a part would hold no entity or no fact; "
            "give fewer parts"
        ) from None
    return cast(Tensor, own).long()


def _write_likewise(folder: Path, facts: int) -> None:
    """Write as much as DGL could not: it does not say why, the system does."""
    place = folder / "room"
    try:
        place.write_bytes(bytes(8 * facts + (1 << 20)))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    finally:
        place.unlink(missing_ok=True)


@contextmanager
def _own_metis() -> Iterator[None]:
    """Have DGL's partitioner ask ``assign_by_metis`` where it would call METIS itself."""
    module = import_module("dgl.distributed.partition")
    before = module.metis_partition_assignment
    module.metis_partition_assignment = assign_by_metis  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.metis_partition_assignment = before  # type: ignore[attr-defined]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what DGL and METIS print from the user's terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {}
    with open(os.devnull, "wb") as nowhere:
        for number in (1, 2):
            try:
                kept[number] = os.dup(number)
            except OSError:  # closed
                continue
            os.dup2(nowhere.fileno(), number)
        try:
            with redirect_stdout(io.StringIO()):
                yield
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _tensors(dataset: Dataset, own: Tensor) -> dict[str, Tensor]:
    found = {split: torch.from_numpy(dataset.split(split).to_array()) for split in SPLITS}
    found["entity"] = own
    for key, names in (("entities", dataset.entities), ("relations", dataset.relations)):
        if names.named:
            text = json.dumps(list(names), ensure_ascii=False).encode("utf-8", "surrogatepass")
            found[f"names.{key}"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    if dataset.entity_type is not None:
        found["entity_type"] = torch.from_numpy(np.array(dataset.entity_type, np.int32))
        kinds = json.dumps(list(dataset.entity_type_names)).encode()
        found["names.types"] = torch.frombuffer(bytearray(kinds), dtype=torch.uint8)
    if dataset.train_weight is not None:
        found["train_weight"] = torch.from_numpy(np.array(dataset.train_weight, np.float32))
    return found


def check_partition_memory(need: int, name: str) -> None:
    """Refuse to partition what does not fit.

    Args:
        need: see ``partition_bytes``.
        name: of the dataset.

    Raises:
        UserError: it needs more memory than there is.
    """
    limit = runtime.available_memory_bytes()
    if need > limit:
        raise UserError(
            f"partitioning {name} needs about {need / 2**30:.3g} GiB of memory; that is more than "
            f"the {limit / 2**30:.3g} GiB that this machine has available. Choose --method random, "
            "or a larger machine"
        )
