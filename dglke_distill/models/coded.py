"""Models whose entity table is kept in two bytes a float while they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, ModelConfig
from dglke_distill.models import ENCODERS, build_model, build_score_function
from dglke_distill.models.base import KGEModel
from dglke_distill.models.blockwise import BlockwiseModel
from dglke_distill.models.encoders import LookupEncoder
from dglke_distill.models.rows import EntityRows
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.models.tables import coded_rows

_ROWS = 1 << 16


class CodedEncoder(LookupEncoder):
    """A table in bfloat16 or float16 whose rows are decoded to float32 as they are looked up.

    Gradients reach it through ``forward(nodes)`` alone.
    """

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the table as the score function likes it, drawn in float32 and then rounded."""
        with torch.no_grad():
            for rows in self.weight.split(_ROWS):
                drawn = torch.zeros(rows.shape)
                score_function.init_entity(drawn, scale, generator)
                rows.copy_(drawn)

    def forward(
        self, nodes: Union[slice, Tensor, None] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) float32 of ids (u,) int64, of a range, or of all entities."""
        if isinstance(nodes, Tensor):
            return coded_rows(self.weight, nodes)
        return self.weight.detach()[slice(None) if nodes is None else nodes].float()


class CodedModel(BlockwiseModel):
    """A model over a ``CodedEncoder``; relations and biases are float32."""

    @property
    def bytes_per_entity(self) -> int:
        """Bytes stored per entity: the coded vector and, if there is one, the float32 bias."""
        table: Tensor = self.encoder.weight
        return table.shape[1] * table.element_size() + 4 * (self.bias_weight is not None)

    def encode_range(self, start: int, stop: int) -> EntityRows:
        """Decode the entities ``start`` to ``stop`` (exclusive)."""
        vectors = self.score_function.entity_view(self.encoder(slice(start, stop)))
        bias = self.bias_weight
        return EntityRows(vectors, None if bias is None else bias.detach()[start:stop])


def build_configured(
    config: Config,
    num_entities: int,
    num_relations: int,
    graph: Optional[Any] = None,
) -> KGEModel:
    """Build the model that a run's settings describe, in the dtypes of its training section.

    Args:
        config: the settings.
        num_entities: entities of the dataset.
        num_relations: its relations.
        graph: as for ``build_model``.

    Raises:
        UserError: as ``build_model``; or training.storage with another encoder than lookup, with
            float64, or with a training mode that meets all entities.
    """
    training = config.training
    if training.storage is None:
        dtype = getattr(torch, training.dtype)
        return build_model(config.model, num_entities, num_relations, dtype, graph=graph)
    encoder = config.model.encoder
    for setting, value, wanted in (
        ("model.encoder", "lookup" if ENCODERS.find(encoder).is_table else encoder, "lookup"),
        ("training.dtype", training.dtype, "float32"),
        ("training.mode", training.mode, "negatives"),
    ):
        if value != wanted:
            raise UserError(
                f"training.storage {training.storage} keeps a table whose rows are decoded as they "
                f"are met: it needs {setting} {wanted}, not {value}; change it or leave storage out"
            )
    return _coded(config.model, num_entities, num_relations, getattr(torch, training.storage))


def _coded(
    config: ModelConfig, num_entities: int, num_relations: int, dtype: torch.dtype
) -> CodedModel:
    score_function = build_score_function(config)
    return CodedModel(
        CodedEncoder(num_entities, config.dim, dtype),
        score_function,
        num_relations,
        reciprocal=config.reciprocal,
        entity_bias=config.entity_bias,
    )
