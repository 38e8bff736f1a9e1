"""Sizes of data and teachers, and the bytes of what a run on them holds.

What lasts follows from the code that makes it; what passes is bounded by the largest tensors alive
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.regular_files import in_home
from dglke_distill.config import Config
from dglke_distill.data.manifest import load_manifest
from dglke_distill.data.triples import Dataset
from dglke_distill.models import ENCODERS
from dglke_distill.models.base import KGEModel
from dglke_distill.models.coded import build_configured
from dglke_distill.models.node_piece import CHUNK_ROWS
from dglke_distill.models.tables import CODED
from dglke_distill.runs.workspace import build_optimizer

_NAME = 130
"""An entity's name in the vocabulary and in the set that checks it."""
_LOGIT_COPIES = 3
"""Tensors as large as the logits over relations that are alive together in a step."""
_ANSWERS = 4
"""Answers of a query in k_vs_all, taken generously: FB15k-237 has 3.6."""
_MOVED_COPIES = 8
"""Tensors as large as the candidates moved by relations that are alive together in a step."""
_RELATION_FIGURES = 1500
"""The ranking figures of a relation, as Python holds them."""
_TOKEN_COPIES = 5
"""Tensors as large as an encoder's largest that are alive together in a step."""
_PROJECTED = 1 << 18
"""Entities that a projection is worked out from, see ``distill.initialization``."""
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
        given = dataset.gives_candidates
        return cls(dataset.num_entities, dataset.num_relations, train, valid, test, named, given)

    @classmethod
    def published(cls, name: str, *, saved: bool = False) -> Optional[DataSize]:
        """Return the published counts of a dataset of the catalog, None of anything else.

        Args:
            name: as settings have it.
            saved: as for ``workspace.prepare``.
        """
        here = not saved and in_home(name).exists()
        manifest = None if here else load_manifest(name)
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
    def described(cls, about: Mapping[str, Any]) -> TeacherSize:
        """Return what ``distill.saved.describe_teacher`` says of a model."""
        known = about["model"] or {}
        return cls(known.get("parameters", 0), known.get("dim", 0))

    @classmethod
    def of(cls, config: Config, size: DataSize) -> TeacherSize:
        """Count what settings describe."""
        model = without_memory(config, size)
        return cls(sum(p.numel() for p in model.parameters()), config.model.dim)


def without_memory(config: Config, size: DataSize) -> KGEModel:
    """Build the model that settings describe without memory for its tables."""
    with torch.device("meta"):
        return build_configured(config, size.entities, size.relations)


def bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def optimizer_bytes(config: Config, model: nn.Module) -> int:
    """Return the bytes of the optimiser's state."""
    optimizer: Any = build_optimizer(config.optimizer, model)
    with torch.device("meta"):
        optimizer.allocate()
    return sum(bytes_of(t) for state in optimizer.state.values() for t in state.values())


def data_bytes(config: Config, size: DataSize) -> dict[str, int]:
    """Triples as int32, the graph as int64 with one relation an edge, and what is built on them."""
    inverse = 2 if ENCODERS.find(config.model.encoder).needs_graph else 1
    index = 16 * size.train * inverse + 8 * size.entities if inverse == 2 else 0
    loader = 12 * size.train + 8 * size.entities + 4 * size.entities
    if config.training.subsampling:
        loader += 4 * size.train
    if config.training.mode == "k_vs_all":
        loader += 8 * size.train + 16 * min(2 * size.train, size.entities * size.relations)
    if config.negatives.filtered and config.training.mode == "negatives":
        loader += 16 * size.train + 16 * size.entities
    return {
        "triples": 12 * size.triples
        + (_NAME * (size.entities + size.relations) if size.named else 0),
        "graph": 24 * size.train * inverse + index,
        "known answers": 0 if size.given else 16 * size.triples + 16 * size.entities,
        "loader": loader,
    }


def preparing_bytes(size: DataSize) -> int:
    """What indexing the known answers takes besides: copies of the columns, and sorted orders."""
    return 0 if size.given else (12 + 2 * (4 + 4) + 2 * 8) * size.triples


def gradient_bytes(config: Config, model: KGEModel) -> int:
    """Gradients of whole tables, where all entities are met; with their last one's copy."""
    if config.training.mode == "negatives":
        return 0
    table = sum(bytes_of(p) for p in model.encoder.parameters())
    return 2 * table


