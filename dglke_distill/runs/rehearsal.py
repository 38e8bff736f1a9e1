"""A training that is only begun, on a few of its facts: what cannot be trained is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Callable, Optional

import numpy as np
import torch
from torch import nn

from dglke_distill.config import Config
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.models import ENCODERS
from dglke_distill.models.base import KGEModel
from dglke_distill.models.coded import build_configured
from dglke_distill.runs.workspace import (
    Workspace,
    build_loader,
    build_objective,
    build_optimizer,
)
from dglke_distill.training.hogwild import Workers
from dglke_distill.training.objective import Objective

_FEW = 8
Taught = Callable[[Config, KGEModel, Workspace], Objective]


def few_facts(dataset: Dataset) -> Dataset:
    """Return a dataset of a few facts of another, with whatever else that one has.

    Args:
        dataset: the whole one.
    """
    facts = dataset.train[:_FEW]
    ends, places = np.unique(np.concatenate([facts.head, facts.tail]), return_inverse=True)
    kinds, relation = np.unique(facts.relation, return_inverse=True)
    head, tail = np.split(places.reshape(-1).astype(np.int32), 2)
    few = Triples(head, relation.reshape(-1).astype(np.int32), tail)
    entities = max(len(ends), min(_FEW, dataset.num_entities))
    return Dataset(
        dataset.name,
        Vocabulary(size=entities, kind="entity"),
        Vocabulary(size=max(1, len(kinds)), kind="relation"),
        few,
        few if len(dataset.valid) else few[:0],
        few[:0],
        entity_type=None if dataset.entity_type is None else np.zeros(entities, np.int32),
        train_weight=None if dataset.train_weight is None else dataset.train_weight[:_FEW],
    )


def untrained(config: Config, workspace: Workspace) -> KGEModel:
    """Return the model that settings describe, filled at random, as a training begins with it.

    Args:
        config: the settings.
        workspace: the data; its graph must be the one that the encoder needs.

    Raises:
        UserError: there is no such model.
    """
    dataset = workspace.dataset
    model = build_configured(
        config, dataset.num_entities, dataset.num_relations, graph=workspace.graph
    )
    model.set_row_sparse(entities=True, relations=True)
    model.reset(config.training.seed, config.model.init_scale)
    return model.to(workspace.device)


def rehearse(
    config: Config,
    dataset: Dataset,
    device: torch.device,
    *,
    teachers: Sequence[Config] = (),
    taught: Optional[Callable[[Sequence[KGEModel]], Taught]] = None,
) -> None:
    """Build all that a training is made of, for a few facts, and throw it away.

    The model, its sampler, objective and optimiser refuse what they cannot do. Nothing is trained,
    nothing is written, and no random number of the training itself is drawn.

    Args:
        config: the settings.
        dataset: what ``few_facts`` returns of the data.
        device: the one to train on.
        teachers: settings of the models that the training learns from.
        taught: given these models, untrained, returns what makes the objective; None: the hard one.

    Raises:
        UserError: settings that do not go together, or not with such data.
    """
    with torch.random.fork_rng(devices=[]):
        workspace = _workspace(config, dataset, device)
        model = untrained(config, workspace)
        loader = build_loader(config, workspace, model)
        objective: Objective = build_objective(config, model, workspace)
        if taught is not None:
            models = [untrained(other, _workspace(other, dataset, device)) for other in teachers]
            for other in models:
                other.encoder.store_encoded()
            objective = taught(models)(config, model, workspace)
        learned = nn.ModuleDict({"model": model, "objective": objective.to(device)})
        optimizer = build_optimizer(config.optimizer, learned)
        if (config.training.processes or 1) > 1:
            count = config.training.processes or 1
            Workers(count, learned, loader, optimizer, config.optimizer, config.training)


def _workspace(config: Config, dataset: Dataset, device: torch.device) -> Workspace:
    inverse = ENCODERS.find(config.model.encoder).needs_graph
    graph = build_graph(
        dataset.train, dataset.num_entities, inverse=inverse, num_relations=dataset.num_relations
    )
    return Workspace(replace(dataset), graph, device)
