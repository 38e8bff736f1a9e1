"""DualDE against its formulas written out; a teacher that stands still, then learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from clock_fixtures import clock_chain, write_clock
from distill_fixtures import model_of, settings_of, workspace_of

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state
from dglke_distill.config import LossConfig
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.dualde import DualObjective, SoftLabelEvaluation
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.teacher import thaw
from dglke_distill.runs.workspace import build_loader, build_optimizer
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective, Moment
from dglke_distill.training.scored import ScoredBatch

EARLY, LATE = Moment(0, 4, 0, 40), Moment(2, 4, 20, 40)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def huber(difference: float) -> float:
    size = abs(difference)
    return 0.5 * size * size if size <= 1 else size - 0.5


def taught(
    student_name: str = "TransE", teacher_name: str = "TransE", **changes: Any
) -> tuple[Any, Any, Any, Any]:
    """Return a student, its teacher, the objective and a batch."""
    options = changes.pop("options", {})
    soft = changes.pop("soft", {})
    dtype = changes.pop("dtype", torch.float64)
    sections: dict[str, Any] = {
        "model": {"name": student_name, "dim": 4},
        "loss": {"name": "self_adversarial", "options": {"margin": 3.0}},
        **changes,
        "distillation": {
            "method": "dualde",
            "options": options,
            "initialization": "random",
            "soft": {"name": "huber", "candidates": "batch", **soft},
            "weight": {"name": "constant", "value": 0.7},
        },
    }
    config, workspace = settings_of(**sections), workspace_of()
    student = model_of(student_name, 4, seed=1)
    teacher = model_of(teacher_name, 8, seed=2, dtype=dtype)
    student.set_row_sparse(False, False)
    method = build_method("dualde", options)
    objective = method.objective(config, student, [teacher], workspace)
    objective.live.set_row_sparse(False, False)
    batch = next(build_loader(config, workspace, student).epoch(0))
    return student, teacher, objective, batch


def triples_asked(batch: Any) -> list[tuple[float, list[tuple[int, int, int]]]]:
    """Return for every query its weight and its triples as ids, the true one first."""
    found = []
    nodes = batch.nodes.tolist()
    total = sum(len(queries.entity) for queries in batch.queries)
    for queries in batch.queries:
        each = len(queries.entity) // len(queries.candidates)
        for i, (known, relation) in enumerate(zip(queries.entity, queries.relation)):
            rows = [int(queries.answer[i]), *queries.candidates[i // each].tolist()]
            pairs = [(nodes[int(known)], nodes[row]) for row in rows]
            if queries.side == "head":
                pairs = [(answer, asked) for asked, answer in pairs]
            found.append((1 / total, [(h, int(relation), t) for h, t in pairs]))
    return found


def score(model: Any, triple: tuple[int, int, int]) -> float:
    return model.score_triples(*(torch.tensor([i]) for i in triple)).item()


def structure(model: Any, triple: tuple[int, int, int]) -> tuple[float, float]:
    head, tail = model.entity_embeddings[triple[0]], model.entity_embeddings[triple[2]]
    return float(head.norm() / tail.norm()), float(head @ tail / head.norm() / tail.norm())


def test_the_losses_are_the_published_sums_over_triples() -> None:
    student, teacher, objective, batch = taught()
    with torch.no_grad():
        objective.evaluation.slope.copy_(torch.tensor([0.3, 0.2]))
        objective.evaluation.offset.copy_(torch.tensor([0.9, 0.5]))
    hard = soft = own = back = 0.0
    for share, (true, *false) in triples_asked(batch):
        ours, theirs = [
            [score(model, triple) for triple in (true, *false)] for model in (student, teacher)
        ]
        trust = [sigmoid(0.3 * theirs[0] + 0.9)]
        trust += [1 - sigmoid(0.2 * s + 0.5) for s in theirs[1:]]

        def losses(scores: list[float]) -> list[float]:
            weights = [math.exp(s) for s in scores[1:]]  # temperature 1
            each = [0.5 * softplus(-scores[0] - 3)]
            each += [0.5 * w / sum(weights) * softplus(s + 3) for w, s in zip(weights, scores[1:])]
            return each

        hard += share * sum((1 - w) * loss for w, loss in zip(trust, losses(ours)))
        own += share * sum(losses(theirs))
        apart = [huber(a - b) for a, b in zip(ours, theirs)]
        shape = sum(
            huber(a - b) for a, b in zip(structure(student, true), structure(teacher, true))
        )
        mean = [1, *[1 / len(false)] * len(false)]
        terms = [0.5 * m * a for m, a in zip(mean, apart)]
        soft += share * (sum(w * a for w, a in zip(trust, terms)) + trust[0] * shape)
        back += share * (sum(terms) + shape)
    early = objective(student, batch, EARLY)
    assert set(early.parts) == {"hard", "soft", "soft_weight"}
    assert early.parts["hard"].item() == pytest.approx(hard, rel=1e-6)
    assert early.parts["soft"].item() == pytest.approx(soft, rel=1e-6)
    assert early.total.item() == pytest.approx(hard + 0.7 * soft, rel=1e-6)
    late = objective(student, batch, LATE)
    assert late.parts["teacher"].item() == pytest.approx(own + 0.7 * back, rel=1e-6)
    assert late.total.item() == pytest.approx(hard + 0.7 * soft + own + 0.7 * back, rel=1e-6)


MODES = [
    {"training": {"mode": "negatives"}},
    {"training": {"mode": "negatives"}, "loss": {"name": "softmax"}},
    {"training": {"mode": "negatives"}, "loss": {"name": "margin"}},
    {"training": {"mode": "k_vs_all"}, "loss": {"name": "softmax"}},
    {"training": {"mode": "one_vs_all"}, "loss": {"name": "softmax"}},
    {"training": {"mode": "k_vs_all"}, "loss": {"name": "bce"}},
]


@pytest.mark.parametrize("changes", MODES)
@pytest.mark.parametrize("names", [("TransE", "ComplEx"), ("ComplEx", "ComplEx")])
def test_the_teacher_moves_in_the_second_phase_alone(
    changes: dict[str, Any], names: tuple[str, str]
) -> None:
    student, _, objective, batch = taught(*names, **changes, soft={"scale": "standardize"})
    gradients = {}
    for moment in (EARLY, LATE):
        student.zero_grad()
        objective.zero_grad()
        objective(student, batch, moment).total.backward()
        gradients[moment] = {
            name: None if parameter.grad is None else parameter.grad.clone()
            for name, parameter in (*student.named_parameters(), *objective.named_parameters())
        }
    assert not any(g is not None for n, g in gradients[EARLY].items() if n.startswith("live."))
    assert all(
        float(g.abs().sum()) > 0 for n, g in gradients[LATE].items() if n.startswith("live.")
    )
    # What the student and the weights learn is not changed by what the teacher learns.
    for name, gradient in gradients[EARLY].items():
        if not name.startswith("live."):
            assert float(gradient.abs().sum()) > 0, name
            torch.testing.assert_close(gradients[LATE][name], gradient)


@pytest.mark.parametrize("changes", MODES)
def test_full_trust_leaves_the_soft_label_and_none_the_hard_one(changes: dict[str, Any]) -> None:
    student, _, objective, batch = taught("ComplEx", "ComplEx", **changes)
    plain = HardObjective(objective.loss)(student, batch).total.item()
    with torch.no_grad():
        objective.evaluation.slope.zero_()
        objective.evaluation.offset.copy_(torch.tensor([-60.0, 60.0]))
    nothing = objective(student, batch, EARLY)
    assert nothing.parts["soft"].item() == pytest.approx(0, abs=1e-9)
    assert nothing.parts["hard"].item() == pytest.approx(plain, rel=1e-9)
    with torch.no_grad():
        objective.evaluation.offset.neg_()
    everything = objective(student, batch, EARLY)
    assert everything.parts["hard"].item() == pytest.approx(0, abs=1e-5 * (1 + plain))
    assert everything.parts["soft"].item() > 0.01
    assert math.isfinite(everything.total.item())


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", ["logistic", "self_adversarial", "bce"])
def test_the_losses_of_triples_add_up(name: str, known: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    positive = torch.randn(6, generator=generator, dtype=torch.float64)
    negative = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 5, generator=generator) < 0.3 if known else None
    loss = build_loss(LossConfig(name=name, options={"margin": 1.5}))
    batch = ScoredBatch(negative, torch.arange(7), torch.arange(6), positive, mask)
    each = loss.per_triple(batch)
    assert each is not None
    torch.testing.assert_close(each.sum(1).mean(), loss(batch))
    compares = build_loss(LossConfig(name="margin"))
    assert compares.per_triple(batch) is None


def test_the_weights_are_the_published_ones() -> None:
    evaluation = SoftLabelEvaluation(2.0)
    scores = torch.tensor([[-1.5, 0.5, -4.0]])
    weights = evaluation(scores)[0].tolist()
    expected = [sigmoid(0.5), 1 - sigmoid(2.5), 1 - sigmoid(-2.0)]
    assert weights == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("share", "epochs", "first"),
    [(0.5, 4, 2), (0.3, 10, 7), (0.0, 4, 4), (1.0, 4, 0), (0.7, 10, 3)],
)
def test_the_second_phase_is_the_last_share_of_the_epochs(
    share: float, epochs: int, first: int
) -> None:
    objective = taught(options={"second_phase": share})[2]
    begun = [objective.teacher_learns(Moment(epoch, epochs)) for epoch in range(epochs)]
    assert begun == [False] * first + [True] * (epochs - first)


def test_the_live_teacher_scores_alike_and_learns_slowly() -> None:
    teacher = model_of("RotatE", 8, entity_bias=True)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    live = thaw(teacher, 0.25)
    ids = torch.arange(3)
    assert torch.equal(live.score_triples(ids, ids, ids), teacher.score_triples(ids, ids, ids))
    assert live.relation_weight.row_sparse
    learned = torch.nn.ModuleDict({"model": teacher, "objective": live})
    config = settings_of(optimizer={"name": "sgd", "learning_rate": 0.8}).optimizer
    optimizer = build_optimizer(config, learned)
    assert [group["lr"] for group in optimizer.param_groups] == [0.8, 0.2]
    live.score_triples(ids, ids, ids).sum().backward()
    optimizer.step()
    assert not torch.equal(live.entity_embeddings, teacher.entity_embeddings)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


class Dies(Exception):
    pass


def test_a_chain_resumes_to_the_same_bits_with_a_teacher_that_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = clock_chain(
        write_clock(tmp_path / "clock"), method="dualde", dims=[8, 4], control="none",
        student={"training": {"epochs": 4, "checkpoint_minutes": 1e-9}},
    )  # fmt: skip
    results = run_chain(chain, tmp_path / "whole").to_tree()
    teacher = tmp_path / "whole" / "stages" / "0-teacher-transe-dim8" / "checkpoint"
    real, calls = DualObjective.forward, []

    def forward(self: DualObjective, *arguments: Any) -> Any:
        calls.append(self)
        if len(calls) == 11:  # four batches an epoch: the second phase is under way
            raise Dies
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(DualObjective, "forward", forward)
        with pytest.raises(Dies):
            run_chain(chain, tmp_path / "cut", loaded=[teacher])
    moved = load_state(tmp_path / "cut" / "stages" / "0-transe-dim4" / "resume.safetensors")[0]
    before = load_model(teacher).model.entity_embeddings
    assert not torch.equal(moved["objective.live.encoder.weight"], before)
    run_chain(chain, tmp_path / "cut", loaded=[teacher], resume=True)
    first, second = [
        (tmp_path / run / "stages" / name / "checkpoint" / "model.safetensors").read_bytes()
        for run, name in (("whole", "1-transe-dim4"), ("cut", "0-transe-dim4"))
    ]
    assert first == second
    history = (tmp_path / "whole" / "stages" / "1-transe-dim4" / "history.csv").read_text()
    rows = [line.split(",") for line in history.splitlines()]
    column = rows[0].index("teacher")
    assert [bool(row[column]) for row in rows[1:]] == [False, False, True, True]
    assert results["stages"][-1]["results"]["distillation"]["method"] == "dualde"


def test_one_teacher_is_enough(tmp_path: Path) -> None:
    more = [{"model": {"name": "ComplEx"}}]
    chain = clock_chain(write_clock(tmp_path / "clock"), method="dualde", more_teachers=more)
    with pytest.raises(UserError, match="dualde learns from 1 alone"):
        run_chain(chain, tmp_path / "run")


@pytest.mark.parametrize("changes", [MODES[0], MODES[3]])
def test_a_teacher_of_another_dtype(changes: dict[str, Any]) -> None:
    student, _, objective, batch = taught("ComplEx", "ComplEx", dtype=torch.float32, **changes)
    losses = objective(student, batch, LATE)
    assert losses.total.dtype == torch.float64
    losses.total.backward()
    assert objective.live.relation_weight.grad.dtype == torch.float64