def _candidates(config: Config) -> tuple[int, int]:
    """Return how many distinct entities a step meets at most, and how many scores it has."""
    batch, negatives = config.training.batch_size, config.negatives
    sides = 2 if negatives.sides == "both" else 1
    chunks = batch
    if negatives.sharing == "chunk":
        chunks = max(1, batch // negatives.chunk_size) if negatives.chunk_size else 1
    return 2 * batch + sides * chunks * negatives.count, sides * batch * negatives.count


def batch_bytes(config: Config, size: DataSize, teachers: Sequence[TeacherSize]) -> int:
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
    if ENCODERS.find(config.model.encoder).needs_blocks:
        drawn = min(10 * distinct, 2 * size.train)
        met += 3 * drawn
    rows = sum((2 * distinct + 5 * met + 6 * batch) * dim * wide for dim in dims)
    return rows + (6 + 3 * len(teachers)) * scores * wide + 40 * met


def relation_bytes(config: Config, model: KGEModel, size: DataSize) -> int:
    """What a step holds for relations: their rows, logits over all of them, moved candidates."""
    function, rows = model.score_function, len(model.relation_weight)
    wide = model.relation_weight.element_size()
    everything = config.training.mode != "negatives"
    sides = 2 if everything or config.negatives.sides == "both" else 1
    queries = config.training.batch_size
    if config.training.mode != "k_vs_all":
        queries *= sides
    distinct = min(queries, rows)
    total = 4 * queries * function.relation_floats * wide
    if function.by_relation:  # a matrix is taken once, not for each query
        total = 4 * distinct * function.relation_floats * wide
    if config.loss.relation_weight:
        triples = queries * (_ANSWERS if config.training.mode == "k_vs_all" else 1)
        logits = min(triples, 2 * size.train) * rows * wide
        total += _LOGIT_COPIES * logits + 2 * bytes_of(model.relation_weight)
    if function.transforms_candidates:
        if everything:  # each relation moves the whole table
            moved = distinct * size.entities
        else:
            chunks = max(
                1,
                (_candidates(config)[0] - 2 * config.training.batch_size)
                // (sides * config.negatives.count),
            )
            moved = min(queries, rows * chunks) * config.negatives.count
        total += _MOVED_COPIES * moved * config.model.dim * wide
    if model.encoder.needs_blocks:
        total += 8 * 2 * size.relations * config.model.dim * wide
    return total


def token_bytes(config: Config, model: KGEModel, size: DataSize) -> int:
    """What an encoder makes of a step's entities by the way: some tensors and their gradients.

    And what it holds for the step's queries.
    """
    met = size.entities
    if config.training.mode == "negatives":
        met = min(_candidates(config)[0], met)
    wide = model.relation_weight.element_size()
    queries = config.training.batch_size
    if config.training.mode == "one_vs_all" or config.negatives.sides == "both":
        queries *= 2 if config.training.mode != "k_vs_all" else 1
    passing = _TOKEN_COPIES * model.encoder.passing_floats(met)
    return (passing + int(model.encoder.step_floats(queries, 2 * size.train))) * wide


def ranking_bytes(config: Config, model: KGEModel, size: DataSize) -> int:
    """A block of scores and its copies; a table that scoring sees otherwise is made once."""
    block = config.evaluation.query_block_megabytes << 20
    if not size.given:
        block = max(block, 8 * size.entities)
    most = 2 * max(size.valid, size.test) * size.entities * 4
    table = next(model.encoder.parameters())
    made = 2 * bytes_of(table) if model.score_function.transforms_candidates else 0
    if model.encoder.needs_blocks:
        made += 3 * _MESSAGES
    passing = model.encoder.passing_floats(min(CHUNK_ROWS, size.entities))
    if passing:  # vectors, perhaps normalised ones beside
        made += 2 * (size.entities * config.model.dim + passing) * table.element_size()
    elif table.dtype not in CODED and len(table) == size.entities:
        seen = model.score_function.entity_view(table)
        made += 0 if seen is table else 2 * bytes_of(table)
    figures = 2 * _RELATION_FIGURES * min(size.relations, max(size.valid, size.test))
    return min(2 * block, 2 * most) + made + 40 * max(size.valid, size.test) + figures


def soft_label_bytes(config: Config, size: DataSize) -> int:
    """What is kept of a teacher's answers."""
    if config.distillation is None:
        return 0
    soft = config.distillation.soft
    queries = min(2 * size.train, 2 * size.entities * size.relations)
    if soft.extra:
        queries = round(queries * (1 + soft.extra_pool))
    kept = {
        "top": (8 + 4 * min(soft.count, size.entities)) * queries,
        "all": 2 * size.entities * queries + 8 * queries,
    }.get(soft.candidates, 0)
    index = 8 * queries if soft.candidates in ("top", "all") else 0
    # Distinct queries are fewer than these: what seems too much may be kept all the same.
    return min(kept, soft.cache_megabytes << 20) + index


def beginning_bytes(config: Config, size: DataSize, teachers: Sequence[TeacherSize]) -> int:
    """What laying a projection of the teacher over the student takes, in float64."""
    if config.distillation is None or not teachers:
        return 0
    if config.distillation.initialization == "random":
        return 0
    rows = 4 * min(size.entities, _PROJECTED)
    return 8 * rows * teachers[0].dim
