"""The queries of any score function as tables that a simple program can apply.

With the relation fixed, the query of nearly every score function is affine in the known entity e,
and so is what becomes of a candidate where relations move candidates:

    map(e) = scale * e + cross * swap(e) + shift    (swap exchanges the two halves of a vector)
    map(e) = e @ matrix + shift                     (where a relation mixes all coordinates)

Where entities are points x of a hyperboloid, whose time is x_0 (see ``kernels.hyperbolic``),
relations move these linearly instead: map(x) = x @ matrix + x_0 * shift.

A hidden layer that a score function names adds relu(e @ inner.T + bias) @ outer to its queries.

The first form covers translations, diagonal and complex products and rotations. The coefficients
are read off the score function itself by asking it for the images of a few vectors, so that no
formula is written a second time, and then checked on random ones.
"""

from __future__ import annotations

import copy
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import SIDES, Side
from dglke_distill.kernels.hyperbolic import point_of, tangent_of
from dglke_distill.models.base import KGEModel
from dglke_distill.models.score_function import HiddenLayer

_LARGEST = 1 << 30
"""Bytes of matrices in float32 beyond which an export makes no sense."""

Function = Callable[[Tensor, Tensor], Tensor]
"""Takes vectors (n, dim) and as many relation rows; with ``by_relation`` a single row."""


class AffineMap(NamedTuple):
    """A map per relation id, in float64; ``scale`` and ``cross``, or ``matrix``, are None.

    ``scale``, ``cross`` (relations, dim); ``matrix`` (relations, dim, k); ``shift`` (relations, k),
    k = dim in the first form.
    """

    shift: Tensor
    scale: Optional[Tensor] = None
    cross: Optional[Tensor] = None
    matrix: Optional[Tensor] = None

    def apply(self, vectors: Tensor, relation: Tensor) -> Tensor:
        """Map vectors (n, dim) by relation ids (n,): (n, k)."""
        if self.matrix is not None:
            return (vectors[:, None] @ self.matrix[relation])[:, 0] + self.shift[relation]
        assert self.scale is not None and self.cross is not None
        moved = self.scale[relation] * vectors + self.cross[relation] * swap(vectors)
        return moved + self.shift[relation]


