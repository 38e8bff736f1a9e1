"""From ranks to figures: what a ranking yields and how it is written to ``results.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.groups import group
from dglke_distill.data.triples import Triples
from dglke_distill.evaluate.categories import category_name

HITS_AT = (1, 3, 10)

Ranks = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Figures over a set of ranks.

    Attributes:
        count: number of ranks, one per triple and side.
        mrr: mean of 1 / rank.
        mean_rank: mean of the ranks.
        hits: for each k of ``HITS_AT``, the share of ranks that are at most k.
    """

    count: int
    mrr: float
    mean_rank: float
    hits: tuple[float, ...]

    @classmethod
    def of(cls, ranks: Ranks) -> Metrics:
        """Compute the figures of at least one rank."""
        hits = tuple(float(np.mean(ranks <= k)) for k in HITS_AT)
        return cls(len(ranks), float(np.mean(1.0 / ranks)), float(np.mean(ranks)), hits)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"mrr", "mr", "hits@1", "hits@3", "hits@10", "count"}``."""
        hits = {f"hits@{k}": share for k, share in zip(HITS_AT, self.hits)}
        return {"mrr": self.mrr, "mr": self.mean_rank, **hits, "count": self.count}


@dataclass(frozen=True, eq=False)
class RankingResult:
    """The outcome of filtered ranking, of all entities or of given candidates.

    Attributes:
        overall: figures over both sides.
        by_side: figures of the ``"head"`` and of the ``"tail"`` predictions.
        by_category: for each relation category (Bordes et al. 2013) that occurs, the figures of
            ``"both"`` sides, ``"head"`` and ``"tail"``; empty when no categories were given.
        by_relation: relation id to its figures over both sides.
        head_ranks: float64 array of shape (n,), the rank of each triple's head; ties halve, so
            ranks are multiples of 0.5.
        tail_ranks: as ``head_ranks``, for tails.
        num_entities: number of candidates before filtering.
        num_queries: number of distinct (entity, relation, side) questions that were scored.
        sampled_from: None for the whole split; else the size of the split that was sampled, and
            all figures are estimates.
        seconds: wall clock time of scoring and ranking.
        negatives: None where every entity was a candidate; else how many given negatives each true
            answer was ranked among.
        protocol: which triples and candidates were ranked, a name of ``protocols.PROTOCOLS``.
        dropped: triples of the split that this protocol leaves out.
    """

    overall: Metrics
    by_side: dict[str, Metrics]
    by_category: dict[str, dict[str, Metrics]]
    by_relation: dict[int, Metrics]
    head_ranks: Ranks = field(repr=False)
    tail_ranks: Ranks = field(repr=False)
    num_entities: int
    num_queries: int
    sampled_from: Optional[int]
    seconds: float
    negatives: Optional[int] = None
    protocol: str = "all"
    dropped: int = 0

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank over both sides."""
        return self.overall.mrr

    def to_dict(self, relation_names: Optional[Sequence[str]] = None) -> dict[str, Any]:
        """Return the figures, without the ranks, in the form of ``results.json``.

        Args:
            relation_names: names to use as keys of ``by_relation`` instead of ids.
        """
        more = {} if self.negatives is None else {"negatives": self.negatives}
        if self.dropped:
            more["dropped"] = self.dropped
        return {
            **self.overall.to_dict(),
            "protocol": {
                "name": self.protocol,
                "filtered": True,
                "ties": "realistic",
                "sides": "both",
                "candidates": "all" if self.negatives is None else "given",
                "estimate": self.sampled_from is not None,
                **more,
            },
            "entities": self.num_entities,
            "triples": len(self.head_ranks),
            "sampled_from": self.sampled_from,
            "queries": self.num_queries,
            "seconds": self.seconds,
            "by_side": {side: metrics.to_dict() for side, metrics in self.by_side.items()},
            "by_category": {
                category: {side: metrics.to_dict() for side, metrics in sides.items()}
                for category, sides in self.by_category.items()
            },
            "by_relation": {
                str(relation if relation_names is None else relation_names[relation]): (
                    metrics.to_dict()
                )
                for relation, metrics in self.by_relation.items()
            },
        }


def summarise(
    split: Triples,
    head_ranks: Ranks,
    tail_ranks: Ranks,
    *,
    num_entities: int,
    num_queries: int,
    seconds: float,
    categories: Optional[NDArray[np.int8]] = None,
    sampled_from: Optional[int] = None,
    negatives: Optional[int] = None,
) -> RankingResult:
    """Compute all figures of a ranked split; the arguments are the fields of the result.

    Args:
        categories: int8 array (number of relations,) of ``relation_categories``, or None.
    """
    sides = {"head": head_ranks, "tail": tail_ranks}
    both = np.concatenate([head_ranks, tail_ranks])
    by_category: dict[str, dict[str, Metrics]] = {}
    if categories is not None:
        codes = categories[split.relation]
        for code in np.unique(codes).tolist():
            rows = codes == code
            by_category[category_name(code)] = {
                "both": Metrics.of(both[np.tile(rows, 2)]),
                **{side: Metrics.of(ranks[rows]) for side, ranks in sides.items()},
            }
    return RankingResult(
        overall=Metrics.of(both),
        by_side={side: Metrics.of(ranks) for side, ranks in sides.items()},
        by_category=by_category,
        by_relation={
            relation: Metrics.of(np.concatenate([head_ranks[rows], tail_ranks[rows]]))
            for relation, rows in group(split.relation).present()
        },
        head_ranks=head_ranks,
        tail_ranks=tail_ranks,
        num_entities=num_entities,
        num_queries=num_queries,
        sampled_from=sampled_from,
        seconds=seconds,
        negatives=negatives,
    )
