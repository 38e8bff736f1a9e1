"""Structure terms against loops in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.distill.structure import STRUCTURES, Structure

HEADS = [0, 2, 3, 3, 5, 1]
TAILS = [1, 2, 0, 4, 0, 0]
Vectors = NDArray[np.float64]


def term(name: str, student: int = 3, teacher: int = 5, **options: Any) -> Structure:
    kind = STRUCTURES[name]
    made = kind(kind.Options(**options), student, teacher)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
    return made.double()


def vectors(seed: int, dim: int, rows: int = 7) -> Vectors:
    return np.random.default_rng(seed).normal(size=(rows, dim))


def value(
    made: Structure, student: Vectors, teacher: Vectors, heads: Any = HEADS, tails: Any = TAILS
) -> float:
    tensors = (torch.from_numpy(student.copy()), torch.from_numpy(teacher.copy()))
    return made(*tensors, torch.tensor(heads), torch.tensor(tails)).item()


def huber(difference: float) -> float:
    size = abs(difference)
    return 0.5 * size**2 if size <= 1 else size - 0.5


def length_angle(student: Vectors, teacher: Vectors) -> float:
    total = 0.0
    for h, t in zip(HEADS, TAILS):
        lengths, angles = [], []
        for space in (student, teacher):
            head, tail = space[h], space[t]
            lengths.append(np.linalg.norm(head) / np.linalg.norm(tail))
            angles.append(head @ tail / np.linalg.norm(head) / np.linalg.norm(tail))
        total += huber(lengths[0] - lengths[1]) + huber(angles[0] - angles[1])
    return total / len(HEADS)


def test_length_and_angle() -> None:
    student, teacher = vectors(1, 3), vectors(2, 5)
    found = value(term("length_angle"), student, teacher)
    assert found == pytest.approx(length_angle(student, teacher), rel=1e-12)


def relational(student: Vectors, teacher: Vectors, rows: list[int]) -> tuple[float, float]:
    """The distance and the angle term over some entities."""
    m = len(rows)
    distances, angles = [], []
    for space in (student[rows], teacher[rows]):
        far = np.zeros((m, m))
        cosine = np.zeros((m, m, m))
        for j in range(m):
            for i in range(m):
                far[i, j] = np.linalg.norm(space[i] - space[j])
                for k in range(m):
                    if j not in (i, k):
                        first, second = space[i] - space[j], space[k] - space[j]
                        length = np.linalg.norm(first) * np.linalg.norm(second)
                        cosine[j, i, k] = first @ second / length
        distances.append(far / (far.sum() / (m * (m - 1))))
        angles.append(cosine)
    return tuple(  # type: ignore[return-value]
        float(np.mean([huber(d) for d in (ours - theirs).ravel()]))
        for ours, theirs in (distances, angles)
    )


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 2.0), (0.0, 1.5), (0.7, 0.0)])
@pytest.mark.parametrize(("entities", "rows"), [(128, [0, 1, 2, 3, 4, 5]), (5, [0, 1, 2, 3])])
def test_distances_and_angles(
    entities: int, rows: list[int], distance: float, angle: float
) -> None:
    student, teacher = 2 * vectors(1, 3), vectors(2, 5)
    made = term("relational", distance=distance, angle=angle, entities=entities)
    apart, turned = relational(student, teacher, rows)
    wanted = distance * apart + angle * turned
    assert value(made, student, teacher) == pytest.approx(wanted, rel=1e-7)


def test_learned_map() -> None:
    student, teacher = vectors(1, 3), vectors(2, 5)
    made = term("fitnet")
    matrix = made.projection.detach().numpy()
    total = [
        (sum(student[row, i] * matrix[i, j] for i in range(3)) - teacher[row, j]) ** 2
        for row in sorted({*HEADS, *TAILS})
        for j in range(5)
    ]
    assert value(made, student, teacher) == pytest.approx(np.mean(total), rel=1e-12)


def test_a_learned_map_starts_at_zero_and_learns_the_teacher() -> None:
    made = STRUCTURES["fitnet"](STRUCTURES["fitnet"].Options(), 3, 5)
    assert made.projection.dtype == torch.float32 and not made.projection.any()
    student = vectors(1, 3)
    teacher = student @ vectors(3, 5, rows=3)
    made.double()
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=100)

    def loss() -> Tensor:
        optimizer.zero_grad()
        tensors = torch.from_numpy(student), torch.from_numpy(teacher)
        found = made(*tensors, torch.tensor(HEADS), torch.tensor(TAILS))
        found.backward()
        return found

    assert loss() > 0.1
    optimizer.step(loss)
    assert value(made, student, teacher) < 1e-6


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_gradients(name: str) -> None:
    made = term(name)
    student = torch.from_numpy(vectors(1, 3)).requires_grad_()
    teacher = torch.from_numpy(vectors(2, 5))
    ids = torch.tensor(HEADS), torch.tensor(TAILS)
    assert torch.autograd.gradcheck(lambda x: made(x, teacher, *ids), student)


@pytest.mark.parametrize("name", ["length_angle", "relational"])
def test_a_student_that_is_its_teacher_costs_nothing(name: str) -> None:
    student = vectors(1, 3)
    assert value(term(name), student, student) == 0
    assert value(term(name), student, vectors(2, 3)) > 0.01


def rotation(seed: int, dim: int) -> Vectors:
    return np.linalg.qr(vectors(seed, dim, rows=dim))[0]


@given(
    seed=st.integers(0, 100),
    scale=st.floats(0.1, 100),
    turn=st.sampled_from(["student", "teacher"]),
    shift=st.floats(-3, 3),
)
def test_relational_terms_do_not_see_how_a_space_lies(
    seed: int, scale: float, turn: str, shift: float
) -> None:
    """Neither rotation, scale nor shift of either side matters."""
    student, teacher = vectors(1, 3), vectors(2, 5)
    before = value(term("relational"), student, teacher)
    if turn == "student":
        student = scale * student @ rotation(seed, 3) + shift
    else:
        teacher = scale * teacher @ rotation(seed, 5) + shift
    assert value(term("relational"), student, teacher) == pytest.approx(before, rel=1e-4)


@given(seed=st.integers(0, 100), scale=st.floats(0.1, 100))
def test_length_and_angle_do_not_see_rotation_and_scale(seed: int, scale: float) -> None:
    student, teacher = vectors(1, 3), vectors(2, 5)
    before = value(term("length_angle"), student, teacher)
    moved = scale * student @ rotation(seed, 3)
    assert value(term("length_angle"), moved, teacher) == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@pytest.mark.parametrize(("heads", "tails"), [([1], [1]), ([1], [2]), ([0, 0], [0, 0])])
def test_the_smallest_batches_are_finite(name: str, heads: list[int], tails: list[int]) -> None:
    made = term(name)
    student = torch.from_numpy(vectors(1, 3)).requires_grad_()
    teacher = torch.from_numpy(vectors(2, 5))
    found = made(student, teacher, torch.tensor(heads), torch.tensor(tails))
    (found + 0 * student.sum()).backward()
    assert torch.isfinite(found)
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_vectors_of_length_zero_are_finite(name: str) -> None:
    student = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.from_numpy(vectors(2, 5))
    found = term(name)(student, teacher, torch.tensor(HEADS), torch.tensor(TAILS))
    found.backward()
    assert torch.isfinite(found)
    assert student.grad is not None and torch.isfinite(student.grad).all()
