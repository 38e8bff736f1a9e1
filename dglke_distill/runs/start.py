"""How a training begins that does not begin at random: with a teacher, or where a model ended.

A training on grown data goes on with what is known by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import torch

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.artifacts.results import StartedFrom
from dglke_distill.artifacts.results_node import ResultsNode
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.data.identity import OtherData
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.models import ENCODERS, canonical_name
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import copy_rows
from dglke_distill.runs.memory_parts import TeacherSize
from dglke_distill.runs.workspace import Setup, Workspace, build_objective
from dglke_distill.training.objective import Objective


class Start(NamedTuple):
    """How a training begins, and what its results say of that.

    Attributes:
        setup: gives the model its start and returns what to minimise, ``build_objective`` if None;
            called with (settings, initialised model, workspace), also before a resume, which then
            lays the saved weights over.
        about: further sections for the results, e.g. of the teacher.
        teachers: sizes of the models that ``setup`` loads, to be counted with the rest.
        others: triples, other than the dataset's, that these models may know.
    """

    setup: Optional[Setup] = None
    about: Mapping[str, ResultsNode] = {}
    teachers: Sequence[TeacherSize] = ()
    others: Sequence[OtherData] = ()


def model_tree(loaded: LoadedModel) -> dict[str, Any]:
    """Return the settings that a training must share with the model it goes on from.

    Args:
        loaded: that model.
    """
    return {"model": loaded.config.model.model_dump(exclude_none=True)}


def check_given(loaded: LoadedModel, model: Optional[str], dim: Optional[int]) -> None:
    """Refuse another model or size than that which a training goes on from.

    Args:
        loaded: the model to go on from.
        model: the name that was given, if any.
        dim: the floats that were given, if any.

    Raises:
        UserError: they are not its own.
    """
    theirs = loaded.config.model
    same = model is None or canonical_name(model) == canonical_name(theirs.name)
    if not same or dim not in (None, theirs.dim):
        raise UserError(
            f"--init: a {canonical_name(theirs.name)} of {theirs.dim} floats cannot go on as "
            f"{model or theirs.name} of {dim or theirs.dim}; leave --model and --dim out"
        )


def start_of(loaded: LoadedModel, name: str) -> Start:
    """Return how ``train_run`` goes on from a model.

    Args:
        loaded: that model.
        name: what the user called it.
    """
    about = StartedFrom(
        name=name.rstrip("/").rsplit("/", 1)[-1] or name,
        dataset=loaded.dataset_name,
        fingerprint=loaded.identity.fingerprint,
        entities=len(loaded.entities),
        relations=len(loaded.relations),
    )
    return Start(start_from(loaded), {"init": about})


def start_from(loaded: LoadedModel) -> Setup:
    """Return what gives a model its start: the rows of entities and relations of the same names.

    What has no row there begins at random, as always.

    Args:
        loaded: the model to go on from.
    """

    def setup(config: Config, model: KGEModel, workspace: Workspace) -> Objective:
        old, dataset = loaded.model, workspace.dataset
        check_start(loaded, config, dataset)
        with torch.no_grad():
            here, there = _common(dataset.entities, loaded.entities)
            relations = _common(dataset.relations, loaded.relations)
            found = old.encode(None)
            model.encoder.take_vectors(found.vectors[there], here)
            if model.bias_weight is not None and found.bias is not None:
                copy_rows(model.bias_weight, here, found.bias[there])
            rows = relations
            if model.reciprocal:
                sizes = torch.tensor([[len(dataset.relations)], [len(loaded.relations)]])
                rows = torch.cat([relations, relations + sizes], dim=1)
            copy_rows(model.relation_weight, rows[0], old.relation_embeddings[rows[1]])
            model.score_function.load_state_dict(old.score_function.state_dict())
        return build_objective(config, model, workspace)

    return setup


def check_start(loaded: LoadedModel, config: Config, dataset: Optional[Dataset] = None) -> None:
    """Refuse a training that cannot go on from a model.

    Args:
        loaded: the model to go on from.
        config: settings of the training.
        dataset: what it trains on; None: not looked at yet.

    Raises:
        UserError: the settings are not the model's, or no entity has a name that it knows.
    """
    ours, theirs = config.model, loaded.config.model
    keys = ["name", "dim", "reciprocal", "entity_bias", "options"]
    if not all(ENCODERS.find(each.encoder).takes_vectors for each in (ours, theirs)):
        keys.append("encoder")
    for key in keys:
        if getattr(ours, key) != getattr(theirs, key):
            raise UserError(
                f"--init: a {canonical_name(theirs.name)} with model.{key} "
                f"{getattr(theirs, key)!r}, while this run has {getattr(ours, key)!r}; leave that "
                "setting out"
            )
    if not ENCODERS.find(ours.encoder).takes_vectors:
        raise UserError(
            f"--init: the encoder {ours.encoder} has no vector for each entity to start from; "
            "train without it"
        )
    if dataset is not None and not any(name in loaded.entities for name in dataset.entities):
        raise UserError(
            f"--init: none of the {len(dataset.entities)} entities of {dataset.name} has a name "
            "that the model knows"
        )


def _common(names: Vocabulary, known: Vocabulary) -> torch.Tensor:
    """Return ids of the names that both have, (2, n) int64: here and there."""
    pairs = [(i, known.id(name)) for i, name in enumerate(names) if name in known]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
