"""Score functions and encoders by name, and the model that a configuration describes."""

from __future__ import annotations

from typing import Any, Optional

import torch

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig, components, validate_options
from dglke_distill.config.registry import Registry
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import Encoder
from dglke_distill.models.rows import EntityRows, QueryVectors
from dglke_distill.models.score_function import ScoreFunction

__all__ = [
    "ENCODERS",
    "SCORE_FUNCTIONS",
    "EntityRows",
    "KGEModel",
    "QueryVectors",
    "ScoreFunction",
    "build_model",
    "build_score_function",
    "canonical_name",
]

SCORE_FUNCTIONS: Registry[type[ScoreFunction]] = components.SCORE_FUNCTIONS
ENCODERS: Registry[type[Encoder]] = components.ENCODERS


def canonical_name(name: str) -> str:
    """Return a score function's name as published, from a name in any letter case.

    Raises:
        UserError: there is no such score function; near spellings are suggested.
    """
    return SCORE_FUNCTIONS.spell(name)


def build_score_function(config: ModelConfig) -> ScoreFunction:
    """Build the score function that the configuration names.

    Raises:
        UserError: unknown name, unknown or bad option, or a dim that the function cannot have.
    """
    name = SCORE_FUNCTIONS.spell(config.name)
    made: ScoreFunction = SCORE_FUNCTIONS.build(
        name, config.options, config.dim, where=f"model.options of {name}"
    )
    return made


def build_model(
    config: ModelConfig,
    num_entities: int,
    num_relations: int,
    dtype: torch.dtype = torch.float32,
    graph: Optional[Any] = None,
) -> KGEModel:
    """Build the model that the configuration describes; ``reset`` then fills its tables.

    Args:
        config: score function, encoder and sizes.
        num_entities: entities of the dataset.
        num_relations: relations of the dataset, reciprocal ones not counted.
        dtype: float32 or float64.
        graph: train graph with inverse edges for encoders that read it; None for the others and
            for a trained model, which carries what it needs.

    Raises:
        UserError: unknown name, unknown or bad option, or a dim that the function cannot have.
    """
    score_function = build_score_function(config)
    if score_function.one_sided and not config.reciprocal:
        raise UserError(
            f"model.reciprocal: {canonical_name(config.name)} scores the two sides of a triple "
            "differently with these options; set model.reciprocal=true, or leave out model.options"
        )
    name, factory = ENCODERS.spell(config.encoder), ENCODERS.find(config.encoder)
    where = f"model.encoder_options of {name}"
    options = validate_options(factory.Options, config.encoder_options, where)
    encoder = factory.build(num_entities, num_relations, config.dim, options, dtype)
    encoder.attach(graph)
    made: KGEModel = (factory.model_class or KGEModel)(
        encoder,
        score_function,
        num_relations,
        reciprocal=config.reciprocal,
        entity_bias=config.entity_bias,
        dtype=dtype,
    )
    return made
