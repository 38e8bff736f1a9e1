"""Where a student starts: at random, or at a projection of its teacher's entities."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import shown
from dglke_distill.config import components
from dglke_distill.config.registry import Registry
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import LookupEncoder
from dglke_distill.models.score_function import ScoreFunction

_MOST_ROWS = 1 << 18
"""Entities that a projection is worked out from: every second, third, ... of a larger graph."""
_ROWS = 1 << 16
"""Entities projected at once."""


class Projection(NamedTuple):
    """A linear map of coordinates: (D, d), and whether it merely selects some of them."""

    matrix: Tensor
    selects: bool


def truncate(coordinates: Tensor, dim: int) -> Projection:
    """Keep the teacher's leading coordinates: those in which entities vary the most.

    Args:
        coordinates: (n, D).
        dim: how many to keep.
    """
    chosen = coordinates.var(dim=0).argsort(descending=True, stable=True)[:dim].sort().values
    return Projection(torch.eye(coordinates.shape[1], dtype=coordinates.dtype)[:, chosen], True)


def pca(coordinates: Tensor, dim: int) -> Projection:
    """Project on the leading principal axes of the entity matrix (scikit-learn).

    Args:
        coordinates: (n, D).
        dim: number of axes; n vectors have no more than n.
    """
    from sklearn.decomposition import PCA

    axes = (
        PCA(n_components=min(dim, *coordinates.shape), svd_solver="covariance_eigh")
        .fit(coordinates.numpy())
        .components_
    )
    return Projection(torch.from_numpy(np.ascontiguousarray(axes.T)), False)


def svd(coordinates: Tensor, dim: int) -> Projection:
    """Project on the leading right singular vectors of the entity matrix (scikit-learn).

    Unlike `pca` nothing is centred, so a bilinear score can be projected whole: see
    `bilinear_forms`.

    Args:
        coordinates: (n, D).
        dim: number of vectors; below D and n.
    """
    from sklearn.decomposition import TruncatedSVD

    count = min(dim, *(size - 1 for size in coordinates.shape))
    solver = TruncatedSVD(count, algorithm="arpack", random_state=0).fit(coordinates.numpy())
    # A copy: of one axis a view may run backwards, which NumPy calls contiguous and torch refuses.
    return Projection(torch.from_numpy(np.array(solver.components_.T, order="C")), False)


def at_random(coordinates: Tensor, dim: int) -> Projection:
    """Stand for no projection at all; see ``initialize``."""
    raise AssertionError


INITIALIZATIONS: Registry[Callable[[Tensor, int], Projection]] = components.INITIALIZATIONS
"""Projections by name."""


def initialize(name: str, student: KGEModel, teacher: KGEModel) -> None:
    """Lay a projection of the teacher over a student that was initialised at random.

    Entities are projected part by part (the real and the imaginary parts alike). Relations follow
    where that keeps the score's meaning: between models of one kind, if coordinates are selected,
    or if the score is a translation; with ``svd``, between bilinear models, as nearly as the
    student's kind of relation allows, and wholly if that is a matrix (RESCAL). A hidden layer
    follows where a student of one kind and size keeps all coordinates. What cannot follow stays
    as it is, and so do the coordinates beyond what a few entities span.

    Args:
        name: a key of ``INITIALIZATIONS``.
        student: changed in place.
        teacher: not changed.

    Raises:
        UserError: unknown name, a student whose encoder takes no vectors, or one larger than its
            teacher; or vectors that have no projection.
    """
    project = INITIALIZATIONS.find(name)
    if project is at_random:
        return
    check_initialization(name, student, teacher)
    table = _table_of(student)
    theirs, ours = teacher.score_function, student.score_function
    vectors = teacher.entity_embeddings.cpu()
    alike = type(ours) is type(theirs) and ours.options == theirs.options
    parts = ours.parts if theirs.parts == ours.parts else 1
    seen = vectors[:: -(-len(vectors) // _MOST_ROWS)].double()
    try:
        with np.errstate(all="ignore"):
            projection = project(torch.cat(seen.chunk(parts, dim=1)), ours.dim // parts)
        if not bool(torch.isfinite(projection.matrix).all()):
            raise ValueError("it is not finite")
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        # One entity, one coordinate, or vectors that are all alike.
        raise UserError(
            f"distillation.initialization {name!r}: the teacher's {len(vectors)} vectors of "
            f"{theirs.dim} floats have no such projection ({shown(error)}); set it to random"
        ) from None
    with torch.no_grad():
        _lay(projection, vectors, table, parts)
        relations = teacher.relation_embeddings.cpu().double()
        target = student.relation_weight
        # Translations are projected as entities are; phases and products are not.
        follows = projection.selects or (ours.kernel in ("l1", "l2") and ours.parts == 1)
        if alike and follows and len(relations) == len(target):
            if target.shape[1] == ours.dim:
                _lay(projection, relations, target, parts)
            elif target.shape[1] == ours.dim // parts:  # one float per complex coordinate
                _lay(projection, relations, target, 1)
        elif name == "svd" and len(relations) == len(target):
            _carry_bilinear(projection, student, teacher, parts)
        if not isinstance(student.encoder, LookupEncoder):
            student.encoder.take_vectors(table, torch.arange(len(table)))
        if alike and projection.selects and ours.dim == theirs.dim:
            ours.load_state_dict(theirs.state_dict())  # what all relations share
        bias, former = student.bias_weight, teacher.bias_weight
        if bias is not None and former is not None:
            bias.copy_(former)


def _table_of(student: KGEModel) -> Tensor:
    """Return where to lay entities: a student's own table, or vectors for its encoder to take."""
    if isinstance(student.encoder, LookupEncoder):
        return student.encoder.weight
    return student.encoder(None).detach().clone()


