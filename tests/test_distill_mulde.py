"""MulDE against its formulas written out; several teachers from the command line to the student."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from clock_fixtures import clock_chain, write_clock
from distill_fixtures import RELATIONS, model_of, settings_of, workspace_of

from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.mulde import MultipleObjective, Senior
from dglke_distill.distill.plan import plan
from dglke_distill.runs.workspace import build_loader
from dglke_distill.training.objective import HardObjective


def log_softmax(values: list[float]) -> list[float]:
    total = math.log(sum(math.exp(v) for v in values))
    return [v - total for v in values]


def opinion(
    teachers: list[list[float]], student: list[float], factors: list[float], temperature: float
) -> list[float]:
    """Return the Senior's logarithms of one query, candidate by candidate."""
    opinions = [log_softmax([f * s for s in scores]) for f, scores in zip(factors, teachers)]
    own = log_softmax(student)
    mixed = []
    for candidate, ours in enumerate(own):
        nearness = [math.exp(-abs(o[candidate] - ours) / temperature) for o in opinions]
        mixed.append(sum(n / sum(nearness) * o[candidate] for n, o in zip(nearness, opinions)))
    return log_softmax(mixed)


def taught(names: tuple[str, ...], **changes: Any) -> tuple[Any, list[Any], Any, Any]:
    """Return a student, its teachers, the objective and a batch."""
    sections: dict[str, Any] = {
        "model": {"name": "ComplEx", "dim": 4},
        "loss": {"name": "softmax"},
        **changes,
        "distillation": {
            "method": "mulde",
            "initialization": "random",
            "soft": {"name": "kl", "scale": "calibrate"},
            "weight": {"name": "constant", "value": 0.7},
        },
    }
    config, workspace = settings_of(**sections), workspace_of()
    student = model_of("ComplEx", 4, seed=1)
    student.set_row_sparse(False, False)
    teachers = [model_of(name, 8, seed=2 + i) for i, name in enumerate(names)]
    method = build_method("mulde", {"temperature": 0.8})
    objective = method.objective(config, student, teachers, workspace)
    batch = next(build_loader(config, workspace, student).epoch(0))
    return student, teachers, objective, batch


THREE = ("TransE", "ComplEx", "RotatE")


def scaling_of(objective: MultipleObjective) -> list[list[float]]:
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        objective.senior.scaling.normal_(generator=generator)
    return (2 * torch.sigmoid(objective.senior.scaling.detach())).tolist()


def expected(
    student: Any, teachers: list[Any], objective: Any, asked: list[Any], factors: Any
) -> tuple[float, float]:
    """Return the soft loss and the Senior's, averaged over triples.

    ``asked`` are (side, known, relation, answers, candidates), candidates holding the answers.
    """
    soft = senior = total = 0.0

    def scores(model: Any, query: tuple[Any, ...]) -> list[float]:
        side, known, relation, _, candidates = query
        ids = [torch.tensor([known]), torch.tensor([relation])]
        return model.score_all(*ids, side)[0][candidates].tolist()

    for query in asked:
        side, _, relation, answers, candidates = query
        made = [
            [s * teacher.factor for s in scores(model, query)]
            for teacher, model in zip(objective.teachers, teachers)
        ]
        row = relation + RELATIONS * (side == "head")
        labels = opinion(made, scores(student, query), factors[row], 0.8)
        own = log_softmax(scores(student, query))
        soft += len(answers) * sum(math.exp(t) * (t - s) for t, s in zip(labels, own))
        senior -= sum(labels[candidates.index(answer)] for answer in answers)
        total += len(answers)
    return soft / total, senior / total


