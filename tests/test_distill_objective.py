"""The student's objective against one that scores every candidate as a triple of its own."""

from __future__ import annotations

import math
from typing import Any, Optional

import pytest
import torch
import torch.nn.functional as F
from distill_fixtures import ENTITIES, gradients, model_of, settings_of, workspace_of
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.student_objective import DistillationObjective
from dglke_distill.distill.teacher import score_factor
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import build_loader
from dglke_distill.sampling.batch import Batch, Queries
from dglke_distill.training.objective import Moment

WORKSPACE = workspace_of()
MOMENT = Moment(1, 4, 5, 20)
HARD: dict[str, Any] = {
    "softmax": {"name": "softmax", "options": {"scale": 1.5}},
    "bce": {"name": "bce"},
    "self_adversarial": {"name": "self_adversarial", "options": {"margin": 2.0}},
}
SOFT: dict[str, Any] = {
    "huber": {"name": "huber", "options": {"delta": 0.7}},
    "kl": {"name": "kl", "options": {"temperature": 1.7}},
}


def build(
    student: KGEModel, teachers: list[KGEModel], **sections: Any
) -> tuple[DistillationObjective, Config]:
    distillation = {
        "hard_weight": 0.6,
        "weight": {"name": "power", "value": 3.0},
        "initialization": "random",
        **sections.pop("distillation", {}),
    }
    config = settings_of(distillation=distillation, **sections)
    assert config.distillation is not None
    method = build_method(config.distillation.method, config.distillation.options)
    objective = method.objective(config, student, teachers, WORKSPACE)
    assert isinstance(objective, DistillationObjective)
    return objective, config


def batches_of(config: Config, model: KGEModel) -> list[Batch]:
    return list(build_loader(config, WORKSPACE, model).epoch(0))[:3]


def entity_scores(
    model: KGEModel, known: Tensor, relation: Tensor, candidates: Tensor, side: str
) -> Tensor:
    """Scores (b, n) of entity ids (b, n), each as a triple of its own."""
    shape = candidates.shape
    known, relation = (ids[:, None].expand(shape).flatten() for ids in (known, relation))
    asked = candidates.flatten()
    if side == "tail":
        scores = model.score_triples(known, relation, asked)
    elif model.reciprocal:
        scores = model.score_triples(known, relation + model.num_relations, asked)
    else:
        scores = model.score_triples(asked, relation, known)
        if model.bias_weight is not None:  # the bias is the candidate's, not the tail's
            bias = model.bias_weight[:, 0]
            scores = scores - bias[known] + bias[asked]
    return scores.view(shape)


