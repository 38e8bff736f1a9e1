"""The weights that the settings of a checkpoint ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.compression import CompressedModel, Storage
from dglke_distill.config import Config
from dglke_distill.models.base import KGEModel
from dglke_distill.models.coded import build_configured


def empty_model(
    storage: Optional[Storage],
    config: Config,
    entities: int,
    relations: int,
    tensors: Mapping[str, Tensor],
    path: Path,
    weights: Path,
) -> KGEModel:
    """Return the model that settings ask for, before it has its weights.

    Args:
        storage: of a compressed model.
        config: the settings.
        entities: how many.
        relations: how many.
        tensors: the weights, whose sizes count where the settings leave them to the data.
        path: of the settings, for errors.
        weights: path of the weights, for errors.

    Raises:
        UserError: settings or weights fit no model.
    """
    place = path
    try:
        if storage is not None:
            return CompressedModel.build(config.model, storage, entities, relations)
        model = build_configured(config, entities, relations)
        place = weights
        begin = "encoder."
        model.encoder.take_sizes(
            {name.removeprefix(begin): of for name, of in tensors.items() if name.startswith(begin)}
        )
        return model
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def expected_weights(
    storage: Optional[Storage],
    config: Config,
    entities: int,
    relations: int,
    tensors: Mapping[str, Tensor],
    path: Path,
    weights: Optional[Path] = None,
) -> Mapping[str, Tensor]:
    """Return the weights of ``empty_model``, which see, without memory."""
    with torch.device("meta"):
        made = empty_model(storage, config, entities, relations, tensors, path, weights or path)
        return made.state_dict()


def check_dtypes(
    directory: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Refuse to write weights that could not be read again, as of a model made ``half()``.

    Args:
        directory: where they were to be written.
        tensors: the weights.
        expected: what the settings ask for.

    Raises:
        UserError: one has another dtype.
    """
    for name, want in expected.items():
        if name in tensors and tensors[name].dtype != want.dtype:
            have, asked = (str(of.dtype).partition(".")[2] for of in (tensors[name], want))
            raise UserError(
                f"{directory}: not written, {name!r} is {have}, and the settings ask for {asked}; "
                "turn the model back, or load it anew"
            )
