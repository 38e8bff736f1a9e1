"""Defaults that follow from the size of the data, where no recipe names the dataset.

Recipes for a score function on any dataset were measured on FB15k-237. A graph of a few hundred
facts needs smaller batches, so that an epoch has steps enough, a smaller margin, since fewer
entities must be told apart, and a stronger regulariser.
"""

from __future__ import annotations

from typing import Any

from dglke_distill.config import Config

_STEPS = 50
"""Steps that an epoch shall have."""
_LEAST_BATCH = 16
_ALL_STEPS = 5000
"""Steps that a training shall have in all, within ``_LONGER`` times its epochs."""
_LONGER = 4
_MEASURED_TRIPLES = 272_115
"""Those of FB15k-237."""


def fitted(config: Config, entities: int, triples: int) -> dict[str, Any]:
    """Return a partial tree of settings for data of a size, to be merged below what the user says.

    Args:
        config: settings by a recipe for any dataset; what fits already is not in the tree.
        entities: number of them.
        triples: of the train split.
    """
    training = config.training
    batch = min(training.batch_size, max(_LEAST_BATCH, _power_of_two(triples / _STEPS)))
    steps = max(1, -(-triples // batch))
    wanted = -(-_ALL_STEPS // steps)
    epochs = min(max(training.epochs, wanted), _LONGER * training.epochs)
    tree: dict[str, Any] = {"training": {"batch_size": batch, "epochs": epochs}}
    if training.evaluate_every:
        tree["training"]["evaluate_every"] = max(training.evaluate_every, epochs // 10)
    margin = config.loss.options.get("margin")
    if isinstance(margin, (int, float)) and not isinstance(margin, bool):
        # Distances grow with the floats, and so may the margin: 9 was measured at 200 and more.
        floats = min(1.0, config.model.dim / 200) ** 0.15
        fits = 3.5 * (max(entities, 1) / 150) ** 0.2 * floats
        tree["loss"] = {"options": {"margin": round(min(float(margin), max(1.5, fits)), 2)}}
    scarce = max(1.0, _MEASURED_TRIPLES / max(triples, 1))
    if config.regularizer.weight:
        weight = min(0.1, config.regularizer.weight * min(10.0, scarce**0.35))
        tree["regularizer"] = {"weight": float(f"{weight:.2g}")}
    if "adagrad" in config.optimizer.name:
        rate = min(0.5, config.optimizer.learning_rate * min(2.0, scarce**0.1))
        tree["optimizer"] = {"learning_rate": float(f"{rate:.2g}")}
    return tree


def _power_of_two(value: float) -> int:
    """Return the largest power of two that is not above a value, at least 1."""
    return 1 << max(0, int(value).bit_length() - 1)
