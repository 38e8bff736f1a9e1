"""Cross-entropy over all candidates with several answers per query, without copies."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dglke_distill.kernels.products import Products, Scores


def softmax_cross_entropy(
    scores: Scores,
    offsets: Tensor,
    answers: Tensor,
    weight: Optional[Tensor] = None,
    *,
    smoothing: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    """Sum over queries of weight_i * sum over its answers a of -log softmax(scores_i)[a].

    Args:
        scores: (b, n) float; or products, which on the CPU are never all made at once.
        offsets: (b + 1,) int64; the answers of query i are answers[offsets[i]:offsets[i + 1]].
        answers: (k,) int64 candidates.
        weight: (b,) or None for ones; not differentiated.
        smoothing: s in [0, 1): the target of an answer is 1 - s on itself plus s / n on every
            candidate (Szegedy et al. 2016, "Rethinking the Inception architecture").
        inplace: allow overwriting the scores; spares a buffer of their size.

    Returns:
        A scalar of the scores' dtype. With `inplace` its gradient can be taken once.

    Raises:
        ValueError: shapes that do not fit.
        IndexError: an answer that is no candidate.
    """
    _check(scores, offsets, weight)
    if isinstance(scores, Products):
        if _native(scores.query) and scores.query.numel() > 0 < scores.rows.numel():
            whole: Tensor = _OverProducts.apply(
                scores.query, scores.rows, scores.bias, offsets, answers, weight, smoothing
            )
            return whole
        scores, inplace = scores.multiplied(), True
    if not _native(scores):
        return _reference(scores, offsets, answers, weight, smoothing)
    result: Tensor = _OverAll.apply(
        scores, offsets, answers, weight, smoothing, inplace and scores.is_contiguous()
    )
    return result


def _check(scores: Scores, offsets: Tensor, weight: Optional[Tensor]) -> None:
    b = scores.shape[0]
    if offsets.shape != (b + 1,) or (weight is not None and weight.shape != (b,)):
        raise ValueError(
            f"{b} queries need offsets ({b + 1},) and weight ({b},), got {tuple(offsets.shape)}"
            f" and {None if weight is None else tuple(weight.shape)}"
        )


def _native(scores: Tensor) -> bool:
    return scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64)


def _reference(
    scores: Tensor, offsets: Tensor, answers: Tensor, weight: Optional[Tensor], smoothing: float
) -> Tensor:
    """Write the definition out in torch."""
    counts = offsets[1:] - offsets[:-1]
    query = torch.repeat_interleave(torch.arange(len(counts), device=scores.device), counts)
    logs = torch.log_softmax(scores, dim=1)
    loss = -logs[query, answers] * (1.0 - smoothing)
    if smoothing:
        loss = loss - (smoothing * logs.mean(1))[query]
    return (loss if weight is None else loss * weight[query]).sum()


class _OverAll(torch.autograd.Function):
    """Keeps the exponentials of the forward pass and turns them into the gradient, in place."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        offsets: Tensor,
        answers: Tensor,
        weight: Optional[Tensor],
        smoothing: float,
        inplace: bool,
    ) -> Tensor:
        """Return the loss."""
        from dglke_distill.kernels import exponentials

        source = scores.detach().contiguous()
        buffer = source if inplace else torch.empty_like(source)
        if inplace:
            # Whoever saved the scores for a backward pass of its own gets an error, not nonsense.
            torch.autograd.graph.increment_version(scores)
        each = scores.new_ones(scores.shape[0]) if weight is None else weight.to(scores.dtype)
        # The gradient is factor * what the buffer holds + shift, + drop at each answer.
        found = exponentials.softmax_forward(source, buffer, offsets, answers)
        highest, total, plain, answered = found
        share = each * (offsets[1:] - offsets[:-1])
        spread = smoothing / scores.shape[1] * share
        loss = share * (highest + total.log()) - (1.0 - smoothing) * each * answered
        if smoothing:
            loss = loss - spread * plain
        factor, shift, drop = share / total, -spread, (smoothing - 1.0) * each
        ctx.buffer = buffer
        kept = None if inplace else scores
        ctx.save_for_backward(kept, offsets, answers, factor, shift, drop)
        return loss.double().sum().to(scores.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return the scores' gradient in the buffer of the forward pass."""
        from dglke_distill.kernels import exponentials

        scores, offsets, answers, factor, shift, drop = ctx.saved_tensors
        buffer, ctx.buffer = ctx.buffer, None
        if buffer is None:
            if scores is None:
                raise RuntimeError("the first gradient overwrote the scores; there is no second")
            source = scores.detach().contiguous()
            buffer = torch.empty_like(source)
            exponentials.softmax_forward(source, buffer, offsets, answers)
        exponentials.scores_gradient(
            buffer, offsets, answers, factor * grad, shift * grad, drop * grad
        )
        return buffer, None, None, None, None, None


class _OverProducts(torch.autograd.Function):
    """The softmax of products: both passes make a tile of the scores at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        rows: Tensor,
        bias: Optional[Tensor],
        offsets: Tensor,
        answers: Tensor,
        weight: Optional[Tensor],
        smoothing: float,
    ) -> Tensor:
        """Return the loss."""
        from dglke_distill.kernels.product_softmax import product_softmax

        left, right = query.detach().contiguous(), rows.detach().contiguous()
        added = None if bias is None else bias.detach().contiguous()
        offsets, answers = offsets.contiguous(), answers.contiguous()
        found = product_softmax(left, right, added, offsets, answers)
        counts = offsets.diff().to(left.dtype)
        each = torch.ones_like(counts) if weight is None else weight.to(left.dtype)
        share = each * counts
        loss = share * found.log_total - (1.0 - smoothing) * each * found.answered
        spread = smoothing / len(right) * share
        if smoothing:
            plain = left @ right.sum(0)
            if added is not None:
                plain = plain + added.sum()
            loss = loss - spread * plain
        ctx.found = found
        ctx.save_for_backward(
            rows, bias, offsets, answers, share, -spread, (smoothing - 1.0) * each
        )
        return loss.double().sum().to(left.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return the gradients of query, rows and bias."""
        from dglke_distill.kernels.product_softmax import product_gradients

        rows, bias, offsets, answers, factor, extra, drop = ctx.saved_tensors
        gradients = product_gradients(
            ctx.found,
            rows.detach().contiguous(),
            None if bias is None else bias.detach().contiguous(),
            offsets,
            answers,
            factor * grad,
            extra * grad,
            drop * grad,
        )
        return *gradients, None, None, None, None
