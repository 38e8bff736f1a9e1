"""Score functions and encoders by name, and the model that a configuration describes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Optional, TypeVar

import torch

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig, validate_options
from dglke_distill.config.names import published
from dglke_distill.models.autosf import AutoSF
from dglke_distill.models.base import EntityRows, KGEModel, QueryVectors
from dglke_distill.models.complex import ComplEx
from dglke_distill.models.distmult import DistMult
from dglke_distill.models.encoders import Encoder, LookupEncoder
from dglke_distill.models.hole import HolE
from dglke_distill.models.meim import MEIM, TuckER
from dglke_distill.models.neighbor_encoder import NeighborEncoder
from dglke_distill.models.node_piece import NodePieceEncoder
from dglke_distill.models.pairre import PairRE
from dglke_distill.models.rescal import RESCAL
from dglke_distill.models.rotate import RotatE
from dglke_distill.models.rote import RotE
from dglke_distill.models.roth import RotH
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.models.simple import SimplE
from dglke_distill.models.transe import TransE
from dglke_distill.models.transr import TransR
from dglke_distill.models.triplere import TripleRE

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

SCORE_FUNCTIONS: dict[str, type[ScoreFunction]] = {
    "TransE": TransE,
    "DistMult": DistMult,
    "ComplEx": ComplEx,
    "SimplE": SimplE,
    "RotatE": RotatE,
    "RotE": RotE,
    "RotH": RotH,
    "RESCAL": RESCAL,
    "HolE": HolE,
    "TransR": TransR,
    "PairRE": PairRE,
    "TripleRE": TripleRE,
    "AutoSF": AutoSF,
    "TuckER": TuckER,
    "MEIM": MEIM,
}

ENCODERS: dict[str, type[Encoder]] = {
    "lookup": LookupEncoder,
    "neighbor": NeighborEncoder,
    "node_piece": NodePieceEncoder,
}

Registered = TypeVar("Registered")


def canonical_name(name: str) -> str:
    """Return a score function's name as published, from a name in any letter case.

    Raises:
        UserError: there is no such score function; near spellings are suggested.
    """
    return _find(SCORE_FUNCTIONS, name, "model.name", "score function")[0]


def _find(
    registry: Mapping[str, Registered], name: str, setting: str, kind: str
) -> tuple[str, Registered]:
    known = published(name, registry)
    if known in registry:
        return known, registry[known]
    names = {one.lower(): one for one in registry}
    near = [names[match] for match in difflib.get_close_matches(name.lower(), names, n=3)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(registry)}"
    raise UserError(f"{setting}: there is no {kind} {name!r}; {hint}")


def build_score_function(config: ModelConfig) -> ScoreFunction:
    """Build the score function that the configuration names.

    Raises:
        UserError: unknown name, unknown or bad option, or a dim that the function cannot have.
    """
    name, factory = _find(SCORE_FUNCTIONS, config.name, "model.name", "score function")
    options = validate_options(factory.Options, config.options, f"model.options of {name}")
    return factory(config.dim, options)


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
            "differently with these options; set model.reciprocal=true, or batch_norm=false"
        )
    name, factory = _find(ENCODERS, config.encoder, "model.encoder", "encoder")
    where = f"model.encoder_options of {name}"
    options = validate_options(factory.Options, config.encoder_options, where)
    encoder = factory.build(num_entities, num_relations, config.dim, options, dtype)
    encoder.attach(graph)
    return KGEModel(
        encoder,
        score_function,
        num_relations,
        reciprocal=config.reciprocal,
        entity_bias=config.entity_bias,
        dtype=dtype,
    )
