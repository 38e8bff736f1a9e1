"""A model whose tables stay compressed: it decodes the rows that it is about to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from dglke_distill.base.errors import UserError
from dglke_distill.compression.storage import Storage, TableStorage, build_table
from dglke_distill.compression.table import StoredTable
from dglke_distill.config import ModelConfig
from dglke_distill.models import build_model, build_score_function
from dglke_distill.models.base import KGEModel
from dglke_distill.models.blockwise import BlockwiseModel
from dglke_distill.models.pieces import CodedVectors
from dglke_distill.models.rows import EntityRows
from dglke_distill.models.score_function import ScoreFunction

BIAS = TableStorage(kind="float16")


class StoredEncoder(nn.Module):
    """Entity vectors out of a stored table; the encoder of a compressed model.

    Args:
        table: the vectors, (num_entities, dim).
    """

    needs_blocks = False

    def __init__(self, table: StoredTable) -> None:
        """Keep the table."""
        super().__init__()
        self.table = table
        self.num_entities = len(table)

    def blocks_for(self, nodes: Tensor) -> Optional[Sequence[Any]]:
        """Return the message-flow graphs needed to encode ``nodes`` (u,): none."""
        return None

    def store_encoded(self) -> None:
        """Keep encoded vectors: they are what is stored."""

    def coded(self) -> Optional[CodedVectors]:
        """Return the codes and codebooks of the table; None: it has none."""
        return self.table.coded()

    def forward(
        self, nodes: Union[slice, Tensor, None] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) float32 of ids (u,) int64, of a range, or of all entities."""
        return self.table.decode(slice(None) if nodes is None else nodes)


class CompressedModel(BlockwiseModel):
    """A model for inference whose tables are stored in fewer bytes.

    Scores are those of the decoded model; it is decoded block by block (see ``BlockwiseModel``).

    Args:
        score_function: compares queries with candidates.
        storage: how the tables are stored.
        num_entities: entities of the dataset.
        num_relations: relations of the dataset, reciprocal ones not counted.
        reciprocal: as in ``KGEModel``.
        entity_bias: as in ``KGEModel``.
    """

    def __init__(
        self,
        score_function: ScoreFunction,
        storage: Storage,
        num_entities: int,
        num_relations: int,
        *,
        reciprocal: bool = False,
        entity_bias: bool = False,
    ) -> None:
        """Allocate empty tables, to be filled by ``compress`` or from a checkpoint."""
        table = build_table(storage.entities, num_entities, score_function.dim)
        super().__init__(StoredEncoder(table), score_function, 0, reciprocal=reciprocal)
        del self.relation_weight
        self.num_relations = num_relations
        self.storage = storage
        rows = num_relations * (2 if reciprocal else 1)
        self.relation_table = build_table(storage.relations, rows, score_function.relation_floats)
        self.bias_table = build_table(BIAS, num_entities, 1) if entity_bias else None
        nn.Module.train(self, False)  # the score function too

    @classmethod
    def build(
        cls, config: ModelConfig, storage: Storage, num_entities: int, num_relations: int
    ) -> CompressedModel:
        """Build an empty model from the settings of the model that was, or is to be, compressed.

        Raises:
            UserError: a setting or an option of the storage is unknown or does not fit.
        """
        return cls(
            build_score_function(config),
            storage,
            num_entities,
            num_relations,
            reciprocal=config.reciprocal,
            entity_bias=config.entity_bias,
        )

    def train(self, mode: bool = True) -> CompressedModel:
        """Stay in evaluation mode.

        Raises:
            UserError: ``mode`` is True.
        """
        if mode:
            raise UserError(
                "a compressed model cannot be trained: its tables hold no gradients; turn it back "
                "by `dglke-distill compress CHECKPOINT --to float32 --out DIR`"
            )
        return self

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return next(self.buffers()).device

    @property
    def floats_per_entity(self) -> int:
        """Numbers per entity once decoded: the vector and, if there is one, the bias."""
        return self.score_function.dim + (self.bias_table is not None)

    @property
    def bytes_per_entity(self) -> int:
        """Bytes kept per entity: codes, its own scales, the bias; nothing that entities share."""
        bias = 0 if self.bias_table is None else self.bias_table.bytes_per_row
        return int(self.encoder.table.bytes_per_row) + bias

    @property
    def shared_bytes(self) -> int:
        """Bytes kept once for all entities, such as codebooks."""
        return int(self.encoder.table.shared_bytes)

    def encode(
        self, nodes: Union[slice, Tensor, None] = None, blocks: Optional[Sequence[Any]] = None
    ) -> EntityRows:
        """Decode entities (u,) int64, a range of them, or, with None, the whole table."""
        vectors = self.score_function.entity_view(self.encoder(nodes))
        rows = slice(None) if nodes is None else nodes
        return EntityRows(
            vectors, None if self.bias_table is None else self.bias_table.decode(rows)
        )

    def encode_range(self, start: int, stop: int) -> EntityRows:
        """Decode the entities ``start`` to ``stop`` (exclusive)."""
        return self.encode(slice(start, stop))

    def relation_rows(self, ids: Tensor) -> Tensor:
        """Return rows (v, relation_floats) of the relation table by their numbers (v,) int64."""
        return self.relation_table.decode(ids)

    @property
    def relation_embeddings(self) -> Tensor:
        """The relation table decoded, (relations, relation_floats)."""
        return self.relation_table.decode(slice(None))


def compress(model: KGEModel, config: ModelConfig, storage: Storage) -> CompressedModel:
    """Store a model's tables in fewer bytes.

    What is stored of an entity is its vector as scoring sees it: normalised, and passed through the
    encoder, whose own weights are not needed any more; or the codes and codebooks that the storage
    has too, as they are.

    Args:
        model: the model; if it is compressed, what it decodes to is compressed again.
        config: the settings it was built from.
        storage: how to store its tables.

    Raises:
        UserError: an option of the storage is unknown or does not fit the model.
    """
    model.require_vectors("compression")
    made = CompressedModel.build(config, storage, model.num_entities, model.num_relations)
    made.to(model.device)
    with torch.no_grad():
        entities = model.encode(None)
        coded = model.encoder.coded()
        if coded is None or not made.encoder.table.take(coded):
            made.encoder.table.fit(entities.vectors.float())
        made.relation_table.fit(model.relation_embeddings.float())
        if made.bias_table is not None and entities.bias is not None:
            made.bias_table.fit(entities.bias.float())
        made.score_function.load_state_dict(model.score_function.state_dict())
    return made


def decompress(model: CompressedModel, config: ModelConfig) -> KGEModel:
    """Return a plain float32 model, which can be trained, with what the tables decode to.

    Args:
        model: the compressed model.
        config: the settings it was built from.
    """
    plain = build_model(config, model.num_entities, model.num_relations)
    with torch.no_grad():
        entities = model.encode(None)
        plain.encoder.weight.copy_(entities.vectors)
        plain.relation_weight.copy_(model.relation_embeddings)
        if plain.bias_weight is not None and entities.bias is not None:
            plain.bias_weight.copy_(entities.bias)
        plain.score_function.load_state_dict(model.score_function.state_dict())
    return plain.to(model.device).eval()
