"""Small models, data and batches for the tests of the distiller."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from dglke_distill.config import Config, ModelConfig
from dglke_distill.data.graph import build_graph
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.distill.chain import CHAIN_FILE, run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace

ENTITIES, RELATIONS = 11, 3


def model_of(
    name: str,
    dim: int = 8,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    entities: int = ENTITIES,
    relations: int = RELATIONS,
    graph: Optional[Any] = None,
    **settings: Any,
) -> KGEModel:
    """Return a model filled at random, its biases too."""
    config = ModelConfig(name=name, dim=dim, **settings)
    model = build_model(config, entities, relations, dtype, graph=graph)
    model.reset(seed, 0.8)
    if model.bias_weight is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            model.bias_weight.uniform_(-1, 1, generator=generator)
    return model


def dataset_of(entities: int = ENTITIES, relations: int = RELATIONS, seed: int = 0) -> Dataset:
    """Return distinct random facts; the last entity has none in train."""
    rng = np.random.default_rng(seed)
    facts = [
        (h, r, t) for h in range(entities - 1) for r in range(relations) for t in range(entities)
    ]
    facts = [facts[i] for i in rng.permutation(len(facts))[: 4 * entities]]
    last = entities - 1
    train = [fact for fact in facts if last not in (fact[0], fact[2])]
    rest = [fact for fact in facts if last in (fact[0], fact[2])] or [(last, 0, 0)]
    splits = (train, train[:3] + rest, rest)
    return Dataset(
        "tiny",
        Vocabulary(None, size=entities),
        Vocabulary(None, size=relations, kind="relation"),
        *(Triples(*np.array(part, dtype=np.int32).T) for part in splits),
    )


def workspace_of(dataset: Optional[Dataset] = None, inverse: bool = False) -> Workspace:
    """Return what a run on a dataset works on."""
    dataset = dataset_of() if dataset is None else dataset
    graph = build_graph(
        dataset.train, dataset.num_entities, inverse=inverse, num_relations=dataset.num_relations
    )
    return Workspace(dataset, graph, torch.device("cpu"))


def settings_of(**sections: Any) -> Config:
    """Return the settings of a student's stage; sections are partial trees."""
    training = {"batch_size": 7, "threads": 1, "dtype": "float64", **sections.pop("training", {})}
    tree = {"negatives": {"count": 5}, **sections, "training": training}
    return Config.from_mapping(tree, "test")


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the dense gradients of all parameters."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
        for name, parameter in model.named_parameters()
    }


def write_clock(folder: Path, hours: int = 24) -> Path:
    """Write a folder of facts: hours in a circle, with steps of one, two and five."""
    rng = np.random.default_rng(0)
    facts = [(i, step, (i + step) % hours) for i in range(hours) for step in (1, 2, 5)]
    lines = [f"hour{h}\tplus{step}\thour{t}\n" for h, step, t in rng.permutation(facts)]
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", lines[12:]), ("valid", lines[:6]), ("test", lines[6:12])):
        (folder / f"{split}.txt").write_text("".join(part))
    return folder


def chain_tree(folder: Path, **training: Any) -> dict[str, Any]:
    """Return the settings of a chain of three sizes that takes a second or two."""
    return {
        "data": {"dataset": str(folder)},
        "dims": [16, 8, 4],
        "shared": {
            "recipe": "none",
            "model": {"name": "ComplEx"},
            "loss": {"name": "softmax"},
            "optimizer": {"name": "adagrad", "learning_rate": 0.2},
            "training": {
                "mode": "k_vs_all",
                "epochs": 5,
                "batch_size": 16,
                "evaluate_every": 2,
                "threads": 1,
                "checkpoint_minutes": 1e-9,
                **training,
            },
        },
        "student": {
            "distillation": {
                "soft": {"name": "huber", "candidates": "neighbors", "count": 4},
                "weight": {"name": "two_phase"},
            }
        },
    }


def run_or_resume(tree: dict[str, Any], directory: Path) -> None:
    """Run a chain, or go on with it; the target of processes that get killed."""
    chain = ChainConfig.from_mapping(tree, "test")
    run_chain(chain, directory, resume=(directory / CHAIN_FILE).exists())
