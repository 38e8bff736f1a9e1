"""What a training leaves in ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from dglke_distill.base import runtime
from dglke_distill.config import Config
from dglke_distill.data.identity import OtherData, describe_data
from dglke_distill.models import canonical_name
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace
from dglke_distill.training.loop import TrainState

__all__ = ["training_results"]


def training_results(
    config: Config,
    workspace: Workspace,
    model: KGEModel,
    state: TrainState,
    setup_seconds: float,
    others: Sequence[OtherData],
) -> dict[str, Any]:
    """Return what ``results.json`` says of a training, before anything is ranked.

    Args:
        config: the settings.
        workspace: the data.
        model: what was trained.
        state: where the training ended.
        setup_seconds: what the preparation of the objective took.
        others: triples, other than the dataset's, that teachers may know.
    """
    dataset = workspace.dataset
    return {
        "schema": 1,
        "dataset": describe_data(dataset, config.data, others),
        "model": {
            "name": canonical_name(config.model.name),
            "dim": config.model.dim,
            "floats_per_entity": model.floats_per_entity,
            "bytes_per_entity": model.bytes_per_entity,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "metrics": {},
        "training": {
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "best_validation_mrr": state.best,
            "seconds": state.seconds,
            "setup_seconds": setup_seconds,
            "validation_seconds": state.validation_seconds,
            "threads": torch.get_num_threads(),
            "device": str(workspace.device),
            "seed": config.training.seed,
            "peak_memory_bytes": runtime.peak_memory_bytes(),
        },
        "config": json.loads(config.model_dump_json()),
        "provenance": runtime.provenance(),
    }
