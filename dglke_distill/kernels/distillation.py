"""Hard and soft cross-entropy over all candidates, for distilling, in one pass over the scores."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def distillation_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    offsets: Tensor,
    answers: Tensor,
    hard_weight: Tensor,
    soft_weight: Tensor,
    *,
    temperature: float = 1.0,
    teacher_scale: float = 1.0,
    inplace: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the answers, and divergence from a teacher, over all candidates.

    hard = sum over queries of hard_weight_i * sum over its answers a of -log softmax(student_i)[a]
    soft = sum over queries of soft_weight_i * T^2 * KL(softmax(teacher_scale * teacher_i / T) ||
    softmax(student_i / T)) at temperature T (Hinton et al. 2015, "Distilling the Knowledge in a
    Neural Network").

    The gradient of hard + soft is made along with the losses. Any multiple of it costs next to
    nothing; other combinations cost about as much again, so factors belong in the weights.

    Args:
        student: (b, n) float scores, differentiated; left as they are.
        teacher: (b, n) float scores, not differentiated.
        offsets: (b + 1,) int64; the answers of query i are answers[offsets[i]:offsets[i + 1]].
        answers: (k,) int64 candidates.
        hard_weight: (b,); not differentiated.
        soft_weight: (b,); not differentiated.
        temperature: T > 0, of both softmaxes of the soft loss.
        teacher_scale: positive factor of the teacher's scores alone.
        inplace: let the gradient take the teacher's buffer, which spares one of its size.

    Returns:
        The scalars hard and soft, of the student's dtype. With `inplace` their gradient can be
        taken once.

    Raises:
        ValueError: shapes that do not fit, or a temperature or scale that is not positive.
        IndexError: an answer that is no candidate.
    """
    _check(student, teacher, offsets, hard_weight, soft_weight)
    if not (temperature > 0 and teacher_scale > 0):
        raise ValueError(
            f"temperature and teacher_scale must be positive, got {temperature} and {teacher_scale}"
        )
    teacher = teacher.detach()
    rest = offsets, answers, hard_weight, soft_weight, temperature, teacher_scale
    if student.device.type != "cpu" or student.dtype not in (torch.float32, torch.float64):
        return _reference(student, teacher, *rest)
    fitting = teacher.to(student.dtype).contiguous()
    # A converted copy may be overwritten in any case; scores that are the student's own, never.
    copied = fitting.data_ptr() != teacher.data_ptr()
    shared = fitting.untyped_storage().data_ptr() == student.untyped_storage().data_ptr()
    hard, soft = _Distillation.apply(
        student,
        fitting,
        *rest,
        student.requires_grad and torch.is_grad_enabled(),
        (copied or inplace) and not shared,
    )
    return hard, soft


def _check(
    student: Tensor, teacher: Tensor, offsets: Tensor, hard_weight: Tensor, soft_weight: Tensor
) -> None:
    if student.dim() != 2 or student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher must score the same (b, n), got {shapes}")
    b = student.shape[0]
    if offsets.shape != (b + 1,) or hard_weight.shape != (b,) or soft_weight.shape != (b,):
        raise ValueError(
            f"{b} queries need offsets ({b + 1},) and weights ({b},), got {tuple(offsets.shape)},"
            f" {tuple(hard_weight.shape)} and {tuple(soft_weight.shape)}"
        )


def _reference(
    student: Tensor,
    teacher: Tensor,
    offsets: Tensor,
    answers: Tensor,
    hard_weight: Tensor,
    soft_weight: Tensor,
    temperature: float,
    teacher_scale: float,
) -> tuple[Tensor, Tensor]:
    """Write the definition out in torch."""
    counts = offsets[1:] - offsets[:-1]
    query = torch.repeat_interleave(torch.arange(len(counts), device=student.device), counts)
    hard = -(hard_weight[query] * torch.log_softmax(student, dim=1)[query, answers]).sum()
    taught = torch.log_softmax(teacher.to(student.dtype) * (teacher_scale / temperature), dim=1)
    gap = taught - torch.log_softmax(student / temperature, dim=1)
    share = taught.exp()
    # A candidate that the teacher rules out adds nothing, even where the student does, too.
    divergence = (share * gap.masked_fill(share == 0, 0.0)).sum(1)
    soft = (soft_weight * temperature**2 * divergence).sum()
    return hard.to(student.dtype), soft.to(student.dtype)


class _Distillation(torch.autograd.Function):
    """Makes the gradient of hard + soft in the forward pass, where all it takes is at hand.

    It may lie in the teacher's buffer, never in the student's, out of which any other combination
    of the two can still be made.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        offsets: Tensor,
        answers: Tensor,
        hard_weight: Tensor,
        soft_weight: Tensor,
        temperature: float,
        teacher_scale: float,
        wanted: bool,
        inplace: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the losses."""
        from dglke_distill.kernels.divergence import distillation_pass

        source = student.detach().contiguous()
        weights = hard_weight.detach().to(source.dtype), soft_weight.detach().to(source.dtype)
        gradient: Optional[Tensor] = None
        if wanted and inplace:
            gradient = teacher
            # Whoever saved the scores for a backward pass of its own gets an error, not nonsense.
            torch.autograd.graph.increment_version(teacher)
        elif wanted:
            gradient = torch.empty_like(source)
        settings = temperature, teacher_scale
        hard, soft = distillation_pass(
            source, teacher, gradient, offsets, answers, *weights, *settings
        )
        ctx.set_materialize_grads(False)
        ctx.gradient, ctx.settings = gradient, settings
        ctx.save_for_backward(student, None if inplace else teacher, offsets, answers, *weights)
        return hard.sum().to(source.dtype), soft.sum().to(source.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Optional[Tensor]) -> Any:  # type: ignore[override]
        """Return the student's gradient, in the buffer of the forward pass."""
        from dglke_distill.kernels.divergence import distillation_pass

        hard, soft = (0.0 if grad is None else float(grad) for grad in grads)
        student, teacher, offsets, answers, hard_weight, soft_weight = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None
        if teacher is None and gradient is None:
            raise RuntimeError("the first gradient overwrote the scores; there is no second")
        source = student.detach().contiguous()
        if gradient is None or (teacher is not None and hard != soft):
            gradient = torch.empty_like(source) if gradient is None else gradient
            weights = hard * hard_weight, soft * soft_weight
            distillation_pass(source, teacher, gradient, offsets, answers, *weights, *ctx.settings)
        elif hard != soft:
            weight = (hard - soft) * hard_weight
            gradient.mul_(soft).add_(_hard_gradient(source, offsets, answers, weight))
        elif soft != 1.0:
            gradient.mul_(soft)
        return gradient, *[None] * 9


def _hard_gradient(scores: Tensor, offsets: Tensor, answers: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the hard loss."""
    from dglke_distill.kernels.exponentials import scores_gradient, softmax_forward

    gradient = torch.empty_like(scores)
    _, total, _, _ = softmax_forward(scores, gradient, offsets, answers)
    factor = weight * (offsets[1:] - offsets[:-1]) / total
    scores_gradient(gradient, offsets, answers, factor, torch.zeros_like(weight), -weight)
    return gradient
