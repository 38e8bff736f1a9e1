"""Students that start at a projection of their teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from distill_fixtures import ENTITIES, RELATIONS, model_of, workspace_of

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig
from dglke_distill.data.triples import SIDES
from dglke_distill.distill import initialization
from dglke_distill.distill.initialization import INITIALIZATIONS, bilinear_forms, initialize
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import Encoder

MANY = 40


def everything(model: KGEModel, side: Any) -> torch.Tensor:
    entity = torch.arange(model.num_entities).repeat_interleave(RELATIONS)
    return model.score_all(entity, torch.arange(RELATIONS).repeat(model.num_entities), side)


def spread(teacher: KGEModel, seed: int = 0) -> torch.Tensor:
    """Give every coordinate a spread of its own; return the coordinates, the widest first."""
    parts = teacher.score_function.parts
    size = teacher.score_function.dim // parts
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    widths = torch.zeros(size, dtype=torch.float64)
    widths[order] = 2.0 ** -torch.arange(size, dtype=torch.float64)
    with torch.no_grad():
        teacher.encoder.weight.mul_(widths.repeat(parts))
    return order


PARTS = [("TransE", 1), ("DistMult", 1), ("ComplEx", 2), ("SimplE", 2), ("RotatE", 2)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("name", "parts"), PARTS)
def test_truncation_keeps_the_widest_coordinates(
    name: str, parts: int, reciprocal: bool, bias: bool
) -> None:
    """The student scores as a model made by hand of the teacher's columns."""
    settings = {"reciprocal": reciprocal, "entity_bias": bias, "entities": MANY}
    teacher, student = model_of(name, 12, 1, **settings), model_of(name, 8, 2, **settings)
    # A projection sees what scoring sees, which spread() changes for all entities alike.
    kept = spread(teacher)[: 8 // parts].sort().values
    initialize("truncate", student, teacher)

    byhand = model_of(name, 8, 3, **settings)
    columns = torch.cat([kept + part * (12 // parts) for part in range(parts)])
    with torch.no_grad():
        byhand.encoder.weight.copy_(teacher.entity_embeddings[:, columns])
        relations = teacher.relation_embeddings
        whole = relations.shape[1] == 12
        byhand.relation_weight.copy_(relations[:, columns if whole else kept])
        if bias:
            byhand.bias_weight.copy_(teacher.bias_weight)
    assert torch.equal(student.encoder.weight, byhand.encoder.weight)
    for side in SIDES:
        torch.testing.assert_close(everything(student, side), everything(byhand, side))


@pytest.mark.parametrize("reciprocal", [False, True])
def test_principal_axes_keep_distances_of_a_flat_teacher(reciprocal: bool) -> None:
    """Entities and relations in a plane of 4 dimensions, out of 12, still do in 4 floats."""
    settings: dict[str, Any] = {"options": {"norm": "l2"}, "reciprocal": reciprocal}
    teacher = model_of("TransE", 12, 1, entities=MANY, **settings)
    plane = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64)).Q
    with torch.no_grad():
        for table in (teacher.encoder.weight, teacher.relation_weight):
            table.copy_(table[:, :4] @ plane.T)
    student = model_of("TransE", 4, 2, entities=MANY, **settings)
    initialize("pca", student, teacher)
    for side in SIDES:
        torch.testing.assert_close(everything(student, side), everything(teacher, side))


def test_principal_axes_lose_the_least() -> None:
    """No projection to four floats keeps more of the entities' variance (against NumPy's SVD)."""
    teacher = model_of("DistMult", 12, 1, entities=MANY)
    spread(teacher)
    student = model_of("DistMult", 4, 2, entities=MANY)
    before = student.relation_weight.clone()
    initialize("pca", student, teacher)
    vectors = teacher.entity_embeddings.numpy()
    values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    found = student.encoder.weight.detach().numpy()
    centred = found - found.mean(0)
    assert (centred**2).sum() == pytest.approx((values[:4] ** 2).sum())
    # a product of coordinates means nothing on other axes
    assert torch.equal(student.relation_weight, before)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["pca", "svd"])
def test_axes_are_those_of_the_singular_vectors(name: str, axes: int) -> None:
    coordinates = torch.from_numpy(np.random.default_rng(axes).normal(size=(9, 4)))
    found = INITIALIZATIONS.find(name)(coordinates, axes).matrix
    whole = coordinates - coordinates.mean(0) if name == "pca" else coordinates
    wanted = torch.linalg.svd(whole).Vh[:axes].T
    torch.testing.assert_close(found.abs(), wanted.abs())


@pytest.mark.parametrize("name", ["ComplEx", "RotatE", "SimplE"])
def test_both_parts_are_projected_alike(name: str) -> None:
    """A rotation of real and imaginary parts together keeps |x| of every kept coordinate."""
    teacher = model_of(name, 16, 1, entities=MANY)
    student = model_of(name, 8, 2, entities=MANY)
    initialize("pca", student, teacher)
    theirs, ours = teacher.entity_embeddings, student.encoder.weight.detach()
    stacked = torch.cat(theirs.chunk(2, dim=1))
    axes = torch.linalg.lstsq(stacked, torch.cat(ours.chunk(2, dim=1))).solution
    for part, other in zip(ours.chunk(2, dim=1), theirs.chunk(2, dim=1)):
        torch.testing.assert_close(part, other @ axes)
    torch.testing.assert_close(axes.T @ axes, torch.eye(4, dtype=torch.float64))
    # conj(x) y, which complex scores are made of, is that of the projection
    torch.testing.assert_close(torch.linalg.matrix_rank(axes), torch.tensor(4))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_phases_do_not_follow_a_projection(norm: str) -> None:
    teacher = model_of("RotatE", 16, 1, entities=MANY, options={"norm": norm})
    student = model_of("RotatE", 8, 2, entities=MANY, options={"norm": norm})
    before = student.relation_weight.detach().clone()
    initialize("pca", student, teacher)
    assert torch.equal(student.relation_weight, before)


def test_fewer_entities_than_axes_leave_the_rest_at_random() -> None:
    few = {"entities": 5, "dtype": torch.float32}
    teacher, student = model_of("TransE", 32, 1, **few), model_of("TransE", 16, 2, **few)
    before = student.encoder.weight.detach().clone()
    initialize("pca", student, teacher)
    after = student.encoder.weight.detach()
    assert torch.equal(after[:, 5:], before[:, 5:])
    assert not torch.equal(after[:, :5], before[:, :5])
    torch.testing.assert_close(
        torch.cdist(after[:, :5], after[:, :5]),
        torch.cdist(teacher.entity_embeddings, teacher.entity_embeddings),
        atol=1e-5,
        rtol=1e-5,
    )


def test_random_changes_nothing_and_the_teacher_never_changes() -> None:
    for name in INITIALIZATIONS:
        teacher, student = model_of("ComplEx", 12, 1), model_of("ComplEx", 8, 2)
        before = {key: value.clone() for key, value in teacher.state_dict().items()}
        start = {key: value.clone() for key, value in student.state_dict().items()}
        initialize(name, student, teacher)
        for key, value in before.items():
            assert torch.equal(teacher.state_dict()[key], value)
        same = all(torch.equal(student.state_dict()[k], v) for k, v in start.items())
        assert same == (name == "random")
        assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_student_of_another_kind_keeps_its_own_relations() -> None:
    teacher = model_of("ComplEx", 12, 1)
    for name, settings in (
        ("TransE", {}),
        ("RotatE", {}),
        ("ComplEx", {"reciprocal": True}),
    ):
        student = model_of(name, 8, 2, **settings)
        relations, vectors = student.relation_weight.clone(), student.encoder.weight.clone()
        initialize("truncate", student, teacher)
        assert torch.equal(student.relation_weight, relations)
        assert not torch.equal(student.encoder.weight, vectors)


def test_a_lookup_student_of_a_teacher_that_passes_messages() -> None:
    graph = workspace_of(inverse=True).graph
    teacher = model_of("TransE", 12, 1, encoder="neighbor", graph=graph).eval()
    teacher.encoder.store_encoded()
    student = model_of("TransE", 12, 2)
    initialize("truncate", student, teacher)
    assert torch.equal(student.encoder.weight, teacher.entity_embeddings)
    student.encoder = Encoder()
    with pytest.raises(UserError, match="needs a student whose encoder takes vectors"):
        initialize("pca", student, teacher)


@pytest.mark.parametrize(
    ("name", "dim", "entities", "words"),
    [
        ("sdv", 8, ENTITIES, "initialization: unknown initialization 'sdv'; did you mean 'svd'"),
        ("truncated", 8, ENTITIES, "did you mean 'truncate'"),
        ("pca", 16, ENTITIES, "a student of 16 floats cannot start from a teacher of 12; set it"),
        ("truncate", 8, 7, f"7 entities cannot start from a teacher of {ENTITIES}; set it"),
        ("truncate", 8, 20, f"20 entities cannot start from a teacher of {ENTITIES}; set it"),
    ],
)
def test_what_cannot_be_is_refused(name: str, dim: int, entities: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        initialize(name, model_of("TransE", dim, entities=entities), model_of("TransE", 12))


@pytest.mark.parametrize("name", ["ComplEx", "DistMult", "SimplE", "RESCAL", "HolE"])
@pytest.mark.parametrize("reciprocal", [False, True])
def test_a_matrix_per_relation_takes_over_any_bilinear_teacher(name: str, reciprocal: bool) -> None:
    """Entities that lie in 8 of 16 dimensions: 8 floats with full matrices lose nothing."""
    teacher, student = (
        build_model(
            ModelConfig(name=kind, dim=dim, reciprocal=reciprocal), 50, 4, dtype=torch.float64
        )
        for kind, dim in ((name, 16), ("RESCAL", 8))
    )
    for seed, model in enumerate((teacher, student)):
        model.reset(seed, 0.7)
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    turn = torch.randn(8, 16, generator=generator, dtype=torch.float64)
    teacher.encoder.weight.data = flat @ turn
    initialize("svd", student, teacher)
    entity, relation = torch.arange(50), torch.arange(50) % 4
    for side in SIDES:
        want = teacher.score_all(entity, relation, side)
        torch.testing.assert_close(student.score_all(entity, relation, side), want)


@pytest.mark.parametrize("name", ["ComplEx", "DistMult", "RESCAL"])
def test_a_relation_is_that_of_its_own_form(name: str) -> None:
    model = build_model(ModelConfig(name=name, dim=6), 5, 3, dtype=torch.float64)
    model.reset(1, 1.0)
    forms = bilinear_forms(model.score_function, model.relation_embeddings)
    for row, form in zip(model.relation_embeddings, forms):
        torch.testing.assert_close(model.score_function.relation_of(form), row)


def test_a_complex_student_gets_the_nearest_relations() -> None:
    """Nearest in squared error among all: least squares says the same."""
    function = build_model(ModelConfig(name="ComplEx", dim=4), 5, 1, torch.float64).score_function
    form = torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    basis = torch.stack(
        [next(bilinear_forms(function, unit[None])).flatten() for unit in torch.eye(4).double()]
    )
    want = torch.linalg.lstsq(basis.T, form.flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(function.relation_of(form), want)


@pytest.mark.parametrize("name", ["pca", "truncate"])
def test_a_large_graph_is_projected_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks change nothing; the projection may be worked out from a part of the entities."""
    teacher = model_of("ComplEx", 12, 1, entities=MANY)
    whole, blocks, sampled = (model_of("ComplEx", 8, 2, entities=MANY) for _ in range(3))
    initialize(name, whole, teacher)
    with monkeypatch.context() as patch:
        patch.setattr(initialization, "_ROWS", 7)
        initialize(name, blocks, teacher)
        patch.setattr(initialization, "_MOST_ROWS", 15)  # every third of 40
        initialize(name, sampled, teacher)
    torch.testing.assert_close(blocks.encoder.weight, whole.encoder.weight)
    third = teacher.entity_embeddings[::3].double()
    project = INITIALIZATIONS[name]
    assert project is not None
    matrix = project(torch.cat(third.chunk(2, dim=1)), 4).matrix
    parts = [part @ matrix for part in teacher.entity_embeddings.chunk(2, dim=1)]
    torch.testing.assert_close(sampled.encoder.weight.detach(), torch.cat(parts, dim=1))
    assert name == "truncate" or not torch.equal(sampled.encoder.weight, whole.encoder.weight)


@pytest.mark.parametrize("name", ["pca", "svd", "truncate"])
@pytest.mark.parametrize("vectors", ["one", "alike", "zero", "few"])
def test_vectors_without_a_projection_are_one_line(name: str, vectors: str) -> None:
    """One entity, or vectors that are all alike: a start, or one line that says what to set."""
    entities = {"one": 1, "few": 3}.get(vectors, 9)
    teacher, student = (
        build_model(ModelConfig(name="ComplEx", dim=dim), entities, 2) for dim in (16, 8)
    )
    with torch.no_grad():
        if vectors in ("alike", "zero"):
            teacher.encoder.weight.fill_(float(vectors == "alike"))
    try:
        initialize(name, student, teacher)
    except UserError as error:
        assert "set it to random" in str(error) and "\n" not in str(error)
    assert bool(torch.isfinite(student.entity_embeddings).all())
