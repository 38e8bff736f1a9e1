"""Queries beyond those of train: what is drawn, and what a student learns from them."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from distill_fixtures import model_of, settings_of, workspace_of
from torch.nn.functional import kl_div

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, merge
from dglke_distill.distill.extra_queries import ExtraQueries
from dglke_distill.distill.methods import build_method
from dglke_distill.runs.workspace import build_loader
from dglke_distill.training.objective import Moment


def config_of(extra: float, cache: int = 0, loss: str = "softmax") -> Config:
    return settings_of(
        model={"name": "ComplEx", "dim": 8},
        loss={"name": loss},
        training={"mode": "k_vs_all"},
        distillation={
            "method": "fan_out",
            "hard_weight": 0.5,
            "initialization": "random",
            "soft": {
                "name": "kl",
                "candidates": "all",
                "scale": "none",
                "extra": extra,
                "cache_megabytes": cache,
            },
        },
    )


def pool_of(size: float = 50.0, seed: int = 3) -> ExtraQueries:
    workspace = workspace_of()
    relations = workspace.dataset.num_relations
    return ExtraQueries(workspace.graph, relations, size=size, seed=seed)


def pairs_of(queries: object) -> set[tuple[int, tuple[int, str]]]:
    """Entity, and relation with its side, of queries by side."""
    return {
        (int(e), (int(r), side))
        for side, (entity, relation) in queries.items()  # type: ignore[attr-defined]
        for e, r in zip(entity, relation)
    }


def test_entities_are_asked_what_their_like_are_asked() -> None:
    asked = defaultdict(set)  # entity to (relation, side)
    for head, relation, tail in workspace_of().dataset.train.to_array().tolist():
        asked[head].add((relation, "tail"))
        asked[tail].add((relation, "head"))
    known = {(entity, kind) for entity, kinds in asked.items() for kind in kinds}
    plausible = {
        (entity, kind)
        for entity, kinds in asked.items()
        for other in asked.values()
        if kinds & other
        for kind in other
    }
    source = pool_of()
    assert pairs_of(source.queries) == plausible - known
    assert len(source) == len(plausible - known) > 0


@pytest.mark.parametrize("candidates", [None, 4])
def test_batches_ask_the_pool(candidates: int | None) -> None:
    source = pool_of()
    met = set()
    for step in range(100):
        batch = source.draw(16, Moment(step=step), torch.device("cpu"), candidates)
        assert sum(len(group.entity) for group in batch.queries) == 16
        queries = {}
        for group in batch.queries:
            if candidates is None:
                assert batch.nodes is None and group.candidates is None
                assert group.answers is not None and not len(group.answers.entities)
                entity = group.entity
            else:
                assert batch.nodes is not None and group.candidates is not None
                assert group.candidates.shape == (1, candidates - 1) and group.answer is not None
                entity = batch.nodes[group.entity]
            queries[group.side] = entity, group.relation
        met |= pairs_of(queries)
    assert met == pairs_of(source.queries)


def test_draws_depend_on_seed_and_step() -> None:
    def first(seed: int, step: int) -> list[int]:
        batch = pool_of(2.0, seed).draw(20, Moment(step=step), torch.device("cpu"))
        return torch.cat([group.entity for group in batch.queries]).tolist()

    assert first(0, 5) == first(0, 5)
    assert first(0, 5) != first(0, 6)
    assert first(0, 5) != first(1, 5)


@pytest.mark.parametrize("cache", [0, 64])
@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_the_loss_is_the_divergence_over_all_entities(cache: int, loss: str) -> None:
    workspace = workspace_of()
    teacher, student = model_of("DistMult", 6, seed=1), model_of("ComplEx", seed=2)
    config = config_of(0.75, cache, loss)
    method = build_method("fan_out", {})
    objective = method.objective(config, student, [teacher], workspace)
    plain = method.objective(config_of(0.0, cache, loss), student, [teacher], workspace)
    batch = next(build_loader(config, workspace, student).epoch(0))
    moment = Moment(step=4, steps=10)
    count = round(0.75 * sum(len(group.entity) for group in batch.queries))
    source = pool_of(2.0, seed=0)
    total = torch.zeros((), dtype=torch.float64)
    for group in source.draw(count, moment, torch.device("cpu")).queries:
        entities = student.encode(None)
        query = student.query(entities, group.entity, group.relation, group.side)
        ours = student.score(query, entities).log_softmax(dim=1)
        theirs = teacher.score_all(group.entity, group.relation, group.side).log_softmax(dim=1)
        total = total + kl_div(ours, theirs, log_target=True, reduction="sum")
    found = objective(student, batch, moment)
    exact = {"rtol": 1e-7, "atol": 1e-9} if not cache else {"rtol": 1e-2, "atol": 1e-3}  # float16
    torch.testing.assert_close(found.parts["extra"], total.detach() / count, **exact)
    assert float(found.parts["soft"]) == pytest.approx(
        float(plain(student, batch, moment).parts["soft"])
    )
    # Its gradient is that of the sum written out.
    tables = list(student.parameters())
    gradients = torch.autograd.grad(found.total, tables)
    before = torch.autograd.grad(plain(student, batch, moment).total, tables)
    further = torch.autograd.grad(total / count, tables)
    weight = float(found.parts["soft_weight"])
    soft_only = _soft_gradient(plain, student, batch, moment, tables)
    for got, whole, more, soft in zip(gradients, before, further, soft_only):
        expected = whole - weight * soft + weight * (soft + 0.75 * more) / 1.75
        torch.testing.assert_close(got, expected, **exact)


def _soft_gradient(objective, student, batch, moment, tables):  # type: ignore[no-untyped-def]
    from dglke_distill.training.objective import ask

    terms = objective.compare(student, batch, ask(student, batch), moment)
    return torch.autograd.grad(terms.soft, tables)


def test_sampled_candidates_and_the_teachers_best() -> None:
    """Independent of the step's own code: scores of triples, one at a time."""
    workspace = workspace_of()
    config = settings_of(
        model={"name": "ComplEx", "dim": 8},
        negatives={"count": 5, "sides": "both"},
        loss={"name": "softmax"},
        distillation={
            "method": "fan_out",
            "initialization": "random",
            "soft": {
                "name": "kl",
                "candidates": "top",
                "count": 3,
                "scale": "none",
                "extra": 0.5,
            },
        },
    )
    teacher, student = model_of("DistMult", 6, seed=1), model_of("ComplEx", seed=2)
    objective = build_method("fan_out", {}).objective(config, student, [teacher], workspace)
    batch = next(build_loader(config, workspace, student).epoch(0))
    moment = Moment(step=2, steps=10)
    count = round(0.5 * sum(len(group.entity) for group in batch.queries))
    drawn = pool_of(2.0, seed=0).draw(count, moment, torch.device("cpu"), 5)
    assert drawn.nodes is not None
    total = 0.0
    for group in drawn.queries:
        assert group.candidates is not None and group.answer is not None
        shared = drawn.nodes[torch.cat([group.answer[:1], group.candidates[0]])]
        for entity, relation in zip(drawn.nodes[group.entity], group.relation):
            ours, theirs = (
                model.score_all(entity[None], relation[None], group.side)[0]
                for model in (student, teacher)
            )
            met = torch.cat([shared, theirs.topk(3).indices])
            ours, theirs = ours[met].log_softmax(0), theirs[met].log_softmax(0)
            total += float(kl_div(ours, theirs, log_target=True, reduction="sum"))
    found = objective(student, batch, moment).parts["extra"]
    assert float(found) == pytest.approx(total / count)


