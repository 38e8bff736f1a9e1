"""How much memory a run will take, said before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from dglke_distill import runtime
from dglke_distill.config import Config
from dglke_distill.data.manifest import load_manifest
from dglke_distill.data.ogb import OgbDataset
from dglke_distill.data.triples import Dataset
from dglke_distill.errors import UserError
from dglke_distill.models.base import KGEModel
from dglke_distill.models.coded import build_configured
from dglke_distill.models.node_piece import CHUNK_ROWS, NodePieceEncoder
from dglke_distill.models.tables import CODED
from dglke_distill.workspace import build_optimizer

__all__ = ["DataSize", "MemoryNeed", "TeacherSize", "bytes_text", "check_memory", "memory_need"]

_PROGRAM = 500 << 20
"""What the program with torch, dgl and compiled kernels takes without any data."""
_WORKER = 330 << 20
"""What a further process of it takes."""
_TOKEN_COPIES = 5
"""Tensors as large as NodePiece's largest that are alive together in a step."""
_NAME = 130
"""An entity's name in the vocabulary and in the set that checks it."""
_MESSAGES = 4 << 25
"""What the neighbour encoder passes at once when it encodes all entities."""


class DataSize(NamedTuple):
    """Counts of a dataset.

    ``named``: whether names are held that are not just the ids; ``given``: whether valid and test
    are ranked among given candidates, which needs no index of known answers.
    """

    entities: int
    relations: int
    train: int
    valid: int
    test: int
    named: bool = True
    given: bool = False

    @classmethod
    def of(cls, dataset: Dataset) -> DataSize:
        """Count a dataset."""
        train, valid, test = (len(dataset.split(name)) for name in ("train", "valid", "test"))
        named = dataset.entities.named
        given = isinstance(dataset, OgbDataset)
        return cls(dataset.num_entities, dataset.num_relations, train, valid, test, named, given)

    @classmethod
    def published(cls, name: str) -> Optional[DataSize]:
        """Return the published counts of a dataset of the catalog, None of anything else."""
        manifest = None if Path(name).expanduser().exists() else load_manifest(name)
        if manifest is None:
            return None
        counts = manifest.counts
        return cls(
            counts.entities,
            counts.relations,
            counts.train,
            counts.valid,
            counts.test,
            named=True,
            given=manifest.source.kind == "ogb",
        )

    @property
    def triples(self) -> int:
        """Number of triples in the three splits together."""
        return self.train + self.valid + self.test


class TeacherSize(NamedTuple):
    """A teacher's number of parameters, and its floats per entity."""

    parameters: int
    dim: int

    @classmethod
    def of(cls, config: Config, size: DataSize) -> TeacherSize:
        """Count what settings describe."""
        model = _without_memory(config, size)
        return cls(sum(p.numel() for p in model.parameters()), config.model.dim)


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a run needs, by what they are for.

    Attributes:
        lasting: what is there all the time.
        passing: what is there at one time or another; the largest of them counts.
        on_disk: tables that lie in files, and checkpoints.
    """

    lasting: dict[str, int]
    passing: dict[str, int]
    on_disk: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes of memory at the highest point."""
        return sum(self.lasting.values()) + max(self.passing.values(), default=0)

    @property
    def disk(self) -> int:
        """Bytes on disk."""
        return sum(self.on_disk.values())

    def __str__(self) -> str:
        """Return one line that names all parts, the larger ones first."""
        parts = sorted(self.lasting.items(), key=lambda part: -part[1])
        most = max(self.passing, key=lambda part: self.passing[part], default=None)
        if most is not None:
            parts.append((f"at most at a time, in {most},", self.passing[most]))
        said = ", ".join(f"{name} {bytes_text(size)}" for name, size in parts if size)
        files = ", ".join(f"{name} {bytes_text(size)}" for name, size in self.on_disk.items())
        return f"{bytes_text(self.total)} of memory ({said}); on disk {files}"