def check_initialization(name: str, student: KGEModel, teacher: KGEModel) -> None:
    """Refuse a student that cannot start from a teacher, whatever the vectors of these are.

    Args:
        name: a key of ``INITIALIZATIONS``.
        student: not changed.
        teacher: not changed.

    Raises:
        UserError: unknown name, a student whose encoder takes no vectors, or one larger than its
            teacher.
    """
    if INITIALIZATIONS.find(name) is at_random:
        return
    theirs, ours = teacher.score_function, student.score_function
    if not (student.encoder.takes_vectors or isinstance(student.encoder, LookupEncoder)):
        raise UserError(
            f"distillation.initialization {name!r} needs a student whose encoder takes vectors "
            "(lookup, codebook); set it to random"
        )
    if ours.dim > theirs.dim:
        raise UserError(
            f"distillation.initialization {name!r}: a student of {ours.dim} floats cannot start "
            f"from a teacher of {theirs.dim}; set it to random"
        )
    project = INITIALIZATIONS.find(name)
    parts = ours.parts if theirs.parts == ours.parts else 1
    one_axis = project is svd and theirs.dim // parts < 2  # it keeps fewer than there are
    if project in (pca, svd) and (student.num_entities < 2 or one_axis):
        few = "one entity" if student.num_entities < 2 else "a teacher of one coordinate"
        raise UserError(
            f"distillation.initialization {name!r}: {few} has no axes to project on; set it to "
            "random"
        )
    if student.num_entities != teacher.num_entities:
        raise UserError(
            f"distillation.initialization {name!r}: {student.num_entities} entities cannot start "
            f"from a teacher of {teacher.num_entities}; set it to random"
        )
    if not teacher.has_vectors:
        raise UserError(
            f"distillation.initialization {name!r}: the first teacher has no vectors to start "
            "from; set it to random, or name a teacher with the encoder lookup first"
        )


def bilinear_forms(function: ScoreFunction, relations: Tensor) -> Iterator[Tensor]:
    """Yield M_r (D, D) with score(h, r, t) = h M_r t of each relation (R, d_r) of a dot kernel.

    What normalisation adds to each candidate's score, whatever the head, is left out.
    """
    function = copy.deepcopy(function).to(relations).eval()
    unit = torch.eye(function.dim, dtype=relations.dtype)
    nothing = torch.zeros_like(unit)
    for row in relations.split(1):
        relation = row if function.by_relation else row.expand(function.dim, -1)
        form = function.whole_query(unit, relation, "tail")
        yield form - function.whole_query(nothing, relation, "tail") if function.one_sided else form


def _carry_bilinear(
    projection: Projection, student: KGEModel, teacher: KGEModel, parts: int
) -> None:
    """Give the student the relations whose forms are nearest to the teacher's, projected."""
    ours, theirs = student.score_function, teacher.score_function
    if ours.kernel != "dot" or theirs.kernel != "dot" or theirs.transforms_candidates:
        return
    axes = torch.block_diag(*[projection.matrix] * parts)
    if axes.shape[1] != ours.dim:
        return
    relations = teacher.relation_embeddings.cpu().double()
    for number, form in enumerate(bilinear_forms(theirs, relations)):
        row = ours.relation_of(axes.T @ form @ axes)
        if row is None:
            return
        student.relation_weight[number] = row


def _lay(projection: Projection, vectors: Tensor, table: Tensor, parts: int) -> None:
    count = projection.matrix.shape[1]
    for some, places in zip(vectors.split(_ROWS), table.split(_ROWS)):
        for part, place in zip(some.double().chunk(parts, dim=1), places.chunk(parts, dim=1)):
            place[:, :count] = part @ projection.matrix
