from __future__ import annotations

from typing import Any, Optional

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels_losses import make
from torch import Tensor
from torch.nn import functional

from dglke_distill.kernels import distillation, distillation_cross_entropy, set_num_threads


class Case:
    """Scores of student and teacher, answers and weights."""

    def __init__(
        self, b: int, n: int, dtype: torch.dtype = torch.float32, seed: int = 0, spread: float = 3.0
    ) -> None:
        made = make(b, n, dtype, seed, spread)
        self.student, self.offsets, self.answers, self.hard_weight = made
        self.teacher, _, _, self.soft_weight = make(b, n, dtype, seed + 1, spread)

    def loss(self, student: Tensor, teacher: Optional[Tensor] = None, **options: Any) -> Any:
        return distillation_cross_entropy(
            student,
            self.teacher if teacher is None else teacher,
            self.offsets,
            self.answers,
            self.hard_weight,
            self.soft_weight,
            **options,
        )

    def written_out(
        self, student: Tensor, temperature: float = 1.0, teacher_scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The definition through torch's own losses, in float64."""
        student, teacher = student.double(), self.teacher.double()
        hard = soft = 0 * student.sum()
        for i, row in enumerate(student):
            for answer in self.answers[self.offsets[i] : self.offsets[i + 1]]:
                hard = hard + self.hard_weight[i] * functional.cross_entropy(row, answer)
            divergence = functional.kl_div(
                functional.log_softmax(row / temperature, 0),
                functional.log_softmax(teacher_scale * teacher[i] / temperature, 0),
                reduction="sum",
                log_target=True,
            )
            soft = soft + self.soft_weight[i] * temperature**2 * divergence
        return hard, soft


@given(
    b=st.integers(0, 9),
    n=st.integers(1, 1500),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    spread=st.sampled_from([0.0, 1.0, 20.0]),
    temperature=st.sampled_from([1.0, 0.7, 2.0, 5.0]),
    teacher_scale=st.sampled_from([1.0, 0.4, 3.0]),
    factors=st.sampled_from([(1.0, 1.0), (3.0, 3.0), (1.0, 0.0), (0.0, 2.0), (0.3, -1.5)]),
    inplace=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_losses_and_gradient_are_the_definition(
    b: int,
    n: int,
    dtype: torch.dtype,
    spread: float,
    temperature: float,
    teacher_scale: float,
    factors: tuple[float, float],
    inplace: bool,
) -> None:
    case = Case(b, n, dtype, seed=n, spread=spread)
    options: Any = {"temperature": temperature, "teacher_scale": teacher_scale}
    exact = case.student.double().clone().requires_grad_()
    expected = case.written_out(exact, **options)
    (factors[0] * expected[0] + factors[1] * expected[1]).backward()
    student, teacher = case.student.clone().requires_grad_(), case.teacher.clone()
    found = case.loss(student, teacher, inplace=inplace, **options)
    (factors[0] * found[0] + factors[1] * found[1]).backward()
    bound = 1e-5 if dtype == torch.float32 else 1e-11
    for mine, theirs in zip(found, expected):
        assert mine.dtype == dtype and mine.shape == ()
        torch.testing.assert_close(mine.double(), theirs, rtol=bound, atol=bound * max(1, b))
    assert student.grad is not None and exact.grad is not None
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=bound, atol=bound)
    assert torch.equal(student.detach(), case.student)
    assert inplace or torch.equal(teacher, case.teacher)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradcheck(temperature: float) -> None:
    case = Case(4, 19, torch.float64, spread=1.0)
    assert torch.autograd.gradcheck(
        lambda x: case.loss(x, temperature=temperature, teacher_scale=1.3),
        (case.student.requires_grad_(),),
    )


@pytest.mark.parametrize("which", [0, 1])
def test_one_loss_alone(which: int) -> None:
    case = Case(5, 70)
    exact = case.student.double().clone().requires_grad_()
    case.written_out(exact)[which].backward()
    for inplace in (False, True):
        student = case.student.clone().requires_grad_()
        case.loss(student, case.teacher.clone(), inplace=inplace)[which].backward()
        assert student.grad is not None and exact.grad is not None
        torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_the_teacher_itself_has_nothing_to_learn(temperature: float) -> None:
    case = Case(6, 333)
    student = case.student.requires_grad_()
    # Asked to overwrite what is the student's, too, it does not.
    _, soft = case.loss(student, student, temperature=temperature, inplace=True)
    assert 0 <= soft.item() < 1e-5
    (gradient,) = torch.autograd.grad(soft, student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)
    assert torch.equal(student.detach(), Case(6, 333).student)


@given(noise=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_divergence_is_never_negative(noise: float, seed: int) -> None:
    case = Case(8, 200, seed=seed)
    teacher = case.student + noise * case.teacher
    _, soft = case.loss(case.student, teacher, teacher_scale=1.0)
    assert soft >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_extreme_scores(dtype: torch.dtype, temperature: float) -> None:
    case = Case(3, 3, torch.float64)
    case.student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [80.0, -80.0, -200.0]])
    case.teacher = torch.tensor([[0.0, 1e4, -1e4], [-1e4, -1e4, 0.0], [-80.0, 90.0, 3e4]])
    case.offsets, case.answers = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1])
    exact = case.student.double().clone().requires_grad_()
    expected = case.written_out(exact, temperature)
    sum(expected).backward()  # type: ignore[union-attr]
    # Candidates that both rule out.
    nothing = torch.full((3, 20), -torch.inf)
    student = torch.cat([case.student, nothing], 1).to(dtype).requires_grad_()
    teacher = torch.cat([case.teacher, nothing], 1).to(dtype)
    found = case.loss(student, teacher, temperature=temperature)
    for mine, theirs in zip(found, expected):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-6, atol=1e-6)
    sum(found).backward()
    assert student.grad is not None and exact.grad is not None
    torch.testing.assert_close(student.grad[:, :3].double(), exact.grad, rtol=1e-6, atol=1e-6)
    assert torch.equal(student.grad[:, 3:], torch.zeros(3, 20, dtype=dtype))