def bytes_text(size: float) -> str:
    """Return a number of bytes with a unit, as ``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.3g} GiB" if size < 999.5 else f"{size:,.0f} GiB"


def check_memory(
    config: Config, need: MemoryNeed, directory: Path, *, name: str = "this run"
) -> None:
    """Refuse a run that does not fit.

    Args:
        config: its settings. need: see ``memory_need``. directory: where it writes.
        name: what to call it.

    Raises:
        UserError: it needs more memory than it may have, or more disk than there is.
    """
    given = config.training.memory_megabytes
    limit = runtime.available_memory_bytes() if given is None else given << 20
    if need.total > limit:
        origin = "that this machine has available" if given is None else "that --memory allows"
        raise UserError(
            f"{name} needs about {need}; that is more than the {bytes_text(limit)} {origin}. Make "
            "it smaller (model.dim, training.batch_size, optimizer.name rowwise_adagrad, "
            "training.storage bfloat16), let tables lie in files (training.tables file), or raise "
            "--memory"
        )
    shared = need.lasting.get("tables", 0) + need.lasting.get("optimiser", 0)
    memory = Path("/dev/shm")
    if (config.training.processes or 1) > 1 and memory.is_dir():
        free = shutil.disk_usage(memory).free
        if shared > free:
            raise UserError(
                f"{name} shares about {bytes_text(shared)} of tables among processes, but /dev/shm "
                f"has {bytes_text(free)} left; enlarge it, let them lie in files (training.tables "
                "file), or leave --processes out"
            )
    place = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if need.disk > free:
        raise UserError(
            f"{name} writes about {bytes_text(need.disk)} below {directory}, where "
            f"{bytes_text(free)} are left; choose another --out"
        )


def memory_need(config: Config, size: DataSize, teachers: Sequence[TeacherSize] = ()) -> MemoryNeed:
    """Estimate what a training run needs at its highest point.

    Sizes of what lasts follow from the code that makes them; what passes is bounded by the largest
    tensors alive together. On a GPU tables and what passes lie there, and are not counted.

    Args:
        config: the settings. size: of the data. teachers: of a student's stage.
    """
    model = _without_memory(config, size)
    on_cpu = runtime.resolve_device(config.training.device).type == "cpu"
    parameters = list(model.parameters())
    tables = sum(_bytes(t) for t in (*parameters, *model.buffers()))
    state = _optimizer_bytes(config, model)
    wide = 8 if config.training.dtype == "float64" else 4
    taught = sum(teacher.parameters * wide for teacher in teachers)
    lasting = {"program": _PROGRAM, **_data(config, size)}
    if on_cpu:
        lasting.update({"tables": tables, "optimiser": state, "teachers": taught})
        lasting["gradients"] = _gradients(config, model)
    lasting["soft labels"] = _soft_labels(config, size)
    processes = config.training.processes or 1
    if processes > 1:
        own = _batches(config, size, teachers) + _tokens(config, model, size)
        own += 12 * size.entities + _WORKER
        # They share copies of the main process's loader and teachers.
        lasting["processes"] = processes * own + lasting["loader"] + lasting.get("teachers", 0)
    passing = {"preparing": 60 * size.train + _preparing(size)}
    if on_cpu:
        passing["batches"] = _batches(config, size, teachers) + _tokens(config, model, size)
        passing["ranking"] = _ranking(config, model, size)
        passing["beginning"] = _beginning(config, size, teachers)
    checkpoints = 2 * tables + state
    on_disk = {"checkpoints": 2 * checkpoints}  # the new one beside the old one
    if config.training.tables == "file" and on_cpu:
        on_disk["tables"] = lasting.pop("tables") + lasting.pop("optimiser")
    return MemoryNeed(lasting, passing, on_disk)


def _without_memory(config: Config, size: DataSize) -> KGEModel:
    with torch.device("meta"):
        return build_configured(config, size.entities, size.relations)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _optimizer_bytes(config: Config, model: nn.Module) -> int:
    optimizer: Any = build_optimizer(config.optimizer, model)
    with torch.device("meta"):
        optimizer.allocate()
    return sum(_bytes(t) for state in optimizer.state.values() for t in state.values())


def _data(config: Config, size: DataSize) -> dict[str, int]:
    """Triples as int32, the graph as int64 with one relation an edge, and what is built on them."""
    inverse = 2 if config.model.encoder != "lookup" else 1
    index = 16 * size.train * inverse + 8 * size.entities if inverse == 2 else 0
    loader = 12 * size.train + 8 * size.entities + 4 * size.entities
    if config.training.subsampling:
        loader += 4 * size.train
    if config.training.mode == "k_vs_all":
        loader += 8 * size.train + 16 * min(2 * size.train, size.entities * size.relations)
    if config.negatives.filtered and config.training.mode == "negatives":
        loader += 16 * size.train + 16 * size.entities
    return {
        "triples": 12 * size.triples + (_NAME * size.entities if size.named else 0),
        "graph": 24 * size.train * inverse + index,
        "known answers": 0 if size.given else 16 * size.triples + 16 * size.entities,
        "loader": loader,
    }


def _preparing(size: DataSize) -> int:
    """What indexing the known answers takes besides: copies of the columns, and sorted orders."""
    return 0 if size.given else (12 + 2 * (4 + 4) + 2 * 8) * size.triples


def _gradients(config: Config, model: KGEModel) -> int:
    """Gradients of whole tables, where all entities are met; with their last one's copy."""
    if config.training.mode == "negatives":
        return 0
    table = sum(_bytes(p) for p in model.encoder.parameters())
    return 2 * table


