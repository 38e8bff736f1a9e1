"""A teacher that remembers its distributions."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch

from dglke_distill.config import Config, ModelConfig
from dglke_distill.config.registry import NoOptions
from dglke_distill.data import catalog
from dglke_distill.distill.candidates import TopCandidates
from dglke_distill.distill.estimate import Tape
from dglke_distill.distill.method import Method, cached_queries
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.distill.remembered import Remembered
from dglke_distill.distill.student_objective import DistillationObjective
from dglke_distill.distill.teacher import Ensemble, Teacher
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace, build_loader, prepare


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return prepare(Config(), data_root=None)


def model_of(workspace: Workspace, name: str, seed: int, dim: int = 8) -> KGEModel:
    dataset = workspace.dataset
    model = build_model(
        ModelConfig(name=name, dim=dim, reciprocal=True),
        dataset.num_entities,
        dataset.num_relations,
    )
    model.reset(seed, 0.8)
    return model


def config_of(**soft: Any) -> Config:
    tree = {
        "training": {"mode": "k_vs_all", "batch_size": 64},
        "loss": {"name": "softmax"},
        "distillation": {"soft": {"name": "kl", "candidates": "all", **soft}},
    }
    return Config.from_mapping(tree, "test")


def build(workspace: Workspace, config: Config) -> tuple[DistillationObjective, KGEModel]:
    student = model_of(workspace, "ComplEx", 1, 4)
    teacher = model_of(workspace, "ComplEx", 2)
    objective = Method(NoOptions()).objective(config, student, [teacher], workspace)
    assert isinstance(objective, DistillationObjective)
    return objective, student


def test_what_is_remembered_is_what_the_teacher_says(workspace: Workspace) -> None:
    teachers = [Teacher(model_of(workspace, name, 3)) for name in ("ComplEx", "TransE")]
    rows = QueryRows(workspace.graph, workspace.dataset.num_relations)
    entities = workspace.dataset.num_entities
    config = config_of()
    loader = build_loader(config, workspace, teachers[0].model)
    for teacher in (*teachers, Ensemble(teachers)):
        kept = Remembered(teacher, rows, entities)
        assert sum(t.nbytes for t in kept._kept.values()) == Remembered.size(rows, entities)
        for batch in loader.epoch(0):
            numbers = tuple(range(len(batch.queries)))
            want = teacher.ask(batch)(numbers).softmax(dim=1)
            got = kept.ask(batch)(numbers).softmax(dim=1)
            torch.testing.assert_close(got, want, rtol=0.01, atol=1e-6)


def test_the_loss_hardly_notices(workspace: Workspace) -> None:
    objective, student = build(workspace, config_of())
    assert isinstance(objective.teacher, Remembered)
    plain, _ = build(workspace, config_of(cache_megabytes=0))
    assert isinstance(plain.teacher, Teacher)
    batch = next(build_loader(config_of(), workspace, student).epoch(0))
    soft = [float(each(student, batch).parts["soft"]) for each in (objective, plain)]
    assert soft[0] == pytest.approx(soft[1], rel=1e-3)


def test_memory_decides(workspace: Workspace) -> None:
    rows = QueryRows(workspace.graph, workspace.dataset.num_relations)
    need = Remembered.size(rows, workspace.dataset.num_entities)
    for megabytes, kind in ((need >> 20, Teacher), ((need >> 20) + 1, Remembered)):
        objective, _ = build(workspace, config_of(cache_megabytes=megabytes))
        assert type(objective.teacher) is kind


def test_memory_decides_about_candidates(workspace: Workspace) -> None:
    rows = QueryRows(workspace.graph, workspace.dataset.num_relations)
    need = TopCandidates.size(rows, 64)
    for megabytes, keeps in ((need >> 20, False), ((need >> 20) + 1, True)):
        config = config_of(candidates="top", count=64, cache_megabytes=megabytes)
        kept = cached_queries(config, workspace, None)
        assert (kept is not None) is keeps
        assert kept is None or len(kept) == len(rows)


@pytest.mark.parametrize("candidates", ["all", "top"])
def test_a_tape_plays_what_a_teacher_said(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace, candidates: str
) -> None:
    config = config_of(candidates=candidates, cache_megabytes=0)
    objective, student = build(workspace, config)
    batches = list(islice(build_loader(config, workspace, student).epoch(0), 3))
    plain = [float(objective(student, batch).total.detach()) for batch in batches]
    tape = Tape()
    tape.listen_to(objective)
    recorded = [float(objective(student, batch).total.detach()) for batch in batches]
    assert tape.queries == sum(len(q.entity) for batch in batches for q in batch.queries)
    tape.playing = True
    if candidates == "all":
        monkeypatch.setattr(Teacher, "ask", None)
    else:
        monkeypatch.setattr(TopCandidates, "of", None)
    played = [float(objective(student, batch).total.detach()) for batch in batches]
    assert plain == recorded == played


def test_queries_are_numbered_once(workspace: Workspace) -> None:
    train = catalog.load("cldr").train
    rows = QueryRows(workspace.graph, workspace.dataset.num_relations)
    heads = {(int(h), int(r)) for h, r in zip(train.head, train.relation)}
    tails = {(int(t), int(r)) for t, r in zip(train.tail, train.relation)}
    assert len(rows) == len(heads) + len(tails)
    for side, want in (("tail", heads), ("head", tails)):
        entity, relation = rows.queries(side)
        assert set(zip(entity.tolist(), relation.tolist())) == want
        assert rows.rows(side, entity, relation).tolist() == list(range(len(want)))
