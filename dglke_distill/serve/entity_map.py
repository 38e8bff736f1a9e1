"""A map of the entities: their vectors, laid out in a plane."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.models.base import KGEModel
from dglke_distill.serve.projections import PCA, Projection

SAMPLE = 2000
"""Entities on a map; of larger tables they are drawn at random, always the same ones."""


class EntityMap:
    """Where entities lie in a plane.

    Their vectors as the model compares them, complex numbers as pairs of floats, are laid out by a
    projection; those of a sample where there are many.

    Args:
        model: the model.
        sample: most entities to work it out from.
        by: how vectors are laid out.

    Attributes:
        ids: (n,) int64, ascending: the entities on the map.
        places: (n, 2) float, theirs.
        shares: (2,) float: share of the variance along each axis; None where axes mean nothing.
    """

    def __init__(self, model: KGEModel, sample: int = SAMPLE, by: type[Projection] = PCA) -> None:
        """Lay them out."""
        self._model = model
        model.require_vectors("a map of the entities")
        count = model.num_entities
        self.ids: NDArray[np.int64] = np.arange(count)
        if count > sample:
            rng = np.random.default_rng(0)
            self.ids = np.sort(rng.choice(count, sample, replace=False))
        self._made = by(self._vectors(self.ids))
        self.places: NDArray[Any] = self._made.places
        self.shares: Optional[NDArray[Any]] = self._made.shares

    def locate(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the places (n, 2) of any entities (n,), on the map or not."""
        return self._made.locate(self._vectors(ids))

    def _vectors(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        with torch.no_grad():
            nodes = torch.from_numpy(ids).to(self._model.device)
            vectors = self._model.encode(nodes).vectors.double().cpu().numpy()
        return np.nan_to_num(vectors, copy=False, posinf=0, neginf=0)  # what is broken has no place
