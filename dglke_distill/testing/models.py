"""The contract of score functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Optional, cast

import torch
from torch import Tensor
from torch.func import functional_call

from dglke_distill.data.triples import SIDES
from dglke_distill.models import SCORE_FUNCTIONS, KGEModel, ScoreFunction
from dglke_distill.models.encoders import LookupEncoder
from dglke_distill.testing.common import (
    ENTITIES,
    RELATIONS,
    check_component,
    close,
    options_of,
    registered,
)

Formula = Callable[..., float]
Prepare = Callable[[ScoreFunction], None]


def check_score_function(
    kind: type[ScoreFunction],
    formula: Formula,
    *,
    options: Optional[Mapping[str, Any]] = None,
    dim: int = 8,
    prepare: Optional[Prepare] = None,
) -> None:
    """Check a score function against its formula, and what training and ranking ask of it.

    Scores from both sides are the formula, whichever candidates share a query; gradients are those
    of finite differences, finite where vectors coincide, and the same by rows; a seed says how the
    tables begin.

    Args:
        kind: the class.
        formula: takes head, relation and tail as lists of floats, and the options given by
            keyword, and returns the score; of a function with parameters of its own, as
            ``prepare`` sets them.
        options: options of the function.
        dim: floats per entity.
        prepare: sets the parameters that all triples share.
    """
    check_component(SCORE_FUNCTIONS, kind)

    def make(dtype: torch.dtype = torch.float64) -> KGEModel:
        function = kind(dim, options_of(kind, options))
        encoder = LookupEncoder.build(
            ENTITIES, RELATIONS, dim, options_of(LookupEncoder, None), dtype
        )
        model = KGEModel(
            encoder, function, RELATIONS, reciprocal=function.one_sided, entity_bias=False,
            dtype=dtype,
        ).to(dtype)  # fmt: skip
        model.reset(0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(generator=generator)
        if prepare is not None:
            prepare(function)
        return model

    with registered(SCORE_FUNCTIONS, kind) as name:
        _check_start(make, name)
        _check_scores(make(), formula, options or {}, name)
        _check_candidates(make(), name)
        _check_gradients(make(), name)
        _check_coinciding(make(torch.float32), name)
        _check_rows(make(), make(), name)


def _triples(count: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    head, tail = torch.randint(0, ENTITIES, (2, count), generator=generator)
    return head, torch.randint(0, RELATIONS, (count,), generator=generator), tail


def _check_start(make: Callable[[], KGEModel], name: str) -> None:
    first, second = make(), make()
    for model in (first, second):
        model.reset(7)
    for (key, one), other in zip(first.named_parameters(), second.parameters()):
        assert torch.isfinite(one).all(), f"{name}: {key} begins with values that are not finite"
        assert torch.equal(one, other), f"{name}: {key} begins differently with one seed"


def _check_scores(model: KGEModel, formula: Formula, options: Mapping[str, Any], name: str) -> None:
    head, relation, tail = _triples(8)
    entity, table = cast(Tensor, model.encoder.weight).tolist(), model.relation_weight.tolist()
    rows = list(zip(head.tolist(), relation.tolist(), tail.tolist()))
    second = RELATIONS if model.reciprocal else 0

    def heads(r: int, known: int, other: int) -> float:
        if second:  # a head is asked as a tail, by the relation's second row
            return formula(entity[known], table[r + second], entity[other], **options)
        return formula(entity[other], table[r], entity[known], **options)

    everything = range(ENTITIES)
    by_tail = [[formula(entity[h], table[r], entity[x], **options) for x in everything]
               for h, r, _ in rows]  # fmt: skip
    by_head = [[heads(r, t, x) for x in everything] for _, r, t in rows]
    tails = torch.tensor(by_tail).double()
    close(model.score_all(head, relation, "tail"), tails, f"{name}: scores of tails")
    expected = torch.tensor(by_head).double()
    close(model.score_all(tail, relation, "head"), expected, f"{name}: scores of heads")
    own = tails[torch.arange(len(rows)), tail]
    close(model.score_triples(head, relation, tail), own, f"{name}: scores of triples")


def _check_candidates(model: KGEModel, name: str) -> None:
    entity, relation, _ = _triples(12)
    generator = torch.Generator().manual_seed(0)
    for side in SIDES:
        everything = model.score_all(entity, relation, side)
        entities = model.encode()
        query = model.query(entities, entity, relation, side)
        for chunks in (1, 3, len(entity)):
            candidates = torch.randint(0, ENTITIES, (chunks, 5), generator=generator)
            expected = everything.gather(1, candidates.repeat_interleave(len(entity) // chunks, 0))
            what = f"{name}: scores of the {side}'s candidates, shared by {12 // chunks} queries"
            close(model.score(query, entities, candidates), expected, what)


def _check_gradients(model: KGEModel, name: str) -> None:
    triples = _triples(4)
    names = [key for key, _ in model.named_parameters()]

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return self.model.score_triples(*triples)

    scores = Scores()

    def call(*weights: Tensor) -> Any:
        return functional_call(
            scores, {f"model.{key}": value for key, value in zip(names, weights)}, ()
        )

    weights = tuple(p.detach().clone().requires_grad_() for p in model.parameters())
    right = torch.autograd.gradcheck(call, weights, raise_exception=False)
    assert right, f"{name}: gradients are not those of finite differences"


def _check_coinciding(model: KGEModel, name: str) -> None:
    with torch.no_grad():
        cast(Tensor, model.encoder.weight).fill_(0.5)
        model.relation_weight.zero_()
    entity, relation, _ = _triples(6)
    for side in SIDES:
        entities = model.encode()
        score = model.score(model.query(entities, entity, relation, side), entities)
        assert torch.isfinite(score).all(), f"{name}: scores of equal vectors are not finite"
        score.square().sum().add(score.sum()).backward()  # type: ignore[no-untyped-call]
    for key, weight in model.named_parameters():
        finite = weight.grad is not None and bool(torch.isfinite(weight.grad).all())
        assert finite, f"{name}: the gradient of {key} is missing or not finite at equal vectors"


def _check_rows(dense: KGEModel, sparse: KGEModel, name: str) -> None:
    triples = _triples(12)
    dense.score_triples(*triples).square().sum().backward()  # type: ignore[no-untyped-call]
    sparse.set_row_sparse(entities=True, relations=True)
    sparse.score_triples(*triples).square().sum().backward()  # type: ignore[no-untyped-call]
    for (key, one), other in zip(dense.named_parameters(), sparse.parameters()):
        assert one.grad is not None
        if key.startswith("score_function."):
            continue
        total = torch.zeros_like(one)
        for ids, rows in getattr(other, "row_gradients", ()):
            total.index_add_(0, ids, rows)
        close(total, one.grad, f"{name}: the gradient of the touched rows of {key}")