class QueryForms(NamedTuple):
    """All that scoring needs besides the entity table and the biases.

    ``query`` and, where relations move candidates, ``candidate``: by the side that is predicted.
    ``hidden`` is what is added to queries, its biases by relation id; None: nothing.
    """

    kernel: str
    query: dict[Side, AffineMap]
    candidate: Optional[dict[Side, AffineMap]]
    hidden: Optional[dict[Side, HiddenLayer]] = None

    def queries(self, vectors: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Make queries (n, k) of vectors (n, dim), relation ids (n,) and the side asked for."""
        made = self.query[side].apply(vectors, relation)
        if self.hidden is None:
            return made
        layer = self.hidden[side]
        return made + layer._replace(bias=layer.bias[relation]).apply(vectors)


def swap(vectors: Tensor) -> Tensor:
    """Exchange the halves of vectors (n, dim); those of odd length stay as they are."""
    half = vectors.shape[-1] // 2
    return vectors if vectors.shape[-1] % 2 else torch.roll(vectors, half, -1)


def query_forms(model: KGEModel) -> QueryForms:
    """Return the queries of a model as maps of entity vectors as scoring sees them.

    Raises:
        UserError: they are no such maps, or would fill more than a gigabyte.
    """
    function = copy.deepcopy(model.score_function).cpu().double().eval()
    if not function.affine or function.score_scale != 1.0:
        raise UserError(
            f"{type(function).__name__}: its queries are no affine maps of the entity, or its "
            "scores a multiple of a distance, which this format cannot express; export it as "
            f"{formats_for(model)}"
        )
    rows = model.relation_embeddings.detach().cpu().double()
    query, candidate, hidden = {}, {}, {}
    for side in SIDES:
        ids = model.relation_ids(torch.arange(model.num_relations), side)
        seen: Side = "tail" if model.reciprocal else side
        chosen = rows[ids]

        def ask(vectors: Tensor, relation: Tensor, side: Side = seen) -> Tensor:
            whole = function.whole_query(vectors, relation, side)
            layer = function.hidden_layer(relation)
            return whole if layer is None else whole - layer.apply(vectors)

        def move(vectors: Tensor, relation: Tensor, side: Side = seen) -> Tensor:
            if function.by_relation:
                return function.candidate(vectors[None], relation, side)[0]
            return function.candidate(vectors[:, None], relation, side)[:, 0]

        name = type(function).__name__
        layer = function.hidden_layer(chosen)
        if layer is not None:
            hidden[side] = HiddenLayer(*(weights.detach() for weights in layer))
        query[side] = _probe(ask, chosen, function.dim, function.by_relation, name)
        if function.transforms_candidates:
            candidate[side] = _probe(move, chosen, function.dim, function.by_relation, name)
    return QueryForms(function.kernel, query, candidate or None, hidden or None)


def formats_for(model: KGEModel) -> str:
    """Return the formats that hold all of a model, for an error that refuses another one."""
    function = model.score_function
    if function.kernel == "hyperbolic_squared":
        return "npz" if function.one_sided else "npz or onnx"
    return "npz, onnx or bundle" if function.affine and function.score_scale == 1.0 else "npz"


def point_forms(model: KGEModel) -> dict[Side, AffineMap]:
    """Return how relations move points of the hyperboloid, by the side that is predicted.

    Returns:
        ``matrix`` (relations, dim, dim) and ``shift`` (relations, dim), in float64.

    Raises:
        UserError: they do not move them linearly, or the matrices fill more than a gigabyte.
    """
    function = copy.deepcopy(model.score_function).cpu().double().eval()
    rows = model.relation_embeddings.detach().cpu().double()
    forms: dict[Side, AffineMap] = {}
    for side in SIDES:
        ids = model.relation_ids(torch.arange(model.num_relations), side)
        seen: Side = "tail" if model.reciprocal else side

        def move(points: Tensor, relation: Tensor, side: Side = seen) -> Tensor:
            return point_of(function.whole_query(tangent_of(points), relation, side))

        forms[side] = _probe_points(move, rows[ids], function.dim, type(function).__name__)
    return forms


def _probe_points(function: Function, rows: Tensor, dim: int, name: str) -> AffineMap:
    _check_size(rows, dim, name)
    trial = _trial(rows, dim)
    with torch.no_grad():
        found, images = _matrices(function, rows, trial, dim)
        assert found.matrix is not None
        # The origin, of time 1, goes to shift; a unit vector, of time sqrt(2), to its row of the
        # matrix and sqrt(2) * shift, of which one shift is taken off already.
        found = found._replace(matrix=found.matrix - (2**0.5 - 1) * found.shift[:, None])
        times = (1 + trial.square().sum(1, keepdim=True)).sqrt()
        mapped = found.apply(trial, torch.arange(len(rows))) + (times - 1) * found.shift
    if not _close(mapped, images):
        raise UserError(
            f"{name}: its relations do not move points of hyperbolic space linearly, so this "
            "format cannot express them; export it as npz"
        )
    return found


def _check_size(rows: Tensor, dim: int, name: str) -> None:
    size = 4 * len(rows) * dim * dim
    if size > _LARGEST:
        raise UserError(
            f"{name} with {dim} floats per entity needs {size >> 20} MiB of matrices for its "
            f"{len(rows)} relations; export a smaller model, or as npz"
        )


def _probe(function: Function, rows: Tensor, dim: int, by_relation: bool, name: str) -> AffineMap:
    trial, every = _trial(rows, dim), torch.arange(len(rows))
    with torch.no_grad():
        if not by_relation:
            found = _halves(function, rows, dim)
            if found is not None and _close(found.apply(trial, every), function(trial, rows)):
                return found
        _check_size(rows, dim, name)
        found, images = _matrices(function, rows, trial, dim)
    if not _close(found.apply(trial, every), images):
        raise UserError(
            f"{name}: its queries are no affine maps of the entity, so this format cannot express "
            "them; export it as npz"
        )
    return found


def _trial(rows: Tensor, dim: int) -> Tensor:
    """Return a vector for each relation, (relations, dim), to try a map on."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(rows), dim, generator=generator, dtype=rows.dtype)


def _halves(function: Function, rows: Tensor, dim: int) -> Optional[AffineMap]:
    """Read off scale, cross and shift, as if the map had the first form."""
    half = dim if dim % 2 else dim // 2
    first = torch.zeros(len(rows), dim, dtype=rows.dtype)
    first[:, :half] = 1
    shift = function(torch.zeros_like(first), rows)
    if shift.shape[1] != dim:
        return None
    upper = function(first, rows) - shift
    lower = function(1 - first, rows) - shift
    return AffineMap(
        shift,
        scale=torch.cat([upper[:, :half], lower[:, half:]], dim=1),
        cross=torch.cat([lower[:, :half], upper[:, half:]], dim=1),
    )


def _matrices(
    function: Function, rows: Tensor, trial: Tensor, dim: int
) -> tuple[AffineMap, Tensor]:
    """Read off matrix and shift, relation by relation; also return the images of the trial."""
    probes = torch.cat([torch.zeros(1, dim, dtype=rows.dtype), torch.eye(dim, dtype=rows.dtype)])
    shifts, matrices, images = [], [], []
    for row, vector in zip(rows.split(1), trial.split(1)):
        out = function(torch.cat([probes, vector]), row)
        shifts.append(out[0])
        matrices.append(out[1:-1] - out[0])
        images.append(out[-1])
    found = AffineMap(torch.stack(shifts), matrix=torch.stack(matrices))
    return found, torch.stack(images)


def _close(mapped: Tensor, images: Tensor) -> bool:
    return torch.allclose(mapped, images, rtol=1e-9, atol=1e-9 * float(images.abs().max()))
