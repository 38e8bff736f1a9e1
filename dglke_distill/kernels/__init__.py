"""Pairwise scores, row gathers and softmax losses, forward and backward.

On the CPU native kernels (numba, compiled on first use and cached on disk) do the work; other
devices and dtypes, and machines without numba, take the torch path of `reference`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, Optional, get_args

import torch
from torch import Tensor, nn

from dglke_distill.kernels import reference
from dglke_distill.kernels.distillation import distillation_cross_entropy
from dglke_distill.kernels.hyperbolic import lifted, negated_squares, point_of, time_of
from dglke_distill.kernels.products import Products, Scores, multiplies_late, products
from dglke_distill.kernels.softmax import softmax_cross_entropy

__all__ = [
    "KernelName",
    "Products",
    "Scores",
    "adversarial_costs",
    "cubed_magnitudes",
    "distillation_cross_entropy",
    "multiplies_late",
    "pairwise",
    "products",
    "set_num_threads",
    "softmax_cross_entropy",
    "table_rows",
    "take_rows",
]

KernelName = Literal["dot", "l1", "l2", "l2_squared", "complex_modulus", "hyperbolic_squared"]

_COMPILES = find_spec("numba") is not None
"""Whether the native kernels are here: asking a published model needs torch and numpy alone."""


def set_num_threads(threads: int) -> None:
    """Use `threads` threads for torch, for the kernels here and for other numba code."""
    from dglke_distill.kernels.threads import set_num_threads as set_both

    set_both(threads)


def adversarial_costs(negative: Tensor, margin: float, temperature: float) -> Tensor:
    """Per row: sum over j of p_j softplus(margin + s_j), p = softmax(temperature * s), detached.

    Args:
        negative: (b, n) scores s, float32 or float64 on the CPU, n at least 1; differentiated.
        margin: added to every score.
        temperature: at least 0.

    Returns:
        (b,) costs.
    """
    # numba is loaded by the first that trains, not by whoever asks a model.
    from dglke_distill.kernels.adversarial import row_costs

    return row_costs(negative, margin, temperature)


def cubed_magnitudes(rows: Tensor, weight: Tensor, complex_coordinates: bool) -> Tensor:
    """Sum over rows i of weight_i * sum over coordinates of their cubed magnitudes.

    Args:
        rows: (u, d) float32 or float64 on the CPU, differentiated.
        weight: (u,) of the same dtype; not differentiated.
        complex_coordinates: a coordinate is a complex number, its real part in the first half of
            a row and its imaginary part in the second; else every float is one.

    Returns:
        A scalar of the rows' dtype.
    """
    from dglke_distill.kernels.cubes import sum_of_cubes

    return sum_of_cubes(rows, weight, complex_coordinates)


def _native(*tensors: Tensor) -> bool:
    """Whether the native kernels can take these float tensors."""
    dtype = tensors[0].dtype
    known = _COMPILES and dtype in (torch.float32, torch.float64)
    return known and all(t.dtype == dtype and t.device.type == "cpu" for t in tensors)


def pairwise(
    kernel: KernelName,
    query: Tensor,
    rows: Tensor,
    index: Optional[Tensor] = None,
    *,
    exact: bool = False,
) -> Tensor:
    """Score every query against its candidates; higher is better; differentiable in both.

    The score is the dot product, or the negated distance: l1 sum_k |q_k - c_k|, l2 (Euclidean,
    not squared), l2_squared, complex_modulus sum_k |q_k - c_k| over complex coordinates, real parts
    in the first half of a row, imaginary parts in the second; hyperbolic_squared is the square of
    the hyperbolic distance of the points that rows stand for (see `hyperbolic`). The subgradient is
    0 where a coordinate's difference (for l2: the distance) is 0. NaN propagates.

    Args:
        kernel: "dot", "l1", "l2", "l2_squared", "complex_modulus" or "hyperbolic_squared".
        query: (b, d) float.
        rows: (u, d) of the same dtype.
        index: (c, n) int64 numbers of rows, b a multiple of c: query i meets
            rows[index[i // (b // c)]]. None lets every query meet every row.
        exact: forbid matrix-product expansions of a distance. Without it l2_squared is one where
            queries share candidates, on every device; of the others l2 alone, and not on the CPU.

    Returns:
        (b, n) scores. For the distances the bits of a score depend on its two vectors alone, not
        on the other candidates, the chunks or the number of threads.

    Raises:
        ValueError: unknown kernel, or shapes that do not fit.
        IndexError: an index lies outside the rows.
    """
    _check(kernel, query, rows, index)
    count = rows.shape[0] if index is None else index.shape[1]
    empty = count * query.numel() == 0
    shared = index is None or index.shape[0] < query.shape[0]
    if kernel == "l2_squared" and shared and not (exact or empty):
        return _expanded(query, rows, index)
    if empty or not _native(query, rows):
        return reference.pairwise(kernel, query, rows, index, exact=exact)
    if kernel == "l2_squared":
        found = pairwise("l2", query, rows, index)
        return -found.square() if found.requires_grad else found.square_().neg_()
    if kernel == "hyperbolic_squared":
        query, rows = point_of(query), point_of(rows)
        if exact:
            return _from_differences(query, rows, index)
        return negated_squares(pairwise("dot", *lifted(query, rows), index))
    if kernel == "dot" and shared:
        gathered = rows if index is None else take_rows(rows, index.reshape(-1))
        return _products(query, gathered, index)
    from dglke_distill.kernels.autograd import PairwiseScores

    if not torch.is_grad_enabled():  # so that nothing is kept for a way back
        query, rows = query.detach(), rows.detach()
    result: Tensor = PairwiseScores.apply(kernel, query, rows, index)
    return result


def _expanded(query: Tensor, rows: Tensor, index: Optional[Tensor]) -> Tensor:
    """-|q - c|^2 = 2 q c - |q|^2 - |c|^2, the norms two more columns of a single product."""
    if index is not None:
        rows = take_rows(rows, index.reshape(-1))
    one = query.new_ones(1, 1)
    ours = (2 * query, -query.square().sum(1, keepdim=True), -one.expand(len(query), 1))
    theirs = (rows, one.expand(len(rows), 1), rows.square().sum(1, keepdim=True))
    return _products(torch.cat(ours, dim=1), torch.cat(theirs, dim=1), index)


def _from_differences(query: Tensor, rows: Tensor, index: Optional[Tensor]) -> Tensor:
    """Hyperbolic squares of points, near ones with all digits: 2 cosh d - 2 = |q - c|^2 - t^2.

    t is the difference of the coordinates that points are given without.
    """
    spread = pairwise("l2", query, rows, index).square()
    ours, theirs = time_of(query), time_of(rows)
    pairs = -pairwise("l1", ours, theirs, index)
    return negated_squares((spread - pairs.square()) / 4)


def _products(query: Tensor, gathered: Tensor, index: Optional[Tensor]) -> Tensor:
    """Dot products of queries (b, d) and rows gathered by an index (c, n), or not gathered."""
    if index is None or len(index) == 1:
        return query @ gathered.T
    chunks, n = index.shape
    candidates = gathered.view(chunks, n, -1)
    return torch.bmm(query.view(chunks, -1, query.shape[1]), candidates.mT).view(-1, n)


def _check(kernel: str, query: Tensor, rows: Tensor, index: Optional[Tensor]) -> None:
    if kernel not in get_args(KernelName):
        raise ValueError(f"unknown kernel {kernel!r}: use one of {', '.join(get_args(KernelName))}")
    if query.dim() != 2 or rows.dim() != 2 or query.shape[1] != rows.shape[1]:
        shapes = f"{tuple(query.shape)} and {tuple(rows.shape)}"
        raise ValueError(f"queries and rows must be (b, d) and (u, d), got {shapes}")
    if kernel == "complex_modulus" and query.shape[1] % 2:
        raise ValueError(f"complex_modulus needs an even dimension, got {query.shape[1]}")
    if index is not None and (
        index.dim() != 2 or index.shape[0] == 0 or query.shape[0] % index.shape[0]
    ):
        raise ValueError(
            f"the index must be (c, n) with c dividing the {query.shape[0]} queries, "
            f"got {tuple(index.shape)}"
        )


def take_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Gather rows (u, d) by index (k,) int64 to (k, d); gradients of repeated rows are summed.

    Rows of a whole table are gathered as `table_rows` does.
    """
    if getattr(rows, "row_sparse", False):
        return table_rows(rows, index)  # type: ignore[arg-type]
    return _gathered(rows, index)


def _gathered(rows: Tensor, index: Tensor) -> Tensor:
    if not (_native(rows) and rows.requires_grad and torch.is_grad_enabled() and rows.dim() == 2):
        return rows.index_select(0, index)
    from dglke_distill.kernels.autograd import TakenRows

    result: Tensor = TakenRows.apply(rows, index)
    return result


def table_rows(weight: nn.Parameter, ids: Tensor) -> Tensor:
    """Gather rows of an embedding table (E, d) by ids (u,) int64 to (u, d).

    If the parameter carries a true attribute `row_sparse`, the backward pass builds no gradient
    of the table's size: it appends (ids, gradient rows) to the list `weight.row_gradients`,
    which `training.optim` consumes. Otherwise an ordinary gather with a dense gradient.
    """
    if getattr(weight, "row_sparse", False) and weight.requires_grad and torch.is_grad_enabled():
        from dglke_distill.kernels.autograd import StashedRows

        result: Tensor = StashedRows.apply(weight, ids)
        return result
    return _gathered(weight, ids)
