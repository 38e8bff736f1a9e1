"""Vectors of entities that a trained model has not seen, from their facts, all else frozen.

Of the softmax loss over all entities (Lacroix, Usunier, Obozinski 2018, "Canonical tensor
decomposition for knowledge base completion"), what depends on a new entity has three parts: its
own questions, the questions that it answers, and those that it does not. With everything else
frozen each is a sum over vectors that are known, so that a few seconds suffice. Where scores are
linear in the entity, ridge regression starts it, as a step of alternating least squares would
(Koren, Bell, Volinsky 2009, "Matrix factorization techniques for recommender systems"), and the
loss is convex from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dglke_distill.data.triples import SIDES, Side
from dglke_distill.models.base import KGEModel
from dglke_distill.models.rows import EntityRows, QueryVectors

RIDGE = 0.5
"""Weight of the distance from the mean entity, in standard deviations."""

_MOST_CANDIDATES = 4096
_MOST_SCORES = 1 << 24
_OTHERS = 4096
_STEPS = 60
_DESCENT = 250
_RATE = 0.1


@dataclass(frozen=True)
class Facts:
    """Triples as ids, three (n,) int64 tensors."""

    head: Tensor
    relation: Tensor
    tail: Tensor

    def known(self, side: Side) -> Tensor:
        """Return the entities that questions for a side know."""
        return self.head if side == "tail" else self.tail

    def answer(self, side: Side) -> Tensor:
        """Return the entities that are asked for."""
        return self.tail if side == "tail" else self.head

    def where(self, rows: Tensor) -> Facts:
        """Return some of them."""
        return Facts(self.head[rows], self.relation[rows], self.tail[rows])


@dataclass(frozen=True)
class _Question:
    """Questions of one kind that have a movable answer, and the log-sum of the others' scores."""

    query: QueryVectors
    answer: Tensor
    others: Tensor


