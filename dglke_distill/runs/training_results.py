"""What a training leaves in ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from torch import nn

from dglke_distill.artifacts.results import (
    SCHEMA,
    DatasetDescription,
    ModelSizes,
    Provenance,
    SplitFigures,
    TrainingFigures,
    TrainingResults,
)
from dglke_distill.artifacts.results_node import ResultsNode
from dglke_distill.base import runtime
from dglke_distill.config import Config
from dglke_distill.data.identity import OtherData, describe_data
from dglke_distill.models import canonical_name
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace
from dglke_distill.training.loop import TrainState


def training_results(
    config: Config,
    workspace: Workspace,
    model: KGEModel,
    state: TrainState,
    setup_seconds: float,
    others: Sequence[OtherData],
    about: Mapping[str, ResultsNode],
    run: str,
    objective: Optional[nn.Module] = None,
    **by_many: int,
) -> TrainingResults:
    """Return what ``results.json`` says of a training, before anything is ranked.

    Args:
        config: the settings.
        workspace: the data.
        model: what was trained.
        state: where the training ended.
        setup_seconds: what the preparation of the objective took.
        others: triples, other than the dataset's, that teachers may know.
        about: further sections by name, e.g. of the teacher.
        run: tells one run of the same settings from another.
        objective: what was minimised, at the end of a training; its parameters are counted.
        by_many: how many ``trainers`` and ``machines``, of a training by many.
    """
    if objective is not None:
        by_many["objective_parameters"] = sum(p.numel() for p in objective.parameters())
    sections: dict[str, Any] = dict(about)
    return TrainingResults(
        schema_=SCHEMA,
        dataset=DatasetDescription(**describe_data(workspace.dataset, config.data, others)),
        model=ModelSizes(
            name=canonical_name(config.model.name),
            dim=config.model.dim,
            floats_per_entity=model.floats_per_entity,
            bytes_per_entity=model.bytes_per_entity,
            parameters=sum(p.numel() for p in model.parameters()),
        ),
        metrics={},
        training=TrainingFigures(
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            best_validation_mrr=state.best,
            seconds=state.seconds,
            setup_seconds=setup_seconds,
            validation_seconds=state.validation_seconds,
            threads=torch.get_num_threads(),
            device=str(workspace.device),
            seed=config.training.seed,
            peak_memory_bytes=runtime.peak_memory_bytes(),
            **by_many,
        ),
        config=json.loads(config.model_dump_json()),
        provenance=Provenance(**runtime.provenance(), run=run),
        **sections,
    )


def split_figures(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, SplitFigures]:
    """Return the section ``metrics``: split to what ``measure`` returned of it."""
    return {split: SplitFigures.of(figures, split) for split, figures in measured.items()}
