"""The teacher's side of a distillation step: the same questions, answered without gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Callable, Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dglke_distill.data.triples import SIDES, Dataset
from dglke_distill.models.base import KGEModel
from dglke_distill.models.encoders import LookupEncoder
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.objective import Group, ask


def freeze(model: KGEModel, device: Optional[torch.device] = None) -> KGEModel:
    """Return a fixed model that scores as this one does now, whatever its encoder.

    It is one of fixed vectors, unless the model has none for its entities.

    Args:
        model: not changed; a lookup table is shared, not copied.
        device: where the result lives; None: where the model is.
    """
    taught = model.as_teacher()
    if taught is not None:
        return taught if device is None else taught.to(device)
    vectors = model.entity_embeddings
    with torch.device("meta"):
        encoder = LookupEncoder(model.num_entities, model.score_function.dim, vectors.dtype)
    frozen = KGEModel(
        encoder,
        model.score_function,
        model.num_relations,
        reciprocal=model.reciprocal,
        entity_bias=model.bias_weight is not None,
        dtype=vectors.dtype,
    )
    encoder.weight = torch.nn.Parameter(vectors, requires_grad=False)
    frozen.relation_weight.data = model.relation_embeddings
    if frozen.bias_weight is not None and model.bias_weight is not None:
        frozen.bias_weight.data = model.bias_weight.detach()
    frozen.requires_grad_(False).eval()
    return frozen if device is None else frozen.to(device)


def thaw(model: KGEModel, rate: float, dtype: Optional[torch.dtype] = None) -> KGEModel:
    """Return a copy that can learn, of fixed vectors whatever the encoder, with row gradients.

    Args:
        model: not changed.
        rate: its share of the learning rate.
        dtype: of the copy; None: the model's.
    """
    live = freeze(model)
    for parameter in live.parameters():
        parameter.data = parameter.data.to(dtype=dtype or parameter.dtype, copy=True)
        parameter.requires_grad_(True)
        parameter.rate = rate  # type: ignore[attr-defined]
    live.set_row_sparse(entities=True, relations=True)
    return live


def score_factor(model: KGEModel, dataset: Dataset, memory: int = 1 << 28) -> float:
    """Return the factor that makes softmax(factor * scores) fit the validation answers best.

    Temperature scaling: Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural
    networks". The mean negative log-likelihood is minimised by golden-section search over the
    factor's logarithm.

    Args:
        model: the teacher.
        dataset: its triples; without validation triples those of train are used.
        memory: bytes of scores that may be held, which limits how many triples are looked at.
    """
    triples = dataset.valid if len(dataset.valid) else dataset.train
    limit = max(1, min(len(triples), memory // (8 * model.num_entities)))
    chosen = np.linspace(0, len(triples) - 1, limit).astype(np.int64)
    device = model.relation_weight.device
    head, relation, tail = (
        torch.from_numpy(column[chosen].astype(np.int64)).to(device)
        for column in (triples.head, triples.relation, triples.tail)
    )
    asked = {"tail": (head, tail), "head": (tail, head)}
    scored = [(model.score_all(asked[s][0], relation, s), asked[s][1]) for s in SIDES]

    def cost(logarithm: float) -> float:
        factor = math.exp(logarithm)
        return sum(float(F.cross_entropy(scores * factor, answer)) for scores, answer in scored)

    low, high, ratio = math.log(1e-3), math.log(1e3), (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = cost(left), cost(right)
    while high - low > 0.02:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = cost(right)
    return math.exp((low + high) / 2)


class TeacherScores:
    """What a teacher says to a batch, group by group as ``ask`` has them; nothing is kept.

    Args:
        model: a frozen model.
        batch: what it is asked.
        factor: multiplies its scores.
    """

    def __init__(self, model: KGEModel, batch: Batch, factor: float) -> None:
        """Build the queries."""
        self._model, self._factor, self._asked = model, factor, ask(model, batch)

    def _scaled(self, scores: Tensor) -> Tensor:
        return scores if self._factor == 1 else scores * self._factor

    @torch.no_grad()
    def __call__(self, numbers: Sequence[int], extra: Sequence[Tensor] = ()) -> Tensor:
        """See ``TeacherReply``; a student may join other groups than its teacher does."""
        groups = self._asked.of(numbers)
        if len(groups) < len(extra):  # candidates of their own, so one group after the other
            groups = [group for number in numbers for group in self._asked.of([number])]
        scores = [self._scores(*each) for each in zip_longest(groups, extra)]
        return self._scaled(scores[0] if len(scores) == 1 else torch.cat(scores))

    def _scores(self, group: Group, extra: Optional[Tensor]) -> Tensor:
        found = []
        if group.candidates is not None or extra is None:
            found.append(self._asked.score(group).table)
        if extra is not None:
            found.append(self._model.score(group.query, self._model.encode(None), extra))
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]


class Teacher:
    """One fixed model that answers what its student is asked.

    Args:
        model: the teacher; it is frozen.
        factor: multiplies its scores.
    """

    def __init__(self, model: KGEModel, factor: float = 1.0) -> None:
        """Freeze the model."""
        self.model, self.factor = freeze(model), factor

    @torch.no_grad()
    def ask(self, batch: Batch) -> TeacherScores:
        """Answer a batch."""
        return TeacherScores(self.model, batch, self.factor)


class Ensemble:
    """Several teachers that speak with one voice: the mean of their distributions.

    A score is the logarithm of the mean, over teachers, of softmax(factor * scores) over the
    candidates at hand.

    Args:
        teachers: their factors should come from ``score_factor``.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        """Keep them; the first one stands for all where vectors are asked for."""
        self.teachers = list(teachers)
        self.model = self.teachers[0].model

    def ask(self, batch: Batch) -> Callable[..., Tensor]:
        """Answer a batch."""
        replies = [teacher.ask(batch) for teacher in self.teachers]
        return lambda *asked: mean_distribution([reply(*asked) for reply in replies])


def mean_distribution(scores: Sequence[Tensor]) -> Tensor:
    """Return log(mean over m of softmax(scores_m)), each (b, n)."""
    total = torch.softmax(scores[0], dim=-1)
    for other in scores[1:]:
        total += torch.softmax(other, dim=-1)
    # What no teacher thinks possible stays finite.
    return total.div_(len(scores)).clamp_(min=torch.finfo(total.dtype).tiny).log_()
