"""Which triples and candidates are ranked: the standard, and what others do instead.

Figures of different protocols do not compare. The standard of this library, and of most papers, is
``all``; the others exist so that a figure can stand beside a published one of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Dataset, Side, Triples
from dglke_distill.evaluate.metrics import RankingResult
from dglke_distill.evaluate.ranking import ScoresAll, device_of, evaluate, evaluation_mode

STANDARD = "all"


@dataclass(frozen=True)
class RankingProtocol:
    """A way to rank a split.

    Attributes:
        name: what ``evaluate --protocol`` calls it.
        rule: which triples are ranked, among which candidates.
        used_by: who reports such figures.
    """

    name: str
    rule: str
    used_by: str


PROTOCOLS = {
    of.name: of
    for of in (
        RankingProtocol(
            "all",
            "every triple of the split, among every entity of the dataset; other known answers are "
            "left out",
            "Bordes et al. 2013 and most papers since; LibKGE, OpenKE, DGL-KE; the standard here",
        ),
        RankingProtocol(
            "seen",
            "without the triples whose entities or relation do not occur in the train split, each "
            "other triple once, among the entities of the train split",
            "PyKEEN, whose factories drop such triples, and papers with its splits: ExpressivE, "
            "SpeedE (on WN18RR it drops 210 of 3,134)",
        ),
        RankingProtocol(
            "no-self",
            "as all, but the known entity of the question is no candidate, unless it is the answer",
            "the code of MuRP, and of what is built on it: HyboNet, LorentzKG",
        ),
    )
}
"""By name."""


def protocol_named(name: str) -> RankingProtocol:
    """Return a protocol by its name, in any letter case.

    Raises:
        UserError: there is none of that name.
    """
    found = PROTOCOLS.get(name.strip().lower())
    if found is None:
        raise UserError(f"--protocol {name!r:.60}: choose {', '.join(PROTOCOLS)}")
    return found


def seen_rows(split: Triples, dataset: Dataset) -> NDArray[np.bool_]:
    """Return which triples of a split have both entities and the relation in the train split.

    Args:
        split: n triples.
        dataset: whose train split counts.

    Returns:
        bool array (n,).
    """
    entities, relations = _seen(dataset)
    return np.asarray(
        entities[split.head] & entities[split.tail] & relations[split.relation], np.bool_
    )


def evaluate_by(
    protocol: str,
    model: ScoresAll,
    dataset: Dataset,
    split: str,
    known: KnownAnswers,
    *,
    query_block_bytes: int,
) -> RankingResult:
    """Rank a split by a protocol; see ``ranking.evaluate``.

    Args:
        protocol: a name of ``PROTOCOLS``.
        model: scores all entities.
        dataset: the data; its train split says which entities are seen.
        split: ``train``, ``valid`` or ``test``.
        known: the answers of all splits.
        query_block_bytes: size that a block of scores must not exceed.

    Raises:
        UserError: no such protocol, candidates that the dataset itself gives, or no triple left.
        NonFiniteScores: a score is NaN or infinite.
    """
    of = protocol_named(protocol)
    options: dict[str, Any] = {"query_block_bytes": query_block_bytes}
    triples = dataset.split(split)
    if of.name == STANDARD:
        return evaluate(model, triples, known, train=dataset.train, **options)
    if dataset.gives_candidates:
        raise UserError(
            f"--protocol {of.name}: {dataset.name} gives the candidates of each question; leave "
            "the option out"
        )
    if of.name == "no-self":
        found = evaluate(model, triples, known, train=dataset.train, mask_known=True, **options)
        return replace(found, protocol=of.name)
    return _evaluate_seen(model, dataset, triples, options)


def _evaluate_seen(
    model: ScoresAll, dataset: Dataset, triples: Triples, options: dict[str, Any]
) -> RankingResult:
    """Rank what PyKEEN keeps, with ids of the entities that it keeps."""
    kept = np.flatnonzero(_seen(dataset)[0])
    renumber = np.full(dataset.num_entities, -1, np.int64)
    renumber[kept] = np.arange(len(kept))

    def keep(part: Triples) -> Triples:
        rows = part[seen_rows(part, dataset)]
        return Triples.from_array(
            np.stack([renumber[rows.head], rows.relation, renumber[rows.tail]], axis=1)
        )

    ranked = Triples.from_array(np.unique(keep(triples).to_array(), axis=0))
    if not len(ranked):
        raise UserError(
            f"--protocol seen: no triple of {dataset.name} that was asked for has entities and a "
            "relation of its train split"
        )
    train, valid, test = (keep(dataset.split(name)) for name in ("train", "valid", "test"))
    known = KnownAnswers.build([train, valid, test], len(kept))
    with torch.no_grad(), evaluation_mode(model):
        found = evaluate(_Among(model, kept), ranked, known, train=train, **options)
    return replace(found, protocol="seen", dropped=len(triples) - len(ranked))


class _Among:
    """A model that knows some entities only, by ids of their own."""

    def __init__(self, model: ScoresAll, kept: NDArray[np.int64]) -> None:
        self.model = model
        self.kept = torch.from_numpy(kept).to(device_of(model))

    def score_all(self, entity: Tensor, relation: Tensor, side: Side) -> Tensor:
        """Score the kept entities."""
        entity = self.kept[entity.to(self.kept.device)]
        scores = self.model.score_all(entity, relation.to(self.kept.device), side)
        return scores.index_select(1, self.kept)


def _seen(dataset: Dataset) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which entities, and which relations, occur in the train split."""
    entities = np.zeros(dataset.num_entities, np.bool_)
    relations = np.zeros(dataset.num_relations, np.bool_)
    entities[dataset.train.head] = entities[dataset.train.tail] = True
    relations[dataset.train.relation] = True
    return entities, relations
