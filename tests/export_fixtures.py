"""Models with names, ready to be exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_formulas import DIM, ENTITIES, IDS, RELATIONS, VARIANTS, make

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.config import Config
from dglke_distill.data.triples import Vocabulary
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.models.base import KGEModel

NAMES = Vocabulary([*(f"n{i}" for i in range(ENTITIES - 3)), "São Tomé", 'quo"te', "漢字"])
RELATION_NAMES = Vocabulary([f"relation {i}" for i in range(RELATIONS)], kind="relation")

AFFINE = [
    (name, options, label)
    for (name, options), label in zip(VARIANTS, IDS)
    if SCORE_FUNCTIONS[name].affine
]
"""The variants whose queries are affine maps, as bundle and ONNX need them."""

every_affine_variant = pytest.mark.parametrize(
    ("name", "options"), [variant[:2] for variant in AFFINE], ids=[label for *_, label in AFFINE]
)
ONE_SIDED: list[tuple[str, dict[str, Any]]] = [
    ("RESCAL", {"hidden": 7}),
    ("TuckER", {"batch_norm": True}),
    ("MEIM", {"batch_norm": True, "partitions": 3, "relation_dim": 5}),
]
"""What takes reciprocal relations alone: normalisation, which is affine, and a hidden layer."""
ASKED = [{"reciprocal": True}, {"reciprocal": True, "entity_bias": True}]
PLAIN: list[dict[str, Any]] = [{}, {"reciprocal": True}, {"entity_bias": True}]
every_model_of_maps_and_setting = pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        *((name, options, settings) for name, options, _ in AFFINE for settings in PLAIN),
        *((name, options, settings) for name, options in ONE_SIDED for settings in ASKED),
    ],
    ids=[
        *(f"{label}-{next(iter(settings), 'plain')}" for *_, label in AFFINE for settings in PLAIN),
        *(f"{name}-{next(iter(o))}-{len(each)}" for name, o in ONE_SIDED for each in ASKED),
    ],
)


def loaded_model(
    name: str, options: Any = None, *, dtype: str = "float32", **settings: Any
) -> LoadedModel:
    """Return a model of order-one weights, in evaluation mode, with its names."""
    model = make(name, options, dtype=getattr(torch, dtype), **settings)
    fill_seen(model)
    section = {"name": name, "dim": DIM, "options": options or {}, **settings}
    tree = {"model": section, "data": {"dataset": "tiny"}, "training": {"dtype": dtype}}
    config = Config.from_mapping(tree, "test")
    return LoadedModel(model.eval(), config, NAMES, RELATION_NAMES, {})


def fill_seen(model: KGEModel) -> None:
    """Put numbers of order one into what a score function's normalisation has seen."""
    generator = torch.Generator().manual_seed(9)
    for name, seen in model.score_function.named_buffers():
        if name.endswith("running_var"):
            seen.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("running_mean"):
            seen.normal_(generator=generator)


def queries() -> tuple[torch.Tensor, torch.Tensor]:
    """Return every pair of an entity and a relation."""
    pairs = torch.cartesian_prod(torch.arange(ENTITIES), torch.arange(RELATIONS))
    return pairs[:, 0], pairs[:, 1]