def _candidates(config: Config) -> tuple[int, int]:
    """Return how many distinct entities a step meets at most, and how many scores it has."""
    batch, negatives = config.training.batch_size, config.negatives
    sides = 2 if negatives.sides == "both" else 1
    chunks = batch
    if negatives.sharing == "chunk":
        chunks = max(1, batch // negatives.chunk_size) if negatives.chunk_size else 1
    return 2 * batch + sides * chunks * negatives.count, sides * batch * negatives.count


def _batches(config: Config, size: DataSize, teachers: Sequence[TeacherSize]) -> int:
    """Rows, scores and their gradients in a step."""
    wide = 8 if config.training.dtype == "float64" else 4
    dims = [config.model.dim, *(teacher.dim for teacher in teachers)]
    batch = config.training.batch_size
    if config.training.mode != "negatives":
        queries = batch if config.training.mode == "k_vs_all" else 2 * batch
        scores = queries * size.entities * wide
        return (3 + len(teachers)) * scores + sum(8 * queries * dim * wide for dim in dims)
    met, scores = _candidates(config)
    distinct = min(met, size.entities)
    if config.model.encoder.lower() == "neighbor":
        drawn = min(10 * distinct, 2 * size.train)
        met += 3 * drawn
    rows = sum((2 * distinct + 5 * met + 6 * batch) * dim * wide for dim in dims)
    return rows + (6 + 3 * len(teachers)) * scores * wide + 40 * met


def _tokens(config: Config, model: KGEModel, size: DataSize) -> int:
    """What NodePiece makes of the tokens of a step's entities: some tensors and their gradients."""
    if not isinstance(model.encoder, NodePieceEncoder):
        return 0
    met = size.entities
    if config.training.mode == "negatives":
        met = min(_candidates(config)[0], met)
    wide = model.relation_weight.element_size()
    return _TOKEN_COPIES * model.encoder.passing_floats(met) * wide


def _ranking(config: Config, model: KGEModel, size: DataSize) -> int:
    """A block of scores and its copies; a table that scoring sees otherwise is made once."""
    block = config.evaluation.query_block_megabytes << 20
    if not size.given:
        block = max(block, 8 * size.entities)
    most = 2 * max(size.valid, size.test) * size.entities * 4
    table = next(model.encoder.parameters())
    made = 2 * _bytes(table) if model.score_function.transforms_candidates else 0
    if config.model.encoder.lower() == "neighbor":
        made += 3 * _MESSAGES
    if isinstance(model.encoder, NodePieceEncoder):  # vectors, perhaps normalised ones beside
        made += 2 * size.entities * config.model.dim * table.element_size()
        made += model.encoder.passing_floats(CHUNK_ROWS) * table.element_size()
    elif table.dtype not in CODED and len(table) == size.entities:
        seen = model.score_function.entity_view(table)
        made += 0 if seen is table else 2 * _bytes(table)
    return min(2 * block, 2 * most) + made + 40 * max(size.valid, size.test)


def _soft_labels(config: Config, size: DataSize) -> int:
    if config.distillation is None:
        return 0
    soft = config.distillation.soft
    queries = min(2 * size.train, 2 * size.entities * size.relations)
    if soft.further:
        queries = round(queries * (1 + soft.further_pool))
    kept = {
        "top": (8 + 4 * min(soft.count, size.entities)) * queries,
        "all": 2 * size.entities * queries + 8 * queries,
    }.get(soft.candidates, 0)
    index = 8 * queries if soft.candidates in ("top", "all") else 0
    # Distinct queries are fewer than these: what seems too much may be kept all the same.
    return min(kept, soft.cache_megabytes << 20) + index


def _beginning(config: Config, size: DataSize, teachers: Sequence[TeacherSize]) -> int:
    """What laying a projection of the teacher over the student takes, in float64."""
    if config.distillation is None or not teachers:
        return 0
    if config.distillation.initialization == "random":
        return 0
    return 4 * 8 * size.entities * teachers[0].dim