def fold_in(
    model: KGEModel,
    facts: Facts,
    moving: Tensor,
    pool: Facts,
    *,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Tensor:
    """Find vectors of new entities, or better ones of some that there are.

    Args:
        model: the model, which is not changed.
        facts: all that is known of the moving entities; ids from ``num_entities`` on are new.
        moving: (m,) int64 ascending ids of the entities whose vectors are looked for; all new ones
            are among them.
        pool: facts that were trained on, whose questions the moving entities do not answer; some
            are drawn. Without any, questions are drawn at random.
        seed: of what is drawn.
        ridge: see ``RIDGE``; entities that there are stay near their own vectors instead, the
            more so the more facts they have.

    Returns:
        (m, dim) float32 rows for the entity table.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        old = model.encode(None)
        old = EntityRows(old.vectors.detach(), None if old.bias is None else old.bias.detach())
        vectors, bias = old.vectors.float(), old.bias
        count, added = len(vectors), int((moving >= len(vectors)).sum())
        scale = vectors.std(0).clamp_min(1e-6)
        centre = vectors.mean(0).repeat(len(moving), 1)
        there = moving < count
        centre[there] = vectors[moving[there]]
        if bias is not None:
            bias = torch.cat([bias.float(), bias.float().mean().expand(added, 1)])
        place = torch.full((count + added,), -1)
        place[moving] = torch.arange(len(moving))
        base = torch.cat([vectors, centre[~there]])

        def rows_of(table: Tensor) -> EntityRows:
            return EntityRows(table, bias)

        frozen = rows_of(base)
        answered: list[_Question] = []
        for side in SIDES:
            some = facts.where((place[facts.known(side)] < 0) & (place[facts.answer(side)] >= 0))
            if len(some.head):
                query = model.query(frozen, some.known(side), some.relation, side)
                answered.append(_Question(query, some.answer(side), _log_sums(model, query, old)))
        others = [_drawn(model, frozen, old, pool, side, generator) for side in SIDES]
        start = _ridge(model, answered, moving, centre, scale, ridge)

    # Where an entity is, its facts have put it: the more it has, the more it is held there.
    both = torch.cat([facts.head, facts.tail])
    degree = torch.bincount(both, minlength=count + added)[moving].float()
    pull = torch.where(there, 1 + degree, torch.ones(()))[:, None]
    asked = [
        (side, some)
        for side in SIDES
        if len((some := facts.where(place[facts.known(side)] >= 0)).head)
    ]
    longest = max([1, *(len(some.head) for _, some in asked)])
    width = min(count, _MOST_CANDIDATES, max(256, _MOST_SCORES // longest))
    chosen = torch.randperm(count, generator=generator)[:width]
    some_bias = None if bias is None else bias[chosen]
    share = math.log(count / width)
    weight = max(1, len(pool.head)) / max(1, min(_OTHERS, len(pool.head)))

    found = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [found], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        view = model.score_function.entity_view(found)
        table = base.index_copy(0, moving, view)
        rows = rows_of(table)
        total = ridge / 2 * (pull * ((found - centre) / scale).square()).sum()
        for side, some in asked:
            query = model.query(rows, some.known(side), some.relation, side)
            true = model.score(query, rows, some.answer(side)[:, None]).squeeze(1)
            # These may move as well; against where they were, all that moves would seem better.
            scores = model.score(query, EntityRows(table[chosen], some_bias))
            scores = scores.masked_fill(chosen == some.answer(side)[:, None], -torch.inf)
            rest = scores.logsumexp(1) + share
            total = total + softplus(rest - true).sum()
        for question in answered:
            true = model.score(question.query, rows, question.answer[:, None]).squeeze(1)
            total = total + softplus(question.others - true).sum()
        own = EntityRows(view, None if bias is None else bias[moving])
        for question in others:
            scores = softplus(model.score(question.query, own) - question.others[:, None])
            # What an entity does answer is no mistake of it.
            scores = scores.masked_fill(question.answer[:, None] == moving, 0.0)
            total = total + weight * scores.sum()
        return total

    def closure() -> float:
        value = loss()
        (found.grad,) = torch.autograd.grad(value, found)  # none for the model itself
        return float(value.detach())

    with torch.enable_grad():
        if model.score_function.kernel == "dot":
            optimizer.step(closure)
        else:
            _descend(found, closure, float(scale.mean()))
    best = found.detach()
    return torch.where(torch.isfinite(best).all(1, keepdim=True), best, start)


def _descend(found: Tensor, closure: Callable[[], float], scale: float) -> None:
    """Go down a loss that has edges, as distances do, with steps that shrink to nothing."""
    optimizer = torch.optim.Adam([found], lr=_RATE * scale)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / _DESCENT)
    for _ in range(_DESCENT):
        closure()
        optimizer.step()
        schedule.step()


def _log_sums(model: KGEModel, query: QueryVectors, old: EntityRows) -> Tensor:
    """Return the log of the sum of the exponentials of all old entities' scores, (b,)."""
    parts = []
    step = max(1, _MOST_SCORES // max(1, len(old.vectors)))
    for start in range(0, len(query.vectors), step):
        some = query._replace(
            vectors=query.vectors[start : start + step],
            relation=query.relation[start : start + step],
        )
        parts.append(model.score(some, old).float().logsumexp(1))
    return torch.cat(parts)


def _drawn(
    model: KGEModel,
    rows: EntityRows,
    old: EntityRows,
    pool: Facts,
    side: Side,
    generator: torch.Generator,
) -> _Question:
    """Return questions of the pool, with the log-sums of their scores."""
    if len(pool.head):
        number = min(_OTHERS, len(pool.head))
        some = pool.where(torch.randperm(len(pool.head), generator=generator)[:number])
        known, relation, answer = some.known(side), some.relation, some.answer(side)
    else:
        known = torch.randint(len(old.vectors), (_OTHERS,), generator=generator)
        relation = torch.randint(model.num_relations, (_OTHERS,), generator=generator)
        answer = torch.full((_OTHERS,), -1)
    query = model.query(rows, known, relation, side)
    return _Question(query, answer, _log_sums(model, query, old))


def _ridge(
    model: KGEModel,
    answered: list[_Question],
    moving: Tensor,
    centre: Tensor,
    scale: Tensor,
    ridge: float,
) -> Tensor:
    """Return the least-squares start: each answer as likely as all others together.

    Where scores are not linear in the entity it is the centre; for distances, whose best answer is
    the query itself, the mean of the queries.
    """
    function = model.score_function
    width = centre.shape[1]
    fits = not function.transforms_candidates and all(
        question.query.vectors.shape[1] == width for question in answered
    )
    if not answered or not fits:
        return centre.clone()
    query = torch.cat([question.query.vectors for question in answered]).float()
    target = torch.cat([question.others for question in answered])
    place = torch.searchsorted(moving, torch.cat([question.answer for question in answered]))
    start = centre.clone()
    for number in range(len(moving)):
        rows = query[place == number]
        if not len(rows):
            continue
        if function.kernel != "dot":
            start[number] = rows.mean(0)
            continue
        rows = rows * function.score_scale * scale
        wanted = target[place == number] - rows @ (centre[number] / scale)
        system = rows.T @ rows + ridge * torch.eye(width)
        start[number] = centre[number] + scale * torch.linalg.solve(system, rows.T @ wanted)
    return start
