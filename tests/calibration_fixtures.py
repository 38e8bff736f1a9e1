"""A small model at random, and data in which it finds facts likelier than others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.models import build_model
from dglke_distill.predict import NamedModel

ENTITIES, RELATIONS = 30, 4


def toy(reciprocal: bool = False, seed: int = 0, test: int = 60) -> tuple[Any, Dataset]:
    """A model with weights at random, and facts that it finds likelier than others."""
    config = Config.from_mapping(
        {
            "data": {"dataset": "toy"},
            "model": {"name": "ComplEx", "dim": 8, "reciprocal": reciprocal},
        },
        "test",
    )
    model = build_model(config.model, ENTITIES, RELATIONS, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(generator=generator)
    model.eval()
    rng = np.random.default_rng(seed)
    relations = np.r_[np.repeat(np.arange(3), 400), np.full(12, 3)]
    rows = np.stack([rng.integers(0, ENTITIES, len(relations)), relations,
                     rng.integers(0, ENTITIES, len(relations))], axis=1)  # fmt: skip
    rows = np.unique(rows, axis=0)
    ids = torch.from_numpy(rows)
    with torch.no_grad():
        scores = model.score_triples(*ids.unbind(1)).numpy()
    if reciprocal:
        scores = scores + scores_of(model, rows, "head")
    true = rng.random(len(rows)) < 1 / (1 + np.exp(-scores / 2 + 1 - rows[:, 1]))
    facts, false = rng.permutation(rows[true]), rng.permutation(rows[~true])
    parts = facts[: len(facts) - 200 - test], facts[-200 - test : -test or None], facts[-test:]
    if not test:
        parts = parts[0], facts[-200:], facts[:0]
    splits = [Triples.from_array(part) for part in parts]
    dataset = Dataset(
        "toy",
        Vocabulary([f"e{i}" for i in range(ENTITIES)]),
        Vocabulary([f"r{i}" for i in range(RELATIONS)], kind="relation"),
        *splits,
        valid_negatives=Triples.from_array(false[:300]),
        test_negatives=Triples.from_array(false[300:400]),
    )
    return model, dataset


def named(model: Any, dataset: Dataset, reciprocal: bool = False) -> NamedModel:
    config = Config.from_mapping(
        {
            "data": {"dataset": "toy"},
            "model": {"name": "ComplEx", "dim": 8, "reciprocal": reciprocal},
        },
        "test",
    )
    return NamedModel(
        LoadedModel(
            model,
            config,
            dataset.entities,
            dataset.relations,
            {"dataset": {"name": "toy", "fingerprint": dataset.fingerprint}},
        )
    )


def scores_of(model: Any, triples: Any, side: str = "tail") -> Any:
    """Scores from those of all candidates."""
    head, relation, tail = torch.from_numpy(np.asarray(triples, np.int64)).unbind(1)
    with torch.no_grad():
        if side == "tail":
            return (
                model.score_all(head, relation, "tail").double().numpy()[np.arange(len(tail)), tail]
            )
        return model.score_all(tail, relation, "head").double().numpy()[np.arange(len(head)), head]
