"""The hard objective: joined groups, and the auxiliary prediction of relations."""

from __future__ import annotations

import math

import pytest
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, LossConfig, ModelConfig
from dglke_distill.models import build_model
from dglke_distill.runs.workspace import build_objective
from dglke_distill.sampling.batch import Answers, Batch, Queries
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective, relation_loss

TRIPLES = [(0, 1, 3), (0, 1, 2), (4, 0, 4), (2, 2, 3)]


def model_of(name: str, reciprocal: bool = False):
    config = ModelConfig(name=name, dim=8, reciprocal=reciprocal)
    model = build_model(config, 5, 3, torch.float64)
    model.reset(3, 1.0)
    return model


def queries_of(side: str) -> Queries:
    """The triples above as distinct queries of one side, answers end to end."""
    facts: dict[tuple[int, int], list[int]] = {}
    for head, relation, tail in TRIPLES:
        known, answer = (head, tail) if side == "tail" else (tail, head)
        facts.setdefault((known, relation), []).append(answer)
    counts = torch.tensor([0, *(len(answers) for answers in facts.values())])
    answers = Answers(counts.cumsum(0), torch.tensor([a for row in facts.values() for a in row]))
    known, relation = torch.tensor(list(facts)).T
    return Queries(side, known, relation, None, answers, None, None, None)


def batch_of(*groups: Queries) -> Batch:
    empty = torch.zeros(0, dtype=torch.int64)
    return Batch(None, groups, empty, empty, empty, empty, None)


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("side", ["head", "tail"])
@pytest.mark.parametrize("name", ["ComplEx", "DistMult", "AutoSF"])
def test_relation_loss_is_the_cross_entropy_of_triple_scores(name, side, reciprocal) -> None:
    model = model_of(name, reciprocal)
    total = 0.0
    for head, relation, tail in TRIPLES:
        if side == "head" and reciprocal:  # the model knows it as (tail, relation + 3, head)
            head, relation, tail = tail, relation + 3, head
        count = 6 if reciprocal else 3
        # score_triples takes relation ids as they stand in the table when it asks for tails
        scores = model.score_triples(
            torch.full((count,), head), torch.arange(count), torch.full((count,), tail)
        ).tolist()
        total += math.log(sum(math.exp(s) for s in scores)) - scores[relation]
    value = relation_loss(model, model.encode(None), queries_of(side))
    assert value.item() == pytest.approx(total / len(TRIPLES), rel=1e-9)


@pytest.mark.parametrize("name", ["ComplEx", "TransE", "PairRE", "TripleRE"])
def test_groups_asked_together_cost_what_they_cost_apart(name) -> None:
    model = model_of(name)
    objective = HardObjective(build_loss(LossConfig(name="softmax")))
    both = objective(model, batch_of(queries_of("tail"), queries_of("head")))
    both.total.backward()
    joined = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    apart = [objective(model, batch_of(queries_of(side))).total for side in ("tail", "head")]
    mean = (apart[0] + apart[1]) / 2
    mean.backward()
    assert both.total.item() == pytest.approx(mean.item(), rel=1e-10)
    for gradient, parameter in zip(joined, model.parameters()):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_model_that_cannot_predict_relations_is_refused() -> None:
    config = Config.from_mapping({"loss": {"relation_weight": 1.0}}, "test")
    with pytest.raises(UserError, match="TransE cannot predict relations"):
        build_objective(config, model_of("TransE"))
