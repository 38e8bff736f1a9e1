"""Ways to lay vectors out in a plane: what a map of entities is drawn by."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError

Places = NDArray[Any]

_FEWEST = 8
"""Different vectors below which neighbourhoods mean nothing: principal components are drawn."""
_BESIDE = 3
"""Neighbours on the map between which an entity that is not on it is put."""


class Projection:
    """A way to lay vectors out; a subclass writes ``_fit`` and ``_transform``.

    The same vectors always have the same places.

    Args:
        vectors: (n, d) float, those on the map.

    Attributes:
        places: (n, 2) float, theirs.
        shares: (2,) float: share of the variance along each axis; None where axes mean nothing.
    """

    package: ClassVar[str] = ""
    """Module that it needs, if that is not always there; the extra that installs it; and a file of
    the module, since another may have its name."""
    extra: ClassVar[str] = ""
    file: ClassVar[str] = ""
    places: Places

    def __init__(self, vectors: NDArray[Any]) -> None:
        """Work the places out."""
        self._vectors = vectors
        self.places: Places
        self.shares: Optional[NDArray[Any]] = None
        self._plain: Optional[PCA] = None
        if not isinstance(self, PCA) and len(np.unique(vectors, axis=0)) < _FEWEST:
            self._plain = PCA(vectors)
            self.places, self.shares = self._plain.places, self._plain.shares
            return
        with warnings.catch_warnings():  # of threads that a seed excludes, and of few neighbours
            warnings.simplefilter("ignore")
            self.places = _in_plane(self._fit(vectors))

    def locate(self, vectors: NDArray[Any]) -> Places:
        """Return the places (m, 2) of any vectors (m, d); those on the map have theirs."""
        if not len(vectors):
            return np.zeros((0, 2))
        if self._plain is not None:
            return self._plain.locate(vectors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _in_plane(self._transform(vectors))

    def _fit(self, vectors: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def _transform(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Put vectors that are on the map where they are, others between their neighbours there."""
        from sklearn.neighbors import NearestNeighbors

        found = NearestNeighbors(n_neighbors=_BESIDE).fit(self._vectors).kneighbors(vectors)
        far, near = found
        weight = np.where(far[:, :1] == 0, far == 0, 1 / np.maximum(far, 1e-30))
        weight = weight / weight.sum(1, keepdims=True)
        placed: NDArray[Any] = (weight[:, :, None] * self.places[near]).sum(1)
        return placed


class PCA(Projection):
    """The plane that keeps most of the variance (principal components, of scikit-learn)."""

    def _fit(self, vectors: NDArray[Any]) -> NDArray[Any]:
        from sklearn.decomposition import PCA as Components

        components = min(2, *vectors.shape)
        self._pca = Components(components, svd_solver="full")
        with np.errstate(invalid="ignore"):  # entities that are all in one place have no variance
            self._pca.fit(vectors)
        shares = np.nan_to_num(self._pca.explained_variance_ratio_)
        self.shares = np.pad(shares, (0, 2 - components))
        return self._transform(vectors)

    def _transform(self, vectors: NDArray[Any]) -> NDArray[Any]:
        places: NDArray[Any] = self._pca.transform(vectors)
        return places


class UMAP(Projection):
    """Neighbours stay neighbours, and groups apart (McInnes, Healy, Melville 2018, "UMAP").

    It needs the package umap-learn.
    """

    package = "umap"
    extra = "umap"
    file = "umap_.py"

    def _fit(self, vectors: NDArray[Any]) -> NDArray[Any]:
        from umap import UMAP as Embedding

        neighbours = min(15, len(vectors) - 1)
        options = {"n_epochs": 200, "random_state": 0, "n_jobs": 1}
        begun = PCA(vectors).places
        spread = (begun.max(0) > begun.min(0)).all()  # else it would divide by nothing
        made = Embedding(neighbours, init=begun if spread else "random", **options)
        places: NDArray[Any] = made.fit_transform(vectors)
        return places


PROJECTIONS: dict[str, type[Projection]] = {"pca": PCA, "umap": UMAP}
"""All ways by name."""
DEFAULT_PROJECTION = "pca"


def projections() -> list[str]:
    """Return the names of the ways whose packages are installed."""
    return [name for name, way in PROJECTIONS.items() if _there(way)]


def projection(name: str) -> type[Projection]:
    """Return a way by its name.

    Args:
        name: of ``PROJECTIONS``.

    Raises:
        UserError: its package is not installed.
    """
    way = PROJECTIONS[name]
    if not _there(way):
        raise UserError(
            f"projection {name!r} needs a package that is not installed: "
            f"pip install 'dglke-distill[{way.extra}]'"
        )
    return way


def _there(way: type[Projection]) -> bool:
    if not way.package:
        return True
    try:
        found = find_spec(way.package)
    except ValueError:  # a module of that name that somebody has made by hand
        return False
    folders = (found and found.submodule_search_locations) or ()
    return any(Path(folder, way.file).is_file() for folder in folders)


def _in_plane(places: NDArray[Any]) -> Places:
    """Return places with two coordinates, all of them finite."""
    finite = np.nan_to_num(np.asarray(places, np.float64), posinf=0, neginf=0)
    return np.pad(finite, ((0, 0), (0, 2 - finite.shape[1])))
