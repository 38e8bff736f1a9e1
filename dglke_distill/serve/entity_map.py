"""A map of the entities: their vectors, flattened by principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.models.base import KGEModel

__all__ = ["EntityMap"]

SAMPLE = 2000
"""Entities on a map; of larger tables they are drawn at random, always the same ones."""


class EntityMap:
    """Where entities lie in the plane that keeps most of the variance of their vectors.

    Principal components (scikit-learn) of the vectors as the model compares them, complex numbers
    as pairs of floats; of a sample where there are many.

    Args:
        model: the model.
        sample: most entities to work it out from.

    Attributes:
        ids: (n,) int64, ascending: the entities on the map.
        places: (n, 2) float, theirs.
        shares: (2,) float: share of the variance along each axis.
    """

    def __init__(self, model: KGEModel, sample: int = SAMPLE) -> None:
        """Work the plane out."""
        from sklearn.decomposition import PCA

        self._model = model
        count = model.num_entities
        self.ids: NDArray[np.int64] = np.arange(count)
        if count > sample:
            rng = np.random.default_rng(0)
            self.ids = np.sort(rng.choice(count, sample, replace=False))
        vectors = self._vectors(self.ids)
        components = min(2, *vectors.shape)
        self._pca = PCA(components, svd_solver="full")
        with np.errstate(invalid="ignore"):  # entities that are all in one place have no variance
            self._pca.fit(vectors)
        shares = np.nan_to_num(self._pca.explained_variance_ratio_)
        self.shares: NDArray[Any] = np.pad(shares, (0, 2 - components))
        self.places: NDArray[Any] = self._project(vectors)

    def locate(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the places (n, 2) of any entities (n,), on the map or not."""
        return self._project(self._vectors(ids))

    def _vectors(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        with torch.no_grad():
            nodes = torch.from_numpy(ids).to(self._model.device)
            vectors = self._model.encode(nodes).vectors.double().cpu().numpy()
        return np.nan_to_num(vectors, copy=False, posinf=0, neginf=0)  # what is broken has no place

    def _project(self, vectors: NDArray[Any]) -> NDArray[Any]:
        if not len(vectors):
            return np.zeros((0, 2))
        places = self._pca.transform(vectors)
        return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