def test_settings_that_cannot_be() -> None:
    workspace = workspace_of(inverse=True)
    model = {"name": "ComplEx", "dim": 8, "encoder": "neighbor"}
    config = settings_of(model=model, distillation={"soft": {"extra": 1.0}})
    settings = {"graph": workspace.graph, "encoder": "neighbor"}
    student, teacher = model_of("ComplEx", **settings), model_of("ComplEx", seed=1)
    config = config.model_copy(
        update={"distillation": config.distillation.model_copy(update={"initialization": "random"})}  # type: ignore[union-attr]
    )
    with pytest.raises(UserError, match=r"distillation\.soft\.extra"):
        build_method("iterde", {}).objective(config, student, [teacher], workspace)


def test_the_names_that_older_versions_gave_them_are_read() -> None:
    old = {"distillation": {"soft": {"further": 0.5, "further_pool": 3.0}}}
    soft = settings_of(**old).distillation.soft
    assert (soft.extra, soft.extra_pool) == (0.5, 3.0)
    recipe = {"distillation": {"soft": {"extra": 0.25, "count": 7}}}
    assert merge(recipe, old)["distillation"]["soft"] == {
        "extra": 0.5, "extra_pool": 3.0, "count": 7,
    }  # fmt: skip
    assert merge(old, recipe)["distillation"]["soft"]["extra"] == 0.25
    both = {"distillation": {"soft": {"further": 0.5, "extra": 0.5}}}
    with pytest.raises(UserError, match=r"unknown setting 'distillation\.soft\.further'"):
        settings_of(**both)
