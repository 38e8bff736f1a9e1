"""Figures of different protocols do not compare: results that lay them together are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

__all__ = ["chain_of_one_protocol", "check_one_protocol", "comparison_of_one_protocol"]


def check_one_protocol(stages: Sequence[Any], wanted: Optional[str] = None) -> None:
    """Refuse figures of different protocols.

    Args:
        stages: what would stand side by side, each a ``results.StageResults``.
        wanted: the protocol that all must have; None: that of the first.

    Raises:
        ValueError: their protocols differ.
    """
    for stage in stages:
        for split, figures in stage.results.metrics.items():
            name = "all" if figures.protocol is None else figures.protocol.name
            wanted = name if wanted is None else wanted
            if name != wanted:
                raise ValueError(
                    f"{stage.name}: its {split} figures are of the protocol {name}, others of "
                    f"{wanted}; figures of different protocols do not compare"
                )


def chain_of_one_protocol(chain: Any) -> Any:
    """Return a ``results.ChainResults``, if all its stages were ranked alike; see above."""
    check_one_protocol([*chain.stages, *chain.repeats])
    return chain


def comparison_of_one_protocol(comparison: Any) -> Any:
    """Return a ``results.ComparisonResults``, if its teachers were ranked as its rows are."""
    found = [] if comparison.teacher is None else [comparison.teacher]
    check_one_protocol([*found, *comparison.more_teachers], "all")
    return comparison