class Reference:
    """Hard and soft loss of a batch, written out query by query."""

    def __init__(self, config: Config, objective: DistillationObjective, factor: float) -> None:
        assert config.distillation is not None
        self.config, self.soft = config, config.distillation.soft
        self.objective, self.factor = objective, factor
        self.logits = float(config.loss.options.get("scale", 1.0))

    def soft_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        options = self.soft.options
        if self.soft.name == "kl":
            temperature = float(options["temperature"])
            ours = F.log_softmax(self.logits * student / temperature, dim=1)
            theirs = F.log_softmax(teacher / temperature, dim=1)
            return temperature**2 * (theirs.exp() * (theirs - ours)).sum(1)
        off, delta = (student - teacher).abs(), float(options["delta"])
        each = torch.where(off <= delta, 0.5 * off**2, delta * (off - 0.5 * delta))
        return each.mean(1)

    def standardized(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours = student.detach() * (self.logits if self.soft.name == "kl" else 1.0)
        return (teacher - teacher.mean()) / teacher.std() * ours.std() + ours.mean()

    def hard_rows(self, scores: Tensor, true: Tensor, known: Optional[Tensor]) -> Tensor:
        """Loss per query; ``true`` (b, n) marks answers, ``known`` what does not count."""
        name = self.config.loss.name
        if name == "softmax":
            scores = scores * self.logits
            if known is not None:
                scores = scores.masked_fill(known, -math.inf)
            return -F.log_softmax(scores, dim=1).masked_fill(~true, 0.0).sum(1)
        if name == "bce":
            return torch.where(true, F.softplus(-scores), F.softplus(scores)).sum(1)
        margin = float(self.config.loss.options["margin"])
        negative = scores[:, 1:]
        share = negative.detach().softmax(1)
        false = (share * F.softplus(negative + margin)).sum(1)
        return 0.5 * (F.softplus(-scores[:, 0] - margin) + false)

    def total(
        self, student: KGEModel, teacher: KGEModel, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        everywhere = [self.group(student, teacher, batch, queries) for queries in batch.queries]
        if student.score_function.transforms_candidates or batch.queries[0].candidates is not None:
            joined = [[group] for group in everywhere]
        else:
            joined = [everywhere]  # standardised together
        triples = sum(int(group["counts"].sum()) for group in everywhere)
        hard = soft = torch.zeros((), dtype=torch.float64)
        for groups in joined:
            ours, theirs, weight = (
                torch.cat([group[key] for group in groups]) for key in ("ours", "theirs", "weight")
            )
            if self.objective.labels.scale == "standardize":
                theirs = self.standardized(ours, theirs)
            share = sum(int(group["counts"].sum()) for group in groups) / triples
            counts = torch.cat([group["counts"] for group in groups])
            rows = torch.cat([group["hard"] for group in groups])
            hard = hard + share * (rows * weight).sum() / (counts * weight).sum()
            rows, weight = self.soft_rows(ours, theirs), counts * weight
            soft = soft + share * (rows * weight).sum() / weight.sum()
        assert self.config.distillation is not None
        weight = self.config.distillation.weight.value * (MOMENT.epoch + 1) / MOMENT.epochs
        return self.config.distillation.hard_weight * hard + weight * soft, hard, soft

    def group(
        self, student: KGEModel, teacher: KGEModel, batch: Batch, queries: Queries
    ) -> dict[str, Tensor]:
        ids = torch.arange(ENTITIES) if batch.nodes is None else batch.nodes
        known, relation, b = ids[queries.entity], queries.relation, len(queries.entity)
        masked = None
        counts = torch.ones(b, dtype=torch.float64)
        if queries.candidates is not None:
            assert queries.answer is not None
            rows = queries.candidates.repeat_interleave(b // len(queries.candidates), dim=0)
            shown = torch.cat([ids[queries.answer][:, None], ids[rows]], dim=1)
            true = torch.zeros(shown.shape, dtype=torch.bool)
            true[:, 0] = True
            if queries.known is not None:
                masked = torch.cat([torch.zeros(b, 1, dtype=torch.bool), queries.known], dim=1)
        else:
            shown = torch.arange(ENTITIES).expand(b, -1)
            true = torch.zeros(b, ENTITIES, dtype=torch.bool)
            if queries.answers is not None:
                counts = queries.answers.offsets.diff().double()
                rows = torch.arange(b).repeat_interleave(queries.answers.offsets.diff())
                true[rows, queries.answers.entities] = True
            else:
                true[torch.arange(b), queries.answer] = True
        scores = entity_scores(student, known, relation, shown, queries.side)
        hard = self.hard_rows(scores, true, masked)
        if self.objective.labels.candidates is not None:
            asked = self.objective.labels.candidates
            further = asked.of(queries.side, known, relation, MOMENT)
            instead = queries.candidates is None
            shown = further if instead else torch.cat([shown, further], dim=1)
            scores = entity_scores(student, known, relation, shown, queries.side)
        with torch.no_grad():
            theirs = self.factor * entity_scores(teacher, known, relation, shown, queries.side)
        weight = torch.ones(b) if queries.weight is None else queries.weight
        return {
            "hard": hard,
            "ours": scores,
            "theirs": theirs,
            "counts": counts,
            "weight": weight.double(),
        }


def check(
    student: KGEModel, teacher: KGEModel, general: bool = False, **sections: Any
) -> DistillationObjective:
    """Compare loss, its parts and the gradient with the reference on a few batches."""
    objective, config = build(student, [teacher], **sections)
    if general:
        objective._fused = False
    labels = config.distillation.soft  # type: ignore[union-attr]
    factor = 1.0
    if labels.scale == "calibrate":
        factor = score_factor(teacher, WORKSPACE.dataset)
    elif labels.name == "kl" and labels.scale == "none":
        factor = config.loss.options.get("scale", 1.0)
    reference = Reference(config, objective, factor)
    near = 1e-6 if config.training.subsampling else 1e-9  # those weights are single precision
    for batch in batches_of(config, student):
        student.zero_grad()
        found = objective(student, batch, MOMENT)
        found.total.backward()
        got = gradients(student)
        student.zero_grad()
        total, hard, soft = reference.total(student, teacher, batch)
        total.backward()
        assert found.total.item() == pytest.approx(total.item(), rel=near)
        assert found.parts["hard"].item() == pytest.approx(hard.item(), rel=near)
        assert found.parts["soft"].item() == pytest.approx(soft.item(), rel=near)
        assert found.parts["soft_weight"].item() == pytest.approx(1.5)
        for name, wanted in gradients(student).items():
            torch.testing.assert_close(got[name], wanted, rtol=10 * near, atol=near / 10, msg=name)
            assert torch.isfinite(got[name]).all()
            assert got[name].abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is None for p in objective.teacher.model.parameters())
    return objective


MODES = [
    ("negatives", "self_adversarial"),
    ("negatives", "softmax"),
    ("one_vs_all", "softmax"),
    ("k_vs_all", "softmax"),
    ("k_vs_all", "bce"),
]


CANDIDATES = [
    (*mode, candidates)
    for mode in MODES
    for candidates in ("batch", "top", "neighbors", "all")
    if (mode[0], candidates) != ("negatives", "all")
]


@pytest.mark.parametrize("soft", ["huber", "kl"])
@pytest.mark.parametrize(("mode", "loss", "candidates"), CANDIDATES)
def test_every_mode_and_candidate_set(mode: str, loss: str, candidates: str, soft: str) -> None:
    labels = {**SOFT[soft], "candidates": candidates, "count": 3, "scale": "none"}
    labels["cache_megabytes"] = 0  # what is remembered is rounded
    check(
        model_of("ComplEx", seed=1),
        model_of("ComplEx", dim=12, seed=2),
        loss=HARD[loss],
        training={"mode": mode, "subsampling": mode != "k_vs_all"},
        distillation={"soft": labels},
    )


def test_all_entities_need_a_mode_that_scores_them() -> None:
    with pytest.raises(UserError, match=r"needs training\.mode k_vs_all or one_vs_all"):
        build(
            model_of("ComplEx"),
            [model_of("ComplEx")],
            distillation={"soft": {"candidates": "all"}},
        )


STUDENTS: list[tuple[str, dict[str, Any]]] = [
    ("ComplEx", {"entity_bias": True}),
    ("DistMult", {"reciprocal": True, "entity_bias": True}),
    ("TransE", {"options": {"norm": "l2", "normalize": True}, "entity_bias": True}),
    ("RotatE", {}),
    ("TransR", {}),
    ("PairRE", {"entity_bias": True}),
]


@pytest.mark.parametrize("teacher", ["SimplE", "PairRE"])
@pytest.mark.parametrize(
    ("mode", "loss", "candidates"),
    [
        ("negatives", "self_adversarial", "neighbors"),
        ("one_vs_all", "softmax", "batch"),
        ("k_vs_all", "softmax", "top"),
    ],
)
@pytest.mark.parametrize(("name", "settings"), STUDENTS)
def test_every_kind_of_student_learns_from_every_kind_of_teacher(
    name: str, settings: dict[str, Any], teacher: str, mode: str, loss: str, candidates: str
) -> None:
    taught = {"name": "kl", "options": {"temperature": 1.0}, "scale": "calibrate", "count": 2}
    check(
        model_of(name, seed=1, **settings),
        model_of(teacher, dim=12, seed=2, reciprocal=True, entity_bias=teacher == "SimplE"),
        loss=HARD[loss],
        training={"mode": mode},
        distillation={"soft": {**taught, "candidates": candidates}},
    )


@pytest.mark.parametrize("scale", ["none", "standardize", "calibrate"])
@pytest.mark.parametrize("soft", ["huber", "kl"])
@pytest.mark.parametrize(("mode", "loss"), [MODES[0], MODES[3]])
def test_scores_of_another_scale(mode: str, loss: str, soft: str, scale: str) -> None:
    teacher = model_of("RotatE", dim=16, seed=2)
    objective = check(
        model_of("DistMult", seed=1),
        teacher,
        loss=HARD[loss],
        training={"mode": mode},
        distillation={"soft": {**SOFT[soft], "scale": scale}},
    )
    assert objective.labels.scale == ("standardize" if scale == "standardize" else "none")


def test_a_student_whose_scale_is_the_teachers_learns_nothing_new_from_a_shift() -> None:
    """Standardised scores do not see how a teacher's are moved and stretched."""
    student = model_of("DistMult", seed=1)
    totals = []
    for factor in (1.0, 40.0):
        teacher = model_of("DistMult", dim=12, seed=2, entity_bias=True)
        with torch.no_grad():
            teacher.relation_weight.mul_(factor)
            assert teacher.bias_weight is not None
            teacher.bias_weight.mul_(factor).add_(5.0)
        labels = {**SOFT["huber"], "scale": "standardize"}
        objective, config = build(student, [teacher], distillation={"soft": labels})
        totals.append(objective(student, batches_of(config, student)[0], MOMENT).total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-9)


@pytest.mark.parametrize("mode", ["one_vs_all", "k_vs_all"])
@pytest.mark.parametrize("name", ["ComplEx", "PairRE"])
def test_one_pass_is_the_general_path(name: str, mode: str) -> None:
    sections: dict[str, Any] = {
        "loss": HARD["softmax"],
        "training": {"mode": mode, "subsampling": mode == "one_vs_all"},
        "distillation": {"soft": {**SOFT["kl"], "scale": "none"}},
    }
    student, teacher = model_of(name, seed=1), model_of("HolE", seed=2)
    fused = check(student, teacher, **sections)
    assert fused._fused
    assert not check(student, teacher, general=True, **sections)._fused


def test_shared_and_filtered_negatives() -> None:
    for negatives in (
        {"sharing": "private", "filtered": True, "sides": "both"},
        {"sharing": "chunk", "chunk_size": 7, "filtered": True},
    ):
        check(
            model_of("ComplEx", seed=1),
            model_of("ComplEx", dim=12, seed=2),
            loss=HARD["softmax"],
            negatives={"count": 4, **negatives},
            distillation={"soft": {**SOFT["kl"], "scale": "none", "candidates": "neighbors"}},
        )


def test_a_student_in_single_precision_of_a_teacher_in_double_and_back() -> None:
    for mode, loss in (MODES[0], MODES[3]):
        for ours, theirs in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
            for soft in SOFT.values():
                student = model_of("ComplEx", dtype=ours)
                teacher = model_of("ComplEx", dim=12, dtype=theirs)
                objective, config = build(
                    student,
                    [teacher],
                    loss=HARD[loss],
                    training={"mode": mode},
                    distillation={"soft": {**soft, "scale": "none"}},
                )
                total = objective(student, batches_of(config, student)[0], MOMENT).total
                total.backward()
                assert total.dtype == ours
                assert all(torch.isfinite(g).all() for g in gradients(student).values())


def test_several_teachers_speak_of_all_candidates_at_once() -> None:
    """Their distributions are over the batch's and the further candidates together."""
    student = model_of("ComplEx", seed=1)
    teachers = [model_of(name, dim=12, seed=2) for name in ("ComplEx", "RotatE")]
    labels = {**SOFT["kl"], "candidates": "neighbors", "count": 3}
    objective, config = build(student, teachers, distillation={"soft": labels})
    batch = batches_of(config, student)[0]
    (queries,) = batch.queries
    assert batch.nodes is not None and queries.answer is not None
    known = batch.nodes[queries.entity]
    assert objective.labels.candidates is not None and queries.candidates is not None
    further = objective.labels.candidates.of(queries.side, known, queries.relation, MOMENT)
    rows = queries.candidates.repeat_interleave(len(known) // len(queries.candidates), dim=0)
    shown = torch.cat([batch.nodes[torch.cat([queries.answer[:, None], rows], 1)], further], 1)
    total = torch.zeros(shown.shape, dtype=torch.float64)
    for teacher in teachers:
        factor = score_factor(teacher, WORKSPACE.dataset)
        scores = entity_scores(teacher, known, queries.relation, shown, queries.side)
        total += (factor * scores.detach()).softmax(1) / 2
    found = objective.teacher.ask(batch)([0], [further])
    torch.testing.assert_close(found.exp(), total)


def test_one_teacher_of_a_kind_keeps_its_scale_and_several_do_not() -> None:
    alike, other = model_of("ComplEx", dim=12, seed=2), model_of("RotatE", dim=12, seed=2)
    student = model_of("ComplEx", seed=1)
    for teachers, soft, wanted in (
        ([alike], "huber", "none"),
        ([other], "huber", "standardize"),
        ([alike, other], "huber", "standardize"),
        ([alike, other], "kl", "none"),  # calibrated
    ):
        objective, _ = build(student, teachers, distillation={"soft": SOFT[soft]})
        assert objective.labels.scale == wanted


@pytest.mark.parametrize("mode", ["negatives", "k_vs_all"])
def test_a_scaled_softmax_scales_both_sides_of_a_comparison(mode: str) -> None:
    """The same scores are the same distribution, whatever the loss multiplies them with."""
    student = model_of("TransE", seed=1)
    objective, config = build(
        student,
        [model_of("TransE", seed=1)],
        loss={"name": "softmax", "options": {"scale": 4.0}},
        training={"mode": mode},
        distillation={"soft": SOFT["kl"]},
    )
    for batch in batches_of(config, student):
        assert objective(student, batch, MOMENT).parts["soft"].item() == pytest.approx(0, abs=1e-9)