def test_ruling_out_what_the_teacher_does_not_costs_infinitely_much() -> None:
    case = Case(2, 40)
    case.student[0, 3] = -torch.inf
    assert case.loss(case.student)[1] == torch.inf


@pytest.mark.parametrize("column", [0, 33])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nan_is_seen(column: int, temperature: float) -> None:
    for student_too in (False, True):
        case = Case(3, 34)
        (case.student if student_too else case.teacher)[1, column] = torch.nan
        student = case.student.requires_grad_()
        hard, soft = case.loss(student, temperature=temperature)
        assert hard.isnan() == student_too and soft.isnan()
        (gradient,) = torch.autograd.grad(hard + soft, student)
        assert gradient[1].isnan().any() and not gradient[[0, 2]].isnan().any()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_neither_threads_nor_the_buffer_matter(temperature: float) -> None:
    case = Case(50, 3001)
    before = torch.get_num_threads()
    results = []
    try:
        for count, inplace in ((1, False), (2, False), (3, True)):
            set_num_threads(count)
            student = case.student.clone().requires_grad_()
            teacher = case.teacher.clone()
            hard, soft = case.loss(student, teacher, temperature=temperature, inplace=inplace)
            (hard + soft).backward()
            assert student.grad is not None
            assert (student.grad.data_ptr() == teacher.data_ptr()) == inplace
            results.append(torch.cat([hard[None], soft[None], student.grad.flatten()]))
    finally:
        set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_overwriting_what_another_gradient_needs_is_an_error() -> None:
    case = Case(3, 8)
    leaf = case.teacher.requires_grad_()
    powers = leaf.exp()  # its gradient needs its value
    student = case.student.requires_grad_()
    case.loss(student, powers, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        powers.sum().backward()


def test_a_second_gradient_is_the_same_or_an_error() -> None:
    case = Case(3, 8)
    student = case.student.requires_grad_()
    total = sum(case.loss(student))
    first, second = (torch.autograd.grad(total, student, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    total = sum(case.loss(student, case.teacher.clone(), inplace=True))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="overwrote the scores"):
        total.backward()


def test_without_a_gradient_nothing_is_overwritten() -> None:
    case = Case(3, 80)
    teacher = case.teacher.clone()
    with torch.no_grad():
        found = case.loss(case.student.requires_grad_(), teacher, inplace=True)
    assert torch.equal(teacher, case.teacher) and not found[0].requires_grad
    expected = case.loss(case.student)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_scores_in_other_layouts_and_precisions() -> None:
    case = Case(5, 60)
    expected = case.loss(case.student)
    across = case.loss(case.student.T.contiguous().T, case.teacher.T.contiguous().T, inplace=True)
    assert torch.equal(torch.stack(across), torch.stack(expected))
    double = case.loss(case.student, case.teacher.double())
    assert torch.equal(torch.stack(double), torch.stack(expected))
    half = case.loss(case.student, case.teacher.half())
    torch.testing.assert_close(half, expected, rtol=1e-3, atol=1e-2)
    assert half[1].dtype == torch.float32


def test_the_torch_path_is_the_same() -> None:
    case = Case(6, 90, torch.float64)
    gradients, values = [], []
    for path in (distillation_cross_entropy, distillation._reference):
        student = case.student.clone().requires_grad_()
        rest = case.teacher, case.offsets, case.answers, case.hard_weight, case.soft_weight
        settings = {"temperature": 1.5, "teacher_scale": 0.8}
        hard, soft = path(student, *rest, **settings)  # type: ignore[operator]
        (hard + 2 * soft).backward()
        values.append(torch.stack([hard, soft]))
        gradients.append(student.grad)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    half = case.loss(case.student.bfloat16(), case.teacher)
    assert half[0].dtype == half[1].dtype == torch.bfloat16
    torch.testing.assert_close(half[1].double(), case.loss(case.student)[1], rtol=0.05, atol=0.1)


def test_mistakes_are_named() -> None:
    case = Case(3, 8)
    with pytest.raises(ValueError, match=r"must score the same \(b, n\)"):
        case.loss(case.student, case.teacher[:, :7])
    with pytest.raises(ValueError, match="must be positive"):
        case.loss(case.student, temperature=0.0)
    case.offsets, case.answers = torch.tensor([0, 1, 1, 1]), torch.tensor([8])
    student = case.student.requires_grad_()
    with pytest.raises(IndexError, match="outside the 8 candidates"):
        case.loss(student)
    case.offsets, case.answers = torch.tensor([0, 1, 1, 2]), torch.tensor([1])
    with pytest.raises(IndexError, match="outside the 8 candidates"):
        case.loss(student)
    case.offsets = torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"offsets \(4,\)"):
        case.loss(student)