def sampled(batch: Any) -> list[Any]:
    nodes, found = batch.nodes.tolist(), []
    for queries in batch.queries:
        each = len(queries.entity) // len(queries.candidates)
        for i, known in enumerate(queries.entity.tolist()):
            rows = [int(queries.answer[i]), *queries.candidates[i // each].tolist()]
            ids = [nodes[row] for row in rows]
            found.append((queries.side, nodes[known], int(queries.relation[i]), ids[:1], ids))
    return found


def over_all(batch: Any, entities: int) -> list[Any]:
    found = []
    for queries in batch.queries:
        offsets, answers = queries.answers.offsets.tolist(), queries.answers.entities.tolist()
        for i, known in enumerate(queries.entity.tolist()):
            right = answers[offsets[i] : offsets[i + 1]]
            asked = (queries.side, known, int(queries.relation[i]), right)
            found.append((*asked, list(range(entities))))
    return found


@pytest.mark.parametrize("mode", ["negatives", "k_vs_all"])
@pytest.mark.parametrize("names", [THREE, ("PairRE", "DistMult")])
def test_the_losses_are_those_written_out(mode: str, names: tuple[str, ...]) -> None:
    student, teachers, objective, batch = taught(names, training={"mode": mode})
    factors = scaling_of(objective)
    asked = sampled(batch) if mode == "negatives" else over_all(batch, student.num_entities)
    soft, senior = expected(student, teachers, objective, asked, factors)
    losses = objective(student, batch)
    hard = HardObjective(objective.loss)(student, batch).total.item()
    assert losses.parts["hard"].item() == pytest.approx(hard, rel=1e-9)
    assert losses.parts["soft"].item() == pytest.approx(soft, rel=1e-5)
    assert losses.parts["senior"].item() == pytest.approx(senior, rel=1e-5)
    assert losses.total.item() == pytest.approx(hard + 0.7 * soft + senior, rel=1e-5)


@pytest.mark.parametrize("mode", ["negatives", "one_vs_all", "k_vs_all"])
def test_the_senior_learns_from_the_facts_and_the_student_from_the_senior(mode: str) -> None:
    student, teachers, objective, batch = taught(THREE, training={"mode": mode})
    before = [{n: v.clone() for n, v in teacher.state_dict().items()} for teacher in teachers]
    parts = {}
    for weight in (0.0, 0.7):
        objective.labels.schedule.value = weight
        objective.zero_grad()
        student.zero_grad()
        objective(student, batch).total.backward()
        parts[weight] = (
            objective.senior.scaling.grad.clone(),
            student.relation_weight.grad.clone(),
        )
    # Its own loss alone moves the Senior; the student follows it only where the weight says so.
    torch.testing.assert_close(parts[0.0][0], parts[0.7][0])
    assert float(parts[0.0][0].abs().sum()) > 0
    assert not torch.allclose(parts[0.0][1], parts[0.7][1])
    for teacher, state in zip(teachers, before):
        assert all(torch.equal(state[n], value) for n, value in teacher.state_dict().items())


def test_the_senior_learns_which_teacher_to_believe() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 64, 6, generator=generator)
    good = noise[0].clone()
    good[:, 0] += 3  # knows that the first candidate is right
    rows = torch.arange(64) % 2
    senior = Senior(1, 2, 1.0)
    optimizer = torch.optim.Adam(senior.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        labels = senior([good, noise[1]], torch.zeros(64, 6), rows)
        (-labels[:, 0].mean()).backward()
        optimizer.step()
    assert (senior.scaling[:, 0] > senior.scaling[:, 1] + 1).all()
    torch.testing.assert_close(labels.exp().sum(1), torch.ones(64))


def test_a_teacher_near_the_student_counts_more() -> None:
    student = torch.tensor([[2.0, 0.0, -1.0]])
    other = torch.tensor([[-1.0, 0.0, 2.0]])
    labels = {
        t: Senior(1, 2, t)([student, other], student, torch.tensor([0]))[0].detach().exp()
        for t in (0.1, 100.0)
    }
    own = student[0].softmax(0)
    apart = {t: (labels[t] - own).abs().sum().item() for t in labels}
    assert apart[0.1] < 0.1 * apart[100.0]


def test_a_chain_of_several_teachers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dglke_distill.report.write_report", lambda directory: directory)
    clock, out = write_clock(tmp_path / "clock"), tmp_path / "run"
    arguments = f"run {clock} --model TransE --dims 16,8,4 --method mulde --recipe none"
    arguments += " --more-teachers rotate,simple --epochs 2 --threads 1 --control none"
    with pytest.raises(SystemExit) as ended:
        main([*arguments.split(), "--out", str(out)])
    assert not ended.value.code, capsys.readouterr()
    results = json.loads((out / "results.json").read_text())
    names = [f"{i}-teacher-{m}-dim16" for i, m in enumerate(("transe", "rotate", "simple"))]
    assert [stage["name"] for stage in results["stages"]] == [*names, "3-transe-dim4"]
    assert results["stages"][-1]["teachers"] == names
    history = (out / "stages" / "3-transe-dim4" / "history.csv").read_text().splitlines()
    assert "senior" in history[0].split(",")


def test_a_further_teacher_of_another_kind_has_its_own_recipe(tmp_path: Path) -> None:
    teacher = {"model": {"name": "TransE"}, "loss": {"name": "margin"}}
    chain = clock_chain(
        write_clock(tmp_path / "clock"), method="mulde", teacher=teacher,
        more_teachers=[{"model": {"name": "RotatE"}}, {"training": {"seed": 5}}],
    )  # fmt: skip
    first, second, third = (stage.config for stage in plan(chain)[:3])
    assert (first.loss.name, second.loss.name) == ("margin", "self_adversarial")
    assert (third.loss.name, third.model.name, third.training.seed) == ("margin", "TransE", 5)


def test_resumed_it_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [{"model": {"name": "RotatE"}}]
    chain = clock_chain(
        write_clock(tmp_path / "clock"), method="mulde", dims=[8, 4], control="none",
        more_teachers=more, student={"training": {"checkpoint_minutes": 1e-9}},
    )  # fmt: skip
    run_chain(chain, tmp_path / "whole")
    teachers = sorted((tmp_path / "whole" / "stages").glob("*teacher*/checkpoint"))
    real, calls = MultipleObjective.forward, []

    def forward(self: MultipleObjective, *arguments: Any) -> Any:
        calls.append(self)
        if len(calls) == 7:
            raise RuntimeError("power cut")
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(MultipleObjective, "forward", forward)
        with pytest.raises(RuntimeError, match="power cut"):
            run_chain(chain, tmp_path / "cut", loaded=teachers)
    run_chain(chain, tmp_path / "cut", loaded=teachers, resume=True)
    first, second = [
        (tmp_path / run / "stages" / name / "checkpoint" / "model.safetensors").read_bytes()
        for run, name in (("whole", "2-transe-dim4"), ("cut", "0-transe-dim4"))
    ]
    assert first == second


def test_one_teacher_is_not_enough(tmp_path: Path) -> None:
    chain = clock_chain(write_clock(tmp_path / "clock"), method="mulde")
    with pytest.raises(UserError, match="mulde learns from 2 or more, and 1 is given"):
        run_chain(chain, tmp_path / "run")
